//! Nodes that are no directories, and the attributes all nodes have.

use super::{ContentFn, NodeBuilder, OpenFn, PlaceFn, Tree};
use crate::{Errno, File, FileType, Inode, InodeId, Location, Metadata, OpenFlags, Result, Sink, StatFs, put_slice_at};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// The fixed attributes of a node.
pub(super) struct Attributes {
    tree: Arc<Tree>,
    ino: u64,
    kind: FileType,
    permissions: u32,
    owner: (u32, u32),
    rdev: u64,
}

impl Attributes {
    pub(super) fn new(builder: NodeBuilder, kind: FileType, rdev: u64) -> Self {
        let ino = builder.number();
        Self { ino, kind, permissions: builder.permissions, owner: builder.owner, rdev, tree: builder.tree }
    }

    pub(super) fn id(&self) -> InodeId {
        InodeId { dev: self.tree.dev, node: self.ino, generation: 0 }
    }

    pub(super) fn metadata(&self, nlink: u32, size: u64) -> Metadata {
        let time = self.tree.time;
        Metadata {
            ino: self.ino,
            dev: self.tree.dev,
            mode: self.kind.mode_bits() | self.permissions,
            nlink,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: self.rdev,
            size,
            blocks: 0,
            blksize: 4096,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    /// The machine has one user, who may do what root may.
    pub(super) fn access(&self, mask: u32) -> Result<()> {
        let executable = self.kind == FileType::Directory || self.permissions & 0o111 != 0;
        if mask & 1 != 0 && !executable { Err(Errno::EACCES) } else { Ok(()) }
    }

    pub(super) fn statfs(&self) -> StatFs {
        StatFs { magic: self.tree.magic, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() }
    }
}

enum Body {
    File(Box<ContentFn>),
    Link { target: Box<ContentFn>, place: Option<Arc<PlaceFn>> },
    Device(Box<OpenFn>),
}

/// A file, a link or a device.
pub(super) struct Generated {
    attributes: Attributes,
    body: Body,
}

impl Generated {
    pub(super) fn file(builder: NodeBuilder, content: Box<ContentFn>) -> Arc<dyn Inode> {
        Self::make(Attributes::new(builder, FileType::Regular, 0), Body::File(content))
    }

    pub(super) fn link(builder: NodeBuilder, target: Box<ContentFn>, place: Option<Arc<PlaceFn>>) -> Arc<dyn Inode> {
        Self::make(Attributes::new(builder, FileType::Symlink, 0), Body::Link { target, place })
    }

    pub(super) fn device(builder: NodeBuilder, kind: FileType, rdev: u64, open: Box<OpenFn>) -> Arc<dyn Inode> {
        Self::make(Attributes::new(builder, kind, rdev), Body::Device(open))
    }

    fn make(attributes: Attributes, body: Body) -> Arc<dyn Inode> {
        Arc::new(Self { attributes, body })
    }
}

impl Inode for Generated {
    fn id(&self) -> InodeId {
        self.attributes.id()
    }

    fn file_type(&self) -> FileType {
        self.attributes.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.attributes.metadata(1, 0))
    }

    fn follow(&self) -> Result<Option<Location>> {
        match &self.body {
            Body::Link { place: Some(place), .. } => place().map(Some),
            _ => Ok(None),
        }
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        match &self.body {
            Body::Link { target, .. } => target(),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        match &self.body {
            Body::File(_) if flags.writes() || flags.contains(OpenFlags::TRUNC) => Err(Errno::EACCES),
            Body::File(content) => {
                let content = content()?;
                Ok(Arc::new(GeneratedFile { inode: self, content }))
            }
            Body::Link { .. } => Err(Errno::ELOOP),
            Body::Device(open) => open(self.clone(), flags),
        }
    }

    fn access(&self, mask: u32) -> Result<()> {
        self.attributes.access(mask)
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(self.attributes.statfs())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open generated file: its content at the moment of open(2).
struct GeneratedFile {
    inode: Arc<dyn Inode>,
    content: Vec<u8>,
}

impl File for GeneratedFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        put_slice_at(&self.content, offset, sink)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
