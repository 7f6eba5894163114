//! Directories: blocks of entries in any order.
//!
//! An entry says how long it is, and the entries of a block fill it. One of inode 0 is none: a name that was removed, the
//! checksum at the end of a block, or all of a block that is part of an index.

use crate::{Entry, Error, Ext4, Inode, Result};
use alloc::vec::Vec;
use core::ops::Range;
use diolkos_images::bytes::{le16, le32};
use diolkos_images::{crc32c, file_type};
use diolkos_vfs::{FileType, Name};

/// Bytes of an entry before its name.
const HEADER: usize = 8;
/// Bytes of the entry at the end that holds the checksum (`struct ext4_dir_entry_tail`), and its mark.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// A block of a directory.
struct DirBlock {
    bytes: Vec<u8>,
    file_types: bool,
}

impl DirBlock {
    /// The entry at byte `at` of the block, unless there is none, and where the next one is.
    fn entry(&self, at: usize) -> Result<(Option<Entry<'_>>, usize)> {
        const BAD: Error = Error::Corrupt("an entry of a directory");
        let raw = self.bytes.get(at..).filter(|raw| raw.len() >= HEADER).ok_or(BAD)?;
        let len = match usize::from(le16(raw, 4)) {
            // 64 KiB, which has more bits than there are.
            0 | 0xffff if self.bytes.len() == 1 << 16 => 1 << 16,
            len => len,
        };
        if len < HEADER || !len.is_multiple_of(4) || len > raw.len() {
            return Err(BAD);
        }
        let number = le32(raw, 0);
        if number == 0 {
            return Ok((None, at + len));
        }
        // Without types the name's length has their byte, too.
        let name_len = if self.file_types { usize::from(raw[6]) } else { usize::from(le16(raw, 6)) };
        let name = raw[..len].get(HEADER..HEADER + name_len).ok_or(BAD)?;
        if name.is_empty() || name.len() > Name::MAX || name.contains(&0) || name.contains(&b'/') {
            return Err(Error::Corrupt("the name of an entry"));
        }
        let kind = if self.file_types { file_type(raw[7]) } else { None };
        Ok((Some(Entry { nid: u64::from(number), file_type: kind, name }), at + len))
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Ext4 {
    /// A block of a directory, if it has so many.
    fn dir_block(&self, directory: &Inode, number: u64) -> Result<Option<DirBlock>> {
        let size = directory.size;
        // Otherwise blocks that are in it again and again could keep us for ever.
        if directory.file_type() != FileType::Directory || size > self.device.len() {
            return Err(Error::Corrupt("a directory"));
        }
        if number >= size >> self.superblock.block_bits {
            return Ok(None);
        }
        let bytes = self.block_of(directory, number)?;
        // The blocks of the index have their checksums elsewhere, and nothing here relies on them.
        let first = u64::from(le16(&bytes, 4)).next_multiple_of(4);
        let index = directory.has_index && (number == 0 || le32(&bytes, 0) == 0 && first == bytes.len() as u64);
        if let Some(seed) = directory.seed.filter(|_| !index) {
            let (entries, tail) = bytes.split_at(bytes.len() - TAIL);
            let is_tail = le32(tail, 0) == 0 && usize::from(le16(tail, 4)) == TAIL && tail[7] == TAIL_TYPE;
            if !is_tail || crc32c(seed, entries) != le32(tail, 8) {
                return Err(Error::Checksum("a block of a directory"));
            }
        }
        Ok(Some(DirBlock { bytes, file_types: self.superblock.file_types }))
    }

    /// Hands the entries from byte `cookie` on to `each`, with the byte after each, until it declines one.
    ///
    /// # Errors
    /// When the directory makes no sense.
    pub fn list(&self, directory: &Inode, cookie: u64, each: &mut dyn FnMut(Entry<'_>, u64) -> bool) -> Result<()> {
        self.walk(directory, cookie, &mut |entry, place| each(entry, place.end))
    }

    /// As [`Ext4::list`], with the bytes that each entry takes.
    pub(crate) fn walk(
        &self,
        directory: &Inode,
        cookie: u64,
        each: &mut dyn FnMut(Entry<'_>, Range<u64>) -> bool,
    ) -> Result<()> {
        let mut number = cookie >> self.superblock.block_bits;
        while let Some(block) = self.dir_block(directory, number)? {
            let start = number << self.superblock.block_bits;
            let mut at = 0;
            while at < block.len() {
                let (entry, next) = block.entry(at)?;
                // A program may ask for any byte: entries are told from the start of their block.
                if let Some(entry) = entry.filter(|_| start + at as u64 >= cookie)
                    && !each(entry, start + at as u64..start + next as u64)
                {
                    return Ok(());
                }
                at = next;
            }
            number += 1;
        }
        Ok(())
    }
}
