//! The superblock: where things are, and what of the format the image uses.
//!
//! The layout is that of `struct ext4_super_block` in Linux' `fs/ext4/ext4.h`.

use diolkos_images::bytes::{le16, le32};
use diolkos_images::{Device, Error, Feature, Result, crc32c};

/// Where it lies.
const OFFSET: u64 = 1024;
const LEN: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Where its checksum lies in it.
const CHECKSUM: usize = 0x3fc;

/// `feature_incompat`: entries of directories tell types.
const FILETYPE: u32 = 0x2;
/// The journal has changes that are not in their places yet.
const RECOVER: u32 = 0x4;
const EXTENTS: u32 = 0x40;
const BIT64: u32 = 0x80;
/// A block by which machines see that another one has the image mounted for writing.
const MMP: u32 = 0x100;
const FLEX_BG: u32 = 0x200;
/// The seed of checksums is written down, instead of made of the UUID.
const CSUM_SEED: u32 = 0x2000;
/// Directories of 2 GiB and more.
const LARGEDIR: u32 = 0x4000;

/// All that is understood.
const KNOWN: u32 = FILETYPE | EXTENTS | BIT64 | MMP | FLEX_BG | CSUM_SEED | LARGEDIR;

/// Features that have a name but no support.
const REFUSED: [(u32, &str); 9] = [
    // As Linux refuses a device that cannot be written to.
    (RECOVER, "a journal that has to be replayed first (e2fsck -p IMAGE does, and so does a mount on the host)"),
    (0x1, "compression"),
    (0x8, "itself as the journal of another one (mke2fs -O journal_dev)"),
    (0x10, "groups of block groups (mke2fs -O meta_bg)"),
    (0x400, "inodes for large extended attributes (mke2fs -O ea_inode)"),
    (0x1000, "data in entries of directories"),
    (0x8000, "files in inodes (mke2fs -O inline_data)"),
    (0x1_0000, "encryption (mke2fs -O encrypt)"),
    (0x2_0000, "names without case (mke2fs -O casefold)"),
];

/// `feature_ro_compat`: counts of blocks have 48 bits.
const HUGE_FILE: u32 = 0x8;
/// Blocks are allocated several at once.
const BIGALLOC: u32 = 0x200;
/// Everything but content has checksums.
const METADATA_CSUM: u32 = 0x400;

/// Blocks are of 1 KiB, shifted by so much: 64 KiB at most, as on Linux.
const SHIFT_MOST: u32 = 6;
/// The inode of the root directory, `EXT4_ROOT_INO`.
pub(crate) const ROOT: u64 = 2;
/// The shortest inode, and the one there was first.
pub(crate) const INODE_LEAST: u16 = 128;

/// What the superblock says.
#[derive(Debug, Clone)]
pub(crate) struct Superblock {
    /// Length of a block, as a power of two.
    pub(crate) block_bits: u32,
    /// Length of what is allocated at once, of one block or more, as a power of two.
    pub(crate) cluster_bits: u32,
    /// Number of blocks.
    pub(crate) blocks: u64,
    /// Blocks that are none of files' in an empty file system.
    pub(crate) overhead: u64,
    /// Blocks that are free, and of these how many are for the administrator.
    pub(crate) free: u64,
    pub(crate) reserved: u64,
    /// Number of inodes.
    pub(crate) inodes: u32,
    pub(crate) free_inodes: u32,
    /// The first inode that is not for the file system's own use.
    pub(crate) first_inode: u32,
    pub(crate) inodes_per_group: u32,
    pub(crate) groups: u64,
    /// Bytes of an inode.
    pub(crate) inode_size: u16,
    /// The block in which the table of groups begins, and bytes of one of its entries.
    pub(crate) table: u64,
    pub(crate) descriptor_size: u16,
    /// What checksums of everything else begin with, if there are any.
    pub(crate) seed: Option<u32>,
    pub(crate) file_types: bool,
    pub(crate) large_directories: bool,
    pub(crate) huge_files: bool,
}

