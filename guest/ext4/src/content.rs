//! The content of files: where each piece of it lies, by either of two maps.

use crate::{Error, Ext4, Inode, Result};
use alloc::vec::Vec;
use diolkos_images::zeros;
use diolkos_vfs::FileType;

/// The longest target of a symbolic link (`PATH_MAX`).
const TARGET_MAX: u64 = 4096;

/// The most blocks a file has: their numbers have 32 bits.
const BLOCKS_MAX: u64 = 1 << 32;

/// Blocks of a file that follow each other, in the image too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The block in the image; `None` for what reads as zeros.
    pub(crate) start: Option<u64>,
    /// How many there are, at least one.
    pub(crate) count: u64,
}

impl Ext4 {
    /// Fills `buffer` with content from byte `offset` on; all of it must lie in the file.
    ///
    /// # Errors
    /// When the image makes no sense there.
    pub fn read(&self, inode: &Inode, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > inode.size) {
            return Err(Error::Corrupt("content past the end of a file"));
        }
        let bits = self.superblock.block_bits;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let into = at & ((1 << bits) - 1);
            let wanted = (into + (buffer.len() - done) as u64).div_ceil(1 << bits);
            let run = self.run(inode, at >> bits, wanted)?;
            let n = usize::try_from((run.count << bits) - into).unwrap_or(usize::MAX).min(buffer.len() - done);
            let part = &mut buffer[done..done + n];
            match run.start {
                None => part.fill(0),
                Some(block) => self.device.read(self.address(block)? + into, part)?,
            }
            done += n;
        }
        Ok(())
    }

    /// The run that begins with block `block` of a file, of at most `most` blocks (at least one).
    pub(crate) fn run(&self, inode: &Inode, block: u64, most: u64) -> Result<Run> {
        if block >= BLOCKS_MAX {
            return Err(Error::Corrupt("the number of a block"));
        }
        let run = if inode.has_extents { self.extent(inode, block)? } else { self.pointed(inode, block, most)? };
        let run = Run { count: run.count.min(most), ..run };
        let outside = |start: u64| start.checked_add(run.count).is_none_or(|end| end > self.superblock.blocks);
        if run.start.is_some_and(outside) { Err(Error::Corrupt("a block past the end of the image")) } else { Ok(run) }
    }

    /// A block of the content, by way of the cache of metadata.
    pub(crate) fn block_of(&self, inode: &Inode, block: u64) -> Result<Vec<u8>> {
        let start = self.run(inode, block, 1)?.start.ok_or(Error::Corrupt("a hole in a directory"))?;
        self.block(start)
    }

    /// A block of the image, by way of the cache of metadata.
    pub(crate) fn block(&self, block: u64) -> Result<Vec<u8>> {
        let mut bytes = zeros(self.superblock.block_size())?;
        self.device.metadata(self.address(block)?, &mut bytes)?;
        Ok(bytes)
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn target(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.file_type() != FileType::Symlink || !(1..TARGET_MAX).contains(&inode.size) {
            return Err(Error::Corrupt("a symbolic link"));
        }
        let mut target = zeros(inode.size as usize)?;
        // A short one takes nothing but what its attributes take (`ext4_inode_is_fast_symlink`).
        let own = if inode.xattr_block == 0 { 0 } else { 1 << (self.superblock.cluster_bits - 9) };
        match inode.place.get(..target.len()) {
            Some(short) if inode.blocks == own => target.copy_from_slice(short),
            _ => self.read(inode, 0, &mut target)?,
        }
        if target.contains(&0) { Err(Error::Corrupt("the target of a symbolic link")) } else { Ok(target) }
    }

    /// The first byte at or after `offset` (which lies in the file) that is in a hole, or for `hole` false not in one; the
    /// size of the file if there is none. What is allocated and not written counts as a hole.
    ///
    /// # Errors
    /// When the image makes no sense there.
    pub fn seek(&self, inode: &Inode, offset: u64, hole: bool) -> Result<u64> {
        let bits = self.superblock.block_bits;
        let end = inode.size.div_ceil(1 << bits);
        let mut block = offset >> bits;
        while block < end {
            let run = self.run(inode, block, end - block)?;
            if run.start.is_none() == hole {
                break;
            }
            block += run.count;
        }
        Ok((block << bits).clamp(offset, inode.size))
    }
}
