//! ext4, and ext2 and ext3, which it grew out of, read from any [block device](Block) and never written.
//!
//! What is understood: blocks of 1 to 64 KiB; inodes of any length; extents and the addresses of blocks that were there
//! before them; holes, and what is allocated and not written; directories with and without an index; extended attributes in
//! the inode and beside it; checksums of all these. What images may need beyond that (files in inodes, encryption, names
//! without case) is refused by name when the image is opened, and so is one whose journal has to be replayed first: its
//! content is what the journal makes of it, and nothing is written here.
//!
//! The image is the word of a stranger: every address, length and count in it is checked before it is used. No length in it
//! makes more memory be taken than a block, the indexes of names aside, and no directory is longer than the image.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod content;
mod directory;
mod extents;
mod format;
mod inode;
mod names;
mod pointers;
mod superblock;
mod xattr;

pub use diolkos_images::{Entry, Error, Feature, Result, Xattr};
pub use inode::Inode;

use alloc::sync::Arc;
use diolkos_images::Device;
use diolkos_vfs::block::Block;
use names::Names;
use superblock::Superblock;

/// An image.
pub struct Ext4 {
    device: Device,
    superblock: Superblock,
    names: Names,
}

impl Ext4 {
    /// Opens the image on `device`.
    ///
    /// # Errors
    /// When there is none, or it needs something that is not supported.
    pub fn open(device: Arc<dyn Block>) -> Result<Self> {
        let device = Device::new(device);
        Ok(Self { superblock: Superblock::read(&device)?, device, names: Names::new() })
    }

    /// The inode number of the root directory.
    pub fn root(&self) -> u64 {
        superblock::ROOT
    }

    /// The byte at which a block begins. It may lie outside of the image, which reading finds out.
    fn address(&self, block: u64) -> Result<u64> {
        block.checked_mul(1 << self.superblock.block_bits).ok_or(Error::Corrupt("an address past every end"))
    }
}
