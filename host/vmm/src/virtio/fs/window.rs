//! The DAX window on the host's side: which pieces of which files lie in it.
//!
//! The guest chooses offsets and lengths; they reach `mmap` only as a [`WindowRange`], which nothing but checked
//! arithmetic inside the window can build. What is not mapped is memory nobody can touch. A share served read-only
//! maps its files without write permission, so the host's own page protection enforces it.

use crate::memory::{HostMapping, MemoryError};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Page size: the unit a guest may map.
pub const PAGE: u64 = 4096;

/// Most runs all windows of a machine hold together. Linux gives a process 65530 mappings (`vm.max_map_count`); a run
/// takes one and may split one, and a guest that took them all would starve the VMM itself.
pub const MAX_RUNS: usize = 16 * 1024;

/// A range inside a window: page-aligned, not empty.
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

    fn end(self) -> u64 {
        // Cannot overflow: the constructor computed it.
        self.offset + self.len
    }
}

/// Counters of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WindowStats {
    /// Ranges mapped so far.
    pub maps: u64,
    /// Ranges unmapped so far.
    pub unmaps: u64,
    /// Bytes of files in the window now.
    pub mapped_bytes: u64,
    /// The most there were.
    pub peak_bytes: u64,
}

/// What is mapped, as disjoint runs: start to end.
#[derive(Debug, Default)]
struct Runs {
    runs: BTreeMap<u64, u64>,
    stats: WindowStats,
}

impl Runs {
    /// Makes a hole. May split a run in two.
    fn remove(&mut self, range: WindowRange) {
        let (start, end) = (range.offset, range.end());
        let touched: Vec<(u64, u64)> =
            self.runs.range(..end).rev().take_while(|(_, e)| **e > start).map(|(s, e)| (*s, *e)).collect();
        for (s, e) in touched {
            self.runs.remove(&s);
            if s < start {
                self.runs.insert(s, start);
            }
            if e > end {
                self.runs.insert(end, e);
            }
            self.stats.mapped_bytes -= e.min(end) - s.max(start);
        }
    }

    fn insert(&mut self, range: WindowRange) {
        self.remove(range);
        self.runs.insert(range.offset, range.end());
        self.stats.mapped_bytes += range.len;
        self.stats.peak_bytes = self.stats.peak_bytes.max(self.stats.mapped_bytes);
    }
}

/// A window.
#[derive(Debug)]
pub struct Window {
    mapping: Arc<HostMapping>,
    writable: bool,
    max_runs: usize,
    runs: Mutex<Runs>,
}

impl Window {
    /// A window of `len` bytes (a multiple of 2 MiB) that holds at most `max_runs` runs.
    ///
    /// # Errors
    /// [`MemoryError`] when the host has no address space left.
    pub fn new(len: u64, writable: bool, max_runs: usize) -> Result<Self, MemoryError> {
        let mapping = Arc::new(HostMapping::reserve("a DAX window", len, false)?);
        Ok(Self { mapping, writable, max_runs, runs: Mutex::default() })
    }

    /// For KVM's slot.
    pub fn mapping(&self) -> &Arc<HostMapping> {
        &self.mapping
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.mapping.len() as u64
    }

    /// The counters.
    pub fn stats(&self) -> WindowStats {
        self.runs().stats
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        // Plain data; a panic in the middle could at worst leave a counter wrong.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks a guest's range.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn range(&self, offset: u64, len: u64) -> Result<WindowRange, Errno> {
        WindowRange::new(self.len(), offset, len).ok_or(Errno::INVAL)
    }

    /// Maps `file` from byte `file_offset` over `range`, in place of what was there.
    ///
    /// # Errors
    /// `EINVAL` for an offset that is not page-aligned or leaves the range of file offsets, `EROFS` for writing to a
    /// read-only share, `EACCES` for what is not a regular file, `ENOMEM` for too many runs, or what mmap(2) says.
    pub fn map(&self, range: WindowRange, file: BorrowedFd<'_>, file_offset: u64, write: bool) -> Result<(), Errno> {
        let end = file_offset.checked_add(range.len).ok_or(Errno::INVAL)?;
        if !file_offset.is_multiple_of(PAGE) || i64::try_from(end).is_err() {
            return Err(Errno::INVAL);
        }
        if write && !self.writable {
            return Err(Errno::ROFS);
        }
        // A device's mmap may do anything; only file pages belong into a guest.
        if rustix::fs::FileType::from_raw_mode(fstat(file)?.st_mode) != rustix::fs::FileType::RegularFile {
            return Err(Errno::ACCESS);
        }
        let mut runs = self.runs();
        // The new run, and the run it may split.
        if runs.runs.len() + 2 > self.max_runs {
            return Err(Errno::NOMEM);
        }
        let protection = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: `range` lies inside `self.mapping` (its only constructor checks that), which holds nothing but
        // window pages: no reference of ours points there.
        let result = unsafe {
            mmap(self.at(range), range.len as usize, protection, MapFlags::SHARED | MapFlags::FIXED, file, file_offset)
        };
        if let Err(errno) = result {
            // mmap may have taken the old pages away before it failed.
            self.cover(range);
            runs.remove(range);
            return Err(errno);
        }
        runs.insert(range);
        runs.stats.maps += 1;
        Ok(())
    }

