//! Inodes: `struct erofs_inode_compact` and `struct erofs_inode_extended` of `fs/erofs/erofs_fs.h`.

use crate::{Erofs, Error, Feature, Result};
use diolkos_images::bytes::{le16, le32, le64};
use diolkos_images::device_number;
use diolkos_vfs::{FileType, Timespec};

/// Inodes lie at multiples of so many bytes; their number says at which.
const SLOT: u64 = 32;
const COMPACT: usize = 32;
const EXTENDED: usize = 64;

/// An address that stands for no block.
pub(crate) const NO_BLOCK: u32 = u32::MAX;

/// The longest file, that of `off_t`.
const SIZE_MAX: u64 = i64::MAX as u64;

/// Where the content of an inode lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In one piece, from this byte of the image on.
    Plain(u64),
    /// As [`Layout::Plain`], but for the last block, which follows the inode.
    Inline(u64),
    /// In chunks of 2^`bits` bytes, found by a table of addresses; `indexes` are the longer form of these.
    Chunks { bits: u32, indexes: bool },
    /// Compressed, with full or compact indexes.
    Compressed { compact: bool },
    /// There is none: the number of a device, or nothing.
    Nothing,
}

/// An inode.
#[derive(Debug, Clone)]
pub struct Inode {
    /// Its number in the image, which is also its identity.
    pub nid: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of names.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of its content in bytes.
    pub size: u64,
    /// Device number of a device file, as `makedev(3)` packs it.
    pub rdev: u64,
    /// When its content changed last.
    pub mtime: Timespec,
    pub(crate) layout: Layout,
    /// Where the inode ends and its attributes begin.
    pub(crate) xattrs: u64,
    /// Bytes of its attributes.
    pub(crate) xattrs_len: u64,
}

impl Inode {
    /// The type.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).expect("checked when the inode was read")
    }

    /// The first byte behind the attributes, where inline content and tables lie.
    pub(crate) fn body(&self) -> u64 {
        self.xattrs + self.xattrs_len
    }
}

impl Erofs {
    /// Reads the inode of number `nid`.
    ///
    /// # Errors
    /// When there is none, or it makes no sense.
    pub fn inode(&self, nid: u64) -> Result<Inode> {
        let start = nid.checked_mul(SLOT).and_then(|at| at.checked_add(self.superblock.meta));
        let start = start.filter(|at| *at < self.image.len()).ok_or(Error::Corrupt("the number of an inode"))?;
        let mut raw = [0; EXTENDED];
        self.image.metadata(start, &mut raw[..COMPACT])?;
        let format = le16(&raw, 0);
        if format & !0xf != 0 {
            return Err(Error::Unsupported(Feature::Named("inodes of an unknown format")));
        }
        let extended = format & 1 != 0;
        let len = if extended { EXTENDED } else { COMPACT };
        if extended {
            self.image.metadata(start + COMPACT as u64, &mut raw[COMPACT..])?;
        }
        let mode = u32::from(le16(&raw, 4));
        let kind = FileType::from_mode(mode).ok_or(Error::Corrupt("the type of an inode"))?;
        let place = le32(&raw, 16);
        let mut inode = Inode {
            nid,
            mode,
            nlink: if extended { le32(&raw, 44) } else { u32::from(le16(&raw, 6)) },
            uid: if extended { le32(&raw, 24) } else { u32::from(le16(&raw, 24)) },
            gid: if extended { le32(&raw, 28) } else { u32::from(le16(&raw, 26)) },
            size: if extended { le64(&raw, 8) } else { u64::from(le32(&raw, 8)) },
            rdev: 0,
            mtime: self.mtime(extended.then(|| (le64(&raw, 32) as i64, le32(&raw, 40))))?,
            layout: Layout::Nothing,
            xattrs: start + len as u64,
            xattrs_len: crate::xattr::space(le16(&raw, 2)),
        };
        if inode.size > SIZE_MAX {
            return Err(Error::Corrupt("the size of a file"));
        }
        match kind {
            FileType::Regular | FileType::Directory | FileType::Symlink => {
                inode.layout = self.layout(format >> 1, place)?;
            }
            FileType::CharDevice | FileType::BlockDevice => inode.rdev = device_number(place),
            FileType::Fifo | FileType::Socket => {}
        }
        Ok(inode)
    }

    fn mtime(&self, own: Option<(i64, u32)>) -> Result<Timespec> {
        let (sec, nsec) = own.unwrap_or(self.superblock.build_time);
        if nsec >= 1_000_000_000 { Err(Error::Corrupt("a time")) } else { Ok(Timespec { sec, nsec }) }
    }

    fn layout(&self, number: u16, place: u32) -> Result<Layout> {
        let start = u64::from(place) << self.superblock.block_bits;
        Ok(match number {
            0 => Layout::Plain(start),
            1 => Layout::Compressed { compact: false },
            2 => Layout::Inline(start),
            3 => Layout::Compressed { compact: true },
            4 => {
                if place & !0x3f & 0xffff != 0 {
                    return Err(Error::Unsupported(Feature::Named("chunks of an unknown format")));
                }
                let bits = u32::from(self.superblock.block_bits) + (place & 0x1f);
                Layout::Chunks { bits, indexes: place & 0x20 != 0 }
            }
            _ => return Err(Error::Unsupported(Feature::Named("an unknown layout of files"))),
        })
    }
}
