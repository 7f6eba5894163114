//! Inodes: `struct ext4_inode` of Linux' `fs/ext4/ext4.h`, and the groups whose tables they lie in.

use crate::Ext4;
use crate::superblock::{INODE_LEAST, ROOT};
use alloc::vec::Vec;
use diolkos_images::bytes::{le16, le32};
use diolkos_images::{Error, Feature, Result, crc32c, device_number, zeros};
use diolkos_vfs::{FileType, Timespec};

/// Bytes of `i_block`: the root of the tree of extents, or addresses of blocks, or the target of a short symbolic link.
pub(crate) const PLACE: usize = 60;

/// `EXT4_ENCRYPT_FL`.
const ENCRYPTED: u32 = 0x800;
/// `EXT4_INDEX_FL`: a directory has an index by hashes.
const INDEX: u32 = 0x1000;
/// `EXT4_HUGE_FILE_FL`: its blocks are counted by the block, not by 512 bytes.
const HUGE: u32 = 0x4_0000;
/// `EXT4_EXTENTS_FL`.
const EXTENTS: u32 = 0x8_0000;
/// `EXT4_INLINE_DATA_FL`.
const INLINE_DATA: u32 = 0x1000_0000;

/// The longest file, that of `off_t`.
const SIZE_MAX: u64 = i64::MAX as u64;

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number.
    pub number: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names; 1 for a directory with more directories in it than can be counted.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of its content in bytes.
    pub size: u64,
    /// What it takes, by 512 bytes.
    pub blocks: u64,
    /// Device number of a device file, as `makedev(3)` packs it.
    pub rdev: u64,
    /// Last access.
    pub atime: Timespec,
    /// Last change of the content.
    pub mtime: Timespec,
    /// Last change of the inode.
    pub ctime: Timespec,
    pub(crate) place: [u8; PLACE],
    pub(crate) has_extents: bool,
    pub(crate) has_index: bool,
    /// What the checksums of its blocks begin with, if there are any.
    pub(crate) seed: Option<u32>,
    /// The block with its further extended attributes; 0 if there is none.
    pub(crate) xattr_block: u64,
    /// What follows its fields: its own extended attributes.
    pub(crate) tail: Vec<u8>,
}

impl Inode {
    /// The type.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).expect("checked when the inode was read")
    }
}

impl Ext4 {
    /// Reads the inode of number `number`.
    ///
    /// # Errors
    /// There is none, or it makes no sense.
    pub fn inode(&self, number: u64) -> Result<Inode> {
        let superblock = &self.superblock;
        // The others have no names.
        let reserved = number < u64::from(superblock.first_inode) && number != ROOT;
        if reserved || number == 0 || number > u64::from(superblock.inodes) {
            return Err(Error::Corrupt("the number of an inode"));
        }
        let (group, index) = (
            (number - 1) / u64::from(superblock.inodes_per_group),
            (number - 1) % u64::from(superblock.inodes_per_group),
        );
        let table = self.inode_table(group)?;
        let at = self.address(table)?.checked_add(index * u64::from(superblock.inode_size));
        let mut raw = zeros(usize::from(superblock.inode_size))?;
        self.device.metadata(at.ok_or(Error::Corrupt("where an inode lies"))?, &mut raw)?;
        self.parse(number as u32, &raw)
    }

    /// The block in which the table of a group's inodes begins.
    fn inode_table(&self, group: u64) -> Result<u64> {
        const CHECKSUM: usize = 0x1e;
        let size = usize::from(self.superblock.descriptor_size);
        let mut raw = zeros(size)?;
        // The number of a group has 32 bits, and no descriptor is longer than a block.
        let at = self.address(self.superblock.table)?.checked_add(group * size as u64);
        self.device.metadata(at.ok_or(Error::Corrupt("where a group's descriptor lies"))?, &mut raw)?;
        if let Some(seed) = self.superblock.seed {
            let sum = crc32c(crc32c(seed, &(group as u32).to_le_bytes()), &raw[..CHECKSUM]);
            let sum = crc32c(crc32c(sum, &[0; 2]), &raw[CHECKSUM + 2..]);
            if sum as u16 != le16(&raw, CHECKSUM) {
                return Err(Error::Checksum("the descriptor of its group"));
            }
        }
        let high = if size >= 64 { u64::from(le32(&raw, 0x28)) << 32 } else { 0 };
        Ok(u64::from(le32(&raw, 0x8)) | high)
    }

