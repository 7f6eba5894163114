//! The seams: what a page cache needs of the machine and of the file system it belongs to.

use core::ptr::NonNull;
use diolkos_vfs::{MemBytes, Result};

/// Bytes of a page of the guest, the unit of everything that is put into page tables.
pub const PAGE: u64 = 4096;

/// What is around a cache.
pub trait Surroundings: Send + Sync {
    /// Memory for the pages.
    fn frames(&self) -> &dyn Frames;

    /// Lets other threads run and returns soon: called in a loop by a thread that needs what another one is reading.
    fn pause(&self);

    /// So many pages more of these.
    fn count(&self, _what: Count, _pages: u64) {}
}

/// What happens to pages without their file system's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    /// They were thrown out.
    Dropped,
    /// They were written back.
    Written,
}

/// A file through which dirty pages of an inode are written back.
///
/// # Locking
/// Its methods may wait, and so may dropping the last reference.
pub trait Writer: Send + Sync {
    /// The inode, by the number its [pages](crate::PageKey) have.
    fn owner(&self) -> u64;

    /// How long the file is, as far as that is known.
    fn size(&self) -> u64;

    /// Writes all of `data`, the pieces one behind the other, at `offset`.
    ///
    /// # Errors
    /// Why that cannot be done.
    fn write(&self, offset: u64, data: &[MemBytes<'_>]) -> Result<()>;
}

/// Memory for the page cache, by the frame of [`PAGE`] bytes.
///
/// # Safety
/// A block that [`Frames::allocate`] gives is contiguous guest-physical memory that is nobody else's until it is given
/// back, does not begin at 0, and is readable and writable at [`Frames::at`] all the time.
pub unsafe trait Frames: Send + Sync {
    /// Takes 2^`order` contiguous frames, aligned to their size; their content is anything. To make room it may have
    /// every cache [give back](crate::Pages::reclaim) memory, and so wait. `None` when there is none.
    fn allocate(&self, order: usize) -> Option<u64>;

    /// Gives 2^`order` frames back; a block may be given back in pieces.
    fn release(&self, phys: u64, order: usize);

    /// Where the kernel sees a frame.
    fn at(&self, phys: u64) -> NonNull<u8>;

    /// Removes every page-table entry that leads to one of these frames, which are sorted, on every CPU, before it
    /// returns. Does not wait for the host.
    fn revoke(&self, frames: &[u64]);
}
