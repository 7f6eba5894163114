//! Which chunks an open file is used in, one after the other, and what that says about the next.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Doublings of what is mapped ahead: at most eight chunks by one request.
const MOST: u64 = 3;

/// The trace that reads and faults leave. Threads may leave it at once; what they make of it then is only a worse guess.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// The chunk used last, plus one; 0 for none.
    last: AtomicU64,
    /// How often the chunk after the last one was next, without another between.
    steps: AtomicU64,
}

impl Trace {
    /// A chunk is used; returns how many of those after it are worth mapping with it. None until there have been two in a
    /// row, then ever more.
    pub(crate) fn step(&self, index: u64) -> u64 {
        let last = self.last.swap(index.saturating_add(1), Relaxed);
        let steps = match last {
            0 => 0,
            last if last == index.saturating_add(1) => self.steps.load(Relaxed),
            last if last == index => (self.steps.load(Relaxed) + 1).min(MOST),
            _ => 0,
        };
        self.steps.store(steps, Relaxed);
        (1 << steps) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_gets_more_and_more() {
        let trace = Trace::default();
        let seen: Vec<u64> = [0, 0, 1, 1, 2, 3, 4, 5, 5, 6].map(|index| trace.step(index)).to_vec();
        assert_eq!(seen, [0, 0, 1, 1, 3, 7, 7, 7, 7, 7]);
        assert_eq!(trace.step(40), 0);
        assert_eq!((trace.step(41), trace.step(40), trace.step(u64::MAX)), (1, 0, 0));
    }

    use std::vec::Vec;
}
