//! Directories: blocks of entries that are sorted by name, within a block and from block to block.
//!
//! A block begins with its entries, `struct erofs_dirent`, of which each says where its name begins; names fill the rest.

use crate::{Erofs, Error, Inode, Result};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;
use diolkos_images::bytes::{le16, le64};
use diolkos_images::{Entry, file_type};
use diolkos_vfs::FileType;

const DIRENT: usize = 12;

/// A block of a directory.
struct DirBlock {
    bytes: Vec<u8>,
    count: usize,
}

impl DirBlock {
    fn new(bytes: Vec<u8>) -> Result<Self> {
        let names = if bytes.len() < DIRENT { 0 } else { usize::from(le16(&bytes, 8)) };
        if names < DIRENT || !names.is_multiple_of(DIRENT) || names > bytes.len() {
            return Err(Error::Corrupt("a block of a directory"));
        }
        Ok(Self { count: names / DIRENT, bytes })
    }

    fn entry(&self, i: usize) -> Result<Entry<'_>> {
        let raw = &self.bytes[i * DIRENT..(i + 1) * DIRENT];
        let start = usize::from(le16(raw, 8));
        let last = i + 1 == self.count;
        let end = if last { self.bytes.len() } else { usize::from(le16(&self.bytes, (i + 1) * DIRENT + 8)) };
        let name = self.bytes.get(start..end).ok_or(Error::Corrupt("where the name of an entry lies"))?;
        // Behind the last name there may be zeros.
        let len = if last { name.iter().position(|byte| *byte == 0).unwrap_or(name.len()) } else { name.len() };
        let name = &name[..len];
        if name.is_empty() || name.len() > diolkos_vfs::Name::MAX || name.contains(&0) || name.contains(&b'/') {
            return Err(Error::Corrupt("the name of an entry"));
        }
        Ok(Entry { nid: le64(raw, 0), file_type: file_type(raw[10]), name })
    }

    /// The entry of this name, or where it would be.
    fn find(&self, name: &[u8]) -> Result<core::result::Result<Entry<'_>, usize>> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            let entry = self.entry(middle)?;
            match entry.name.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Ok(entry)),
            }
        }
        Ok(Err(low))
    }
}

impl Erofs {
    fn dir_block(&self, directory: &Inode, number: u64) -> Result<DirBlock> {
        let start = number << self.superblock.block_bits;
        let len = (directory.size - start).min(1 << self.superblock.block_bits);
        let mut bytes = vec![0; len as usize];
        self.read_with(directory, start, &mut bytes, true)?;
        DirBlock::new(bytes)
    }

    fn dir_blocks(&self, directory: &Inode) -> Result<u64> {
        if directory.file_type() != FileType::Directory {
            return Err(Error::Corrupt("a directory that is none"));
        }
        Ok(directory.size.div_ceil(1 << self.superblock.block_bits))
    }

    /// The inode number behind a name.
    ///
    /// # Errors
    /// When the directory makes no sense.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let (mut low, mut high) = (0, self.dir_blocks(directory)?);
        while low < high {
            let middle = low.midpoint(high);
            let block = self.dir_block(directory, middle)?;
            match block.find(name)? {
                Ok(entry) => return Ok(Some(entry.nid)),
                Err(0) => high = middle,
                Err(at) if at == block.count => low = middle + 1,
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Hands the entries from `cookie` on (0 is the start) to `each`, with the cookie of the entry after each, until it
    /// declines one.
    ///
    /// # Errors
    /// When the directory makes no sense.
    pub fn list(&self, directory: &Inode, cookie: u64, each: &mut dyn FnMut(Entry<'_>, u64) -> bool) -> Result<()> {
        // A cookie is the number of a block and of an entry in it; a block has fewer than 2^16 of these.
        let (mut number, mut first) = (cookie >> 16, (cookie & 0xffff) as usize);
        while number < self.dir_blocks(directory)? {
            let block = self.dir_block(directory, number)?;
            for i in first..block.count {
                let last = i + 1 == block.count;
                let next = if last { (number + 1) << 16 } else { number << 16 | (i as u64 + 1) };
                if !each(block.entry(i)?, next) {
                    return Ok(());
                }
            }
            (number, first) = (number + 1, 0);
        }
        Ok(())
    }
}
