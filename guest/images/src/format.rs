//! The seam between the formats of images and the guest's files.

use crate::Result;
use alloc::vec::Vec;
use diolkos_vfs::{FileType, Metadata, StatFs};

/// An entry of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The number of its inode.
    pub nid: u64,
    /// The type, if the entry tells.
    pub file_type: Option<FileType>,
    /// The name: `.` and `..` are among them.
    pub name: &'a [u8],
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// The whole name.
    pub name: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What the numbers of prefixes stand for, in EROFS (`EROFS_XATTR_INDEX_*`) as in ext4 (`EXT4_XATTR_INDEX_*`).
pub const XATTR_PREFIXES: [(u8, &[u8]); 5] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
];

/// A file system in an image, none of which changes.
pub trait Format: Send + Sync + 'static {
    /// An inode, as far as it has been read.
    type Inode: Send + Sync;

    /// The number of the root directory's inode.
    fn root(&self) -> u64;

    /// Reads an inode.
    ///
    /// # Errors
    /// There is none of that number, or it makes no sense.
    fn inode(&self, number: u64) -> Result<Self::Inode>;

    /// What stat(2) says of it; the number of the device is left open (0). The type is a known one, the number of the inode
    /// its identity.
    fn metadata(&self, inode: &Self::Inode) -> Metadata;

    /// The number of the inode that has a name in a directory.
    ///
    /// # Errors
    /// The directory makes no sense.
    fn lookup(&self, directory: &Self::Inode, name: &[u8]) -> Result<Option<u64>>;

    /// Hands the entries of a directory from `cookie` on (0 is the start) to `each`, with the cookie of the entry after each,
    /// until it declines one.
    ///
    /// # Errors
    /// The directory makes no sense. What was handed out before is good.
    fn list(&self, directory: &Self::Inode, cookie: u64, each: &mut dyn FnMut(Entry<'_>, u64) -> bool) -> Result<()>;

    /// Fills `buffer` with content from byte `offset` on; all of it must lie in the file.
    ///
    /// # Errors
    /// The image makes no sense there.
    fn read(&self, inode: &Self::Inode, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The first byte at or after `offset` (which lies in the file) that is in a hole, or for `hole` false not in one; the
    /// size of the file if there is none.
    ///
    /// # Errors
    /// The image makes no sense there.
    fn seek(&self, inode: &Self::Inode, offset: u64, hole: bool) -> Result<u64>;

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// It makes no sense, or the inode is none.
    fn target(&self, inode: &Self::Inode) -> Result<Vec<u8>>;

    /// All extended attributes of an inode.
    ///
    /// # Errors
    /// They make no sense.
    fn xattrs(&self, inode: &Self::Inode) -> Result<Vec<Xattr>>;

    /// What statfs(2) says.
    fn statfs(&self) -> StatFs;
}

/// The number of a device as Linux packs it into 32 bits on disks (`new_decode_dev` of `include/linux/kdev_t.h`), repacked as
/// `makedev(3)` does.
pub fn device_number(encoded: u32) -> u64 {
    let (major, minor) = (u64::from(encoded >> 8 & 0xfff), u64::from(encoded & 0xff | encoded >> 12 & 0xf_ff00));
    (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12
}

/// The sort of file that a directory entry tells by its number: `EXT4_FT_*`, which EROFS has too.
pub fn file_type(number: u8) -> Option<FileType> {
    Some(match number {
        1 => FileType::Regular,
        2 => FileType::Directory,
        3 => FileType::CharDevice,
        4 => FileType::BlockDevice,
        5 => FileType::Fifo,
        6 => FileType::Socket,
        7 => FileType::Symlink,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_repacked() {
        assert_eq!(device_number(0x0103), 0x0103);
        // Major 259, minor 65536 + 7, as makedev(3) packs them.
        assert_eq!(device_number(259 << 8 | 7 | 0x10000 << 12), 0x1001_0307);
    }
}
