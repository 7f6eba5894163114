//! Files that a guest was told of in a listing and that nobody has opened.
//!
//! Of what a listing names few files are used, and to open and close them all takes longer than everything else about
//! them. So of such a file we only note in which directory it is, under which name, and which file it is: device, inode
//! number, mount, and time of birth, since an inode number may come back. It is opened by that name when it is first used.
//! If the name leads to another file by then, or to nothing, that is the end of it (`ESTALE`): a guest looks the name up
//! again.

use super::host::{Birth, FileId, Status};
use crate::virtio::fs::guard::refuse;
use rustix::fs::{FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// A file seen under a name of the directory that `D` holds.
#[derive(Debug, Clone)]
pub struct Sighting<D> {
    directory: D,
    name: CString,
    id: FileId,
    birth: Birth,
    kind: FileType,
}

impl<D: AsFd> Sighting<D> {
    /// What is `name`, one component, in `directory` now, which `status` tells. `None` for what has to be held: directories,
    /// because what is seen below them hangs on them, and files whose birth the host does not know.
    pub fn new(directory: D, name: &CStr, status: &Status) -> Option<Self> {
        let (id, kind) = (status.id(), status.kind());
        let birth = status.birth().filter(|_| kind != FileType::Directory)?;
        Some(Self { directory, name: name.to_owned(), id, birth, kind })
    }

    /// Which file it is, as long as it is not deleted for good.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// What sort of file it is.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it was born then.
    pub fn was_born(&self, birth: Option<Birth>) -> bool {
        Some(self.birth) == birth
    }

    /// An `O_PATH` descriptor of the file.
    ///
    /// # Errors
    /// `ESTALE` when the name does not lead to it any more; what the host says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        let gone = || refuse(libc::ESTALE);
        let file = open_path(&self.directory, &self.name)
            .map_err(|errno| if errno == Errno::NOENT { gone() } else { errno.into() })?;
        let status = Status::of(&file)?;
        let same = status.id() == self.id && status.kind() == self.kind && self.was_born(status.birth());
        same.then_some(file).ok_or_else(gone)
    }
}

/// An `O_PATH` descriptor of what `name`, one component, is in a directory: neither followed nor opened.
///
/// # Errors
/// What the host says.
pub fn open_path(directory: impl AsFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}
