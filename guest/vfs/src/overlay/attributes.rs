//! What the layer above sees of an inode.

use super::content::Changed;
use super::directory::DirectoryFile;
use super::file::RegularFile;
use super::names::Made;
use super::node::{Node, Place, Shown};
use crate::ramfs::{Body, Content, PAGE};
use crate::{
    Errno, File, FileType, Inode, InodeId, Location, Metadata, Name, OpenFlags, RenameFlags, Result, SetMetadata,
    StatFs, XattrFlags, XattrName,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

/// access(2)'s `W_OK`.
const W_OK: u32 = 2;

/// What tmpfs counts for each entry in the size of a directory (`BOGO_DIRENT_SIZE`).
const ENTRY_SIZE: u64 = 20;

impl Node {
    /// The number shown to programs.
    pub(super) fn number(&self) -> Result<u64> {
        match self.shown()? {
            Shown::Upper(_) => Ok(self.ino.load(Ordering::Relaxed)),
            Shown::Lower(lower) => Ok(lower.metadata()?.ino),
        }
    }

    /// Whether this directory of the lower may lie elsewhere than there.
    pub(super) fn is_moved(&self) -> bool {
        matches!(self.state.lock().place, Place::Kept(_))
    }

    fn resize(&self, size: u64) -> Result<()> {
        match self.kind {
            FileType::Regular => {}
            FileType::Directory => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        }
        let upper = self.raise()?;
        Changed { node: self, upper: &upper, lower: &|| self.open_lower() }.resize(size)
    }

    /// What differs from what the memory node says.
    fn correct(&self, metadata: &mut Metadata) {
        let state = self.state.lock();
        metadata.ino = self.ino.load(Ordering::Relaxed);
        metadata.blocks += state.shown.pages() * (PAGE as u64 / 512);
        if self.kind == FileType::Directory {
            metadata.size = state.lower_size + (state.table.present() as u64 + 2) * ENTRY_SIZE;
        }
    }
}

impl Inode for Node {
    fn id(&self) -> InodeId {
        self.id
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        let mut metadata = match self.shown()? {
            Shown::Upper(upper) => {
                let mut metadata = upper.metadata()?;
                self.correct(&mut metadata);
                metadata
            }
            Shown::Lower(lower) => {
                let metadata = lower.metadata()?;
                let links = self.state.lock().links;
                Metadata { nlink: metadata.nlink.saturating_add_signed(links), ..metadata }
            }
        };
        if self.is_dead() {
            metadata.nlink = 0;
        }
        Ok(metadata)
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn set_metadata(&self, change: &SetMetadata) -> Result<Metadata> {
        if let Some(size) = change.size {
            self.resize(size)?;
        }
        self.raise()?.set_metadata(&SetMetadata { size: None, ..*change })?;
        self.metadata()
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.find(name)?.node.ok_or(Errno::ENOENT)?)
    }

    fn distrust_names(&self) {
        if let Some(lower) = self.lower_dir() {
            lower.distrust_names();
        }
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match self.shown()? {
            Shown::Upper(upper) => upper.readlink(),
            Shown::Lower(lower) => lower.readlink(),
        }
    }

    fn follow(&self) -> Result<Option<Location>> {
        self.lower().map_or(Ok(None), |lower| lower.follow())
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        match self.kind {
            FileType::Regular => {
                if flags.contains(OpenFlags::TRUNC) {
                    self.resize(0)?;
                }
                Ok(RegularFile::open(self, flags)?)
            }
            FileType::Directory => Ok(DirectoryFile::open(self, flags)?),
            FileType::Symlink => Err(Errno::ELOOP),
            // Fifos are opened above this layer; the rest cannot be, as on a file system mounted `nodev`.
            FileType::CharDevice | FileType::BlockDevice => Err(Errno::EACCES),
            FileType::Fifo | FileType::Socket => Err(Errno::ENXIO),
        }
    }

    /// Anything may be changed here. Whether something may be read or executed is the host's to say, until it is changed.
    fn access(&self, mask: u32) -> Result<()> {
        match self.shown()? {
            Shown::Upper(upper) => upper.access(mask),
            Shown::Lower(_) if mask == W_OK => Ok(()),
            Shown::Lower(lower) => lower.access(mask & !W_OK),
        }
    }

    fn create(&self, name: Name<'_>, mode: u32, flags: OpenFlags) -> Result<Made> {
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        let node = self.make(name, mode, 0, Body::Regular(Content::default()))?;
        Ok((node.clone(), RegularFile::open(node, flags)?))
    }

    fn tmpfile(&self, mode: u32, flags: OpenFlags) -> Result<Made> {
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        let node = self.make_unnamed(mode, flags)?;
        Ok((node.clone(), RegularFile::open(node, flags)?))
    }

    fn mknod(&self, name: Name<'_>, mode: u32, rdev: u64) -> Result<Arc<dyn Inode>> {
        let (body, rdev) = Body::for_mknod(mode, rdev)?;
        Ok(self.make(name, mode, rdev, body)?)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8]) -> Result<Arc<dyn Inode>> {
        let mode = FileType::Symlink.mode_bits() | 0o777;
        Ok(self.make(name, mode, 0, Body::Symlink(target.to_vec()))?)
    }

    fn link(&self, name: Name<'_>, target: &Arc<dyn Inode>) -> Result<()> {
        self.need_directory()?;
        self.add_name(name, &self.own(target)?)
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.remove_name(name, false)
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.remove_name(name, true)
    }

    fn rename(&self, name: Name<'_>, to_dir: &Arc<dyn Inode>, new: Name<'_>, flags: RenameFlags) -> Result<()> {
        let to = self.own(to_dir)?;
        self.move_name(name, &to, new, flags)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.fs.statfs())
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        match self.shown()? {
            Shown::Upper(upper) => upper.xattr(name, value),
            Shown::Lower(lower) => lower.xattr(name, value),
        }
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        match self.shown()? {
            Shown::Upper(upper) => upper.list_xattrs(list),
            Shown::Lower(lower) => lower.list_xattrs(list),
        }
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        self.raise()?.set_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: XattrName<'_>) -> Result<()> {
        self.raise()?.remove_xattr(name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
