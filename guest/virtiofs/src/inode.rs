//! What the layer above sees of an inode: names, attributes, opening.

use crate::attrs::deadline;
use crate::dentry::{Source, Target};
use crate::dir::OpenDir;
use crate::file::{Handle, Kept, OpenFile, PathOnly};
use crate::fs::Fs;
use crate::node::Node;
use crate::ops::attr::{Access, ReadLink, SetAttr, StatFsOf, SyncFs};
use crate::ops::data::{DIRECTORY, Open, OpenNode, Opened};
use crate::ops::init::Features;
use crate::ops::name::{Create, Entry, Link, MkDir, MkNod, Rename, Rename2, RmDir, Symlink, TmpFile, Unlink};
use crate::ops::{Call, NodeId};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::{
    Errno, File, FileType, Inode, InodeId, Metadata, Name, OpenFlags, RenameFlags, Result, SetMetadata, StatFs,
    XattrFlags, XattrName,
};

/// Longest path in bytes (`PATH_MAX`), its NUL included.
const PATH_MAX: usize = 4096;

/// access(2)'s `W_OK` and `X_OK`.
const W_OK: u32 = 2;
const X_OK: u32 = 1;

/// The flags of open(2) that mean something to a server. DIRECT is not among them: there is no cache of content here to
/// bypass, and the host would demand alignment of buffers it never sees.
fn wire_flags(flags: OpenFlags) -> OpenFlags {
    let sent = OpenFlags::WRONLY
        | OpenFlags::RDWR
        | OpenFlags::TRUNC
        | OpenFlags::APPEND
        | OpenFlags::NONBLOCK
        | OpenFlags::DSYNC
        | OpenFlags::SYNC
        | OpenFlags::NOATIME
        | OpenFlags::LARGEFILE
        | OpenFlags::DIRECTORY;
    flags & sent
}

impl Node {
    fn need_writable(&self) -> Result<()> {
        self.check()?;
        if self.fs.writable { Ok(()) } else { Err(Errno::EROFS) }
    }

