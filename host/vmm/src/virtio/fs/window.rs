//! The DAX window on the host's side: which pieces of which files lie in it.
//!
//! The guest chooses offsets and lengths; they reach `mmap` only as a [`WindowRange`], which nothing but checked
//! arithmetic inside the window can build. What is not mapped is memory nobody can touch. A share served read-only
//! maps its files without write permission, so the host's own page protection enforces it.
//!
//! A file may be cut short on the host while it is mapped. The guest's access to a page that is gone then fails, and
//! [`Window::mend`] puts zeros there so that it can complete; what the guest is told is `losses`' matter.

use super::runs::{Runs, Shows, gone};
pub use super::runs::{Suspect, WindowRange};
use crate::kvm::KvmError;
use crate::memory::{HostMapping, MemoryError};
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fmt, io};

/// Page size: the unit a guest may map.
pub const PAGE: u64 = 4096;

/// Most runs all windows of a machine hold together. Linux gives a process 65530 mappings (`vm.max_map_count`); a run
/// takes one and may split one, and a guest that took them all would starve the VMM itself. Zeros in place of lost pages
/// may double them, once, and the holes between runs are mappings as well: three for each run at most.
pub const MAX_RUNS: usize = 16 * 1024;

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
    /// Ranges whose file was cut short under them.
    pub lost: u64,
}

/// What the file server needs of a window, whoever holds its memory: this process (`Window`), or a virtual machine
/// monitor at the other end of a socket.
pub trait DaxWindow: Send + Sync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Whatever has to be done before the first request and would only hold up the machine if it were done earlier.
    fn prepare(&self) {}

    /// Maps `file` from byte `file_offset` over `range`, in place of what was there.
    ///
    /// # Errors
    /// As [`check_source`]; a window elsewhere has reasons of its own.
    fn map(&self, range: WindowRange, file: BorrowedFd<'_>, file_offset: u64, write: bool) -> Result<(), Errno>;

    /// Takes away whatever is mapped in `range`.
    ///
    /// # Errors
    /// It could not be done, or not all of it: what is in `range` is not known then.
    fn unmap(&self, range: WindowRange) -> Result<(), Errno>;

    /// Takes everything away: the driver is gone, or starts anew.
    fn clear(&self);

    /// Checks a guest's range.
    ///
    /// # Errors
    /// `EINVAL`.
    fn range(&self, offset: u64, len: u64) -> Result<WindowRange, Errno> {
        WindowRange::new(self.size(), offset, len).ok_or(Errno::INVAL)
    }
}

/// Checks what can be said of a mapping without the window; the file's size in bytes.
///
/// # Errors
/// `EINVAL` for an offset that is not page-aligned or leaves the range of file offsets, `EROFS` for writing where only
/// reading is allowed, `EACCES` for what is not a regular file.
pub fn check_source(
    range: WindowRange,
    file: BorrowedFd<'_>,
    file_offset: u64,
    write: bool,
    writable: bool,
) -> Result<u64, Errno> {
    let end = file_offset.checked_add(range.len()).ok_or(Errno::INVAL)?;
    if !file_offset.is_multiple_of(PAGE) || i64::try_from(end).is_err() {
        return Err(Errno::INVAL);
    }
    if write && !writable {
        return Err(Errno::ROFS);
    }
    // A device's mmap may do anything; only file pages belong into a guest.
    let stat = fstat(file)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Errno::ACCESS);
    }
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// What makes a window part of the guest's memory.
type Show = Box<dyn FnOnce() -> Result<(), KvmError> + Send>;

/// A window in this process.
pub struct Window {
    mapping: Arc<HostMapping>,
    writable: bool,
    max_runs: usize,
    runs: Mutex<Runs>,
    show: Mutex<Option<Show>>,
    /// The guest cannot see it.
    hidden: AtomicBool,
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Window").field("mapping", &self.mapping).finish_non_exhaustive()
    }
}

