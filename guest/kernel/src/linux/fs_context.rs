//! A process' place in the file tree: the tree, the working directory and the umask.

use super::Call;
use crate::mm::user::read_cstr;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use diolkos_vfs::{Errno, FileType, Location, Lookup, Namespace, Result};
use linux_raw_sys::general::AT_FDCWD;
use spin::Mutex;

/// Longest path without its NUL (`PATH_MAX`).
const PATH_MAX: usize = 4095;

/// What `CLONE_FS` shares.
pub struct FsContext {
    namespace: Arc<Namespace>,
    working_dir: Mutex<Location>,
    umask: AtomicU32,
}

impl FsContext {
    /// At the root, with the umask every shell starts with.
    pub fn new(namespace: Arc<Namespace>) -> Self {
        let working_dir = Mutex::new(namespace.root());
        Self { namespace, working_dir, umask: AtomicU32::new(0o022) }
    }

    /// The tree.
    pub fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    /// The working directory.
    pub fn working_dir(&self) -> Location {
        self.working_dir.lock().clone()
    }

    /// Makes a place the working directory.
    ///
    /// # Errors
    /// `ENOTDIR`, `EACCES` without search permission.
    pub fn set_working_dir(&self, place: Location) -> Result<()> {
        const X_OK: u32 = 1;
        if place.inode().file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        place.access(X_OK)?;
        // The old one is dropped after the lock: that may tell the host.
        let _old = core::mem::replace(&mut *self.working_dir.lock(), place);
        Ok(())
    }

    /// Changes to the directory at `path`: what the machine was told to start the program in.
    ///
    /// # Errors
    /// Those of the walk, and of [`FsContext::set_working_dir`].
    pub fn change_dir(&self, path: &[u8]) -> Result<()> {
        let place = self.namespace.find(&self.working_dir(), path, Lookup::FOLLOW)?;
        self.set_working_dir(place)
    }

    /// The permission bits new files do not get.
    pub fn umask(&self) -> u32 {
        self.umask.load(Ordering::Relaxed)
    }

    /// Sets the umask and returns the old one.
    pub fn set_umask(&self, mask: u32) -> u32 {
        self.umask.swap(mask & 0o777, Ordering::Relaxed)
    }
}

impl Call<'_> {
    /// Reads a path argument.
    ///
    /// # Errors
    /// `EFAULT`, `ENAMETOOLONG`.
    pub fn path(&self, address: u64) -> Result<Vec<u8>> {
        read_cstr(address, PATH_MAX)
    }

    /// The tree.
    pub fn namespace(&self) -> &Namespace {
        self.process.fs.namespace()
    }

    /// Where a path starts: the working directory for `AT_FDCWD`, else what the descriptor stands at. An absolute
    /// path does not need either, and so a bad descriptor does no harm (openat(2)).
    ///
    /// # Errors
    /// `EBADF`.
    pub fn start(&self, dirfd: u64, path: &[u8]) -> Result<Location> {
        match dirfd as i32 {
            AT_FDCWD => Ok(self.process.fs.working_dir()),
            _ if path.first() == Some(&b'/') => Ok(self.namespace().root()),
            _ => Ok(self.file_or_path(dirfd)?.location().clone()),
        }
    }

    /// What a path leads to, with both links and the empty path as `how` says.
    ///
    /// # Errors
    /// `EBADF`, and those of the walk.
    pub fn find(&self, dirfd: u64, path: &[u8], how: Lookup) -> Result<Location> {
        self.namespace().find(&self.start(dirfd, path)?, path, how)
    }

    /// Reads a path argument and finds what it leads to.
    ///
    /// # Errors
    /// `EFAULT`, `EBADF`, and those of the walk.
    pub fn place(&self, dirfd: u64, address: u64, how: Lookup) -> Result<Location> {
        self.find(dirfd, &self.path(address)?, how)
    }
}

/// [`AT_FDCWD`] as the calls without a directory descriptor mean it.
pub const CWD: u64 = AT_FDCWD as u64;