impl Superblock {
    /// Reads and checks it.
    pub(crate) fn read(device: &Device) -> Result<Self> {
        if device.len() < OFFSET + LEN as u64 {
            return Err(Error::Absent);
        }
        let mut raw = [0; LEN];
        device.metadata(OFFSET, &mut raw)?;
        if le16(&raw, 0x38) != MAGIC {
            return Err(Error::Absent);
        }
        let (incompat, ro_compat) = features(&raw)?;
        let seed = seed(&raw, incompat, ro_compat)?;
        let shift = le32(&raw, 0x18);
        if shift > SHIFT_MOST {
            return Err(Error::Corrupt("the size of a block"));
        }
        let block_bits = 10 + shift;
        // Revision 0 had no choice.
        let dynamic = le32(&raw, 0x4c) >= 1;
        let wide = incompat & BIT64 != 0;
        let high = |at: usize| if wide { u64::from(le32(&raw, at)) << 32 } else { 0 };
        let superblock = Self {
            block_bits,
            cluster_bits: if ro_compat & BIGALLOC != 0 { cluster_bits(&raw, shift)? } else { block_bits },
            blocks: u64::from(le32(&raw, 0x4)) | high(0x150),
            overhead: u64::from(le32(&raw, 0x248)),
            free: u64::from(le32(&raw, 0xc)) | high(0x158),
            reserved: u64::from(le32(&raw, 0x8)) | high(0x154),
            inodes: le32(&raw, 0x0),
            free_inodes: le32(&raw, 0x10),
            first_inode: if dynamic { le32(&raw, 0x54) } else { 11 },
            inodes_per_group: le32(&raw, 0x28),
            groups: groups(&raw, high(0x150))?,
            inode_size: if dynamic { le16(&raw, 0x58) } else { INODE_LEAST },
            table: u64::from(le32(&raw, 0x14)) + 1,
            descriptor_size: if wide { le16(&raw, 0xfe) } else { 32 },
            seed,
            file_types: incompat & FILETYPE != 0,
            large_directories: incompat & LARGEDIR != 0,
            huge_files: ro_compat & HUGE_FILE != 0,
        };
        superblock.check(device)?;
        Ok(superblock)
    }

    /// Length of a block in bytes.
    pub(crate) fn block_size(&self) -> usize {
        1 << self.block_bits
    }

    /// What everything else relies on.
    fn check(&self, device: &Device) -> Result<()> {
        let block = self.block_size();
        if !self.inode_size.is_power_of_two() || self.inode_size < INODE_LEAST || usize::from(self.inode_size) > block {
            return Err(Error::Corrupt("the size of an inode"));
        }
        let size = self.descriptor_size;
        if !size.is_power_of_two() || size < 32 || usize::from(size) > block {
            return Err(Error::Corrupt("the size of a group's descriptor"));
        }
        if self.inodes_per_group == 0 || u64::from(self.inodes) > self.groups * u64::from(self.inodes_per_group) {
            return Err(Error::Corrupt("the number of inodes"));
        }
        if self.blocks > device.len() >> self.block_bits {
            return Err(Error::Corrupt("it is shorter than its superblock says"));
        }
        Ok(())
    }
}

/// `feature_incompat` and `feature_ro_compat`. The latter may be anything for who only reads.
fn features(raw: &[u8]) -> Result<(u32, u32)> {
    let incompat = le32(raw, 0x60);
    if let Some((_, name)) = REFUSED.iter().find(|(bit, _)| incompat & bit != 0) {
        return Err(Error::Unsupported(Feature::Named(name)));
    }
    if incompat & !KNOWN != 0 {
        return Err(Error::Unsupported(Feature::Bits(incompat & !KNOWN)));
    }
    Ok((incompat, le32(raw, 0x64)))
}

/// What checksums begin with, if there are any; that of the superblock has been looked at then.
fn seed(raw: &[u8], incompat: u32, ro_compat: u32) -> Result<Option<u32>> {
    if ro_compat & METADATA_CSUM == 0 {
        return Ok(None);
    }
    // The one kind there is, CRC-32C.
    if raw[0x175] != 1 {
        return Err(Error::Unsupported(Feature::Named("checksums of an unknown kind")));
    }
    if crc32c(!0, &raw[..CHECKSUM]) != le32(raw, CHECKSUM) {
        return Err(Error::Checksum("the superblock"));
    }
    Ok(Some(if incompat & CSUM_SEED != 0 { le32(raw, 0x270) } else { crc32c(!0, &raw[0x68..0x78]) }))
}

/// Length of a cluster, of 2^29 bytes at most (`EXT2_MAX_CLUSTER_LOG_SIZE`), where blocks are shifted by `shift`.
fn cluster_bits(raw: &[u8], shift: u32) -> Result<u32> {
    let cluster = le32(raw, 0x1c);
    if (shift..=19).contains(&cluster) { Ok(10 + cluster) } else { Err(Error::Corrupt("the size of a cluster")) }
}

fn groups(raw: &[u8], blocks_high: u64) -> Result<u64> {
    let (first, per_group) = (u64::from(le32(raw, 0x14)), u64::from(le32(raw, 0x20)));
    let blocks = (u64::from(le32(raw, 0x4)) | blocks_high).checked_sub(first);
    let blocks = blocks.filter(|_| per_group != 0).ok_or(Error::Corrupt("the number of blocks"))?;
    let groups = blocks.div_ceil(per_group);
    // So many inodes that their numbers have more than 32 bits nobody has.
    if groups > u64::from(u32::MAX) { Err(Error::Corrupt("the number of groups")) } else { Ok(groups) }
}
