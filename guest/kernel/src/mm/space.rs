//! The address space of a program.

use super::vma::{Backing, Prot, VmaInfo};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};

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
    /// `MAP_GROWSDOWN`.
    pub grows_down: bool,
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

/// What advice from madvise(2) changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Throw the pages away; anonymous ones read as zeroes afterwards (`MADV_DONTNEED`, also used for `MADV_FREE`).
    DontNeed,
    /// Fill the page tables for reading (`MADV_POPULATE_READ`) or writing (`true`).
    Populate(bool),
}

/// An address space: areas and the page tables that show them.
pub struct AddressSpace {}

impl AddressSpace {
    /// An empty one, with the kernel's half in place.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Arc<Self>> {
        todo!()
    }

    /// Maps memory and returns its address.
    ///
    /// # Errors
    /// `ENOMEM` when there is no room, `EEXIST`, `EINVAL` for an unaligned or forbidden fixed place.
    pub fn map(&self, _request: MapRequest) -> Result<u64> {
        Err(Errno::ENOMEM)
    }

    /// Unmaps all whole pages in the range; holes are fine.
    ///
    /// # Errors
    /// `EINVAL` for an unaligned or foreign range.
    pub fn unmap(&self, _start: u64, _len: u64) -> Result<()> {
        todo!()
    }

    /// Changes the protection of a range that must be mapped without holes.
    ///
    /// # Errors
    /// `ENOMEM` for holes, `EACCES` beyond an area's `max_prot`, `EINVAL`.
    pub fn protect(&self, _start: u64, _len: u64, _prot: Prot) -> Result<()> {
        todo!()
    }

    /// mremap(2): grows, shrinks or moves a mapping.
    ///
    /// # Errors
    /// `EFAULT` when the old range is not one mapping, `ENOMEM`, `EINVAL`.
    pub fn remap(&self, _old: u64, _old_len: u64, _new_len: u64, _may_move: bool, _fixed: Option<u64>) -> Result<u64> {
        todo!()
    }

    /// madvise(2), as far as it does anything.
    ///
    /// # Errors
    /// `ENOMEM` for holes, `EINVAL`.
    pub fn advise(&self, _start: u64, _len: u64, _advice: Advice) -> Result<()> {
        todo!()
    }

    /// mincore(2): for each page of the range whether it is in memory.
    ///
    /// # Errors
    /// `ENOMEM` for holes.
    pub fn resident(&self, _start: u64, _len: u64) -> Result<Vec<bool>> {
        todo!()
    }

    /// Sets where the heap starts; called once by the loader.
    pub fn set_brk_start(&self, _start: u64) {}

    /// brk(2): moves the end of the heap and returns it; on failure, or for 0, the present end.
    pub fn brk(&self, _end: u64) -> u64 {
        todo!()
    }

    /// The areas in order.
    pub fn areas(&self) -> Vec<VmaInfo> {
        todo!()
    }

    /// Bytes mapped, and bytes of RAM in use by anonymous and copied pages (for `/proc/self/status`, getrusage).
    pub fn usage(&self) -> (u64, u64) {
        todo!()
    }
}
