//! The descriptor table: small numbers to open files, the lowest free number first.
//!
//! Pure bookkeeping over any handle type. Nothing that leaves the table is dropped while its lock is held,
//! because dropping the last handle of an open file may wait for the host.

use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

/// Soft limit of a new process (`RLIMIT_NOFILE`), as most Linux systems have it.
pub const DEFAULT_LIMIT: u32 = 1024;
/// Most descriptors any limit can allow (`/proc/sys/fs/nr_open`); bounds the table's memory.
pub const MAX_LIMIT: u32 = 1 << 20;

/// The descriptors of a process.
#[derive(Debug)]
pub struct DescriptorTable<T> {
    slots: Mutex<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    entries: Vec<Option<Entry<T>>>,
    limit: u32,
    /// No number below this one is free.
    lowest_free: usize,
}

#[derive(Debug)]
struct Entry<T> {
    handle: T,
    close_on_exec: bool,
}

impl<T: Clone> Default for DescriptorTable<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> DescriptorTable<T> {
    /// An empty table with the default limit.
    pub fn new() -> Self {
        Self { slots: Mutex::new(Slots { entries: Vec::new(), limit: DEFAULT_LIMIT, lowest_free: 0 }) }
    }

    /// Sets the soft limit: numbers from it on are not given out any more. More than [`MAX_LIMIT`] counts as that.
    pub fn set_limit(&self, limit: u64) {
        self.slots.lock().limit = limit.min(u64::from(MAX_LIMIT)) as u32;
    }

    /// The soft limit.
    pub fn limit(&self) -> u32 {
        self.slots.lock().limit
    }

    /// What `fd` leads to.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, fd: i32) -> Result<T> {
        self.slots.lock().entry(fd).map(|entry| entry.handle.clone())
    }

    /// Enters a handle under the lowest free number.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn insert(&self, handle: T, close_on_exec: bool) -> Result<i32> {
        self.slots.lock().insert(0, Entry { handle, close_on_exec }).map_err(|_| Errno::EMFILE)
    }

    /// Enters a handle under the lowest free number that is not below `min` (`F_DUPFD`).
    ///
    /// # Errors
    /// `EINVAL` when `min` is negative or not below the limit, `EMFILE`.
    pub fn insert_from(&self, min: i32, handle: T, close_on_exec: bool) -> Result<i32> {
        let mut slots = self.slots.lock();
        let min = u32::try_from(min).ok().filter(|min| *min < slots.limit).ok_or(Errno::EINVAL)?;
        slots.insert(min as usize, Entry { handle, close_on_exec }).map_err(|_| Errno::EMFILE)
    }

    /// Enters a handle under exactly this number and returns what was there (`dup2`).
    ///
    /// # Errors
    /// `EBADF` when the number is negative or not below the limit.
    pub fn replace(&self, fd: i32, handle: T, close_on_exec: bool) -> Result<Option<T>> {
        let mut slots = self.slots.lock();
        let at = u32::try_from(fd).ok().filter(|fd| *fd < slots.limit).ok_or(Errno::EBADF)? as usize;
        Ok(slots.put(at, Entry { handle, close_on_exec }).map(|old| old.handle))
    }

    /// Takes a handle out.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, fd: i32) -> Result<T> {
        let mut slots = self.slots.lock();
        slots.entry(fd)?;
        Ok(slots.take(fd as usize).expect("looked up just above").handle)
    }

    /// Takes out all handles from `first` to `last`, both included.
    pub fn remove_range(&self, first: u32, last: u32) -> Vec<T> {
        self.remove_where(first, last, |_| true)
    }

    /// Marks all of `first` to `last` to be closed on exec.
    pub fn mark_range(&self, first: u32, last: u32) {
        let mut slots = self.slots.lock();
        let end = slots.entries.len().min((last as usize).saturating_add(1));
        for entry in slots.entries.get_mut(first as usize..end).into_iter().flatten().flatten() {
            entry.close_on_exec = true;
        }
    }

    /// Takes out what exec must close.
    pub fn remove_for_exec(&self) -> Vec<T> {
        self.remove_where(0, u32::MAX, |entry| entry.close_on_exec)
    }

    fn remove_where(&self, first: u32, last: u32, which: impl Fn(&Entry<T>) -> bool) -> Vec<T> {
        let mut slots = self.slots.lock();
        let end = slots.entries.len().min((last as usize).saturating_add(1));
        let mut removed = Vec::new();
        for at in first as usize..end {
            if slots.entries[at].as_ref().is_some_and(&which) {
                removed.extend(slots.take(at).map(|entry| entry.handle));
            }
        }
        removed
    }

    /// Whether `fd` is closed on exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close_on_exec(&self, fd: i32) -> Result<bool> {
        self.slots.lock().entry(fd).map(|entry| entry.close_on_exec)
    }

    /// Sets whether `fd` is closed on exec.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn set_close_on_exec(&self, fd: i32, on: bool) -> Result<()> {
        let mut slots = self.slots.lock();
        slots.entry(fd)?;
        if let Some(entry) = &mut slots.entries[fd as usize] {
            entry.close_on_exec = on;
        }
        Ok(())
    }

    /// The numbers in use, in order.
    pub fn numbers(&self) -> Vec<i32> {
        let slots = self.slots.lock();
        (0..).zip(&slots.entries).filter(|(_, entry)| entry.is_some()).map(|(fd, _)| fd).collect()
    }
}

