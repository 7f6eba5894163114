//! Operations on a place that has been found: chmod(2), chown(2), utimensat(2), truncate(2), access(2),
//! stat(2) and statfs(2), and their cousins on descriptors.

use crate::dentry::Location;
use crate::names::writable;
use crate::notify::Events;
use crate::permission::{judge, permit_change, remove_privileges};
use crate::{Errno, FileType, Metadata, Result, SetMetadata, StatFs, WriteAccess};

/// `W_OK` of access(2).
const W_OK: u32 = 2;

/// What a change of attributes is to who watches (`fsnotify_change` in Linux' fsnotify.h).
fn changed(change: &SetMetadata) -> Events {
    let mut what = Events::empty();
    what.set(Events::ATTRIB, change.mode.is_some() || change.uid.is_some() || change.gid.is_some());
    match (change.atime, change.mtime) {
        (Some(_), Some(_)) => what |= Events::ATTRIB,
        (Some(_), None) => what |= Events::ACCESS,
        (None, Some(_)) => what |= Events::MODIFY,
        (None, None) => {}
    }
    what.set(Events::MODIFY, what.contains(Events::MODIFY) || change.size.is_some());
    what
}

impl Location {
    /// stat(2).
    ///
    /// # Errors
    /// What the file system says.
    pub fn metadata(&self) -> Result<Metadata> {
        self.inode().metadata()
    }

    /// Changes owner, mode or times: chmod(2), chown(2), utimensat(2).
    ///
    /// # Errors
    /// `EROFS`, `EPERM`, `EACCES`, `EOPNOTSUPP` for the mode of a symbolic link, and what the file system says.
    pub fn set_metadata(&self, change: &SetMetadata) -> Result<Metadata> {
        writable(self)?;
        if change.mode.is_some() && self.inode().file_type() == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        let metadata = self.inode().set_metadata(&permit_change(self.inode(), change)?)?;
        self.tell(changed(change));
        Ok(metadata)
    }

    /// truncate(2). For ftruncate(2) the caller checks that the descriptor is open for writing.
    ///
    /// # Errors
    /// `EISDIR`, `EINVAL` for what has no size, `EROFS`, `ETXTBSY` while it is executed, `EFBIG`, and what the file system says.
    pub fn truncate(&self, size: u64) -> Result<()> {
        match self.inode().file_type() {
            FileType::Directory => return Err(Errno::EISDIR),
            FileType::Regular => {}
            _ => return Err(Errno::EINVAL),
        }
        writable(self)?;
        let _writing = WriteAccess::get(self.inode())?;
        remove_privileges(self.inode())?;
        self.inode().set_metadata(&SetMetadata { size: Some(size), ..SetMetadata::default() })?;
        self.tell(Events::MODIFY);
        Ok(())
    }

    /// access(2) with `R_OK` 4, `W_OK` 2, `X_OK` 1, or 0 for existence.
    ///
    /// # Errors
    /// `EINVAL` for other bits, `EACCES`, `EROFS`, and what the file system says.
    pub fn access(&self, mask: u32) -> Result<()> {
        if mask & !7 != 0 {
            return Err(Errno::EINVAL);
        }
        match judge(self.inode(), mask) {
            Some(result) => result?,
            None => self.inode().access(mask)?,
        }
        // Devices, pipes and sockets are not written to the file system they lie in.
        let stored = matches!(self.inode().file_type(), FileType::Regular | FileType::Directory | FileType::Symlink);
        if mask & W_OK != 0 && stored { writable(self) } else { Ok(()) }
    }

    /// statfs(2). Whether it is mounted read-only is to be had of [`Location::mount`].
    ///
    /// # Errors
    /// What the file system says.
    pub fn statfs(&self) -> Result<StatFs> {
        self.inode().statfs()
    }
}
