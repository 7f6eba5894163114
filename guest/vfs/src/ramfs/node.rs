//! An inode of the memory file system.

use super::Shared;
use super::content::Content;
use super::directory::Directory;
use super::file::{DirectoryFile, RegularFile};
use super::xattr::Xattrs;
use crate::{
    Errno, File, FileType, Inode, InodeId, Metadata, Name, OpenFlags, RenameFlags, Result, SetMetadata, SetTime,
    StatFs, Timespec, XattrFlags, XattrName,
};
use alloc::collections::LinkedList;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use spin::{Mutex, MutexGuard};

/// `S_ISUID` and `S_ISGID`, and the group's execute bit.
const SUID: u32 = 0o4000;
pub(crate) const SGID: u32 = 0o2000;
const GROUP_EXEC: u32 = 0o010;

/// What tmpfs counts for each entry in the size of a directory (`BOGO_DIRENT_SIZE`).
const ENTRY_SIZE: u64 = 20;

/// relatime: an access time older than this is renewed (seconds).
const RELATIME: i64 = 24 * 60 * 60;

/// An inode.
pub(crate) struct Node {
    pub(super) shared: Arc<Shared>,
    pub(super) this: Weak<Node>,
    pub(super) ino: u64,
    pub(super) kind: FileType,
    rdev: u64,
    pub(super) inner: Mutex<Inner>,
}

/// What of an inode changes.
pub(crate) struct Inner {
    pub(super) mode: u32,
    pub(super) nlink: u32,
    uid: u32,
    pub(super) gid: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    /// Made without a name and free to get one.
    pub(super) linkable: bool,
    pub(super) xattrs: Xattrs,
    pub(super) body: Body,
}

/// What an inode holds.
pub(crate) enum Body {
    Regular(Content),
    Directory(Directory),
    Symlink(Vec<u8>),
    /// A fifo, socket or device: only a name for what is elsewhere.
    Special,
}

impl Body {
    pub(crate) fn directory() -> Self {
        Self::Directory(Directory::new())
    }

    /// What mknod(2) makes with this mode, and the device number that it has then.
    ///
    /// # Errors
    /// `EINVAL` for a link or an unknown type.
    pub(crate) fn for_mknod(mode: u32, rdev: u64) -> Result<(Self, u64)> {
        Ok(match FileType::from_mode(mode).ok_or(Errno::EINVAL)? {
            FileType::Regular => (Self::Regular(Content::default()), 0),
            FileType::Directory => (Self::directory(), 0),
            FileType::Symlink => return Err(Errno::EINVAL),
            FileType::CharDevice | FileType::BlockDevice => (Self::Special, rdev),
            FileType::Fifo | FileType::Socket => (Self::Special, 0),
        })
    }
}

/// User and group of what is made now.
pub(super) fn maker(shared: &Shared) -> (u32, u32) {
    crate::caller().map_or(shared.config.owner, |caller| (caller.uid, caller.gid))
}

impl Node {
    /// A node with one name (a directory: two, its own `.` being one).
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(crate) fn new(shared: &Arc<Shared>, mode: u32, gid: u32, rdev: u64, body: Body) -> Result<Arc<Self>> {
        shared.take_node()?;
        let now = shared.config.clock.now();
        let kind = FileType::from_mode(mode).unwrap_or(FileType::Regular);
        let inner = Inner {
            mode: mode & 0o7777,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: maker(shared).0,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
            linkable: false,
            xattrs: Xattrs::default(),
            body,
        };
        Ok(Arc::new_cyclic(|this| Self {
            shared: shared.clone(),
            this: this.clone(),
            ino: shared.next_ino.fetch_add(1, Ordering::Relaxed),
            kind,
            rdev,
            inner: Mutex::new(inner),
        }))
    }

