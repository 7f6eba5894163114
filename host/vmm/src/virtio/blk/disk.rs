//! The file behind a disk: opened before the machine is confined, then only read, written, flushed and punched.
//!
//! A file's length is that at its opening, rounded up to whole sectors; what is missing of the last reads as zeroes. One that is
//! cut short on the host meanwhile gives errors where it is gone.

use super::SECTOR;
use super::request::ID_LEN;
use super::segments::Segments;
use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, SeekFrom, fallocate, fdatasync, flock, open, seek};
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;
use vm_memory::VolatileSlice;

/// Longest list of pieces that one call takes (`IOV_MAX`, readv(2)).
const IOV_MAX: usize = 1024;
/// Zeroes written at a time where the host cannot make them by itself.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// Why a file cannot be a disk.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("disk {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// It is something that has no place for sectors.
    #[error("disk {}: not a file or block device", .0.display())]
    NotAFile(PathBuf),
    /// It has not one byte.
    #[error("disk {}: the file is empty", .0.display())]
    Empty(PathBuf),
    /// Another machine has it.
    #[error("disk {}: in use by another machine; one that is written to can be used once only (':ro' lets several read)", .0.display())]
    Busy(PathBuf),
}

/// Why a request fails.
#[derive(Debug, Error)]
pub enum DiskError {
    /// It makes no sense.
    #[error("{0}")]
    Malformed(&'static str),
    /// It would change a disk that is read-only.
    #[error("the disk is read-only")]
    ReadOnly,
    /// The device does not know it.
    #[error("not supported")]
    Unsupported,
    /// The file is shorter than it was.
    #[error("the file has been cut short")]
    Short,
    /// The host fails.
    #[error(transparent)]
    Host(#[from] Errno),
}

/// What a disk was asked to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Read requests.
    pub reads: u64,
    /// Bytes they read.
    pub read_bytes: u64,
    /// Write requests, those of zeroes included.
    pub writes: u64,
    /// Bytes they wrote.
    pub written_bytes: u64,
    /// Flushes.
    pub flushes: u64,
    /// Ranges discarded.
    pub discards: u64,
}

#[derive(Debug, Default)]
struct Counters {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    discards: AtomicU64,
}

impl AsFd for Disk {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn count(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// An open disk.
#[derive(Debug)]
pub struct Disk {
    file: OwnedFd,
    path: PathBuf,
    writable: bool,
    /// Bytes the file had when it was opened.
    len: u64,
    counters: Counters,
}

impl Disk {
    /// Opens the file or block device at `path`, for itself alone if it is to be written to.
    ///
    /// # Errors
    /// [`OpenError`] names the file.
    pub fn open(path: &Path, writable: bool) -> Result<Self, OpenError> {
        let failed = |errno: Errno| OpenError::Open { path: path.into(), source: errno.into() };
        let access = if writable { OFlags::RDWR } else { OFlags::RDONLY };
        // NONBLOCK: a pipe must be refused below and not waited for. It changes nothing for files.
        let file = open(path, access | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map_err(failed)?;
        let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file).map_err(failed)?.st_mode);
        if !matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::BlockDevice) {
            return Err(OpenError::NotAFile(path.into()));
        }
        let lock =
            if writable { FlockOperation::NonBlockingLockExclusive } else { FlockOperation::NonBlockingLockShared };
        // Any other error is a file system's without locks: then there are none.
        if flock(&file, lock) == Err(Errno::WOULDBLOCK) {
            return Err(OpenError::Busy(path.into()));
        }
        // Of a block device fstat(2) does not tell the size.
        let len = seek(&file, SeekFrom::End(0)).map_err(failed)?;
        if len == 0 {
            return Err(OpenError::Empty(path.into()));
        }
        Ok(Self { file, path: path.into(), writable, len, counters: Counters::default() })
    }

