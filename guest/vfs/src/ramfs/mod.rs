//! A file system in memory: `/tmp`, `/run`, `/dev/shm`, and the ground of this crate's tests. It behaves as
//! Linux' tmpfs does.
//!
//! # Locking
//! `tree` is taken first by everything that changes names; a node's own lock is a leaf: no other is taken
//! under it. So lookups and reads never wait for a rename, and no order among nodes is needed.

mod content;
mod directory;
mod file;
mod names;
mod node;
mod space;
#[cfg(test)]
mod tests;
mod xattr;

pub(crate) use content::{Content, Page, split};
pub(crate) use file::in_steps;
pub(crate) use node::{Body, Node, SGID};

use crate::{Clock, Errno, FileType, Inode, Result, StatFs};
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;

/// `TMPFS_MAGIC` of statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Inodes beside those that pages are counted for: a small file system has its directories, too.
const FEW: u64 = 64;

/// Bytes of a page, the unit of storage.
pub(crate) const PAGE: usize = 4096;

/// What a memory file system is told at its making.
#[derive(Clone)]
pub struct RamfsConfig {
    /// Its device number, which no other file system shares.
    pub dev: u64,
    /// Bytes of content it may hold, in whole pages; more fails with `ENOSPC`. There are as many inodes as pages, and a few.
    pub limit: u64,
    /// Stamps the inodes.
    pub clock: Arc<dyn Clock>,
    /// User and group of what is made here.
    pub owner: (u32, u32),
    /// Permission bits of the root directory.
    pub root_mode: u32,
    /// Where pages come from. Without one they come from the heap, and files cannot be mapped, only read and written.
    pub pages: Option<PageSource>,
}

/// Where a memory file system gets its pages: the frame allocator, which may refuse long before the heap would fail.
#[derive(Clone, Copy)]
pub struct PageSource {
    allocate: fn() -> Option<NonNull<u8>>,
    release: unsafe fn(NonNull<u8>),
    physical: fn(*const u8) -> u64,
}

impl PageSource {
    /// `allocate` gives a page of any content, or nothing when memory is short; `release` takes one back;
    /// `physical` tells the guest-physical address of an address in one.
    ///
    /// # Safety
    /// What `allocate` gives is 4096 bytes of memory, aligned to that, which nobody else uses until `release`.
    pub const unsafe fn new(
        allocate: fn() -> Option<NonNull<u8>>,
        release: unsafe fn(NonNull<u8>),
        physical: fn(*const u8) -> u64,
    ) -> Self {
        Self { allocate, release, physical }
    }
}

impl RamfsConfig {
    /// No limit, owned by root, mode 0755, not mappable.
    pub fn new(dev: u64, clock: Arc<dyn Clock>) -> Self {
        Self { dev, limit: u64::MAX, clock, owner: (0, 0), root_mode: 0o755, pages: None }
    }
}

/// A memory file system. Its nodes keep it alive.
pub struct Ramfs {
    root: Arc<Node>,
}

/// What all nodes share.
pub(crate) struct Shared {
    config: RamfsConfig,
    /// Pages in use, which a page gives back when the last reader and mapping let go of it.
    pages: AtomicU64,
    /// Nodes there are.
    nodes: AtomicU64,
    /// Inode numbers are never used again.
    next_ino: AtomicU64,
    tree: Mutex<()>,
}

impl Ramfs {
    /// An empty one.
    pub fn new(config: RamfsConfig) -> Self {
        let mode = FileType::Directory.mode_bits() | config.root_mode & 0o7777;
        let shared = Shared::new(config);
        let gid = shared.config.owner.1;
        let root = Node::new(&shared, mode, gid, 0, node::Body::directory()).expect("there is room for one");
        Self { root }
    }

    /// Its root directory.
    pub fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    /// Bytes of content held, in whole pages.
    pub fn used(&self) -> u64 {
        self.root.shared().used()
    }
}

impl Shared {
    pub(crate) fn new(config: RamfsConfig) -> Arc<Self> {
        Arc::new(Self {
            config,
            pages: AtomicU64::new(0),
            nodes: AtomicU64::new(0),
            next_ino: AtomicU64::new(1),
            tree: Mutex::new(()),
        })
    }

    pub(crate) fn config(&self) -> &RamfsConfig {
        &self.config
    }

    /// Bytes of content held, in whole pages.
    pub(crate) fn used(&self) -> u64 {
        self.pages.load(Ordering::Relaxed) * PAGE as u64
    }

    pub(crate) fn limit_pages(&self) -> u64 {
        self.config.limit / PAGE as u64
    }

    fn free_pages(&self) -> u64 {
        self.limit_pages().saturating_sub(self.pages.load(Ordering::Relaxed))
    }

    /// Inodes it may hold. What they and their names take is no content and comes from the heap, which must not run dry; as
    /// with Linux' tmpfs there is one for each page.
    fn limit_nodes(&self) -> u64 {
        self.limit_pages().saturating_add(FEW)
    }

    /// Counts a new node.
    ///
    /// # Errors
    /// `ENOSPC`.
    fn take_node(&self) -> Result<()> {
        let more = |nodes| Some(nodes + 1).filter(|nodes| *nodes <= self.limit_nodes());
        let taken = self.nodes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| Errno::ENOSPC)
    }

    fn give_node_back(&self) {
        self.nodes.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn statfs(&self) -> StatFs {
        let blocks = self.limit_pages();
        let free = self.free_pages();
        StatFs {
            magic: TMPFS_MAGIC,
            bsize: PAGE as u32,
            frsize: PAGE as u32,
            blocks,
            bfree: free,
            bavail: free,
            files: self.limit_nodes(),
            ffree: self.limit_nodes().saturating_sub(self.nodes.load(Ordering::Relaxed)),
            namelen: crate::Name::MAX as u32,
        }
    }
}
