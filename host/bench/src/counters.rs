//! What `diolkos run --stats` printed, as proof of the way that bytes took.
//!
//! The block is for people: a line with a group's title, indented by two, and lines with a label and a value, indented by
//! four. It is kept as it is; sizes in it are rounded to a tenth of their unit.

use std::collections::BTreeMap;

use serde::Serialize;

/// The block: group, label, value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters(BTreeMap<String, BTreeMap<String, String>>);

impl Counters {
    /// Finds the block in what a run wrote to stderr.
    pub fn find(stderr: &str) -> Option<Self> {
        let mut lines = stderr.lines().skip_while(|line| !line.starts_with("diolkos: statistics of ")).skip(1);
        let mut groups = BTreeMap::<String, BTreeMap<String, String>>::new();
        let mut title = String::new();
        for line in lines.by_ref().take_while(|line| line.starts_with("  ")) {
            match line.strip_prefix("    ") {
                // Labels have single blanks in them, and two at least behind them.
                Some(row) => {
                    let (label, value) = row.split_once("  ").unwrap_or((row, ""));
                    groups.entry(title.clone()).or_default().insert(label.to_owned(), value.trim().to_owned());
                }
                None => title = line.trim().to_owned(),
            }
        }
        (!groups.is_empty()).then_some(Self(groups))
    }

    fn value(&self, group: &str, label: &str) -> Option<&str> {
        self.0.get(group)?.get(label).map(String::as_str)
    }

    /// Milliseconds from the command to the program's first instruction.
    pub fn first_instruction_ms(&self) -> Option<f64> {
        let group = self.0.iter().find(|(title, _)| title.starts_with("time since the command began"))?.1;
        group.get("program's first instruction")?.split(" ms").next()?.parse().ok()
    }

    /// How the bytes of the share or the disk with the files came, in words: what is not zero of bytes through the window, bytes by
    /// message, and pages that the guest's own cache had; of `mapped` files also the pages that were mapped, which include
    /// the program's own.
    pub fn way(&self, mapped: bool) -> String {
        // The files are the machine's one volume.
        let share = |label: &str| self.value("share 'volume1', as used", label);
        let disk = self.0.iter().find(|(title, _)| title.starts_with("disk "));
        let disk = |label: &str| disk.and_then(|(_, rows)| rows.get(label)).map(String::as_str);
        let named = [
            (share("window bytes read"), "window"),
            (share("window bytes written"), "window"),
            (share("message bytes read"), "messages"),
            (share("message bytes written"), "messages"),
            (disk("read"), "disk"),
            (share("cache hits").or_else(|| disk("read").and(self.value("page cache", "hits"))), "cached pages"),
            (self.value("memory", "window pages").filter(|_| mapped), "mapped pages"),
        ];
        let words: Vec<_> = named.iter().filter_map(|(value, name)| Some(format!("{name} {}", (*value)?))).collect();
        words.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = include_str!("../recorded/stats.txt");

    #[test]
    fn the_way_of_the_files_is_found_among_everything_else() {
        let counters = Counters::find(&format!("a line of the program's\n{BLOCK}")).unwrap();
        assert_eq!(counters.value("file requests to the host", "BATCH FORGET"), Some("3"));
        assert_eq!(counters.way(false), "window 221.0 MiB, messages 35.0 MiB");
        let pages = counters.value("memory", "window pages").unwrap();
        assert_eq!(counters.way(true), format!("window 221.0 MiB, messages 35.0 MiB, mapped pages {pages}"));
    }

    #[test]
    fn without_a_block_there_is_nothing() {
        assert_eq!(Counters::find("diolkos: /x: no such file\n"), None);
        assert_eq!(Counters::find(""), None);
    }
}
