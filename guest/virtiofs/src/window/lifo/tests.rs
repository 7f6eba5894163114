//! The thesis' own cases (`tst-dax.cc` of OSv, told in words in its names), over a window of ten chunks.

use super::*;
use std::vec::Vec;

const SLOTS: usize = 10;

/// The stack as the thesis sees it: mappings of several chunks, and an explicit say in eviction.
struct Stack(Lifo);

fn free(_: usize) -> bool {
    false
}

fn key(owner: u64, index: u64) -> ChunkKey {
    ChunkKey { owner, index }
}

impl Stack {
    fn empty() -> Self {
        Self(Lifo::new(SLOTS))
    }

    /// Chunks 0 to 2 and 5 to 6 of file 1.
    fn populated() -> Self {
        let mut stack = Self::empty();
        assert_eq!(stack.map(1, 0, 3, false), Some(0));
        assert_eq!(stack.map(1, 5, 2, false), Some(3));
        stack
    }

    /// The same, and chunks 0 to 4 of file 2 on top.
    fn full() -> Self {
        let mut stack = Self::populated();
        assert_eq!(stack.map(2, 0, 5, false), Some(5));
        stack
    }

    fn used(&self) -> usize {
        (0..SLOTS).filter(|slot| self.0.key_of(*slot).is_some()).count()
    }

    /// Maps `count` chunks on top and returns the first one's slot; `None`, and no change, without room.
    fn map(&mut self, owner: u64, first: u64, count: u64, evict: bool) -> Option<usize> {
        let room = SLOTS - self.used();
        if count as usize > room {
            if !evict {
                return None;
            }
            self.unmap(count as usize - room);
        }
        let slots: Vec<_> = (first..first + count).map(|i| self.0.place(key(owner, i), &free).unwrap()).collect();
        assert!(slots.iter().all(|placed| placed.evicted.is_none()));
        Some(slots.first().map_or(self.used(), |placed| placed.slot))
    }

    /// Takes chunks off the top and returns how many there were.
    fn unmap(&mut self, count: usize) -> usize {
        (0..count).map_while(|_| self.0.pop(&free)).count()
    }

    /// The mappings from the bottom: owner, first chunk, number of chunks.
    fn mappings(&self) -> Vec<(u64, u64, u64)> {
        let mut runs: Vec<(u64, u64, u64)> = Vec::new();
        for key in (0..SLOTS).filter_map(|slot| self.0.key_of(slot)) {
            match runs.last_mut() {
                Some((owner, first, count)) if *owner == key.owner && *first + *count == key.index => *count += 1,
                _ => runs.push((key.owner, key.index, 1)),
            }
        }
        runs
    }

    /// The slot of a chunk and the number of chunks of its mapping from there on.
    fn find(&self, owner: u64, index: u64) -> Option<(usize, u64)> {
        let slot = self.0.find(key(owner, index))?;
        let tail = (0..).take_while(|i| self.0.find(key(owner, index + i)) == Some(slot + *i as usize)).count();
        Some((slot, tail as u64))
    }
}

mod empty {
    use super::*;

    #[test]
    fn first_empty() {
        assert_eq!(Stack::empty().0.first_empty(&free), Some(0));
    }

    #[test]
    fn map() {
        let mut stack = Stack::empty();
        assert_eq!(stack.map(1, 3, 2, false), Some(0));
        assert_eq!(stack.mappings(), [(1, 3, 2)]);
        assert_eq!(stack.map(1, 9, 0, false), Some(2), "nothing to map is no failure");
        assert_eq!(stack.mappings(), [(1, 3, 2)]);
    }

    #[test]
    fn unmap() {
        let mut stack = Stack::empty();
        assert_eq!((stack.unmap(1), stack.unmap(0)), (0, 0));
    }

    #[test]
    fn map_several_that_do_not_join() {
        let mut stack = Stack::empty();
        stack.map(1, 0, 1, false);
        stack.map(1, 2, 1, false);
        stack.map(2, 3, 1, false);
        stack.map(1, 1, 1, false);
        assert_eq!(stack.mappings(), [(1, 0, 1), (1, 2, 1), (2, 3, 1), (1, 1, 1)]);
    }

    #[test]
    fn find_absent() {
        assert_eq!(Stack::empty().find(1, 0), None);
    }
}

mod populated {
    use super::*;

    #[test]
    fn first_empty() {
        assert_eq!(Stack::populated().0.first_empty(&free), Some(5));
    }