    /// Takes away whatever is mapped in `range`.
    ///
    /// # Errors
    /// `ENOMEM` when that would split too many runs.
    pub fn unmap(&self, range: WindowRange) -> Result<(), Errno> {
        let mut runs = self.runs();
        if runs.runs.len() + 1 > self.max_runs && range.len != self.len() {
            return Err(Errno::NOMEM);
        }
        self.cover(range);
        runs.remove(range);
        runs.stats.unmaps += 1;
        Ok(())
    }

    /// Takes everything away, when the device is reset.
    pub fn clear(&self) {
        let mut runs = self.runs();
        if runs.runs.is_empty() {
            return;
        }
        let all = WindowRange { offset: 0, len: self.len() };
        self.cover(all);
        runs.remove(all);
    }

    fn at(&self, range: WindowRange) -> *mut libc::c_void {
        self.mapping.as_ptr().wrapping_add(range.offset as usize).cast()
    }

    /// Puts memory nobody can touch over `range`.
    ///
    /// # Panics
    /// Aborts when the host refuses: the guest could otherwise reach whatever the process maps there next.
    fn cover(&self, range: WindowRange) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `map`.
        let result = unsafe { mmap_anonymous(self.at(range), range.len as usize, ProtFlags::empty(), flags) };
        if let Err(errno) = result {
            tracing::error!("cannot close a hole in the DAX window: {errno}");
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    const MIB: u64 = 1 << 20;

    #[test]
    fn only_ranges_inside_the_window_can_be_built() {
        let window = 4 * MIB;
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
        let range = |start: u64, end: u64| WindowRange::new(1 << 30, start * PAGE, (end - start) * PAGE).unwrap();
        let mut runs = Runs::default();
        runs.insert(range(0, 10));
        runs.insert(range(20, 30));
        assert_eq!(runs.stats.mapped_bytes, 20 * PAGE);
        runs.insert(range(5, 25));
        assert_eq!(runs.runs.len(), 3);
        assert_eq!(runs.stats.mapped_bytes, 30 * PAGE);
        runs.remove(range(6, 7));
        assert_eq!(runs.runs.len(), 4);
        assert_eq!(runs.stats.mapped_bytes, 29 * PAGE);
        runs.remove(range(0, 1000));
        assert!(runs.runs.is_empty());
        assert_eq!((runs.stats.mapped_bytes, runs.stats.peak_bytes), (0, 30 * PAGE));
    }

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn first_byte(window: &Window, offset: u64) -> u8 {
        // SAFETY: the tests read only what they have mapped.
        unsafe { window.mapping().as_ptr().add(offset as usize).read_volatile() }
    }

    fn permissions(window: &Window, offset: u64) -> String {
        let address = window.mapping().as_ptr() as u64 + offset;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| {
            let (start, rest) = line.split_once('-').unwrap();
            let end = rest.split_once(' ').unwrap().0;
            (u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap()).contains(&address)
        });
        line.unwrap().split(' ').nth(1).unwrap().into()
    }

    #[test]
    fn files_appear_and_disappear_with_their_protection() {
        let window = Window::new(4 * MIB, true, 100).unwrap();
        let file = file(&[7; 2 * PAGE as usize]);
        let range = window.range(2 * MIB, 2 * PAGE).unwrap();
        assert_eq!(permissions(&window, 2 * MIB), "---p");
        window.map(range, file.as_fd(), PAGE, true).unwrap();
        assert_eq!((first_byte(&window, 2 * MIB), permissions(&window, 2 * MIB)), (7, "rw-s".into()));
        window.map(range, file.as_fd(), 0, false).unwrap();
        assert_eq!(permissions(&window, 2 * MIB), "r--s");
        assert_eq!(window.stats(), WindowStats { maps: 2, unmaps: 0, mapped_bytes: 8192, peak_bytes: 8192 });
        window.unmap(window.range(2 * MIB, PAGE).unwrap()).unwrap();
        assert_eq!(permissions(&window, 2 * MIB), "---p");
        assert_eq!(permissions(&window, 2 * MIB + PAGE), "r--s");
        window.clear();
        assert_eq!(permissions(&window, 2 * MIB + PAGE), "---p");
        assert_eq!(window.stats().mapped_bytes, 0);
    }

    #[test]
    fn what_must_not_be_mapped_is_refused() {
        let window = Window::new(2 * MIB, false, 4).unwrap();
        let file = file(&[1; PAGE as usize]);
        let range = window.range(0, PAGE).unwrap();
        let map = |offset, write| window.map(range, file.as_fd(), offset, write);
        assert_eq!(map(0, true), Err(Errno::ROFS));
        for offset in [1, u64::MAX, u64::MAX - PAGE + 1, i64::MAX as u64 & !(PAGE - 1), 1 << 63] {
            assert_eq!(map(offset, false), Err(Errno::INVAL), "{offset:#x}");
        }
        let zero = std::fs::File::open("/dev/zero").unwrap();
        assert_eq!(window.map(range, zero.as_fd(), 0, false), Err(Errno::ACCESS));
        assert_eq!(window.stats().maps, 0);
        for i in 0..10 {
            let result = window.map(window.range(2 * i * PAGE, PAGE).unwrap(), file.as_fd(), 0, false);
            assert_eq!(result, if i < 3 { Ok(()) } else { Err(Errno::NOMEM) }, "{i}");
        }
    }
}
