//! Places in a window, and the book of what is mapped where.
//!
//! A run is a piece of the window that shows a piece of one file, or zeros where a file has been cut short since.

use super::window::{PAGE, WindowStats};
use std::collections::BTreeMap;

/// A range inside the window: page-aligned, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRange {
    offset: u64,
    len: u64,
}

impl WindowRange {
    /// Checks a guest's range against a window of `window` bytes.
    pub fn new(window: u64, offset: u64, len: u64) -> Option<Self> {
        let aligned = offset.is_multiple_of(PAGE) && len.is_multiple_of(PAGE);
        let end = offset.checked_add(len)?;
        (aligned && len > 0 && end <= window).then_some(Self { offset, len })
    }

    /// Offset of its first byte in the window.
    pub fn offset(self) -> u64 {
        self.offset
    }

    /// Length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(self) -> u64 {
        self.len
    }

    /// Offset after its last byte.
    pub fn end(self) -> u64 {
        // Cannot overflow: the constructor computed it.
        self.offset + self.len
    }

    /// What is left of it from window offset `from` on, a multiple of the page size; `None` when that is nothing.
    fn rest(self, from: u64) -> Option<Self> {
        let offset = self.offset.max(from);
        (offset < self.end()).then(|| Self { offset, len: self.end() - offset })
    }
}

/// What a run shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// A file, which had pages up to window offset `content` when it was mapped (maybe none: then it is not after the
    /// run's start).
    File { content: u64, writable: bool },
    /// Zeros, in place of a file's pages that are gone.
    Zeros,
}

/// The end of a run, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    end: u64,
    shows: Shows,
}

impl Run {
    fn file_bytes(&self, start: u64, end: u64) -> u64 {
        if self.shows == Shows::Zeros { 0 } else { self.end.min(end) - start }
    }
}

/// What is mapped, as disjoint runs by their start.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<u64, Run>,
    pub(super) stats: WindowStats,
}

impl Runs {
    /// Number of runs.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }

    /// Makes a hole. May split a run in two.
    pub(super) fn remove(&mut self, range: WindowRange) {
        let (start, end) = (range.offset, range.end());
        let touched: Vec<(u64, Run)> =
            self.runs.range(..end).rev().take_while(|(_, run)| run.end > start).map(|(s, run)| (*s, *run)).collect();
        for (s, run) in touched {
            self.runs.remove(&s);
            if s < start {
                self.runs.insert(s, Run { end: start, ..run });
            }
            if run.end > end {
                self.runs.insert(end, run);
            }
            self.stats.mapped_bytes -= run.file_bytes(s.max(start), end);
        }
    }

    /// Enters a run in place of what was there.
    pub(super) fn insert(&mut self, range: WindowRange, shows: Shows) {
        self.remove(range);
        let run = Run { end: range.end(), shows };
        self.runs.insert(range.offset, run);
        self.stats.mapped_bytes += run.file_bytes(range.offset, range.end());
        self.stats.peak_bytes = self.stats.peak_bytes.max(self.stats.mapped_bytes);
    }

    /// The runs that show a file: where they are, up to which window offset the file had pages, and whether it is mapped
    /// for writing.
    pub(super) fn files(&self) -> impl Iterator<Item = (WindowRange, u64, bool)> {
        self.runs.iter().filter_map(|(&offset, run)| match run.shows {
            Shows::File { content, writable } => {
                Some((WindowRange { offset, len: run.end - offset }, content.min(run.end), writable))
            }
            Shows::Zeros => None,
        })
    }
}

/// Which pages of a run may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspect {
    /// Those that the file had when it was mapped.
    Shrunk,
    /// All: the file may have grown since it was mapped, and shrunk again.
    Short,
    /// This one, by its offset in the window.
    Page(u64),
}

