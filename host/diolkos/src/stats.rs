//! The block that `--stats` prints at the end.
//!
//! The guest's counters are lines `group.name=value`. Groups we know get a title, a place and units; one we do not know
//! is shown as it is, so that a new counter needs no change here. The guest may write anything: nothing is trusted to be
//! a number, and a number not to overflow.

use std::collections::BTreeMap;
use std::fmt::Write;

use diolkos_vmm::Moments;

use crate::args::WindowPolicy;
use crate::clock::Reading;
use crate::memory_size::MemorySize;
use crate::report::Counters;
use crate::verdict::printable;
use crate::waterfall;

/// A titled group of figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What the figures are about.
    pub title: String,
    /// A label and a value, both as they are to be shown.
    pub rows: Vec<(String, String)>,
}

/// Everything the block is made from.
pub struct Summary<'a> {
    /// The program's name.
    pub program: &'a str,
    /// The platform's name.
    pub platform: String,
    /// The window's policy.
    pub policy: WindowPolicy,
    /// The tag of each share and the bytes of its window, or why there is none at all.
    pub windows: Result<Vec<(String, u64)>, &'static str>,
    /// When the command began.
    pub began: Reading,
    /// What the host's side has passed.
    pub moments: Moments,
    /// What the guest counted.
    pub counters: Option<Counters>,
    /// What the platform counted.
    pub machine: Vec<Section>,
}

/// Groups with a title, in the order they are shown; `time` and `window` are treated by themselves before these.
const GROUPS: [(&str, &str); 5] = [
    ("fuse", "file requests to the host"),
    ("messages", "their way"),
    ("cache", "page cache"),
    ("mm", "memory"),
    ("syscalls", "system calls"),
];

/// Writes the block to stderr.
pub fn print(summary: &Summary) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), render(summary, summary.began.khz_since()).as_bytes());
}

/// The block as text; `khz` is the frequency of the guest's time stamp counter.
fn render(summary: &Summary, khz: u64) -> String {
    let mut guest = summary.counters.as_ref().map(|counters| groups(&counters.text)).unwrap_or_default();
    let times = guest.remove("time").unwrap_or_default();
    let refusals = guest.remove("dax").unwrap_or_default();
    let window = window_section(summary, guest.remove("window").unwrap_or_default(), &refusals);
    let waterfall = waterfall::section(summary.began, &summary.moments, summary.counters.as_ref(), &times, khz);
    let mut sections = vec![waterfall, window];
    for (name, title) in GROUPS {
        let rows = guest.remove(name).unwrap_or_default();
        let mut rows: Vec<_> = rows.into_iter().filter(|(_, value)| *value != 0).collect();
        if name == "fuse" {
            // The operation that happened most is the one to look at; what is no operation comes after them.
            rows.sort_by(|a, b| is_bytes(&a.0).cmp(&is_bytes(&b.0)).then(b.1.cmp(&a.1)).then_with(|| a.0.cmp(&b.0)));
        }
        sections.push(section(title, rows));
    }
    sections.extend(guest.into_iter().map(|(name, rows)| section(&name, rows)));
    sections.extend(summary.machine.iter().cloned());
    sections.retain(|section| !section.rows.is_empty());
    let mut out = format!("diolkos: statistics of {} on {}\n", summary.program, summary.platform);
    if summary.counters.is_none() {
        out.push_str("  the guest ended before it could report its counters\n");
    }
    layout(&sections, &mut out);
    out
}

/// The counters by group; lines that are not `group.name=number` are left out.
fn groups(text: &str) -> BTreeMap<String, Vec<(String, u64)>> {
    let mut groups: BTreeMap<String, Vec<(String, u64)>> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let (group, name) = name.split_once('.').unwrap_or(("guest", name));
        if let Ok(value) = value.trim().parse() {
            groups.entry(printable(group)).or_default().push((printable(name), value));
        }
    }
    groups
}

fn section(title: &str, rows: Vec<(String, u64)>) -> Section {
    let show = |(name, value): (String, u64)| {
        let value = if is_bytes(&name) { bytes(value) } else { count(value) };
        (name.replace('_', " "), value)
    };
    Section { title: title.to_owned(), rows: rows.into_iter().map(show).collect() }
}

fn is_bytes(name: &str) -> bool {
    name.split('_').any(|word| word == "bytes")
}

