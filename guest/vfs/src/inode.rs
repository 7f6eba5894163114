//! The inode: a thing in a file system, apart from its names and from the files open on it.

use crate::{
    Errno, File, FileType, Location, Metadata, Name, OpenFlags, RenameFlags, Result, StatFs, Timespec, XattrFlags,
    XattrName,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// The identity of an inode in this machine. Two inodes are the same file exactly when their ids are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId {
    /// Which mounted file system, by its [`Metadata::dev`].
    pub dev: u64,
    /// Which inode there. Not always the number shown to programs: a FUSE server may reuse that.
    pub node: u64,
    /// Tells two users of one `node` apart that lived at different times.
    pub generation: u64,
}

/// A change of attributes: what is `None` stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SetMetadata {
    /// Permission bits (no type).
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size in bytes: truncate or extend.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Modification time.
    pub mtime: Option<SetTime>,
}

/// A new time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// Whatever the clock of the file system says.
    Now,
    /// This one.
    To(Timespec),
}

/// An inode. Methods of directories fail with `ENOTDIR` elsewhere; what a file system cannot do, it refuses
/// with the error Linux gives, which is what the defaults here do.
///
/// A method may wait for the host; see the crate's rule on locks.
pub trait Inode: Send + Sync {
    /// The identity.
    fn id(&self) -> InodeId;

    /// The type.
    fn file_type(&self) -> FileType;

    /// The attributes, as fresh as the file system's cache rule demands.
    ///
    /// # Errors
    /// `ESTALE` when the inode is gone from the host, or what the host says.
    fn metadata(&self) -> Result<Metadata>;

    /// Changes attributes and returns the new ones.
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, or what the host says.
    fn set_metadata(&self, _change: &SetMetadata) -> Result<Metadata> {
        Err(Errno::EPERM)
    }

    /// Whether owner and mode say who may do what with it: so for stored files, not for those that show something of the kernel.
    fn is_guarded(&self) -> bool {
        false
    }

    /// Finds an entry of this directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, or what the host says.
    fn lookup(&self, _name: Name<'_>) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }

    /// What is believed about the names in this directory is to be believed no longer, and the next lookup asks.
    fn distrust_names(&self) {}

    /// The target of this symbolic link; not NUL-terminated.
    ///
    /// # Errors
    /// `EINVAL` when it is not one.
    fn readlink(&self) -> Result<Vec<u8>> {
        Err(Errno::EINVAL)
    }

    /// Where following this symbolic link leads, for a link that knows its target itself and not by a path:
    /// `/proc/self/exe`, `/proc/self/fd/N`, `/proc/self/cwd`. An ordinary link gives `None`.
    ///
    /// # Errors
    /// `ENOENT` when there is nothing to lead to.
    fn follow(&self) -> Result<Option<Location>> {
        Ok(None)
    }

    /// Opens it. `CREAT`, `EXCL` and `NOFOLLOW` have been dealt with; `TRUNC` has not.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, `ENXIO`, or what the host says.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>>;

    /// Whether access(2) with this mask (`R_OK` 4, `W_OK` 2, `X_OK` 1; 0 for existence) would succeed.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, or what the host says.
    fn access(&self, mask: u32) -> Result<()>;

    /// Makes a regular file in this directory and opens it. Fails with `EEXIST` when the name is taken.
    ///
    /// # Errors
    /// `EROFS`, `EEXIST`, or what the host says.
    fn create(&self, _name: Name<'_>, _mode: u32, _flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        Err(Errno::EROFS)
    }

    /// Makes a regular file without a name in this directory and opens it. Unless `EXCL` is among the flags, a
    /// later [`Inode::link`] may give it a name.
    ///
    /// # Errors
    /// `EOPNOTSUPP` where the file system has no such thing; else as [`Inode::create`].
    fn tmpfile(&self, _mode: u32, _flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Makes a directory, or with the type bits of `mode` a fifo, a socket or a device of number `rdev`.
    ///
    /// # Errors
    /// As [`Inode::create`].
    fn mknod(&self, _name: Name<'_>, _mode: u32, _rdev: u64) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// As [`Inode::create`].
    fn symlink(&self, _name: Name<'_>, _target: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::EROFS)
    }

    /// Gives `target`, an inode of the same file system, a further name here.
    ///
    /// # Errors
    /// `EXDEV` for another file system's inode; else as [`Inode::create`].
    fn link(&self, _name: Name<'_>, _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Takes away a name of something that is not a directory.
    ///
    /// # Errors
    /// `ENOENT`, `EISDIR`, `EROFS`, or what the host says.
    fn unlink(&self, _name: Name<'_>) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Takes away an empty directory.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `ENOTEMPTY`, `EROFS`, or what the host says.
    fn rmdir(&self, _name: Name<'_>) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Renames an entry of this directory into `to_dir`, a directory of the same file system.
    ///
    /// # Errors
    /// `EXDEV` for another file system's directory; else as [`Inode::create`].
    fn rename(&self, _name: Name<'_>, _to_dir: &Arc<dyn Inode>, _to: Name<'_>, _flags: RenameFlags) -> Result<()> {
        Err(Errno::EROFS)
    }

    /// Facts of the file system it lies in.
    ///
    /// # Errors
    /// What the host says.
    fn statfs(&self) -> Result<StatFs>;

    /// Makes everything written to the file system it lies in safe (syncfs(2)).
    ///
    /// # Errors
    /// `EIO`, or what the host says.
    fn sync_fs(&self) -> Result<()> {
        Ok(())
    }

    /// Fills `value` with an extended attribute and returns its length; with an empty buffer only the length.
    ///
    /// # Errors
    /// `ENODATA` without the attribute, `ERANGE` when the buffer is too short, `EOPNOTSUPP`, or what the host says.
    fn xattr(&self, _name: XattrName<'_>, _value: &mut [u8]) -> Result<usize> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Fills `list` with the names of the extended attributes, each ended by a NUL, and returns their length; with an
    /// empty buffer only the length. Without any support there is none.
    ///
    /// # Errors
    /// `ERANGE` when the buffer is too short, or what the host says.
    fn list_xattrs(&self, _list: &mut [u8]) -> Result<usize> {
        Ok(0)
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// `EEXIST` and `ENODATA` as the flags demand, `EOPNOTSUPP`, `EPERM`, or what the host says.
    fn set_xattr(&self, _name: XattrName<'_>, _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Removes an extended attribute.
    ///
    /// # Errors
    /// `ENODATA` without it, `EOPNOTSUPP`, `EPERM`, or what the host says.
    fn remove_xattr(&self, _name: XattrName<'_>) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The inode as itself, for a file system to recognise its own.
    fn as_any(&self) -> &dyn Any;
}