    fn parse(&self, number: u32, raw: &[u8]) -> Result<Inode> {
        // Fields behind the first 128 bytes are there as far as the inode says.
        let extra = if raw.len() > usize::from(INODE_LEAST) { usize::from(le16(raw, 0x80)) } else { 0 };
        let fields = usize::from(INODE_LEAST) + extra;
        if fields > raw.len() || !extra.is_multiple_of(4) {
            return Err(Error::Corrupt("the length of an inode"));
        }
        let seed = self.superblock.seed.map(|seed| {
            let generation = &raw[0x64..0x68];
            crc32c(crc32c(seed, &number.to_le_bytes()), generation)
        });
        if let Some(seed) = seed {
            check(seed, raw, fields)?;
        }
        let mode = u32::from(le16(raw, 0));
        let kind = FileType::from_mode(mode).ok_or(Error::Corrupt("the type of an inode"))?;
        let flags = le32(raw, 0x20);
        for (bit, name) in [(ENCRYPTED, "encryption"), (INLINE_DATA, "files in inodes")] {
            if flags & bit != 0 {
                return Err(Error::Unsupported(Feature::Named(name)));
            }
        }
        let wide = kind != FileType::Directory || self.superblock.large_directories;
        let size = u64::from(le32(raw, 0x4)) | if wide { u64::from(le32(raw, 0x6c)) << 32 } else { 0 };
        if size > SIZE_MAX {
            return Err(Error::Corrupt("the size of a file"));
        }
        let half = |low: usize, high: usize| u32::from(le16(raw, low)) | u32::from(le16(raw, high)) << 16;
        let time = |at: usize, more: usize| time(le32(raw, at), if fields >= more + 4 { le32(raw, more) } else { 0 });
        let place: [u8; PLACE] = raw[0x28..0x28 + PLACE].try_into().expect("a slice of that length");
        let device = matches!(kind, FileType::CharDevice | FileType::BlockDevice);
        Ok(Inode {
            number,
            mode,
            nlink: u32::from(le16(raw, 0x1a)),
            uid: half(0x2, 0x78),
            gid: half(0x18, 0x7a),
            size,
            blocks: self.sectors(le32(raw, 0x1c), le16(raw, 0x74), flags),
            rdev: if device { number_of_device(&place) } else { 0 },
            atime: time(0x8, 0x8c)?,
            mtime: time(0x10, 0x88)?,
            ctime: time(0xc, 0x84)?,
            place,
            has_extents: flags & EXTENTS != 0,
            has_index: flags & INDEX != 0,
            seed,
            xattr_block: u64::from(le32(raw, 0x68)) | u64::from(le16(raw, 0x76)) << 32,
            tail: raw[fields..].to_vec(),
        })
    }

    /// What an inode takes, by 512 bytes.
    fn sectors(&self, low: u32, high: u16, flags: u32) -> u64 {
        if !self.superblock.huge_files {
            return u64::from(low);
        }
        let count = u64::from(low) | u64::from(high) << 32;
        if flags & HUGE == 0 { count } else { count << (self.superblock.block_bits - 9) }
    }
}

/// Compares an inode with its checksum, of which the short inodes of ext3 have a half only.
fn check(seed: u32, raw: &[u8], fields: usize) -> Result<()> {
    const LOW: usize = 0x7c;
    const HIGH: usize = 0x82;
    let mut sum = crc32c(crc32c(seed, &raw[..LOW]), &[0; 2]);
    let wide = fields >= HIGH + 2;
    let stored = if wide {
        sum = crc32c(crc32c(crc32c(sum, &raw[LOW + 2..HIGH]), &[0; 2]), &raw[HIGH + 2..]);
        u32::from(le16(raw, LOW)) | u32::from(le16(raw, HIGH)) << 16
    } else {
        sum = crc32c(sum, &raw[LOW + 2..]) & 0xffff;
        u32::from(le16(raw, LOW))
    };
    if sum == stored { Ok(()) } else { Err(Error::Checksum("the inode")) }
}

/// A time: seconds of 32 bits with a sign, and, where the inode has room for more, two bits above these and nanoseconds.
fn time(seconds: u32, more: u32) -> Result<Timespec> {
    let nsec = more >> 2;
    if nsec >= 1_000_000_000 {
        return Err(Error::Corrupt("a time"));
    }
    Ok(Timespec { sec: i64::from(seconds as i32) + (i64::from(more & 3) << 32), nsec })
}

/// Device numbers of 16 bits come first, and longer ones second (`ext4_iget`).
fn number_of_device(place: &[u8; PLACE]) -> u64 {
    match le32(place, 0) {
        0 => device_number(le32(place, 4)),
        old => device_number(old & 0xffff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_from_1901_to_2446() {
        let seconds = |low, more| time(low, more).unwrap().sec;
        assert_eq!(seconds(0x8000_0000, 0), -(1 << 31));
        assert_eq!(seconds(0xffff_ffff, 0), -1);
        assert_eq!(seconds(0x7fff_ffff, 0), (1 << 31) - 1);
        assert_eq!(seconds(0x8000_0000, 1), 1 << 31);
        assert_eq!(seconds(0x7fff_ffff, 3), (7 << 31) - 1);
        assert_eq!(time(5, 123 << 2).unwrap(), Timespec { sec: 5, nsec: 123 });
        assert_eq!(time(5, 1_000_000_000 << 2), Err(Error::Corrupt("a time")));
    }

    #[test]
    fn device_numbers_are_of_two_kinds() {
        let number = |first: u32, second: u32| {
            let mut place = [0; PLACE];
            place[..4].copy_from_slice(&first.to_le_bytes());
            place[4..8].copy_from_slice(&second.to_le_bytes());
            number_of_device(&place)
        };
        assert_eq!(number(0x0501, 0), libc::makedev(5, 1));
        assert_eq!(number(0, 259 << 8 | 7 | 0x10000 << 12), libc::makedev(259, 0x10007));
    }
}
