//! fio: its command line for a job, and what its JSON says.
//!
//! Two of its habits would measure something else than is meant. By default it drops the file from the page cache before
//! it begins (`--invalidate=0` keeps it), and it counts from the first byte: so a warm job is preceded by a pass over its
//! files in its own manner, a job of its own in fio's eyes, and by a time that does not count (`--ramp_time`). The latter
//! alone keeps a mapping, which ends with the job that made it.

use std::time::Duration;

use serde::Deserialize;

use crate::data::Place;
use crate::figures::{Figures, Latency};
use crate::job::{Io, Set, State};
use crate::settings::Amounts;

/// What fio calls the pass that does not count, and what it calls the one that does.
const WARM: &str = "warm";
const MEASURE: &str = "measure";

/// fio's arguments for `io` on the files at `place`.
pub fn arguments(io: &Io, place: &Place, amounts: &Amounts) -> Vec<String> {
    let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
    let mut words: Vec<String> =
        ["--output-format=json", "--eta=never", "--thread", "--invalidate=0"].map(Into::into).into();
    let files = match io.set {
        Set::Many => format!("--opendir={}", place.many().display()),
        Set::Written => format!("--filename={}", place.written().display()),
        Set::One | Set::Names => format!("--filename={}", place.one().display()),
    };
    words.extend([format!("--ioengine={}", io.engine), format!("--rw={}", io.access), format!("--bs={}", io.block)]);
    // The file is there and has its size; nothing is to be laid out or made longer.
    words.extend(["--fallocate=none".to_owned(), files]);
    if io.threads > 1 {
        words.extend([format!("--numjobs={}", io.threads), "--group_reporting".to_owned()]);
    }
    match io.state {
        // Each block once, and no longer than that.
        State::Cold => words.extend([format!("--name={MEASURE}"), format!("--runtime={}", milliseconds(amounts.time))]),
        State::Warm => {
            words.extend([format!("--name={WARM}"), format!("--runtime={}", milliseconds(amounts.ramp * 2))]);
            words.extend([format!("--name={MEASURE}"), "--stonewall".to_owned(), "--time_based".to_owned()]);
            words.extend([format!("--runtime={}", milliseconds(amounts.time)), "--norandommap".to_owned()]);
            words.push(format!("--ramp_time={}", milliseconds(amounts.ramp)));
        }
    }
    words
}

#[derive(Deserialize)]
struct Output {
    jobs: Vec<FioJob>,
}

#[derive(Deserialize)]
struct FioJob {
    jobname: String,
    error: i64,
    read: Direction,
    write: Direction,
}

#[derive(Deserialize)]
struct Direction {
    bw_bytes: u64,
    iops: f64,
    /// Milliseconds.
    runtime: u64,
    total_ios: u64,
    clat_ns: Completion,
}

#[derive(Deserialize)]
struct Completion {
    max: u64,
    mean: f64,
    /// Absent where nothing was counted.
    #[serde(default)]
    percentile: std::collections::BTreeMap<String, u64>,
}