/// `refusals` are the guest's own reasons not to use a share's window, as `off.TAG.REASON`.
fn window_section(summary: &Summary, counters: Vec<(String, u64)>, refusals: &[(String, u64)]) -> Section {
    let policy = match summary.policy {
        WindowPolicy::Clock => "clock",
        WindowPolicy::Lifo => "lifo",
    };
    let refusal = |tag: &str| {
        let reason = |name: &str| Some(name.strip_prefix("off.")?.strip_prefix(tag)?.strip_prefix('.')?.to_owned());
        refusals.iter().find_map(|(name, _)| reason(name))
    };
    let state = |(tag, size): &(String, u64)| {
        refusal(tag).map_or_else(|| MemorySize(*size).to_string(), |why| format!("off ({why})"))
    };
    let states: Vec<String> = summary.windows.as_deref().unwrap_or_default().iter().map(state).collect();
    let shown = match (&summary.windows, &states[..]) {
        (Err(why), _) => format!("off ({why})"),
        (Ok(_), [one, rest @ ..]) if rest.iter().all(|other| other == one) && one.starts_with("off") => one.clone(),
        (Ok(_), [one, rest @ ..]) if rest.iter().all(|other| other == one) => format!("{one} a share, policy {policy}"),
        (Ok(shares), _) => {
            let each: Vec<_> = shares.iter().zip(&states).map(|((tag, _), state)| format!("{tag} {state}")).collect();
            format!("{}; policy {policy}", each.join(", "))
        }
    };
    let mut section = section("dax window", counters);
    section.rows.insert(0, ("size".to_owned(), shown));
    section
}

/// One column of labels and one of values for the whole block, numbers aligned at the right.
fn layout(sections: &[Section], out: &mut String) {
    let rows = || sections.iter().flat_map(|section| &section.rows);
    let label_width = rows().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let is_number = |value: &str| value.starts_with(|c: char| c.is_ascii_digit()) && value.len() <= 16;
    let value_width = rows().map(|(_, value)| value.len()).filter(|len| *len <= 16).max().unwrap_or(0);
    for section in sections {
        let _ = writeln!(out, "  {}", section.title);
        for (label, value) in &section.rows {
            let _ = if is_number(value) {
                writeln!(out, "    {label:label_width$}  {value:>value_width$}")
            } else {
                writeln!(out, "    {label:label_width$}  {value}")
            };
        }
    }
}

/// A number with its thousands apart.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i != 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes in the unit that suits it.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut amount = value as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 1024.0 {
            break;
        }
        amount /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{value} B") } else { format!("{amount:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(window: u64) -> Result<Vec<(String, u64)>, &'static str> {
        Ok(vec![("root".into(), window)])
    }

    fn block(text: Option<&str>, windows: Result<Vec<(String, u64)>, &'static str>) -> String {
        let began = Reading::now();
        let counters = text.map(|text| Counters { text: text.to_owned(), arrived: Reading::now() });
        let machine = vec![Section { title: "exits".into(), rows: vec![("mmio".into(), "3".into())] }];
        let summary = Summary {
            program: "/bin/ls",
            platform: "kvm".into(),
            policy: WindowPolicy::Lifo,
            windows,
            began,
            moments: Moments::default(),
            counters,
            machine,
        };
        render(&summary, 1_000_000)
    }

    /// The value beside `label`, whatever the columns are.
    fn value<'a>(block: &'a str, label: &str) -> &'a str {
        block
            .lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .unwrap_or_else(|| panic!("no {label}: {block}"))
            .trim()
    }

    #[test]
    fn counters_are_grouped_and_unknown_ones_shown() {
        let text = "fuse.READ=2\nfuse.LOOKUP=1200\nfuse.OPEN=0\nwindow.bytes=3145728\nnet.packets=5\nodd=7\nnonsense\n";
        let block = block(Some(text), Err("no window here"));
        assert!(block.find("LOOKUP").unwrap() < block.find("READ").unwrap());
        assert!(!block.contains("OPEN") && !block.contains("nonsense"));
        assert_eq!(value(&block, "LOOKUP"), "1,200");
        assert_eq!(value(&block, "bytes"), "3.0 MiB");
        assert_eq!(value(&block, "packets"), "5");
        assert_eq!(value(&block, "odd"), "7");
        assert_eq!(value(&block, "size"), "off (no window here)");
    }

    #[test]
    fn the_guests_reason_not_to_use_a_window_is_shown() {
        let block = block(Some("dax.off.root.the host refused=1\nfuse.bytes_read=2048\nfuse.READ=1\n"), root(2 << 30));
        assert_eq!(value(&block, "size"), "off (the host refused)");
        assert_eq!(value(&block, "bytes read"), "2.0 KiB");
        assert!(block.find("READ").unwrap() < block.find("bytes read").unwrap());
    }

    #[test]
    fn windows_that_differ_are_listed_by_share() {
        let windows = [("root", 2 << 30), ("volume1", 64 << 20), ("volume2", 0)];
        let windows = Ok(windows.map(|(tag, size)| (tag.to_owned(), size)).into());
        let block = block(Some("dax.off.volume2.no window=1\ndax.off.volume=1\n"), windows);
        assert_eq!(value(&block, "size"), "root 2G, volume1 64M, volume2 off (no window); policy lifo");
    }

    #[test]
    fn a_guest_that_died_early_is_said_so() {
        assert!(block(None, root(0)).contains("before it could report"));
    }
}