    fn need_directory(&self) -> Result<()> {
        if self.kind == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// An inode of the layer above as one of this share.
    fn ours<'a>(&self, inode: &'a Arc<dyn Inode>) -> Result<&'a Node> {
        let node = inode.as_any().downcast_ref::<Node>().ok_or(Errno::EXDEV)?;
        if Arc::ptr_eq(&node.fs, &self.fs) { Ok(node) } else { Err(Errno::EXDEV) }
    }

    /// Sends a message that makes a name, and takes in the entry it gives.
    fn make<C: Call<Reply = Entry>>(&self, name: Name<'_>, call: &C) -> Result<Arc<Node>> {
        self.need_directory()?;
        self.need_writable()?;
        let entry = self.fs.session.call(call)?;
        self.made(name, &entry)
    }

    fn made(&self, name: Name<'_>, entry: &Entry) -> Result<Arc<Node>> {
        let fs = &self.fs;
        fs.name_changed(self, name);
        let changes = self.changes.load(Relaxed);
        let node = fs.adopt(self, entry, fs.session.stamp())?;
        let until = deadline(fs.cache, fs.platform.now_ns(), entry.valid);
        fs.remember(self, name, Target::Node(node.clone()), until, changes, Source::Asked);
        Ok(node)
    }

    /// Sends a message that removes a name.
    fn unmake<C: Call<Reply = ()>>(&self, name: Name<'_>, call: &C) -> Result<()> {
        self.need_directory()?;
        self.need_writable()?;
        // Linux looks every name up before it removes it, and so must we: the inode has other names, maybe, and its link
        // count is about to change; and QEMU's daemon removes nothing that it has not been asked for before (`EIO`).
        let node = self.fs.lookup(self, name)?;
        self.fs.session.call(call).map_err(|errno| self.reason(name, errno))?;
        drop(self.fs.name_changed(self, name));
        node.lost_name();
        Ok(())
    }

    /// What `errno` means, the answer to removing or renaming `name`. QEMU's daemon says `EIO` for a name that is not
    /// there any more, though it was a moment ago. We ask only when it did.
    fn reason(&self, name: Name<'_>, errno: Errno) -> Errno {
        if errno != Errno::EIO {
            return errno;
        }
        drop(self.fs.name_changed(self, name));
        self.fs.lookup(self, name).err().unwrap_or(errno)
    }

    /// A name of this inode, maybe the last, leads to it no longer.
    fn lost_name(&self) {
        self.unlinked.store(true, Relaxed);
        let kept_open = self.fs.recent.lock().forget(self);
        drop(kept_open);
        self.touched();
    }

    fn open_directory(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        if flags.writes() || flags.contains(OpenFlags::TRUNC) {
            return Err(Errno::EISDIR);
        }
        let flags = wire_flags(flags).bits();
        let opened =
            self.heed(self.fs.with_descriptors(|| self.fs.session.call(&Open::<DIRECTORY> { node: self.id, flags })))?;
        let open = OpenNode { node: self.id, handle: opened.handle, flags };
        Ok(Arc::new(OpenDir::new(self, open)))
    }

    fn open_regular(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        let truncate = flags.contains(OpenFlags::TRUNC);
        if flags.writes() || truncate {
            self.need_writable()?;
        }
        let atomic = self.fs.agreement.features.contains(Features::ATOMIC_O_TRUNC);
        let sent = if atomic { wire_flags(flags) } else { wire_flags(flags) - OpenFlags::TRUNC };
        let turn = if truncate { self.turn() } else { None };
        let (handle, opened) = self.opened(sent.bits(), !flags.writes() && !truncate)?;
        let open = handle.open;
        let file = OpenFile::new(handle, flags, &opened);
        if truncate && atomic {
            self.emptied();
        }
        drop(turn);
        if truncate && !atomic {
            let change = SetMetadata { size: Some(0), ..SetMetadata::default() };
            // By a file that is for reading the host cuts none (ftruncate(2)).
            self.change(&change, Some(open).filter(|_| flags.writes()))?;
        } else if !truncate && self.cached.load(Relaxed) && !opened.keeps_cache && self.fs.cache != CacheMode::Always {
            // Close-to-open: what another machine or the host wrote and closed before is seen from here on.
            self.refresh(Some(open))?;
        }
        Ok(Arc::new(file))
    }

    /// A file that the host has open with these flags: a new one, or one that others share if it `can_be_shared`.
    fn opened(self: &Arc<Self>, flags: u32, can_be_shared: bool) -> Result<(Arc<Handle>, Opened)> {
        let changed = if can_be_shared { self.believed().map(|metadata| metadata.ctime) } else { None };
        if let Some(found) = changed.and_then(|changed| self.fs.recent.lock().find(self, flags, changed)) {
            return Ok(found);
        }
        let (handle, opened) = Handle::open(self, flags)?;
        if let Some(changed) = changed {
            let gone = self.fs.recent.lock().keep(Kept { handle: handle.clone(), opened, changed });
            drop(gone);
        }
        Ok((handle, opened))
    }

    fn change(&self, change: &SetMetadata, file: Option<OpenNode>) -> Result<Metadata> {
        let turn = change.size.and_then(|_| self.turn());
        if change.size.is_some() {
            // The last page's stores behind the old end are not to appear in the file.
            self.cut_pages(self.last_known().size);
        }
        let call = SetAttr { node: self.id, handle: file.map(|f| f.handle), change };
        let reply = self.heed(self.fs.session.call(&call))?;
        // The moment is now: what was asked while this was under way may not know of it.
        self.learn(&reply, self.fs.session.stamp())?;
        if let Some(size) = change.size {
            self.cut_pages(size);
            self.drop_chunks_from(size);
        }
        drop(turn);
        Ok(self.last_known())
    }
}

impl Inode for Node {
    fn id(&self) -> InodeId {
        InodeId { dev: self.fs.dev, node: self.id.0, generation: self.generation }
    }

