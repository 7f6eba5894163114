//! Where the time of a run goes: every point that host and guest have passed, on one clock, as a waterfall.
//!
//! The host's points are readings of its monotonic clock, the guest's of the time stamp counter, which is the host's own
//! where the hypervisor lets the guest see it. Where it does not, the moment at which the guest's report arrived ties its
//! counter to ours. The guest may write anything: a reading that lies outside of the run is left out.

use std::time::{Duration, Instant};

use diolkos_vmm::Moments;

use crate::clock::Reading;
use crate::report::Counters;
use crate::stats::{Section, count};

/// The guest's points: the counter that holds each, and what it is called.
const GUEST: [(&str, &str); 11] = [
    ("kernel_entry_tsc", "kernel entered"),
    ("memory_tsc", "guest: memory"),
    ("processor_tsc", "guest: clocks, interrupts, first thread"),
    ("pci_tsc", "guest: devices found"),
    ("devices_tsc", "guest: devices started"),
    ("fuse_tsc", "guest: root found"),
    ("mounted_tsc", "shares mounted"),
    ("found_tsc", "guest: program found"),
    ("program_tsc", "program's first instruction"),
    ("exit_tsc", "program ended"),
    ("written_tsc", "guest: everything written"),
];

/// When the guest wrote its report.
const REPORTED: &str = "now_tsc";

/// Width of the drawing, in characters.
const WIDTH: usize = 32;

/// A point on the host's clock.
struct Point {
    label: &'static str,
    at: Instant,
}

/// The section of `--stats`. `times` are the guest's counters of the group `time`, `khz` is the frequency of its time stamp
/// counter. All times count from `began`.
pub fn section(
    began: Reading,
    moments: &Moments,
    counters: Option<&Counters>,
    times: &[(String, u64)],
    khz: u64,
) -> Section {
    let mut points: Vec<_> = moments.iter().map(|(label, at)| Point { label, at }).collect();
    if let Some(counters) = counters {
        points.extend(guest(began, counters.arrived, times, khz));
    }
    points.sort_by_key(|point| point.at);
    let mut rows = draw(began.instant(), &points);
    let known = |name: &str| name == REPORTED || GUEST.iter().any(|(counter, _)| *counter == name);
    rows.extend(times.iter().filter(|(name, _)| !known(name)).map(|(name, value)| (name.clone(), count(*value))));
    Section { title: "time since the command began, and since the line before".to_owned(), rows }
}

/// The guest's points that lie within the run.
fn guest(began: Reading, arrived: Reading, times: &[(String, u64)], khz: u64) -> Vec<Point> {
    let find = |name: &str| times.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let Some(reported) = find(REPORTED) else { return Vec::new() };
    // A counter of its own starts at about zero with the machine, long after ours.
    let shared = (began.tsc()..=arrived.tsc()).contains(&reported);
    let now = if shared { arrived.tsc() } else { reported };
    let host = |tsc: u64| {
        let before = u128::from(now.checked_sub(tsc)?) * 1_000_000 / u128::from(khz.max(1));
        let at = arrived.instant().checked_sub(Duration::from_nanos(u64::try_from(before).ok()?))?;
        (at >= began.instant()).then_some(at)
    };
    let point = |(counter, label): (&str, &'static str)| {
        let tsc = find(counter).filter(|tsc| *tsc != 0 && *tsc <= reported)?;
        Some(Point { label, at: host(tsc)? })
    };
    GUEST.into_iter().filter_map(point).collect()
}

/// A line a point: when, how long after the one before, and where in the whole that lies.
fn draw(began: Instant, points: &[Point]) -> Vec<(String, String)> {
    let since = |at: Instant| at.saturating_duration_since(began).as_secs_f64() * 1000.0;
    let whole = points.last().map_or(0.0, |last| since(last.at)).max(f64::MIN_POSITIVE);
    let column = |ms: f64| ((ms / whole * WIDTH as f64) as usize).min(WIDTH);
    let mut last = 0.0;
    let row = |point: &Point| {
        let now = since(point.at);
        let (from, to) = (column(last), column(now));
        let bar = format!("{}{}", " ".repeat(from), "=".repeat(to - from));
        let text = format!("{now:8.2} ms {:8.2}  |{bar:WIDTH$}|", now - last);
        last = now;
        (point.label.to_owned(), text)
    };
    points.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that began at the first reading and whose report came at the second, 10 ms later, at 1 GHz.
    fn readings() -> (Reading, Reading) {
        let began = Reading::now();
        (began, began.after(Duration::from_millis(10), 10_000_000))
    }

    fn lines(times: &[(&str, u64)], moments: &Moments) -> Vec<String> {
        let (began, arrived) = readings();
        let times: Vec<_> = times.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let counters = Counters { text: String::new(), arrived };
        let section = section(began, moments, Some(&counters), &times, 1_000_000);
        section.rows.into_iter().map(|(label, value)| format!("{label}: {value}")).collect()
    }

    #[test]
    fn a_counter_of_the_guests_own_is_tied_to_the_reports_arrival() {
        // 8 ms and 3 ms before the report.
        let lines = lines(
            &[("kernel_entry_tsc", 1_000), ("program_tsc", 5_001_000), ("now_tsc", 8_001_000)],
            &Moments::default(),
        );
        assert!(lines[0].starts_with("kernel entered:     2.00 ms     2.00  |"), "{lines:?}");
        assert!(lines[1].starts_with("program's first instruction:     7.00 ms     5.00  |"), "{lines:?}");
    }

    #[test]
    fn a_shared_counter_needs_no_report_to_be_understood() {
        let (began, _) = readings();
        // The report took a millisecond to arrive.
        let times = [("kernel_entry_tsc", began.tsc() + 2_000_000), ("now_tsc", began.tsc() + 9_000_000)];
        let (_, arrived) = (began, began.after(Duration::from_millis(10), 10_000_000));
        let times: Vec<_> = times.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let counters = Counters { text: String::new(), arrived };
        let section = section(began, &Moments::default(), Some(&counters), &times, 1_000_000);
        assert!(section.rows[0].1.starts_with("    2.00 ms"), "{:?}", section.rows);
    }

    #[test]
    fn both_sides_points_are_in_the_order_of_time() {
        let mut moments = Moments::default();
        let soon = Instant::now() + Duration::from_millis(500);
        moments.passed("machine gone", soon);
        let lines = lines(&[("exit_tsc", 1), ("now_tsc", 1)], &moments);
        assert!(lines[0].starts_with("program ended") && lines[1].starts_with("machine gone"), "{lines:?}");
        assert!(lines[1].ends_with("=|"), "{lines:?}");
    }

    #[test]
    fn lies_about_time_are_left_out_not_believed() {
        let lies = [("now_tsc", 5), ("exit_tsc", u64::MAX), ("program_tsc", 6), ("mounted_tsc", 0)];
        assert!(lines(&lies, &Moments::default()).is_empty());
        assert_eq!(lines(&[("strange_tsc", 7)], &Moments::default()), ["strange_tsc: 7"]);
    }
}