    /// Its file's path, for messages.
    pub fn name(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    /// Whether it may be written to.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// Its size in sectors.
    pub fn sectors(&self) -> u64 {
        self.len.div_ceil(SECTOR)
    }

    /// What the guest is told as its serial number: the end of the file's name.
    pub fn id(&self) -> [u8; ID_LEN] {
        let name = self.path.file_name().unwrap_or_default().as_bytes();
        let name = &name[name.len().saturating_sub(ID_LEN)..];
        let mut id = [0; ID_LEN];
        id[..name.len()].copy_from_slice(name);
        id
    }

    /// What it was asked to do so far.
    pub fn stats(&self) -> DiskStats {
        let Counters { reads, read_bytes, writes, written_bytes, flushes, discards } = &self.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DiskStats {
            reads: get(reads),
            read_bytes: get(read_bytes),
            writes: get(writes),
            written_bytes: get(written_bytes),
            flushes: get(flushes),
            discards: get(discards),
        }
    }

    /// Fills `to` from byte `at` on. The caller has checked that the disk has as much.
    ///
    /// # Errors
    /// That it is short (`DiskError::Short`), or the host's.
    pub fn read(&self, at: u64, to: &Segments<'_>) -> Result<(), DiskError> {
        count(&self.counters.reads, 1);
        count(&self.counters.read_bytes, to.len() as u64);
        let done = self.transfer(at, to, Direction::Read)?;
        if done < to.len() {
            // Only of a last sector that the file does not fill may something be missing.
            if at + (done as u64) < self.len {
                return Err(DiskError::Short);
            }
            to.zero_from(done);
        }
        Ok(())
    }

    /// Writes all of `from` at byte `at`. The caller has checked that the disk has as much.
    ///
    /// # Errors
    /// That it may not be written to (`DiskError::ReadOnly`), or the host's.
    pub fn write(&self, at: u64, from: &Segments<'_>) -> Result<(), DiskError> {
        self.check_writable()?;
        count(&self.counters.writes, 1);
        count(&self.counters.written_bytes, from.len() as u64);
        let done = self.transfer(at, from, Direction::Write)?;
        // A write of bytes that moves none would do so for ever.
        if done < from.len() { Err(Errno::IO.into()) } else { Ok(()) }
    }

    /// Makes everything written safe.
    ///
    /// # Errors
    /// The host's.
    pub fn flush(&self) -> Result<(), DiskError> {
        count(&self.counters.flushes, 1);
        // Nothing was written to one that is read-only, by us.
        if self.writable { Ok(fdatasync(&self.file)?) } else { Ok(()) }
    }

    /// Gives a range's space back to the host, where it can; its content is of no use afterwards.
    ///
    /// # Errors
    /// As [`Disk::write`].
    pub fn discard(&self, at: u64, len: u64) -> Result<(), DiskError> {
        self.check_writable()?;
        count(&self.counters.discards, 1);
        match fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, len) {
            // It is a hint (section 5.2.6.2).
            Ok(()) => Ok(()),
            Err(errno) if cannot(errno) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a range read as zeroes; `unmap`: its space may be given back.
    ///
    /// # Errors
    /// As [`Disk::write`].
    pub fn write_zeroes(&self, at: u64, len: u64, unmap: bool) -> Result<(), DiskError> {
        self.check_writable()?;
        count(&self.counters.writes, 1);
        count(&self.counters.written_bytes, len);
        let how = if unmap { FallocateFlags::PUNCH_HOLE } else { FallocateFlags::ZERO_RANGE };
        match fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, at, len) {
            Ok(()) => Ok(()),
            Err(errno) if cannot(errno) => self.write_zeroes_by_hand(at, len),
            Err(errno) => Err(errno.into()),
        }
    }

    fn write_zeroes_by_hand(&self, mut at: u64, len: u64) -> Result<(), DiskError> {
        let end = at + len;
        while at < end {
            let piece = &ZEROES[..usize::try_from(end - at).unwrap_or(usize::MAX).min(ZEROES.len())];
            at += retry(|| rustix::io::pwrite(&self.file, piece, at))? as u64;
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<(), DiskError> {
        if self.writable { Ok(()) } else { Err(DiskError::ReadOnly) }
    }

    /// Moves all of `memory` from or to the file, in as many calls as it takes; returns how many bytes that were, fewer only
    /// where the file ends.
    fn transfer(&self, at: u64, memory: &Segments<'_>, direction: Direction) -> Result<usize, DiskError> {
        let vector = |piece: &VolatileSlice<'_>| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        };
        let mut vectors: Vec<_> = memory.pieces().iter().map(vector).collect();
        let (mut rest, mut done) = (&mut vectors[..], 0);
        loop {
            let used_up = rest.iter().take_while(|vector| vector.iov_len == 0).count();
            rest = &mut rest[used_up..];
            if rest.is_empty() {
                return Ok(done);
            }
            let now = &rest[..rest.len().min(IOV_MAX)];
            // SAFETY: every vector lies in a volatile slice of `memory`, which is guest RAM, mapped as long as that lives
            // and never borrowed by Rust code.
            let moved = retry(|| unsafe { direction.call(self.file.as_raw_fd(), now, at + done as u64) })?;
            if moved == 0 {
                return Ok(done);
            }
            done += moved;
            advance(rest, moved);
        }
    }
}

/// Whether fallocate(2) failed because the host has no such thing for this range: a file system may not know it, and a block
/// device with sectors larger than ours does it to whole ones only (`EINVAL`; Linux, `blkdev_fallocate`).
fn cannot(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL)
}

/// Takes the first `moved` bytes off the vectors.
fn advance(vectors: &mut [libc::iovec], mut moved: usize) {
    for vector in vectors {
        let here = moved.min(vector.iov_len);
        vector.iov_base = vector.iov_base.wrapping_byte_add(here);
        vector.iov_len -= here;
        moved -= here;
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Read,
    Write,
}

impl Direction {
    /// preadv(2) or pwritev(2).
    ///
    /// # Safety
    /// The vectors are valid for writing or reading, and nobody holds a reference to what they name.
    unsafe fn call(self, file: i32, vectors: &[libc::iovec], at: u64) -> Result<usize, Errno> {
        let offset = libc::off_t::try_from(at).map_err(|_| Errno::INVAL)?;
        let count = vectors.len() as libc::c_int;
        // SAFETY: the caller's promise.
        let moved = unsafe {
            match self {
                Self::Read => libc::preadv(file, vectors.as_ptr(), count, offset),
                Self::Write => libc::pwritev(file, vectors.as_ptr(), count, offset),
            }
        };
        usize::try_from(moved).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// Calls again after a signal: who tells a worker to stop sends some, and a request that has begun is finished.
fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