impl Window {
    /// A window of `len` bytes (a multiple of 2 MiB) that holds at most `max_runs` runs.
    ///
    /// # Errors
    /// [`MemoryError`] when the host has no address space left.
    pub fn new(len: u64, writable: bool, max_runs: usize) -> Result<Self, MemoryError> {
        let mapping = Arc::new(HostMapping::reserve("a DAX window", len, false)?);
        let (runs, show, hidden) = (Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Ok(Self { mapping, writable, max_runs, runs, show, hidden })
    }

    /// Has `show` make it part of the guest's memory when [`Window::show`] is called, and before the first request at the latest.
    pub fn shown_by(self, show: impl FnOnce() -> Result<(), KvmError> + Send + 'static) -> Self {
        Self { show: Mutex::new(Some(Box::new(show))), ..self }
    }

    /// Shows it, the first time; a window that cannot be shown maps nothing. Who comes while another thread does it waits.
    pub fn show(&self) {
        let mut show = self.show.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = show.take().map(|show| show()) {
            tracing::warn!("the guest does without a DAX window: {error}");
            self.hidden.store(true, Ordering::Relaxed);
        }
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

    /// Maps `file` from byte `file_offset` over `range`, in place of what was there.
    ///
    /// # Errors
    /// `EINVAL` for an offset that is not page-aligned or leaves the range of file offsets, `EROFS` for writing to a
    /// read-only share, `EACCES` for what is not a regular file, `ENOMEM` for too many runs or when the guest cannot see the
    /// window, or what mmap(2) says.
    pub fn map(&self, range: WindowRange, file: BorrowedFd<'_>, file_offset: u64, write: bool) -> Result<(), Errno> {
        if self.hidden.load(Ordering::Relaxed) {
            return Err(Errno::NOMEM);
        }
        let size = check_source(range, file, file_offset, write, self.writable)?;
        let mut runs = self.runs();
        // The new run, and the run it may split.
        if runs.len() + 2 > self.max_runs {
            return Err(Errno::NOMEM);
        }
        let protection = if write { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: `range` lies inside `self.mapping` (its only constructor checks that), which holds nothing but
        // window pages: no reference of ours points there.
        let result = unsafe {
            mmap(
                self.at(range),
                range.len() as usize,
                protection,
                MapFlags::SHARED | MapFlags::FIXED,
                file,
                file_offset,
            )
        };
        if let Err(errno) = result {
            // mmap may have taken the old pages away before it failed.
            self.cover(range);
            runs.remove(range);
            return Err(errno);
        }
        let content = size.saturating_sub(file_offset).min(range.len()).next_multiple_of(PAGE);
        runs.insert(range, Shows::File { content: range.offset() + content, writable: write });
        runs.stats.maps += 1;
        Ok(())
    }

    /// Takes away whatever is mapped in `range`.
    ///
    /// # Errors
    /// `ENOMEM` when that would split too many runs.
    pub fn unmap(&self, range: WindowRange) -> Result<(), Errno> {
        let mut runs = self.runs();
        if runs.len() + 1 > self.max_runs && range.len() != self.len() {
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
        let Some(all) = WindowRange::new(self.len(), 0, self.len()).filter(|_| runs.len() > 0) else { return };
        self.cover(all);
        runs.remove(all);
    }

    /// Puts zeros where files have been cut short under their runs, after telling `lost` of each such range; returns how
    /// many there were. The zeros are private memory: what a guest writes there is nobody's. It costs the host at most
    /// the window's size, and an honest guest gives it up at once.
    ///
    /// `lost` is called with the window's lock held, so no range it names can be mapped anew before it has zeros.
    pub fn mend(&self, suspect: Suspect, mut lost: impl FnMut(WindowRange)) -> usize {
        let mut runs = self.runs();
        let found: Vec<_> = runs
            .files()
            .filter_map(|(range, content, writable)| {
                gone(range, content, suspect, |offset| self.readable(offset)).map(|range| (range, writable))
            })
            .collect();
        for (range, writable) in &found {
            lost(*range);
            self.blank(*range, *writable);
            runs.insert(*range, Shows::Zeros);
            runs.stats.lost += 1;
        }
        found.len()
    }

    /// Whether the host can give the page at `offset`, which may be anything below the window's length. Only the answer
    /// "no" counts as one: a host that forbids the question has found nothing.
    fn readable(&self, offset: u64) -> bool {
        let mut byte = 0u8;
        let here = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let there = libc::iovec { iov_base: self.mapping.as_ptr().wrapping_add(offset as usize).cast(), iov_len: 1 };
        // SAFETY: the call writes one byte to `byte`; what it reads it checks itself, and fails instead of faulting.
        let copied = unsafe { libc::process_vm_readv(libc::getpid(), &here, 1, &there, 1, 0) };
        copied == 1 || io::Error::last_os_error().raw_os_error() != Some(libc::EFAULT)
    }

    fn at(&self, range: WindowRange) -> *mut libc::c_void {
        self.mapping.as_ptr().wrapping_add(range.offset() as usize).cast()
    }

    /// Puts zeros over `range`.
    fn blank(&self, range: WindowRange, writable: bool) {
        let protection = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `map`.
        if unsafe { mmap_anonymous(self.at(range), range.len() as usize, protection, flags) }.is_err() {
            // The old pages may be gone already.
            self.cover(range);
        }
    }

    /// Puts memory nobody can touch over `range`.
    ///
    /// # Panics
    /// Aborts when the host refuses: the guest could otherwise reach whatever the process maps there next.
    fn cover(&self, range: WindowRange) {
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: as in `map`.
        let result = unsafe { mmap_anonymous(self.at(range), range.len() as usize, ProtFlags::empty(), flags) };
        if let Err(errno) = result {
            tracing::error!("cannot close a hole in the DAX window: {errno}");
            std::process::abort();
        }
    }
}

impl DaxWindow for Window {
    fn size(&self) -> u64 {
        self.len()
    }
    fn prepare(&self) {
        self.show();
    }

    fn map(&self, range: WindowRange, file: BorrowedFd<'_>, file_offset: u64, write: bool) -> Result<(), Errno> {
        Window::map(self, range, file, file_offset, write)
    }
    fn unmap(&self, range: WindowRange) -> Result<(), Errno> {
        Window::unmap(self, range)
    }
    fn clear(&self) {
        Window::clear(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    const MIB: u64 = 1 << 20;

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
        assert_eq!(
            window.stats(),
            WindowStats { maps: 2, mapped_bytes: 8192, peak_bytes: 8192, ..WindowStats::default() }
        );
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

    fn lost(window: &Window, suspect: Suspect) -> Vec<(u64, u64)> {
        let mut lost = Vec::new();
        let count = window.mend(suspect, |range| lost.push((range.offset() / PAGE, range.end() / PAGE)));
        assert_eq!(lost.len(), count);
        lost
    }

    #[test]
    fn pages_cut_off_a_file_become_zeros() {
        let window = Window::new(4 * MIB, true, 100).unwrap();
        let file = file(&[7; 8 * PAGE as usize]);
        window.map(window.range(0, 2 * MIB).unwrap(), file.as_fd(), 0, false).unwrap();
        window.map(window.range(2 * MIB, 4 * PAGE).unwrap(), file.as_fd(), 2 * PAGE, true).unwrap();
        assert_eq!(lost(&window, Suspect::Shrunk), [], "the pages after the file's end were never there");
        file.set_len(3 * PAGE + 1).unwrap();
        assert_eq!(lost(&window, Suspect::Shrunk), [(4, 512), (514, 516)]);
        assert_eq!((first_byte(&window, 3 * PAGE), first_byte(&window, 4 * PAGE)), (7, 0));
        assert_eq!(
            (permissions(&window, 4 * PAGE), permissions(&window, 2 * MIB + 2 * PAGE)),
            ("r--p".into(), "rw-p".into())
        );
        assert_eq!(window.stats().lost, 2);
        assert_eq!((lost(&window, Suspect::Shrunk), lost(&window, Suspect::Short)), (vec![], vec![]), "once is enough");
        // Mapped again it is a file again.
        file.set_len(8 * PAGE).unwrap();
        window.map(window.range(0, 2 * MIB).unwrap(), file.as_fd(), 0, false).unwrap();
        assert_eq!(permissions(&window, 4 * PAGE), "r--s");
    }

    #[test]
    fn a_file_that_grew_and_shrank_is_found_by_looking_closer() {
        let window = Window::new(4 * MIB, false, 100).unwrap();
        let file = file(&[7; PAGE as usize]);
        window.map(window.range(0, 8 * PAGE).unwrap(), file.as_fd(), 0, false).unwrap();
        file.set_len(8 * PAGE).unwrap();
        file.set_len(2 * PAGE).unwrap();
        assert_eq!(lost(&window, Suspect::Shrunk), []);
        assert_eq!(lost(&window, Suspect::Page(PAGE)), []);
        assert_eq!(lost(&window, Suspect::Page(1 << 63)), []);
        assert_eq!(lost(&window, Suspect::Page(5 * PAGE + 3)), [(2, 8)]);
        window.map(window.range(0, 8 * PAGE).unwrap(), file.as_fd(), 0, false).unwrap();
        assert_eq!(lost(&window, Suspect::Short), [(2, 8)]);
    }
}
