//! The host's files by descriptor: what they are, and how to open the file that an `O_PATH` descriptor names.

use crate::virtio::fs::guard::refuse;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Statx, StatxFlags, fstatfs, makedev, openat, statx};
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What tells two files of the host apart, as long as a descriptor keeps both from being deleted for good: device, inode
/// number, mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
    mount: u64,
}

/// When a file was made: seconds and nanoseconds. An inode number that another file has got since goes with another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth(i64, u32);

/// statx(2) of a file, asked for once.
pub struct Status(Statx);

impl Status {
    /// Of the file behind `fd` itself, be it a symbolic link.
    ///
    /// # Errors
    /// What the host says.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        Self::at(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Of what `name`, one component, is in `directory` now.
    ///
    /// # Errors
    /// What the host says.
    pub fn of_name(directory: impl AsFd, name: &CStr) -> io::Result<Self> {
        // As an `O_PATH` open, it mounts nothing.
        Self::at(directory, name, AtFlags::NO_AUTOMOUNT)
    }

    fn at(fd: impl AsFd, name: &CStr, flags: AtFlags) -> io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
        Ok(Self(statx(fd, name, flags | AtFlags::SYMLINK_NOFOLLOW, wanted)?))
    }

    /// When it was made, where the host's file system knows.
    pub fn birth(&self) -> Option<Birth> {
        let known = self.0.stx_mask & StatxFlags::BTIME.bits() != 0;
        known.then_some(Birth(self.0.stx_btime.tv_sec, self.0.stx_btime.tv_nsec))
    }

    pub fn id(&self) -> FileId {
        let Statx { stx_ino: inode, stx_mnt_id: mount, .. } = self.0;
        FileId { device: makedev(self.0.stx_dev_major, self.0.stx_dev_minor), inode, mount }
    }

    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.0.stx_mode.into())
    }

    /// In the shape the library wants.
    pub fn attributes(&self) -> libc::stat64 {
        let from = &self.0;
        // SAFETY: `stat64` is plain integers, of which zero is a value.
        let mut to: libc::stat64 = unsafe { std::mem::zeroed() };
        to.st_dev = makedev(from.stx_dev_major, from.stx_dev_minor);
        to.st_ino = from.stx_ino;
        to.st_nlink = from.stx_nlink.into();
        to.st_mode = from.stx_mode.into();
        to.st_uid = from.stx_uid;
        to.st_gid = from.stx_gid;
        to.st_rdev = makedev(from.stx_rdev_major, from.stx_rdev_minor);
        to.st_size = from.stx_size as i64;
        to.st_blksize = from.stx_blksize.into();
        to.st_blocks = from.stx_blocks as i64;
        (to.st_atime, to.st_atime_nsec) = (from.stx_atime.tv_sec, from.stx_atime.tv_nsec.into());
        (to.st_mtime, to.st_mtime_nsec) = (from.stx_mtime.tv_sec, from.stx_mtime.tv_nsec.into());
        (to.st_ctime, to.st_ctime_nsec) = (from.stx_ctime.tv_sec, from.stx_ctime.tv_nsec.into());
        to
    }
}

/// `/proc/self/fd`, held: the way from an `O_PATH` descriptor to the file it names. Its entries are not links to paths but
/// lead to the very file, whatever has become of its name.
#[derive(Debug)]
pub struct Descriptors(OwnedFd);

impl Descriptors {
    /// # Errors
    /// There is no `/proc`.
    pub fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, "/proc/self/fd", flags, Mode::empty())?))
    }

    /// The directory, for calls that take one and a name.
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The name of `fd` in it.
    pub fn name(fd: impl AsFd) -> CString {
        CString::new(fd.as_fd().as_raw_fd().to_string()).expect("digits")
    }

    /// The whole path of `fd`'s entry, for calls that take nothing else.
    pub fn path(fd: impl AsFd) -> CString {
        CString::new(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).expect("a slash, letters and digits")
    }

    /// Opens the file that `fd`, of this kind, names.
    ///
    /// # Errors
    /// `EBADF` for what is neither a regular file nor a directory: to open a fifo may wait for ever, and a device may do
    /// anything. `EACCES` for files of procfs, where our own memory is a file. What the host says.
    pub fn reopen(&self, fd: impl AsFd, kind: FileType, flags: OFlags) -> io::Result<File> {
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            return Err(refuse(libc::EBADF));
        }
        if fstatfs(&fd)?.f_type == libc::PROC_SUPER_MAGIC {
            return Err(refuse(libc::EACCES));
        }
        // It *is* a link that must be followed; nothing is made, so it needs no mode.
        let flags = (flags | OFlags::CLOEXEC) - (OFlags::NOFOLLOW | OFlags::CREATE | OFlags::EXCL);
        Ok(openat(&self.0, Self::name(fd), flags, Mode::empty())?.into())
    }

    /// An `O_PATH` descriptor of the file that `fd` is.
    ///
    /// # Errors
    /// What the host says.
    pub fn path_of(&self, fd: impl AsFd) -> io::Result<OwnedFd> {
        Ok(openat(&self.0, Self::name(fd), OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
    }
}