impl<T> Slots<T> {
    fn entry(&self, fd: i32) -> Result<&Entry<T>> {
        usize::try_from(fd).ok().and_then(|at| self.entries.get(at)?.as_ref()).ok_or(Errno::EBADF)
    }

    /// Uses the lowest free number from `min` on; gives the entry back when there is none below the limit.
    fn insert(&mut self, min: usize, entry: Entry<T>) -> core::result::Result<i32, Entry<T>> {
        let start = min.max(self.lowest_free);
        let free = (start..self.entries.len()).find(|at| self.entries[*at].is_none());
        let at = free.unwrap_or_else(|| start.max(self.entries.len()));
        if at >= self.limit as usize {
            return Err(entry);
        }
        self.put(at, entry);
        if min <= self.lowest_free {
            self.lowest_free = at + 1;
        }
        Ok(at as i32)
    }

    /// Uses the number `at`, which is below [`MAX_LIMIT`], and returns what was there.
    fn put(&mut self, at: usize, entry: Entry<T>) -> Option<Entry<T>> {
        if at >= self.entries.len() {
            self.entries.resize_with(at + 1, || None);
        }
        self.entries[at].replace(entry)
    }

    fn take(&mut self, at: usize) -> Option<Entry<T>> {
        self.lowest_free = self.lowest_free.min(at);
        self.entries[at].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(n: i32) -> DescriptorTable<i32> {
        let table = DescriptorTable::new();
        for i in 0..n {
            assert_eq!(table.insert(i, false), Ok(i));
        }
        table
    }

    #[test]
    fn the_lowest_free_number_comes_first() {
        let table = table_of(5);
        assert_eq!(table.remove(3), Ok(3));
        assert_eq!(table.remove(1), Ok(1));
        assert_eq!(table.insert(10, false), Ok(1));
        assert_eq!(table.insert(11, false), Ok(3));
        assert_eq!(table.insert(12, false), Ok(5));
        assert_eq!(table.numbers(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(table.get(3), Ok(11));
    }

    #[test]
    fn a_number_far_up_leaves_the_low_ones_free() {
        let table = table_of(2);
        assert_eq!(table.insert_from(10, 7, true), Ok(10));
        assert_eq!(table.insert_from(10, 8, false), Ok(11));
        assert_eq!(table.close_on_exec(10), Ok(true));
        assert_eq!(table.insert(9, false), Ok(2));
        assert_eq!(table.insert(9, false), Ok(3));
    }

    #[test]
    fn the_limit_holds() {
        let table = table_of(2);
        table.set_limit(3);
        assert_eq!(table.insert(0, false), Ok(2));
        assert_eq!(table.insert(0, false), Err(Errno::EMFILE));
        assert_eq!(table.insert_from(1, 0, false), Err(Errno::EMFILE));
        assert_eq!(table.insert_from(3, 0, false), Err(Errno::EINVAL));
        assert_eq!(table.insert_from(-1, 0, false), Err(Errno::EINVAL));
        assert_eq!(table.replace(3, 0, false), Err(Errno::EBADF));
        assert_eq!(table.replace(-1, 0, false), Err(Errno::EBADF));
        // What is open above a lowered limit stays open (getrlimit(2)).
        table.set_limit(1);
        assert_eq!(table.get(2), Ok(0));
        table.set_limit(u64::MAX);
        assert_eq!(table.limit(), MAX_LIMIT);
    }

    #[test]
    fn replacing_returns_the_old_handle() {
        let table = table_of(1);
        assert_eq!(table.replace(0, 5, false), Ok(Some(0)));
        assert_eq!(table.replace(4, 6, true), Ok(None));
        assert_eq!(table.insert(7, false), Ok(1));
        assert_eq!(table.numbers(), [0, 1, 4]);
    }

    #[test]
    fn bad_numbers_are_refused() {
        let table = table_of(2);
        for fd in [-1, 2, i32::MIN, i32::MAX] {
            assert_eq!(table.get(fd), Err(Errno::EBADF));
            assert_eq!(table.remove(fd), Err(Errno::EBADF));
            assert_eq!(table.set_close_on_exec(fd, true), Err(Errno::EBADF));
        }
    }

    #[test]
    fn ranges_and_exec_take_out_what_they_should() {
        let table = table_of(6);
        table.set_close_on_exec(1, true).unwrap();
        table.mark_range(4, u32::MAX);
        assert_eq!(table.remove_for_exec(), [1, 4, 5]);
        assert_eq!(table.remove_range(2, u32::MAX), [2, 3]);
        assert_eq!(table.remove_range(7, 3), []);
        assert_eq!(table.numbers(), [0]);
        assert_eq!(table.insert(1, false), Ok(1));
    }
}
