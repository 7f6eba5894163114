//! Advisory locks on ranges of one file: the bookkeeping behind flock(2) and fcntl(2). It knows no waiting.
//!
//! The guest keeps who of its programs holds what; the host's file server keeps how much it holds for a guest, which must
//! not be without bound.

use alloc::vec::Vec;

/// Most locks one file can have; one more is `ENOLCK`. Bounds what a program can make the kernel keep.
pub const MAX_LOCKS: usize = 4096;

/// A lock on the bytes from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeLock<O> {
    /// Who holds it.
    pub owner: O,
    /// First byte.
    pub first: u64,
    /// Last byte; `u64::MAX` is the end of the file wherever it is.
    pub last: u64,
    /// Whether it excludes readers too.
    pub exclusive: bool,
}

impl<O> RangeLock<O> {
    fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }

    /// Whether no byte lies between the two.
    fn touches(&self, other: &Self) -> bool {
        self.first <= other.last.saturating_add(1) && other.first <= self.last.saturating_add(1)
    }
}

/// All locks of one file.
#[derive(Debug)]
pub struct RangeLocks<O>(Vec<RangeLock<O>>);

impl<O> Default for RangeLocks<O> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<O: Copy + PartialEq> RangeLocks<O> {
    /// The first lock of somebody else that `wanted` cannot live beside.
    pub fn conflict(&self, wanted: &RangeLock<O>) -> Option<RangeLock<O>> {
        self.0
            .iter()
            .find(|held| {
                held.owner != wanted.owner
                    && held.overlaps(wanted.first, wanted.last)
                    && (held.exclusive || wanted.exclusive)
            })
            .copied()
    }

    /// Whether one lock more can be kept track of, wherever it lies: cutting a hole into one makes two of it.
    pub fn has_room(&self) -> bool {
        self.0.len() + 2 <= MAX_LOCKS
    }

    /// Takes a lock that has no conflict, replacing what its owner held in the range; neighbours of the same kind become
    /// one with it, as in Linux. `false` when there are too many.
    pub fn set(&mut self, lock: RangeLock<O>) -> bool {
        if !self.has_room() {
            return false;
        }
        self.clear(lock.owner, lock.first, lock.last);
        let mut whole = lock;
        self.0.retain(|held| {
            let joins = held.owner == lock.owner && held.exclusive == lock.exclusive && held.touches(&lock);
            if joins {
                whole.first = whole.first.min(held.first);
                whole.last = whole.last.max(held.last);
            }
            !joins
        });
        self.0.push(whole);
        true
    }

    /// Gives up what `owner` holds between `first` and `last`, and returns whether that was anything.
    pub fn clear(&mut self, owner: O, first: u64, last: u64) -> bool {
        let mut found = false;
        let mut kept = Vec::with_capacity(self.0.len() + 1);
        for held in self.0.drain(..) {
            if held.owner != owner || !held.overlaps(first, last) {
                kept.push(held);
                continue;
            }
            found = true;
            if held.first < first {
                kept.push(RangeLock { last: first - 1, ..held });
            }
            if held.last > last {
                kept.push(RangeLock { first: last + 1, ..held });
            }
        }
        self.0 = kept;
        found
    }

    /// What `owner` holds of the bytes from `first` to `last`.
    pub fn held_by(&self, owner: O, first: u64, last: u64) -> impl Iterator<Item = &RangeLock<O>> {
        self.0.iter().filter(move |held| held.owner == owner && held.overlaps(first, last))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 1;
    const B: u32 = 7;

    fn lock(owner: u32, first: u64, last: u64, exclusive: bool) -> RangeLock<u32> {
        RangeLock { owner, first, last, exclusive }
    }

    #[test]
    fn readers_share_and_writers_do_not() {
        let mut locks = RangeLocks::default();
        assert!(locks.set(lock(A, 0, 9, false)));
        assert_eq!(locks.conflict(&lock(B, 5, 20, false)), None);
        assert_eq!(locks.conflict(&lock(B, 5, 20, true)), Some(lock(A, 0, 9, false)));
        assert_eq!(locks.conflict(&lock(B, 10, u64::MAX, true)), None);
        assert_eq!(locks.conflict(&lock(A, 0, 9, true)), None);
    }

    #[test]
    fn unlocking_the_middle_leaves_both_ends() {
        let mut locks = RangeLocks::default();
        assert!(locks.set(lock(A, 0, u64::MAX, true)));
        assert!(locks.clear(A, 10, 19));
        assert_eq!(locks.conflict(&lock(B, 10, 19, true)), None);
        assert_eq!(locks.conflict(&lock(B, 0, 10, true)), Some(lock(A, 0, 9, true)));
        assert_eq!(locks.conflict(&lock(B, 19, 20, true)), Some(lock(A, 20, u64::MAX, true)));
        assert_eq!((locks.held_by(A, 5, 15).count(), locks.held_by(A, 10, 19).count()), (1, 0));
        assert!(!locks.clear(B, 0, u64::MAX));
        assert!(locks.clear(A, 0, u64::MAX));
        assert!(locks.is_empty());
    }

    #[test]
    fn a_lock_changes_kind_in_place() {
        let mut locks = RangeLocks::default();
        assert!(locks.set(lock(A, 0, 99, true)));
        assert!(locks.set(lock(A, 50, 99, false)));
        assert_eq!(locks.conflict(&lock(B, 60, 60, false)), None);
        assert_eq!(locks.conflict(&lock(B, 49, 49, false)), Some(lock(A, 0, 49, true)));
    }

    #[test]
    fn neighbours_of_a_kind_become_one() {
        let mut locks = RangeLocks::default();
        for (first, last) in [(0, 9), (20, 29), (10, 19)] {
            assert!(locks.set(lock(A, first, last, true)));
        }
        assert_eq!((locks.len(), locks.conflict(&lock(B, 15, 15, false))), (1, Some(lock(A, 0, 29, true))));
        // Not those of another kind or owner.
        assert!(locks.set(lock(A, 30, 39, false)));
        assert!(locks.set(lock(B, 40, u64::MAX, false)));
        assert_eq!(locks.len(), 3);
    }

    #[test]
    fn their_number_is_bounded() {
        let mut locks = RangeLocks::default();
        let taken = (0..MAX_LOCKS as u64 + 5).take_while(|i| locks.set(lock(A, i * 2, i * 2, true))).count();
        assert_eq!(taken, MAX_LOCKS - 1);
    }
}