/// What fio measured, from what it printed.
///
/// # Errors
/// It is not fio's JSON, or says that nothing was measured.
pub fn parse(text: &str) -> Result<Figures, String> {
    // What fio has to remark comes before and after.
    let (from, to) = text.find('{').zip(text.rfind('}')).filter(|(from, to)| from < to).ok_or("fio printed no JSON")?;
    let output: Output = serde_json::from_str(text.get(from..=to).ok_or("fio printed no JSON")?)
        .map_err(|error| format!("fio's JSON: {error}"))?;
    if let Some(job) = output.jobs.iter().find(|job| job.error != 0) {
        return Err(format!("fio's job '{}' ended with error {}", job.jobname, job.error));
    }
    let job = output.jobs.iter().find(|job| job.jobname == MEASURE).ok_or("fio's JSON has no job that counts")?;
    let direction = if job.read.total_ios > 0 { &job.read } else { &job.write };
    if direction.total_ios == 0 {
        return Err("fio counted no operation".to_owned());
    }
    let percentile = |name: &str| {
        direction.clat_ns.percentile.get(name).copied().ok_or_else(|| format!("fio's JSON has no percentile {name}"))
    };
    Ok(Figures {
        operations_per_s: direction.iops,
        bytes_per_s: direction.bw_bytes as f64,
        operations: direction.total_ios,
        seconds: direction.runtime as f64 / 1000.0,
        latency: Latency {
            mean_ns: direction.clat_ns.mean,
            p50_ns: percentile("50.000000")?,
            p95_ns: percentile("95.000000")?,
            p99_ns: percentile("99.000000")?,
            p999_ns: percentile("99.900000")?,
            max_ns: direction.clat_ns.max,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::job;

    const RECORDED: &str = include_str!("../recorded/randread-4k.json");

    fn words(name: &str) -> Vec<String> {
        let job = job::all().into_iter().find(|job| job.name == name).unwrap();
        let job::Work::Fio(io) = job.work else { panic!("{name} is not fio's") };
        arguments(&io, &Place::new(Path::new("/d")), &Amounts::FULL)
    }

    #[test]
    fn a_warm_job_runs_before_it_counts_and_a_cold_one_does_not() {
        let warm = words("randread-4k").join(" ");
        assert!(warm.contains("--filename=/d/one/data") && warm.contains("--bs=4096 "), "{warm}");
        let (before, counted) = warm.split_once("--name=measure").unwrap();
        assert!(before.contains("--name=warm") && !before.contains("--time_based"), "{warm}");
        assert!(counted.contains("--time_based") && counted.contains("--ramp_time=1000ms"), "{warm}");
        let cold = words("many-read-1m-cold").join(" ");
        assert!(
            cold.contains("--opendir=/d/many") && !cold.contains("warm") && !cold.contains("--time_based"),
            "{cold}"
        );
        // Else the page cache would be empty, and the disk be measured.
        assert!(warm.contains("--invalidate=0") && cold.contains("--invalidate=0"));
    }

    #[test]
    fn threads_are_counted_together() {
        let words = words("read-4k-x4");
        assert!(words.contains(&"--numjobs=4".to_owned()) && words.contains(&"--group_reporting".to_owned()));
    }

    #[test]
    fn what_counts_is_read_from_recorded_output() {
        let figures = parse(RECORDED).unwrap();
        assert!(figures.operations > 0 && figures.seconds > 0.0);
        let rate = figures.operations as f64 / figures.seconds;
        assert!((figures.operations_per_s / rate - 1.0).abs() < 0.01, "{figures:?}");
        assert!((figures.bytes_per_s / (rate * 4096.0) - 1.0).abs() < 0.01, "{figures:?}");
        let Latency { p50_ns, p95_ns, p99_ns, p999_ns, max_ns, .. } = figures.latency;
        assert!([p50_ns, p95_ns, p99_ns, p999_ns, max_ns].is_sorted() && p50_ns > 100, "{figures:?}");
        let remarked = format!("fio: a remark\n{RECORDED}\nanother\n");
        assert_eq!(parse(&remarked), Ok(figures));
    }

    #[test]
    fn what_cannot_be_believed_is_refused() {
        for (text, why) in [
            ("", "no JSON"),
            ("}{", "no JSON"),
            ("{\"jobs\": []}", "no job that counts"),
            ("{\"jobs\": 3}", "fio's JSON: "),
            (&RECORDED.replacen("\"error\" : 0", "\"error\" : 5", 2), "ended with error 5"),
            (&RECORDED.replace("\"total_ios\" : ", "\"total_ios\" : 0, \"other\" : "), "counted no operation"),
            (&RECORDED.replace("\"99.000000\"", "\"98.000000\""), "no percentile 99"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
