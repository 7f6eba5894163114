//! An image as a file system of the guest: its inodes and open files.

use crate::{Entry, Erofs, Error, Inode};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use diolkos_pages::constant::{Constant, Reader};
use diolkos_pages::{Pages, Surroundings};
use diolkos_vfs::block::Block;
use diolkos_vfs::{
    Access, DirEntry, DirSink, Errno, File, FileType, InodeId, MappedRun, Metadata, Name, OpenFlags, Result,
    SetMetadata, Sink, Sought, Source, StatFs, XATTR_SIZE_MAX, XattrFlags, XattrName,
};

/// `EROFS_SUPER_MAGIC_V1` of statfs(2).
const MAGIC: u64 = 0xe0f5_e1e2;

/// A mounted image.
pub struct Mount {
    fs: Erofs,
    pages: Arc<Pages>,
    /// Its device number, which no other file system shares.
    dev: u64,
}

impl Mount {
    /// Mounts the image on `device` as the file system of number `dev`.
    ///
    /// # Errors
    /// When there is no image that can be read, or its root is no directory.
    pub fn new(device: Arc<dyn Block>, around: Arc<dyn Surroundings>, dev: u64) -> crate::Result<Arc<Self>> {
        let fs = Erofs::open(device)?;
        if fs.inode(fs.root())?.file_type() != FileType::Directory {
            return Err(Error::Corrupt("the root directory"));
        }
        Ok(Arc::new(Self { fs, pages: Pages::new(around), dev }))
    }

    /// The root directory.
    ///
    /// # Errors
    /// When the device fails.
    pub fn root(self: &Arc<Self>) -> Result<Arc<dyn diolkos_vfs::Inode>> {
        Ok(self.node(self.fs.root())?)
    }

    /// Gives `pages` pages of memory back or more, if there are so many, and says how many.
    pub fn reclaim(&self, pages: usize) -> usize {
        self.pages.reclaim(pages, false)
    }

    fn node(self: &Arc<Self>, nid: u64) -> Result<Arc<Node>> {
        let inode = self.fs.inode(nid)?;
        Ok(Arc::new(Node { mount: self.clone(), inode }))
    }

    fn id(&self, nid: u64) -> InodeId {
        InodeId { dev: self.dev, node: nid, generation: 0 }
    }
}

/// An inode. There may be several of one; nothing in them changes.
struct Node {
    mount: Arc<Mount>,
    inode: Inode,
}

impl Node {
    fn fs(&self) -> &Erofs {
        &self.mount.fs
    }

    fn directory(&self) -> Result<&Inode> {
        if self.inode.file_type() == FileType::Directory { Ok(&self.inode) } else { Err(Errno::ENOTDIR) }
    }
}

impl diolkos_vfs::Inode for Node {
    fn id(&self) -> InodeId {
        self.mount.id(self.inode.nid)
    }

    fn file_type(&self) -> FileType {
        self.inode.file_type()
    }

    fn metadata(&self) -> Result<Metadata> {
        let inode = &self.inode;
        Ok(Metadata {
            ino: inode.nid,
            dev: self.mount.dev,
            mode: inode.mode,
            nlink: inode.nlink,
            uid: inode.uid,
            gid: inode.gid,
            rdev: inode.rdev,
            size: inode.size,
            blocks: inode.size.div_ceil(512),
            blksize: self.fs().block_size(),
            atime: inode.mtime,
            mtime: inode.mtime,
            ctime: inode.mtime,
        })
    }

