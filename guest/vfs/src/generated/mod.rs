//! Trees made up as they are read: the toolkit for `/proc`, `/dev` and their like.
//!
//! A [`Tree`] hands out nodes: files whose content a closure writes at open, links whose target a closure
//! knows, directories with fixed or with computed entries, and devices that open to any [`File`]. Nothing
//! can be made, renamed or removed in it. Which nodes there are is the kernel's affair.

mod directory;
mod node;
#[cfg(test)]
mod tests;

pub use directory::Listed;

use crate::{File, Inode, Location, Name, OpenFlags, Result, Timespec};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// What the nodes of one generated file system share.
pub struct Tree {
    dev: u64,
    magic: u64,
    time: Timespec,
    next_ino: AtomicU64,
}

/// Numbers below this are free for [`NodeBuilder::ino`]; those given by counting start here.
pub const FIRST_COUNTED_INO: u64 = 1 << 32;

impl Tree {
    /// A tree with a device number of its own and the magic number statfs(2) shows. All nodes bear `time`.
    pub fn new(dev: u64, magic: u64, time: Timespec) -> Arc<Self> {
        Arc::new(Self { dev, magic, time, next_ino: AtomicU64::new(FIRST_COUNTED_INO) })
    }

    /// Begins a node with these permission bits, owned by root, with the next inode number.
    pub fn node(self: &Arc<Self>, permissions: u32) -> NodeBuilder {
        NodeBuilder { tree: self.clone(), permissions: permissions & 0o7777, owner: (0, 0), ino: None }
    }
}

/// A node about to be made.
pub struct NodeBuilder {
    tree: Arc<Tree>,
    permissions: u32,
    owner: (u32, u32),
    ino: Option<u64>,
}

impl NodeBuilder {
    /// Gives it this inode number, below [`FIRST_COUNTED_INO`]. A node that a computed directory makes at every
    /// lookup needs one, so that it is the same file each time.
    pub fn ino(mut self, ino: u64) -> Self {
        self.ino = Some(ino);
        self
    }

    /// Gives it a user and a group.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    fn number(&self) -> u64 {
        self.ino.unwrap_or_else(|| self.tree.next_ino.fetch_add(1, Ordering::Relaxed))
    }

    /// A file with what `content` gives at each open(2).
    pub fn file(self, content: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Arc<dyn Inode> {
        node::Generated::file(self, Box::new(content))
    }

    /// A symbolic link to the path that `target` gives.
    pub fn link(self, target: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static) -> Arc<dyn Inode> {
        node::Generated::link(self, Box::new(target), None)
    }

    /// A link that readlink(2) sees as the path of `place`, but that is followed to the place itself.
    pub fn magic_link(self, place: impl Fn() -> Result<Location> + Send + Sync + 'static) -> Arc<dyn Inode> {
        let place: Arc<PlaceFn> = Arc::new(place);
        let shown = place.clone();
        let target = move || {
            let place = shown()?;
            let mut path = place.path();
            if place.is_removed() {
                path.extend_from_slice(b" (deleted)");
            }
            Ok(path)
        };
        node::Generated::link(self, Box::new(target), Some(place))
    }

    /// A directory with these entries, in this order.
    pub fn dir(self, entries: Vec<(&str, Arc<dyn Inode>)>) -> Arc<dyn Inode> {
        directory::Directory::fixed(self, entries)
    }

    /// A directory whose entries are computed: `list` gives them all, `lookup` finds one or fails with `ENOENT`.
    pub fn computed_dir(
        self,
        list: impl Fn() -> Result<Vec<Listed>> + Send + Sync + 'static,
        lookup: impl Fn(Name<'_>) -> Result<Arc<dyn Inode>> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        directory::Directory::computed(self, Box::new(list), Box::new(lookup))
    }

    /// A node of the type in `kind` (a character device, mostly) that opens to what `open` makes.
    pub fn device(
        self,
        kind: crate::FileType,
        rdev: u64,
        open: impl Fn(Arc<dyn Inode>, OpenFlags) -> Result<Arc<dyn File>> + Send + Sync + 'static,
    ) -> Arc<dyn Inode> {
        node::Generated::device(self, kind, rdev, Box::new(open))
    }
}

type ContentFn = dyn Fn() -> Result<Vec<u8>> + Send + Sync;
type PlaceFn = dyn Fn() -> Result<Location> + Send + Sync;
type OpenFn = dyn Fn(Arc<dyn Inode>, OpenFlags) -> Result<Arc<dyn File>> + Send + Sync;
