//! By what a futex word is known.

use crate::linux::process::Process;
use crate::mm::USER_TOP;
use alloc::sync::Arc;
use diolkos_vfs::{Errno, InodeId, Result};

/// Whether the program says that nobody else maps the word (`FUTEX_PRIVATE_FLAG`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// It is this mapping's alone.
    Private,
    /// Other mappings may show it, too.
    Shared,
}

/// A word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// In an address space, by that and the address.
    Space(usize, u64),
    /// In a file that is mapped shared, by the offset.
    File(InodeId, u64),
}

impl Key {
    /// The word at `address`.
    ///
    /// # Errors
    /// `EINVAL` for one that is not aligned, `EFAULT` beyond the program's memory.
    pub fn new(process: &Process, address: u64, sharing: Sharing) -> Result<Self> {
        if !address.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        if address >= USER_TOP {
            return Err(Errno::EFAULT);
        }
        let space = process.space();
        let in_file = if sharing == Sharing::Shared { space.shared_place(address) } else { None };
        Ok(match in_file {
            Some((file, offset)) => Self::File(file.inode().id(), offset),
            None => Self::Space(Arc::as_ptr(&space) as usize, address),
        })
    }
}