    fn file_type(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Node::metadata(self)
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn set_metadata(&self, change: &SetMetadata) -> Result<Metadata> {
        self.need_writable()?;
        if change.size.is_some_and(|size| i64::try_from(size).is_err()) {
            return Err(Errno::EFBIG);
        }
        self.change(change, None)
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn Inode>> {
        self.need_directory()?;
        Ok(self.fs.lookup(self, name)?)
    }

    fn distrust_names(&self) {
        self.fs.distrust_names(self);
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        self.check()?;
        // Nothing changes where a link leads but another link in its place, whose change time is another, too.
        let changed = self.believed().map(|metadata| metadata.ctime);
        if let Some((_, target)) = self.target.lock().as_ref().filter(|(then, _)| Some(*then) == changed) {
            return Ok(target.clone());
        }
        let mut target = vec![0; PATH_MAX];
        let n = self.heed(self.fs.session.fetch(&ReadLink(self.id), &mut target))?;
        target.truncate(n);
        // No path holds a NUL, and none is empty or as long as PATH_MAX.
        if n == 0 || n == PATH_MAX || target.contains(&0) {
            return Err(self.fs.session.nonsense(crate::ops::Opcode::FUSE_READLINK, format_args!("{n} bytes")));
        }
        target.shrink_to_fit();
        *self.target.lock() = changed.map(|changed| (changed, target.clone()));
        Ok(target)
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        self.check()?;
        if flags.contains(OpenFlags::PATH) {
            return Ok(Arc::new(PathOnly::new(self)));
        }
        match self.kind {
            FileType::Directory => self.open_directory(flags),
            FileType::Regular if flags.contains(OpenFlags::DIRECTORY) => Err(Errno::ENOTDIR),
            FileType::Regular => self.open_regular(flags),
            FileType::Symlink => Err(Errno::ELOOP),
            // A share carries the names of pipes, sockets and devices, not what is behind them.
            _ => Err(Errno::ENXIO),
        }
    }

    fn access(&self, mask: u32) -> Result<()> {
        let here = matches!(self.kind, FileType::Regular | FileType::Directory | FileType::Symlink);
        if mask & W_OK != 0 && here {
            self.need_writable()?;
        }
        self.check()?;
        match self.heed(self.fs.session.call(&Access { node: self.id, mask: mask & 7 })) {
            // A server without ACCESS checks when it comes to it. Nobody may execute what no one may, not even root: as
            // Linux's `fuse_permission`.
            Err(Errno::ENOSYS) => {
                let denied =
                    Node::metadata(self)?.mode & 0o111 == 0 && mask & X_OK != 0 && self.kind == FileType::Regular;
                if denied { Err(Errno::EACCES) } else { Ok(()) }
            }
            result => result,
        }
    }

    fn create(&self, name: Name<'_>, mode: u32, flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        self.need_directory()?;
        self.need_writable()?;
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        let flags = flags - OpenFlags::TRUNC;
        let sent = (wire_flags(flags) | OpenFlags::CREAT | OpenFlags::EXCL).bits();
        let request = Create { dir: self.id, name, mode, flags: sent };
        match self.fs.session.call(&request) {
            Ok((entry, opened)) => {
                let open = OpenNode { node: entry.node, handle: opened.handle, flags: sent };
                let node = self.made(name, &entry)?;
                // Made first, so that the handle is released whatever else happens.
                let file = OpenFile::new(Arc::new(Handle::new(node.clone(), open)), flags, &opened);
                if node.kind != FileType::Regular {
                    return Err(Errno::EIO);
                }
                Ok((node, Arc::new(file)))
            }
            Err(Errno::ENOSYS) => {
                let node = self.make(name, &MkNod { dir: self.id, name, mode, rdev: 0 })?;
                let file = node.clone().open_regular(flags)?;
                Ok((node, file))
            }
            Err(errno) => Err(errno),
        }
    }

    fn tmpfile(&self, mode: u32, flags: OpenFlags) -> Result<(Arc<dyn Inode>, Arc<dyn File>)> {
        self.need_directory()?;
        self.need_writable()?;
        let mode = FileType::Regular.mode_bits() | mode & 0o7777;
        // With EXCL the file never gets a name (open(2)), which the host has to know too.
        let sent =
            ((wire_flags(flags) - OpenFlags::DIRECTORY) | (flags & (OpenFlags::EXCL | OpenFlags::TMPFILE))).bits();
        let stamp = self.fs.session.stamp();
        let (entry, opened) = match self.fs.session.call(&TmpFile { dir: self.id, mode, flags: sent }) {
            Err(Errno::ENOSYS) => return Err(Errno::EOPNOTSUPP),
            result => result?,
        };
        let open = OpenNode { node: entry.node, handle: opened.handle, flags: sent };
        let node = self.fs.adopt(self, &entry, stamp)?;
        let file = OpenFile::new(Arc::new(Handle::new(node.clone(), open)), flags, &opened);
        node.unlinked.store(true, Relaxed);
        if node.kind != FileType::Regular {
            return Err(Errno::EIO);
        }
        Ok((node, Arc::new(file)))
    }

    fn mknod(&self, name: Name<'_>, mode: u32, rdev: u64) -> Result<Arc<dyn Inode>> {
        if FileType::from_mode(mode) == Some(FileType::Directory) {
            return Ok(self.make(name, &MkDir { dir: self.id, name, mode: mode & 0o7777 })?);
        }
        // The wire has 32 bits for a device number, as Linux' new_encode_dev() packs it.
        let rdev = u32::try_from(rdev).map_err(|_| Errno::EINVAL)?;
        Ok(self.make(name, &MkNod { dir: self.id, name, mode, rdev })?)
    }

    fn symlink(&self, name: Name<'_>, target: &[u8]) -> Result<Arc<dyn Inode>> {
        match target {
            [] => Err(Errno::ENOENT),
            _ if target.len() >= PATH_MAX => Err(Errno::ENAMETOOLONG),
            _ if target.contains(&0) => Err(Errno::EINVAL),
            _ => Ok(self.make(name, &Symlink { dir: self.id, name, target })?),
        }
    }

    fn link(&self, name: Name<'_>, target: &Arc<dyn Inode>) -> Result<()> {
        let target = self.ours(target)?;
        target.check()?;
        let node = target.heed(self.make(name, &Link { dir: self.id, name, target: target.id }))?;
        node.touched();
        Ok(())
    }

    fn unlink(&self, name: Name<'_>) -> Result<()> {
        self.unmake(name, &Unlink { dir: self.id, name })
    }

    fn rmdir(&self, name: Name<'_>) -> Result<()> {
        self.unmake(name, &RmDir { dir: self.id, name })
    }

    fn rename(&self, name: Name<'_>, to_dir: &Arc<dyn Inode>, to: Name<'_>, flags: RenameFlags) -> Result<()> {
        self.need_directory()?;
        self.need_writable()?;
        let target = self.ours(to_dir)?;
        target.need_directory()?;
        // As for removing: both inodes change, and both must be known to QEMU's daemon.
        let node = self.fs.lookup(self, name)?;
        let replaced = self.fs.lookup(target, to).ok();
        let rename = Rename { dir: self.id, name, to_dir: target.id, to };
        if flags.is_empty() {
            self.fs.session.call(&rename).map_err(|errno| self.reason(name, errno))?;
        } else {
            let result = self.fs.session.call(&Rename2 { rename, flags });
            // renameat2(2): EINVAL is what a file system says that does not know the flags.
            result.map_err(|errno| if errno == Errno::ENOSYS { Errno::EINVAL } else { self.reason(name, errno) })?;
        }
        let moved = self.fs.name_changed(self, name);
        drop(self.fs.name_changed(target, to));
        if let Some(replaced) = replaced {
            replaced.lost_name();
        }
        node.touched();
        if let Some((node, until)) = moved
            && !flags.contains(RenameFlags::EXCHANGE)
        {
            let changes = target.changes.load(Relaxed);
            self.fs.remember(target, to, Target::Node(node), until, changes, Source::Asked);
        }
        Ok(())
    }

    fn statfs(&self) -> Result<StatFs> {
        self.check()?;
        self.heed(self.fs.session.call(&StatFsOf(self.id)))
    }

    fn sync_fs(&self) -> Result<()> {
        if let Some(pages) = &self.fs.pages {
            pages.write_back_all();
        }
        match self.fs.session.call(&SyncFs(self.id)) {
            // A server without it writes out in its own time, as Linux takes it (fuse_sync_fs).
            Err(Errno::ENOSYS) => Ok(()),
            result => result,
        }
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        self.get_xattr(name, value)
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        self.list_all_xattrs(list)
    }

    fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        self.need_writable()?;
        self.change_xattr(name, value, flags)
    }

    fn remove_xattr(&self, name: XattrName<'_>) -> Result<()> {
        self.need_writable()?;
        self.drop_xattr(name)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The root of a share.
///
/// # Errors
/// `ENOTDIR` when the host shares something that is not a directory, or what the host says.
pub(crate) fn root(fs: &Arc<Fs>) -> Result<Arc<Node>> {
    let stamp = fs.session.stamp();
    let reply = fs.session.call(&crate::ops::attr::GetAttr { node: NodeId::ROOT, handle: None })?;
    if reply.attributes.kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    Ok(Arc::new(Node::new(fs, NodeId::ROOT, 0, &reply, 0, stamp)))
}