    #[test]
    fn map_joins_the_last() {
        let mut stack = Stack::populated();
        assert_eq!(stack.map(1, 7, 2, false), Some(5));
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 4)]);
    }

    #[test]
    fn map_does_not_disturb() {
        let mut stack = Stack::populated();
        assert_eq!(stack.map(1, 3, 2, false), Some(5), "it fits between the two in the file, not in the window");
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 2), (1, 3, 2)]);
    }

    #[test]
    fn unmap_nothing() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(0), 0);
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 2)]);
    }

    #[test]
    fn unmap_one_whole() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(2), 2);
        assert_eq!(stack.mappings(), [(1, 0, 3)]);
    }

    #[test]
    fn unmap_one_part() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(1), 1);
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 1)]);
    }

    #[test]
    fn unmap_several_part() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(4), 4);
        assert_eq!(stack.mappings(), [(1, 0, 1)]);
    }

    #[test]
    fn unmap_all() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(5), 5);
        assert_eq!(stack.mappings(), []);
    }

    #[test]
    fn unmap_too_many() {
        let mut stack = Stack::populated();
        assert_eq!(stack.unmap(9), 5);
        assert_eq!((stack.mappings().len(), stack.0.first_empty(&free)), (0, Some(0)));
    }

    #[test]
    fn map_evicting_part() {
        let mut stack = Stack::populated();
        assert_eq!(stack.map(2, 0, 6, true), Some(4));
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 1), (2, 0, 6)]);
    }

    #[test]
    fn map_evicting_several_part() {
        let mut stack = Stack::populated();
        assert_eq!(stack.map(2, 0, 9, true), Some(1));
        assert_eq!(stack.mappings(), [(1, 0, 1), (2, 0, 9)]);
    }

    #[test]
    fn map_evicting_all() {
        let mut stack = Stack::populated();
        assert_eq!(stack.map(2, 0, 10, true), Some(0));
        assert_eq!(stack.mappings(), [(2, 0, 10)]);
    }

    #[test]
    fn find_absent() {
        let stack = Stack::populated();
        assert_eq!((stack.find(1, 3), stack.find(1, 7), stack.find(2, 0)), (None, None, None));
    }

    #[test]
    fn find_present() {
        let stack = Stack::populated();
        assert_eq!((stack.find(1, 0), stack.find(1, 2)), (Some((0, 3)), Some((2, 1))));
        assert_eq!((stack.find(1, 5), stack.find(1, 6)), (Some((3, 2)), Some((4, 1))));
    }
}

mod full {
    use super::*;

    #[test]
    fn first_empty() {
        assert_eq!(Stack::full().0.first_empty(&free), None);
    }

    #[test]
    fn map() {
        let mut stack = Stack::full();
        assert_eq!(stack.map(3, 0, 1, false), None);
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 2), (2, 0, 5)]);
    }

    #[test]
    fn map_evicting() {
        let mut stack = Stack::full();
        assert_eq!(stack.map(3, 7, 3, true), Some(7));
        assert_eq!(stack.mappings(), [(1, 0, 3), (1, 5, 2), (2, 0, 2), (3, 7, 3)]);
    }

    #[test]
    fn find_absent() {
        assert_eq!(Stack::full().find(2, 5), None);
    }

    #[test]
    fn find_present() {
        assert_eq!(Stack::full().find(2, 1), Some((6, 4)));
    }
}

mod beyond_the_thesis {
    use super::*;

    #[test]
    fn one_chunk_at_a_time_the_newest_goes() {
        let mut stack = Stack::full();
        let placed = stack.0.place(key(3, 0), &free).unwrap();
        assert_eq!(placed, Placement { slot: 9, evicted: Some(key(2, 4)) });
    }

    #[test]
    fn chunks_in_use_are_passed_over() {
        let mut stack = Stack::full();
        let placed = stack.0.place(key(3, 0), &|slot| slot >= 8).unwrap();
        assert_eq!(placed, Placement { slot: 7, evicted: Some(key(2, 2)) });
        assert_eq!(stack.0.place(key(4, 0), &|_| true), None);
        assert_eq!(stack.0.find(key(4, 0)), None);
    }

    #[test]
    fn holes_are_filled_first() {
        let mut stack = Stack::full();
        stack.0.remove(1);
        assert_eq!(stack.0.find(key(1, 1)), None);
        assert_eq!(stack.0.place(key(3, 0), &free), Some(Placement { slot: 1, evicted: None }));
    }
}
