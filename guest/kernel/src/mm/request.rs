//! What is asked of an address space, and why it can say no.

use super::vma::{Backing, Marks, Prot};
use alloc::sync::Arc;
use diolkos_vfs::Errno;

/// Where a new mapping goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere, near this address if it is free (0: no wish).
    Anywhere(u64),
    /// Exactly here, replacing what is there (`MAP_FIXED`).
    Fixed(u64),
    /// Exactly here, or `EEXIST` (`MAP_FIXED_NOREPLACE`).
    FixedNoReplace(u64),
}

/// A request to map memory.
pub struct MapRequest {
    /// Where.
    pub place: Place,
    /// Length in bytes, not zero; rounded up to pages.
    pub len: u64,
    /// Protection.
    pub prot: Prot,
    /// Most protection it may ever get.
    pub max_prot: Prot,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// `MAP_GROWSDOWN`, `MAP_NORESERVE`, `MAP_LOCKED`.
    pub marks: Marks,
    /// What to show.
    pub backing: Backing,
    /// Name in `/proc/self/maps`.
    pub name: Option<Arc<str>>,
    /// Fill the page tables now (`MAP_POPULATE`).
    pub populate: bool,
}

/// Why an access cannot be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultError {
    /// Nothing is mapped there: SIGSEGV, `SEGV_MAPERR`.
    NotMapped,
    /// The protection forbids it: SIGSEGV, `SEGV_ACCERR`.
    Forbidden,
    /// Beyond the end of the mapped file, or the file cannot be read: SIGBUS, `BUS_ADRERR`.
    NoPage,
    /// No memory is left.
    OutOfMemory,
}

impl FaultError {
    /// What a call says that was to bring pages in (madvise(2), `MADV_POPULATE_READ`).
    pub fn errno(self) -> Errno {
        match self {
            Self::NotMapped | Self::OutOfMemory => Errno::ENOMEM,
            Self::Forbidden => Errno::EINVAL,
            Self::NoPage => Errno::EFAULT,
        }
    }
}

/// What advice from madvise(2) changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Throw the pages away; private anonymous ones read as zeroes afterwards (`MADV_DONTNEED`).
    DontNeed,
    /// The same, of private anonymous memory only (`MADV_FREE`).
    Free,
    /// Fill the page tables for reading (`MADV_POPULATE_READ`) or writing (`true`).
    Populate(bool),
}

/// How mremap(2) may move a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remap {
    /// It may move at all.
    pub may_move: bool,
    /// The old place stays mapped, without pages (`MREMAP_DONTUNMAP`).
    pub keep_old: bool,
    /// It goes here (`MREMAP_FIXED`).
    pub fixed: Option<u64>,
}