    fn set_metadata(&self, _change: &SetMetadata) -> Result<Metadata> {
        Err(Errno::EROFS)
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn diolkos_vfs::Inode>> {
        let nid = self.fs().lookup(self.directory()?, name.as_bytes())?.ok_or(Errno::ENOENT)?;
        Ok(self.mount.node(nid)?)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.inode.file_type() != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        Ok(self.fs().target(&self.inode)?)
    }

    /// Fifos are opened above this layer; sockets and devices cannot be, as on a file system mounted `nodev`.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        match self.inode.file_type() {
            FileType::Directory if flags.writes() => Err(Errno::EISDIR),
            _ if flags.writes() || flags.contains(OpenFlags::TRUNC) => Err(Errno::EROFS),
            FileType::Regular => {
                let reader = Reader::new(self.mount.pages.clone(), Content(self.clone()));
                Ok(Arc::new(RegularFile { inode: self, reader }))
            }
            FileType::Directory => Ok(Arc::new(Directory { inode: self.clone(), node: self })),
            FileType::Symlink => Err(Errno::ELOOP),
            FileType::CharDevice | FileType::BlockDevice => Err(Errno::EACCES),
            FileType::Fifo | FileType::Socket => Err(Errno::ENXIO),
        }
    }

    /// The machine has one user, who may do what root may: but nobody may write.
    fn access(&self, mask: u32) -> Result<()> {
        let kind = self.inode.file_type();
        let executable = kind == FileType::Directory || self.inode.mode & 0o111 != 0;
        let stored = matches!(kind, FileType::Directory | FileType::Regular | FileType::Symlink);
        match mask {
            _ if mask & 2 != 0 && stored => Err(Errno::EROFS),
            _ if mask & 1 != 0 && !executable => Err(Errno::EACCES),
            _ => Ok(()),
        }
    }

    fn statfs(&self) -> Result<StatFs> {
        let fs = self.fs();
        Ok(StatFs {
            magic: MAGIC,
            bsize: fs.block_size(),
            frsize: fs.block_size(),
            blocks: fs.blocks(),
            files: fs.inodes(),
            namelen: Name::MAX as u32,
            ..StatFs::default()
        })
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        let xattrs = self.fs().xattrs(&self.inode)?;
        let found = xattrs.iter().find(|xattr| xattr.name == name.as_bytes()).ok_or(Errno::ENODATA)?;
        fill(&found.value, value)
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        let mut names = Vec::new();
        for xattr in self.fs().xattrs(&self.inode)? {
            names.extend_from_slice(&xattr.name);
            names.push(0);
        }
        fill(&names, list)
    }

    fn set_xattr(&self, _name: XattrName<'_>, _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn remove_xattr(&self, _name: XattrName<'_>) -> Result<()> {
        Err(Errno::EROFS)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// getxattr(2)'s way to hand out bytes: an empty buffer asks for the length only.
fn fill(bytes: &[u8], buffer: &mut [u8]) -> Result<usize> {
    if bytes.len() > XATTR_SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    if !buffer.is_empty() {
        buffer.get_mut(..bytes.len()).ok_or(Errno::ERANGE)?.copy_from_slice(bytes);
    }
    Ok(bytes.len())
}

/// The content of a regular file.
struct Content(Arc<Node>);

impl Constant for Content {
    fn owner(&self) -> u64 {
        self.0.inode.nid
    }

    fn size(&self) -> u64 {
        self.0.inode.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        Ok(self.0.fs().read(&self.0.inode, offset, buffer)?)
    }
}

/// An open regular file.
struct RegularFile {
    inode: Arc<dyn diolkos_vfs::Inode>,
    reader: Reader<Content>,
}

impl File for RegularFile {
    fn inode(&self) -> &Arc<dyn diolkos_vfs::Inode> {
        &self.inode
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        self.reader.read(offset, sink)
    }

    fn write_at(&self, _offset: u64, _source: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn map(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        if access == Access::Write {
            return Err(Errno::EROFS);
        }
        self.reader.map(offset)
    }

    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        let node = &self.reader.content().0;
        let size = node.inode.size;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let found = node.fs().seek(&node.inode, offset, what == Sought::Hole)?;
        if what == Sought::Data && found >= size { Err(Errno::ENXIO) } else { Ok(found) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open directory.
struct Directory {
    inode: Arc<dyn diolkos_vfs::Inode>,
    node: Arc<Node>,
}

impl File for Directory {
    fn inode(&self) -> &Arc<dyn diolkos_vfs::Inode> {
        &self.inode
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let mount = &self.node.mount;
        let mut any = false;
        let listed = self.node.fs().list(&self.node.inode, cookie, &mut |entry: Entry<'_>, next| {
            any = true;
            entries(&DirEntry {
                ino: entry.nid,
                next,
                file_type: entry.file_type,
                name: entry.name,
                id: Some(mount.id(entry.nid)),
            })
        });
        // What was listed before the damage is good.
        if any { Ok(()) } else { Ok(listed?) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
