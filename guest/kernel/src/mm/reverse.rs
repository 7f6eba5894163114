//! The way back from memory that others may want back (windows, page caches) to the addresses that lead there.
//!
//! A chunk that is to leave its window has to be taken out of the page tables first. The file mappings of a program may be
//! many times larger than the window, and looking at all their entries for each chunk would cost more than all the rest; so
//! an address space remembers where entries may lead: pairs of a [`GRAIN`] of guest-physical memory and a table's worth of
//! addresses, some page of which is or was in the grain.
//!
//! Pages of a page cache are treated the same way. Who is about to enter such a page into page tables notes it; nobody has to note that an entry is gone. Pairs that
//! have become untrue go when their grain is taken back, or when there are twice as many pairs as were true the last time
//! that all were looked at: so there are never many more than page tables have use for.

use super::LARGE_PAGE;
use alloc::collections::BTreeSet;

/// Bytes of guest-physical memory that pairs tell apart: no chunk of a window is smaller, and all begin at a multiple.
pub(super) const GRAIN: u64 = 128 << 10;

/// Fewer pairs than this are kept without a look at them.
const FEW: usize = 4096;

/// A grain and a table, by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pair {
    phys: u64,
    virt: u64,
}

impl Pair {
    fn of(phys: u64, virt: u64) -> Self {
        Self { phys: phys & !(GRAIN - 1), virt: virt & !(LARGE_PAGE - 1) }
    }
}

/// The pairs of one address space.
#[derive(Debug)]
pub(super) struct Reverse {
    pairs: BTreeSet<Pair>,
    /// The one noted last: neighbours mostly follow each other.
    last: Option<Pair>,
    /// With more pairs than this it is time for a look at all of them.
    limit: usize,
}

impl Default for Reverse {
    fn default() -> Self {
        Self { pairs: BTreeSet::new(), last: None, limit: FEW }
    }
}

impl Reverse {
    /// An entry for the page at `virt` is about to lead to the frame at `phys`.
    pub(super) fn note(&mut self, phys: u64, virt: u64) {
        let pair = Pair::of(phys, virt);
        if self.last != Some(pair) {
            self.pairs.insert(pair);
            self.last = Some(pair);
        }
    }

    /// The entry of the large page at `virt` is about to lead to all of the large page at `phys`.
    pub(super) fn note_large(&mut self, phys: u64, virt: u64) {
        (phys..phys + LARGE_PAGE).step_by(GRAIN as usize).for_each(|grain| self.note(grain, virt));
    }

    /// The tables, by the first address of each, that may have entries which lead to the guest-physical range `phys..end`.
    /// Those entries are about to go: what of the pairs lies in the range is forgotten.
    pub(super) fn take(&mut self, phys: u64, end: u64) -> BTreeSet<u64> {
        if phys >= end {
            return BTreeSet::new();
        }
        self.last = None;
        let (first, last) = (Pair::of(phys, 0), Pair { virt: u64::MAX, ..Pair::of(end - 1, 0) });
        let found: BTreeSet<Pair> = self.pairs.range(first..=last).copied().collect();
        for pair in &found {
            if pair.phys >= phys && pair.phys + (GRAIN - 1) < end {
                self.pairs.remove(pair);
            }
        }
        found.into_iter().map(|pair| pair.virt).collect()
    }

    /// Whether there are so many that those should go which are not true any more.
    pub(super) fn is_full(&self) -> bool {
        self.pairs.len() > self.limit
    }

    /// Forgets what is not true any more. `look` names the frames that the entries of a table lead to.
    pub(super) fn tidy(&mut self, mut look: impl FnMut(u64, &mut dyn FnMut(u64))) {
        let tables: BTreeSet<u64> = self.pairs.iter().map(|pair| pair.virt).collect();
        let mut kept = BTreeSet::new();
        for virt in tables {
            look(virt, &mut |phys| {
                let pair = Pair::of(phys, virt);
                if self.pairs.contains(&pair) {
                    kept.insert(pair);
                }
            });
        }
        self.pairs = kept;
        self.last = None;
        self.limit = FEW.max(2 * self.pairs.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: u64 = 1 << 40;

    #[test]
    fn a_chunk_leads_back_to_everywhere_it_is_mapped_and_nowhere_else() {
        let mut reverse = Reverse::default();
        for (phys, virt) in [(0, 7), (GRAIN - 1, LARGE_PAGE), (GRAIN, 3 * LARGE_PAGE), (GRAIN, 4 * LARGE_PAGE)] {
            reverse.note(WINDOW + phys, virt);
            reverse.note(WINDOW + phys, virt);
        }
        let mut take = |from, to| reverse.take(from, to).iter().map(|virt| virt / LARGE_PAGE).collect::<Vec<_>>();
        assert_eq!((take(WINDOW, WINDOW), take(0, WINDOW), take(u64::MAX, 0)), (vec![], vec![], vec![]));
        assert_eq!(take(WINDOW + 4096, WINDOW + 8192), [0, 1], "of a part");
        assert_eq!(take(WINDOW, WINDOW + GRAIN), [0, 1], "the rest of it may be mapped as well");
        assert_eq!(take(WINDOW, WINDOW + GRAIN), [], "and now nothing is");
        assert_eq!(take(0, u64::MAX), [3, 4]);
        reverse.note(WINDOW + GRAIN, 4 * LARGE_PAGE);
        assert_eq!(reverse.take(0, u64::MAX), BTreeSet::from([4 * LARGE_PAGE]), "noted last, taken, and noted again");
    }

    #[test]
    fn every_part_of_a_large_page_leads_back_to_it() {
        let mut reverse = Reverse::default();
        reverse.note_large(WINDOW, 3 * LARGE_PAGE);
        for part in (WINDOW..WINDOW + LARGE_PAGE).step_by(GRAIN as usize) {
            assert_eq!(reverse.take(part, part + 4096), BTreeSet::from([3 * LARGE_PAGE]));
        }
        assert_eq!(reverse.take(WINDOW + LARGE_PAGE, u64::MAX), BTreeSet::new());
    }

    #[test]
    fn what_is_not_true_any_more_does_not_pile_up() {
        let mut reverse = Reverse::default();
        let only_ten = |virt: u64, seen: &mut dyn FnMut(u64)| {
            // The frame of another file, or the kernel's own memory.
            seen(5);
            if virt < 10 * LARGE_PAGE {
                seen(WINDOW);
            }
        };
        for number in 0..10 * FEW as u64 {
            reverse.note(WINDOW, number * LARGE_PAGE);
            if reverse.is_full() {
                reverse.tidy(only_ten);
            }
            assert!(reverse.pairs.len() <= FEW);
        }
        assert!(reverse.take(WINDOW, WINDOW + 1).len() >= 10);
        assert_eq!(reverse.take(5, 6), BTreeSet::new());
        // With many that are true a look at all is rarer.
        let mut looks = 0;
        for number in 0..10 * FEW as u64 {
            reverse.note(WINDOW, number * LARGE_PAGE);
            if reverse.is_full() {
                looks += 1;
                reverse.tidy(|_, seen| seen(WINDOW));
            }
        }
        assert!((1..6).contains(&looks), "{looks}");
    }

    use std::vec;
    use std::vec::Vec;
}
