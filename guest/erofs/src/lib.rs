//! EROFS, the read-only file system of images made by the standard `mkfs.erofs`, over any [block device](Block).
//!
//! What is understood: inodes of both lengths; content plain, inline, in chunks, and compressed by LZ4 with compact or full
//! indexes, clusters of several blocks and packed tails; extended attributes; the superblock's checksum. What images may
//! need beyond that (fragments, other compressors, further devices) is refused by name when the image is opened.
//!
//! The image is the word of a stranger: every address, length and count in it is checked before it is used, and no length
//! in it makes more memory be taken than [`compressed::EXTENT_MAX`] and a physical cluster of 1 MiB, or more than 1 MiB in
//! one piece.
//!
//! [`Erofs`] is the format, by which the host's tools read images, too; [`diolkos_images::Mount`] makes a file system of the
//! guest of it.
//!
//! The one hard idea is the index of a compressed file: see [`compressed`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cache;
pub mod compressed;
mod data;
mod directory;
mod format;
mod inode;
mod pieces;
mod superblock;
mod xattr;

pub use diolkos_images::{Entry, Error, Feature, Result, Xattr};
pub use inode::Inode;

use alloc::sync::Arc;
use cache::Clusters;
use diolkos_images::Device;
use diolkos_vfs::block::Block;
use superblock::Superblock;

/// An image.
pub struct Erofs {
    image: Device,
    clusters: Clusters,
    superblock: Superblock,
}

impl Erofs {
    /// Opens the image on `device`.
    ///
    /// # Errors
    /// When there is none, or it needs something that is not supported.
    pub fn open(device: Arc<dyn Block>) -> Result<Self> {
        let superblock = Superblock::read(&*device)?;
        Ok(Self { image: Device::new(device), clusters: Clusters::new(), superblock })
    }

    /// The inode number of the root directory.
    pub fn root(&self) -> u64 {
        self.superblock.root
    }

    /// Length of a block in bytes.
    pub fn block_size(&self) -> u32 {
        1 << self.superblock.block_bits
    }

    /// Number of blocks of the image.
    pub fn blocks(&self) -> u64 {
        u64::from(self.superblock.blocks)
    }

    /// Number of inodes.
    pub fn inodes(&self) -> u64 {
        self.superblock.inodes
    }
}
