//! The superblock: where things are, and what of the format the image uses.
//!
//! The layout is that of `struct erofs_super_block` in Linux' `fs/erofs/erofs_fs.h`.

use crate::{Error, Feature, Result};
use alloc::vec;
use diolkos_images::bytes::{le16, le32, le64};
use diolkos_images::crc32c;
use diolkos_vfs::block::Block;

/// Where it lies.
const OFFSET: u64 = 1024;
/// Bytes of it that mean something here.
const LEN: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;

/// `feature_compat`: there is a checksum.
const SB_CHKSUM: u32 = 1;

/// `feature_incompat`: compressed data stands at the end of its cluster, with zeros before it.
const ZERO_PADDING: u32 = 0x1;
/// Clusters of several blocks, and configurations of the compressors.
const BIG_PCLUSTER: u32 = 0x2;
const CHUNKED_FILE: u32 = 0x4;
/// Two features share the bit: further devices, and a second compressor in a file.
const DEVICE_TABLE: u32 = 0x8;
/// The end of a compressed file beside its inode.
const ZTAILPACKING: u32 = 0x10;

/// All that is understood.
const KNOWN: u32 = ZERO_PADDING | BIG_PCLUSTER | CHUNKED_FILE | DEVICE_TABLE | ZTAILPACKING;

/// Features that have a name but no support.
const REFUSED: [(u32, &str); 4] = [
    (0x20, "fragments or deduplication (mkfs.erofs -Efragments, -Ededupe)"),
    (0x40, "prefixes for names of extended attributes (mkfs.erofs --xattr-prefix)"),
    (0x80, "block addresses of 48 bits"),
    (0x100, "compressed metadata"),
];

/// Sizes of blocks: 512 bytes to 64 KiB, as Linux has them at most.
const BLOCK_BITS: core::ops::RangeInclusive<u8> = 9..=16;

/// The algorithm bits that may be set in `available_compr_algs`: LZ4.
const LZ4: u16 = 1;

/// What the superblock says.
#[derive(Debug, Clone)]
pub struct Superblock {
    /// Length of a block, as a power of two.
    pub(crate) block_bits: u8,
    /// Inode of the root directory.
    pub(crate) root: u64,
    /// Number of inodes.
    pub(crate) inodes: u64,
    /// Number of blocks.
    pub(crate) blocks: u32,
    /// Byte where inode 0 would lie.
    pub(crate) meta: u64,
    /// Byte where shared attributes begin.
    pub(crate) xattrs: u64,
    /// Time of everything that has none of its own.
    pub(crate) build_time: (i64, u32),
    /// Compressed data ends with its cluster.
    pub(crate) zero_padding: bool,
    /// Compressed files have a header even with full indexes.
    pub(crate) map_headers: bool,
}

impl Superblock {
    /// Reads and checks it.
    pub(crate) fn read(device: &dyn Block) -> Result<Self> {
        if device.len() < OFFSET + LEN as u64 {
            return Err(Error::Absent);
        }
        let mut raw = [0; LEN];
        device.read(OFFSET, &mut raw).map_err(Error::Device)?;
        if le32(&raw, 0) != MAGIC {
            return Err(Error::Absent);
        }
        let block_bits = raw[12];
        if !BLOCK_BITS.contains(&block_bits) {
            return Err(Error::Corrupt("the size of a block"));
        }
        if le32(&raw, 8) & SB_CHKSUM != 0 {
            check(device, block_bits)?;
        }
        let incompat = le32(&raw, 80);
        refuse_unknown(incompat, &raw)?;
        let block = |number: u32| u64::from(number) << block_bits;
        let nsec = le32(&raw, 32);
        if nsec >= 1_000_000_000 {
            return Err(Error::Corrupt("the time it was made"));
        }
        Ok(Self {
            block_bits,
            root: u64::from(le16(&raw, 14)),
            inodes: le64(&raw, 16),
            blocks: le32(&raw, 36),
            meta: block(le32(&raw, 40)),
            xattrs: block(le32(&raw, 44)),
            build_time: (le64(&raw, 24) as i64, nsec),
            zero_padding: incompat & ZERO_PADDING != 0,
            map_headers: incompat & (BIG_PCLUSTER | ZTAILPACKING) != 0,
        })
    }
}

fn refuse_unknown(incompat: u32, raw: &[u8; LEN]) -> Result<()> {
    for (bit, name) in REFUSED {
        if incompat & bit != 0 {
            return Err(Error::Unsupported(Feature::Named(name)));
        }
    }
    if incompat & !KNOWN != 0 {
        return Err(Error::Unsupported(Feature::Bits(incompat & !KNOWN)));
    }
    if incompat & DEVICE_TABLE != 0 && le16(raw, 86) != 0 {
        return Err(Error::Unsupported(Feature::Named("further devices (mkfs.erofs --blobdev)")));
    }
    // Without the configurations the same field is a distance, and the one algorithm is LZ4.
    if incompat & BIG_PCLUSTER != 0 && le16(raw, 84) & !LZ4 != 0 {
        return Err(Error::Unsupported(Feature::Named("a compressor other than LZ4 (mkfs.erofs -z)")));
    }
    Ok(())
}

/// The checksum: CRC-32C without the final inversion, from the superblock to the end of its block, over zeros where itself is.
fn check(device: &dyn Block, block_bits: u8) -> Result<()> {
    let block = 1 << block_bits;
    let len = if block > OFFSET as usize { block - OFFSET as usize } else { block };
    let mut bytes = vec![0; len.max(LEN)];
    device.read(OFFSET, &mut bytes).map_err(Error::Device)?;
    let stored = le32(&bytes, 4);
    bytes[4..8].fill(0);
    if crc32c(!0, &bytes[..len]) == stored { Ok(()) } else { Err(Error::Checksum("the superblock")) }
}
