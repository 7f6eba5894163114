//! A set of semaphores (semop(2)): operations on several of them happen all or not at all.

use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};

/// Largest value (`SEMVMX`).
pub const MOST: u16 = 32_767;
/// Most semaphores of a set (`SEMMSL`).
pub const MOST_OF_SET: usize = 32_000;

/// One operation of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Which semaphore.
    pub index: u16,
    /// What is added; 0 waits until the value is 0.
    pub add: i16,
}

/// Why a call cannot be done yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Obstacle {
    /// The semaphore.
    pub index: u16,
    /// It has to become 0, not more.
    pub zero: bool,
    /// The operation's place in the call.
    pub at: usize,
}

/// A semaphore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Semaphore {
    /// Its value.
    pub value: u16,
    /// Who changed it last.
    pub pid: i32,
}

/// A set.
#[derive(Debug)]
pub struct Set {
    semaphores: Vec<Semaphore>,
    /// Why each waiter waits.
    waiting: Vec<Obstacle>,
    /// Seconds since the epoch of the last operation.
    pub operated_at: i64,
    /// The same of the last change by semctl(2).
    pub changed_at: i64,
}

impl Set {
    /// So many semaphores at 0.
    ///
    /// # Errors
    /// `EINVAL` for none or too many.
    pub fn new(count: usize, now: i64) -> Result<Self> {
        if count == 0 || count > MOST_OF_SET {
            return Err(Errno::EINVAL);
        }
        let semaphores = vec![Semaphore::default(); count];
        Ok(Self { semaphores, waiting: Vec::new(), operated_at: 0, changed_at: now })
    }

    /// All of them.
    pub fn semaphores(&self) -> &[Semaphore] {
        &self.semaphores
    }

    /// Sets values from the first on; there are as many as semaphores, or the ones at `index`.
    ///
    /// # Errors
    /// `ERANGE` for a value that is too large, `EINVAL` beyond the end.
    pub fn set(&mut self, index: usize, values: &[u16], pid: i32) -> Result<()> {
        if values.iter().any(|value| *value > MOST) {
            return Err(Errno::ERANGE);
        }
        let end = index.checked_add(values.len()).ok_or(Errno::EINVAL)?;
        let some = self.semaphores.get_mut(index..end).ok_or(Errno::EINVAL)?;
        for (semaphore, value) in some.iter_mut().zip(values) {
            *semaphore = Semaphore { value: *value, pid };
        }
        Ok(())
    }

    /// Does all operations, or says which one is in the way.
    ///
    /// # Errors
    /// `EFBIG` for a semaphore that is not there, `ERANGE` when a value would be too large.
    pub fn operate(&mut self, operations: &[Operation], pid: i32) -> Result<core::result::Result<(), Obstacle>> {
        let len = self.semaphores.len();
        if operations.iter().any(|operation| usize::from(operation.index) >= len) {
            return Err(Errno::EFBIG);
        }
        let mut values: Vec<i32> = self.semaphores.iter().map(|semaphore| semaphore.value.into()).collect();
        for (at, Operation { index, add }) in operations.iter().copied().enumerate() {
            let value = &mut values[usize::from(index)];
            if add == 0 && *value != 0 || *value + i32::from(add) < 0 {
                return Ok(Err(Obstacle { index, zero: add == 0, at }));
            }
            *value += i32::from(add);
            if *value > MOST.into() {
                return Err(Errno::ERANGE);
            }
        }
        for operation in operations {
            let index = usize::from(operation.index);
            self.semaphores[index] = Semaphore { value: values[index] as u16, pid };
        }
        Ok(Ok(()))
    }

    /// Somebody waits, or does no more.
    pub fn note(&mut self, before: Option<Obstacle>, now: Option<Obstacle>) {
        if let Some(place) = before.and_then(|before| self.waiting.iter().position(|one| *one == before)) {
            self.waiting.swap_remove(place);
        }
        self.waiting.extend(now);
    }

    /// How many wait for a semaphore to become 0, or to become more.
    pub fn waiting(&self, index: usize, zero: bool) -> usize {
        self.waiting.iter().filter(|one| usize::from(one.index) == index && one.zero == zero).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(index: u16, add: i16) -> Operation {
        Operation { index, add }
    }

    fn values(set: &Set) -> Vec<u16> {
        set.semaphores().iter().map(|semaphore| semaphore.value).collect()
    }

    #[test]
    fn a_call_is_done_as_a_whole_or_not_at_all() {
        let mut set = Set::new(3, 0).unwrap();
        assert_eq!(set.operate(&[of(0, 2), of(1, 1)], 7), Ok(Ok(())));
        assert_eq!(set.operate(&[of(0, -1), of(2, -1)], 8), Ok(Err(Obstacle { index: 2, zero: false, at: 1 })));
        assert_eq!((values(&set), set.semaphores()[0].pid), (vec![2, 1, 0], 7));
        assert_eq!(set.operate(&[of(2, 0), of(0, 0)], 8), Ok(Err(Obstacle { index: 0, zero: true, at: 1 })));
        // What an earlier operation of the same call did counts.
        assert_eq!(set.operate(&[of(0, -2), of(0, 0), of(2, 5)], 9), Ok(Ok(())));
        assert_eq!(values(&set), [0, 1, 5]);
    }

    #[test]
    fn bounds_are_kept() {
        let mut set = Set::new(1, 0).unwrap();
        assert!(Set::new(0, 0).is_err() && Set::new(MOST_OF_SET + 1, 0).is_err());
        assert_eq!(set.operate(&[of(1, 1)], 1), Err(Errno::EFBIG));
        assert_eq!(set.operate(&[of(0, i16::MAX), of(0, 1)], 1), Err(Errno::ERANGE));
        assert_eq!(set.set(0, &[MOST + 1], 1), Err(Errno::ERANGE));
        assert_eq!(set.set(0, &[1, 2], 1), Err(Errno::EINVAL));
        assert_eq!(set.set(0, &[MOST], 1), Ok(()));
        assert_eq!(values(&set), [MOST]);
    }

    #[test]
    fn who_waits_is_counted_by_what_for() {
        let mut set = Set::new(2, 0).unwrap();
        let more = Some(Obstacle { index: 1, zero: false, at: 0 });
        let none = Some(Obstacle { index: 0, zero: true, at: 1 });
        set.note(None, more);
        set.note(None, more);
        set.note(more, none);
        assert_eq!((set.waiting(1, false), set.waiting(0, true), set.waiting(0, false)), (1, 1, 0));
        set.note(more, None);
        set.note(none, None);
        assert_eq!((set.waiting(1, false), set.waiting(0, true)), (0, 0));
    }
}
