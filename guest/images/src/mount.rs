//! An image as a file system of the guest: its inodes and open files.

use crate::{Entry, Error, Format};
use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use diolkos_pages::constant::{Constant, Reader};
use diolkos_pages::{Pages, Surroundings};
use diolkos_vfs::{
    Access, DirEntry, DirSink, Errno, File, FileType, InodeId, MappedRun, Metadata, Name, OpenFlags, Result,
    SetMetadata, Sink, Sought, Source, StatFs, XATTR_SIZE_MAX, XattrFlags, XattrName,
};

/// How often damage is told of. Programs are told each time.
const TOLD_MOST: u32 = 10;

/// Tells people of damage: which inode, and what is wrong with it.
pub type Teller = Box<dyn Fn(&str) + Send + Sync>;

/// A mounted image.
pub struct Mount<F> {
    fs: F,
    pages: Arc<Pages>,
    /// Its device number, which no other file system shares.
    dev: u64,
    tell: Teller,
    told: AtomicU32,
}

impl<F: Format> Mount<F> {
    /// Mounts an image as the file system of number `dev`. What turns out to be wrong with it is told by `tell`, which may not
    /// wait, in one line.
    ///
    /// # Errors
    /// Its root cannot be read, or is no directory.
    pub fn new(fs: F, around: Arc<dyn Surroundings>, dev: u64, tell: Teller) -> crate::Result<Arc<Self>> {
        let root = fs.inode(fs.root())?;
        if FileType::from_mode(fs.metadata(&root).mode) != Some(FileType::Directory) {
            return Err(Error::Corrupt("the root directory"));
        }
        Ok(Arc::new(Self { fs, pages: Pages::new(around), dev, tell, told: AtomicU32::new(0) }))
    }

    /// The root directory.
    ///
    /// # Errors
    /// The device fails.
    pub fn root(self: &Arc<Self>) -> crate::Result<Arc<dyn diolkos_vfs::Inode>> {
        Ok(self.node(self.fs.inode(self.fs.root())?))
    }

    /// The cache of its files' content, which can give memory back.
    pub fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    fn node(self: &Arc<Self>, inode: F::Inode) -> Arc<Node<F>> {
        let metadata = Metadata { dev: self.dev, ..self.fs.metadata(&inode) };
        Arc::new(Node { mount: self.clone(), inode, metadata })
    }

    fn id(&self, number: u64) -> InodeId {
        InodeId { dev: self.dev, node: number, generation: 0 }
    }

    /// What came of looking at an inode, with what is wrong told: a program hears a number at best.
    fn check<T>(&self, number: u64, result: crate::Result<T>) -> Result<T> {
        result.map_err(|error| {
            let told = self.told.fetch_add(1, Ordering::Relaxed);
            if told < TOLD_MOST {
                (self.tell)(&format!("inode {number}: {error}"));
            } else {
                // It shall not come round to 0.
                self.told.store(TOLD_MOST, Ordering::Relaxed);
            }
            error.into()
        })
    }
}

/// An inode. There may be several of one; nothing in them changes.
struct Node<F: Format> {
    mount: Arc<Mount<F>>,
    inode: F::Inode,
    metadata: Metadata,
}

impl<F: Format> Node<F> {
    /// Asks the format, and tells of damage.
    fn ask<T>(&self, question: impl FnOnce(&F, &F::Inode) -> crate::Result<T>) -> Result<T> {
        self.mount.check(self.metadata.ino, question(&self.mount.fs, &self.inode))
    }

    fn kind(&self) -> FileType {
        FileType::from_mode(self.metadata.mode).expect("formats know the types of their inodes")
    }
}

impl<F: Format> diolkos_vfs::Inode for Node<F> {
    fn id(&self) -> InodeId {
        self.mount.id(self.metadata.ino)
    }

    fn file_type(&self) -> FileType {
        self.kind()
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.metadata)
    }

    fn set_metadata(&self, _change: &SetMetadata) -> Result<Metadata> {
        Err(Errno::EROFS)
    }

    fn is_guarded(&self) -> bool {
        true
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn diolkos_vfs::Inode>> {
        if self.kind() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let number = self.ask(|fs, inode| fs.lookup(inode, name.as_bytes()))?.ok_or(Errno::ENOENT)?;
        let inode = self.mount.check(number, self.mount.fs.inode(number))?;
        Ok(self.mount.node(inode))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        if self.kind() != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        self.ask(F::target)
    }

    /// Fifos are opened above this layer; sockets and devices cannot be, as on a file system mounted `nodev`.
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        match self.kind() {
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
        let kind = self.kind();
        let executable = kind == FileType::Directory || self.metadata.mode & 0o111 != 0;
        let stored = matches!(kind, FileType::Directory | FileType::Regular | FileType::Symlink);
        match mask {
            _ if mask & 2 != 0 && stored => Err(Errno::EROFS),
            _ if mask & 1 != 0 && !executable => Err(Errno::EACCES),
            _ => Ok(()),
        }
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.mount.fs.statfs())
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        let xattrs = self.ask(F::xattrs)?;
        let found = xattrs.iter().find(|xattr| xattr.name == name.as_bytes()).ok_or(Errno::ENODATA)?;
        fill(&found.value, value)
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        let mut names = Vec::new();
        for xattr in self.ask(F::xattrs)? {
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
struct Content<F: Format>(Arc<Node<F>>);

impl<F: Format> Constant for Content<F> {
    fn owner(&self) -> u64 {
        self.0.metadata.ino
    }

    fn size(&self) -> u64 {
        self.0.metadata.size
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.0.ask(|fs, inode| fs.read(inode, offset, buffer))
    }
}

/// An open regular file.
struct RegularFile<F: Format> {
    inode: Arc<dyn diolkos_vfs::Inode>,
    reader: Reader<Content<F>>,
}

impl<F: Format> File for RegularFile<F> {
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
        let size = node.metadata.size;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let found = node.ask(|fs, inode| fs.seek(inode, offset, what == Sought::Hole))?;
        if what == Sought::Data && found >= size { Err(Errno::ENXIO) } else { Ok(found) }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open directory.
struct Directory<F: Format> {
    inode: Arc<dyn diolkos_vfs::Inode>,
    node: Arc<Node<F>>,
}

impl<F: Format> File for Directory<F> {
    fn inode(&self) -> &Arc<dyn diolkos_vfs::Inode> {
        &self.inode
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let mount = &self.node.mount;
        let mut any = false;
        let each = &mut |entry: Entry<'_>, next| {
            any = true;
            entries(&DirEntry {
                ino: entry.nid,
                next,
                file_type: entry.file_type,
                name: entry.name,
                id: Some(mount.id(entry.nid)),
            })
        };
        let listed = self.node.ask(|fs, inode| fs.list(inode, cookie, each));
        // What was listed before the damage is good.
        if any { Ok(()) } else { listed }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
