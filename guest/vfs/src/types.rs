//! The plain values that pass between the system calls and the file systems.

use crate::{Errno, InodeId, Result};
use bitflags::bitflags;

/// What kind of thing an inode is. Fixed for its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileType {
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A regular file.
    Regular,
    /// A symbolic link.
    Symlink,
    /// A socket.
    Socket,
}

impl FileType {
    /// The type bits of a mode (`S_IFMT`, inode(7)); `None` for a pattern no type has.
    pub fn from_mode(mode: u32) -> Option<Self> {
        Some(match mode & 0o170000 {
            0o010000 => Self::Fifo,
            0o020000 => Self::CharDevice,
            0o040000 => Self::Directory,
            0o060000 => Self::BlockDevice,
            0o100000 => Self::Regular,
            0o120000 => Self::Symlink,
            0o140000 => Self::Socket,
            _ => return None,
        })
    }

    /// The `S_IFMT` bits of this type.
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Fifo => 0o010000,
            Self::CharDevice => 0o020000,
            Self::Directory => 0o040000,
            Self::BlockDevice => 0o060000,
            Self::Regular => 0o100000,
            Self::Symlink => 0o120000,
            Self::Socket => 0o140000,
        }
    }

    /// The `DT_*` value of a directory entry (readdir(3)): the type bits shifted down.
    pub fn dirent_type(self) -> u8 {
        (self.mode_bits() >> 12) as u8
    }
}

/// A point in time: seconds since the Unix epoch (negative before it) and nanoseconds below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Timespec {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds, 0 to 999,999,999.
    pub nsec: u32,
}

/// What stat(2) tells of an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// The inode number shown to programs: the host's own on a share.
    pub ino: u64,
    /// The device number shown to programs, as `makedev(3)` packs it; one per mounted file system.
    pub dev: u64,
    /// Type and permission bits.
    pub mode: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device file.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Allocated 512-byte units.
    pub blocks: u64,
    /// Preferred I/O size in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Timespec,
    /// Last change of the content.
    pub mtime: Timespec,
    /// Last change of the inode.
    pub ctime: Timespec,
}

impl Metadata {
    /// The type, from the mode; a mode without a valid type counts as a regular file.
    pub fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode).unwrap_or(FileType::Regular)
    }
}

/// What statfs(2) tells of a file system. Sizes are in units of `frsize` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatFs {
    /// The magic number programs know the file system by (`statfs.f_type`).
    pub magic: u64,
    /// Preferred I/O size.
    pub bsize: u32,
    /// Unit of the block counts.
    pub frsize: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for ordinary users.
    pub bavail: u64,
    /// All inodes.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name in bytes.
    pub namelen: u32,
}

bitflags! {
    /// The flags of open(2) that reach a file system, with Linux' values for x86-64.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct OpenFlags: u32 {
        /// Write only. Neither this nor [`OpenFlags::RDWR`]: read only.
        const WRONLY = 0o1;
        /// Read and write.
        const RDWR = 0o2;
        /// Create the file if it is missing.
        const CREAT = 0o100;
        /// Fail if it is there.
        const EXCL = 0o200;
        /// Do not become the controlling terminal.
        const NOCTTY = 0o400;
        /// Cut the file to no length.
        const TRUNC = 0o1000;
        /// Every write goes to the end.
        const APPEND = 0o2000;
        /// Do not block.
        const NONBLOCK = 0o4000;
        /// Writes return when the data is safe.
        const DSYNC = 0o10000;
        /// Bypass caches.
        const DIRECT = 0o40000;
        /// Accepted, and always true.
        const LARGEFILE = 0o100000;
        /// Must be a directory.
        const DIRECTORY = 0o200000;
        /// Do not follow a symbolic link in the last component.
        const NOFOLLOW = 0o400000;
        /// Leave the access time alone.
        const NOATIME = 0o1000000;
        /// Close on exec; kept by the descriptor table, not the file.
        const CLOEXEC = 0o2000000;
        /// With [`OpenFlags::DSYNC`]: the metadata too.
        const SYNC = 0o4000000;
        /// A place in the tree only: no reading or writing.
        const PATH = 0o10000000;
        /// An unnamed file in the directory given.
        const TMPFILE = 0o20000000;
    }
}

impl OpenFlags {
    /// Whether reading is allowed.
    pub fn reads(self) -> bool {
        !self.contains(Self::WRONLY) && !self.contains(Self::PATH)
    }

    /// Whether writing is allowed.
    pub fn writes(self) -> bool {
        self.intersects(Self::WRONLY | Self::RDWR) && !self.contains(Self::PATH)
    }
}

bitflags! {
    /// The flags of renameat2(2).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct RenameFlags: u32 {
        /// Fail if the new name is taken.
        const NOREPLACE = 1;
        /// Swap the two names.
        const EXCHANGE = 2;
    }
}

/// One component of a path: 1 to 255 bytes, without `/` and NUL, neither `.` nor `..`.
///
/// Holding one proves exactly that, so a file system may put it into a message as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Longest name in bytes (`NAME_MAX`).
    pub const MAX: usize = 255;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ENOENT` when empty, `ENAMETOOLONG` when too long, `EINVAL` for the rest.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes {
            [] => Err(Errno::ENOENT),
            _ if bytes.len() > Self::MAX => Err(Errno::ENAMETOOLONG),
            b"." | b".." => Err(Errno::EINVAL),
            _ if bytes.iter().any(|b| matches!(b, 0 | b'/')) => Err(Errno::EINVAL),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// One directory entry. `.` and `..` are among them, as the file system tells them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry<'a> {
    /// The inode number shown to programs.
    pub ino: u64,
    /// The cookie of the *next* entry: handing it to [`crate::File::readdir`] goes on after this one. Opaque.
    pub next: u64,
    /// The type, if the file system knows it without asking.
    pub file_type: Option<FileType>,
    /// The name.
    pub name: &'a [u8],
    /// The identity, if it is known; lets a caller skip a lookup.
    pub id: Option<InodeId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_what_they_promise() {
        assert_eq!(Name::new(b"a b\xff").unwrap().as_bytes(), b"a b\xff");
        assert_eq!(Name::new(b""), Err(Errno::ENOENT));
        assert_eq!(Name::new(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
        for bad in [&b"."[..], b"..", b"a/b", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL));
        }
    }

    #[test]
    fn types_and_modes_agree() {
        for kind in [FileType::Fifo, FileType::Regular, FileType::Directory, FileType::Symlink, FileType::Socket] {
            assert_eq!(FileType::from_mode(kind.mode_bits() | 0o7777), Some(kind));
        }
        assert_eq!(FileType::from_mode(0o644), None);
        assert_eq!(FileType::Regular.dirent_type(), 8);
    }
}