    /// A node without a name that takes over the attributes of `from`, an inode of another file system.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(crate) fn taking_over(shared: &Arc<Shared>, from: &Metadata, nlink: u32, body: Body) -> Result<Arc<Self>> {
        let node = Self::new(shared, from.mode, from.gid, from.rdev, body)?;
        {
            let mut inner = node.inner.lock();
            (inner.uid, inner.nlink) = (from.uid, nlink);
            (inner.atime, inner.mtime, inner.ctime) = (from.atime, from.mtime, from.ctime);
        }
        Ok(node)
    }

    /// Takes the name a new node has. It may get one later if it is `linkable`.
    pub(crate) fn unname(&self, linkable: bool) {
        let mut inner = self.inner.lock();
        (inner.nlink, inner.linkable) = (0, linkable);
    }

    /// Whether link(2) may give it a further name.
    ///
    /// # Errors
    /// `ENOENT` when its last name is gone, `EMLINK`.
    pub(crate) fn check_linkable(&self) -> Result<()> {
        let inner = self.inner.lock();
        match inner.nlink {
            0 if !inner.linkable => Err(Errno::ENOENT),
            u32::MAX => Err(Errno::EMLINK),
            _ => Ok(()),
        }
    }

    /// Number of hard links.
    pub(crate) fn links(&self) -> u32 {
        self.inner.lock().nlink
    }

    pub(crate) fn set_links(&self, links: u32) {
        self.inner.lock().nlink = links;
    }

    /// It has got a name, and is like any other from now on.
    pub(crate) fn forbid_linking(&self) {
        self.inner.lock().linkable = false;
    }

    /// It has got a further name.
    pub(crate) fn gain_name(&self) {
        self.add_links(1);
        self.forbid_linking();
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn ino(&self) -> u64 {
        self.ino
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn now(&self) -> Timespec {
        self.shared.config.clock.now()
    }

    /// Runs `work` on the directory this is.
    pub(super) fn directory<R>(&self, work: impl FnOnce(&mut Directory) -> R) -> Result<R> {
        match &mut self.inner.lock().body {
            Body::Directory(directory) => Ok(work(directory)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The directory above; itself for the root and for a removed directory whose parent is gone.
    pub(super) fn parent(&self) -> Result<Arc<Node>> {
        let parent = self.directory(|directory| directory.parent.upgrade())?;
        parent.or_else(|| self.this.upgrade()).ok_or(Errno::ENOENT)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.directory(|directory| directory.dead).unwrap_or(false)
    }

    pub(super) fn child(&self, name: Name<'_>) -> Result<Option<Arc<Node>>> {
        self.directory(|directory| directory.get(name.as_bytes()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.directory(|directory| directory.len() == 0).unwrap_or(true)
    }

    /// The content changed.
    pub(crate) fn touch_content(&self) {
        let now = self.now();
        let mut inner = self.inner.lock();
        (inner.mtime, inner.ctime) = (now, now);
    }

    /// The content was read: relatime, as tmpfs is mounted by default (mount(8)).
    pub(crate) fn touch_access(&self) {
        let now = self.now();
        let mut inner = self.inner.lock();
        if inner.atime <= inner.mtime || inner.atime <= inner.ctime || now.sec - inner.atime.sec >= RELATIME {
            inner.atime = now;
        }
    }

    pub(crate) fn touch_change(&self) {
        let now = self.now();
        self.inner.lock().ctime = now;
    }

    /// Adds to the number of links.
    pub(crate) fn add_links(&self, by: i32) {
        let now = self.now();
        let mut inner = self.inner.lock();
        inner.nlink = inner.nlink.saturating_add_signed(by);
        inner.ctime = now;
    }

    fn resize(&self, size: u64) -> Result<()> {
        let _cut = match &mut self.inner.lock().body {
            Body::Regular(content) => content.resize(size)?,
            Body::Directory(_) => return Err(Errno::EISDIR),
            _ => return Err(Errno::EINVAL),
        };
        self.touch_content();
        Ok(())
    }
}

impl Inode for Node {
    fn id(&self) -> InodeId {
        InodeId { dev: self.shared.config.dev, node: self.ino, generation: 0 }
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        let inner = self.inner.lock();
        let (size, pages) = match &inner.body {
            Body::Regular(content) => (content.size, content.pages()),
            Body::Directory(directory) => ((directory.len() as u64 + 2) * ENTRY_SIZE, 0),
            Body::Symlink(target) => (target.len() as u64, 0),
            Body::Special => (0, 0),
        };
        Ok(Metadata {
            ino: self.ino,
            dev: self.shared.config.dev,
            mode: self.kind.mode_bits() | inner.mode,
            nlink: inner.nlink,
            uid: inner.uid,
            gid: inner.gid,
            rdev: self.rdev,
            size,
            blocks: pages * 8,
            blksize: 4096,
            atime: inner.atime,
            mtime: inner.mtime,
            ctime: inner.ctime,
        })
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn set_metadata(&self, change: &SetMetadata) -> Result<Metadata> {
        if let Some(size) = change.size {
            self.resize(size)?;
        }
        let now = self.now();
        let mut inner = self.inner.lock();
        if (change.uid.is_some() || change.gid.is_some()) && self.kind != FileType::Directory {
            // chown(2): a new owner does not inherit the old one's powers.
            let kept = if inner.mode & GROUP_EXEC != 0 { !(SUID | SGID) } else { !SUID };
            inner.mode &= kept;
        }
        inner.mode = change.mode.map_or(inner.mode, |mode| mode & 0o7777);
        inner.uid = change.uid.unwrap_or(inner.uid);
        inner.gid = change.gid.unwrap_or(inner.gid);
        let time = |old, new| match new {
            None => old,
            Some(SetTime::Now) => now,
            Some(SetTime::To(time)) => time,
        };
        inner.atime = time(inner.atime, change.atime);
        inner.mtime = time(inner.mtime, change.mtime);
        if *change != SetMetadata::default() {
            inner.ctime = now;
        }
        drop(inner);
        self.metadata()
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn Inode>> {
        Ok(self.child(name)?.ok_or(Errno::ENOENT)?)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.inner.lock().body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Fifos are opened above this layer; sockets and devices cannot be, as on a file system mounted `nodev`.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        match self.kind {
            FileType::Regular => {
                if flags.contains(OpenFlags::TRUNC) {
                    self.resize(0)?;
                }
                Ok(RegularFile::new(self, flags))
            }
            FileType::Directory if flags.writes() => Err(Errno::EISDIR),
            FileType::Directory => Ok(DirectoryFile::new(self)),
            FileType::Symlink => Err(Errno::ELOOP),
            FileType::CharDevice | FileType::BlockDevice => Err(Errno::EACCES),
            FileType::Fifo | FileType::Socket => Err(Errno::ENXIO),
        }
    }

    /// The machine has one user, who may do what root may.
    fn access(&self, mask: u32) -> Result<()> {
        let executable = self.kind == FileType::Directory || self.inner.lock().mode & 0o111 != 0;
        if mask & 1 != 0 && !executable { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn create(&self, name: Name<'_>, mode: u32, flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        let node = self.make(name, mode, 0, Body::Regular(Content::default()))?;
        Ok((node.clone(), RegularFile::new(node, flags)))
    }

    fn tmpfile(&self, mode: u32, flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        if self.directory(|directory| directory.dead)? {
            return Err(Errno::ENOENT);
        }
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        let (gid, _) = self.group_for_new();
        let node = Node::new(&self.shared, mode, gid, 0, Body::Regular(Content::default()))?;
        node.unname(!flags.contains(OpenFlags::EXCL));
        Ok((node.clone(), RegularFile::new(node, flags)))
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
        self.add_name(name, &self.own(target)?)
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.remove_file(name)
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.remove_directory(name)
    }

    fn rename(&self, name: Name<'_>, to_dir: &Arc<dyn Inode>, new: Name<'_>, flags: RenameFlags) -> Result<()> {
        let to = self.own(to_dir)?;
        self.move_name(name, &to, new, flags)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.shared.statfs())
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        self.get_xattr(name, value)
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        self.list_all_xattrs(list)
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        self.change_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: XattrName<'_>) -> Result<()> {
        self.drop_xattr(name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Node {
    /// Takes the tree below apart by hand: it may be deeper than the stack, and longer than what the heap has in one piece.
    fn drop(&mut self) {
        self.shared.give_node_back();
        let children = |node: &mut Node| match &mut node.inner.get_mut().body {
            Body::Directory(directory) => directory.drain().collect(),
            _ => LinkedList::new(),
        };
        let mut left = children(self);
        while let Some(node) = left.pop_back() {
            if let Some(mut last) = Arc::into_inner(node) {
                left.append(&mut children(&mut last));
            }
        }
    }
}