/// Finds the pages of a run that are gone. They are its last ones, for a file gets shorter at its end; so one look
/// tells whether there are any, and a binary search where they begin.
pub(super) fn gone(
    range: WindowRange,
    content: u64,
    suspect: Suspect,
    readable: impl Fn(u64) -> bool,
) -> Option<WindowRange> {
    let last = match suspect {
        Suspect::Shrunk => content.checked_sub(PAGE)?,
        Suspect::Short => range.end() - PAGE,
        Suspect::Page(offset) => offset - offset % PAGE,
    };
    if !(range.offset..range.end()).contains(&last) || readable(last) {
        return None;
    }
    let (mut good, mut bad) = (range.offset, last);
    while good < bad {
        let middle = good + (bad - good) / PAGE / 2 * PAGE;
        if readable(middle) {
            good = middle + PAGE;
        } else {
            bad = middle;
        }
    }
    range.rest(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Shows = Shows::File { content: 0, writable: false };

    fn range(start: u64, end: u64) -> WindowRange {
        WindowRange::new(1 << 30, start * PAGE, (end - start) * PAGE).unwrap()
    }

    #[test]
    fn only_ranges_inside_the_window_can_be_built() {
        let window = 4 << 20;
        assert_eq!(WindowRange::new(window, 0, window).map(|r| r.len), Some(window));
        assert_eq!(WindowRange::new(window, window - PAGE, PAGE).map(|r| r.offset), Some(window - PAGE));
        for (offset, len) in [
            (0, 0),
            (0, 1),
            (1, PAGE),
            (0, window + PAGE),
            (window, PAGE),
            (PAGE, window),
            (u64::MAX - PAGE + 1, PAGE),
            (u64::MAX - PAGE + 1, 2 * PAGE),
            (PAGE, u64::MAX - PAGE + 1),
            (1 << 63, 1 << 63),
        ] {
            assert_eq!(WindowRange::new(window, offset, len), None, "{offset:#x}+{len:#x}");
        }
    }

    #[test]
    fn runs_stay_disjoint_and_counted() {
        let mut runs = Runs::default();
        runs.insert(range(0, 10), FILE);
        runs.insert(range(20, 30), FILE);
        assert_eq!(runs.stats.mapped_bytes, 20 * PAGE);
        runs.insert(range(5, 25), FILE);
        assert_eq!(runs.len(), 3);
        assert_eq!(runs.stats.mapped_bytes, 30 * PAGE);
        runs.remove(range(6, 7));
        assert_eq!(runs.len(), 4);
        assert_eq!(runs.stats.mapped_bytes, 29 * PAGE);
        runs.insert(range(8, 12), Shows::Zeros);
        assert_eq!((runs.len(), runs.stats.mapped_bytes), (6, 25 * PAGE));
        assert_eq!(runs.files().count(), 5);
        runs.remove(range(0, 1000));
        assert_eq!(runs.len(), 0);
        assert_eq!((runs.stats.mapped_bytes, runs.stats.peak_bytes), (0, 30 * PAGE));
    }

    #[test]
    fn a_split_run_knows_where_its_file_ended() {
        let mut runs = Runs::default();
        runs.insert(range(0, 10), Shows::File { content: 6 * PAGE, writable: true });
        runs.remove(range(3, 4));
        let files: Vec<_> = runs.files().collect();
        assert_eq!(files, [(range(0, 3), 3 * PAGE, true), (range(4, 10), 6 * PAGE, true)]);
        assert_eq!(gone(range(4, 10), 6 * PAGE, Suspect::Shrunk, |_| false), Some(range(4, 10)));
        assert_eq!(gone(range(6, 10), 6 * PAGE, Suspect::Shrunk, |_| false), None, "no page was the file's");
    }

    #[test]
    fn what_is_gone_is_found_to_the_page_and_with_few_looks() {
        for left in 4..=40 {
            let looks = std::cell::Cell::new(0);
            let readable = |offset: u64| {
                looks.set(looks.get() + 1);
                assert!((4 * PAGE..40 * PAGE).contains(&offset));
                offset < left * PAGE
            };
            let expected = (left < 40).then(|| range(left, 40));
            assert_eq!(gone(range(4, 40), 40 * PAGE, Suspect::Short, readable), expected);
            let shrunk = (left < 30).then(|| range(left, 40));
            assert_eq!(gone(range(4, 40), 30 * PAGE, Suspect::Shrunk, readable), shrunk);
            let page = (left <= 20).then(|| range(left, 40));
            assert_eq!(gone(range(4, 40), 0, Suspect::Page(20 * PAGE + 7), readable), page);
            assert!(looks.get() <= 3 * 7);
        }
        for outside in [0, 4 * PAGE - 1, 40 * PAGE, u64::MAX] {
            assert_eq!(gone(range(4, 40), 0, Suspect::Page(outside), |_| panic!("looked")), None);
        }
        assert_eq!(gone(range(4, 40), 0, Suspect::Shrunk, |_| panic!("looked")), None);
    }
}
