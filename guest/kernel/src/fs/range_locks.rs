//! Advisory locks on ranges of one file: the bookkeeping behind flock(2) and fcntl(2). It knows no waiting.

use alloc::vec::Vec;

/// Most locks one file can have; one more is `ENOLCK`. Bounds what a program can make the kernel keep.
pub const MAX_LOCKS: usize = 4096;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A process, by its number (POSIX locks).
    Process(u32),
    /// An open file, by its identity (flock and open file description locks).
    OpenFile(usize),
}

/// A lock on the bytes from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeLock {
    /// Who holds it.
    pub owner: Owner,
    /// First byte.
    pub first: u64,
    /// Last byte; `u64::MAX` is the end of the file wherever it is.
    pub last: u64,
    /// Whether it excludes readers too.
    pub exclusive: bool,
}

impl RangeLock {
    fn overlaps(&self, first: u64, last: u64) -> bool {
        self.first <= last && first <= self.last
    }
}

/// All locks of one file.
#[derive(Debug, Default)]
pub struct RangeLocks(Vec<RangeLock>);

impl RangeLocks {
    /// The first lock of somebody else that `wanted` cannot live beside.
    pub fn conflict(&self, wanted: &RangeLock) -> Option<RangeLock> {
        self.0
            .iter()
            .find(|held| {
                held.owner != wanted.owner
                    && held.overlaps(wanted.first, wanted.last)
                    && (held.exclusive || wanted.exclusive)
            })
            .copied()
    }

    /// Takes a lock that has no conflict, replacing what its owner held in the range. `false` when there are too many.
    pub fn set(&mut self, lock: RangeLock) -> bool {
        // Cutting a hole into one lock makes two of it.
        if self.0.len() + 2 > MAX_LOCKS {
            return false;
        }
        self.clear(lock.owner, lock.first, lock.last);
        self.0.push(lock);
        true
    }

    /// Gives up what `owner` holds between `first` and `last`, and returns whether that was anything.
    pub fn clear(&mut self, owner: Owner, first: u64, last: u64) -> bool {
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

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner::Process(1);
    const B: Owner = Owner::OpenFile(7);

    fn lock(owner: Owner, first: u64, last: u64, exclusive: bool) -> RangeLock {
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
    fn their_number_is_bounded() {
        let mut locks = RangeLocks::default();
        let taken = (0..MAX_LOCKS as u64 + 5).take_while(|i| locks.set(lock(A, i * 2, i * 2, true))).count();
        assert_eq!(taken, MAX_LOCKS - 1);
    }
}
