//! A writable layer in memory over a file system that nobody changes through it: what the program writes stays in the
//! machine, what it never touched is the lower file system's own.
//!
//! # The hard idea
//! Linux' overlayfs joins two directory trees, and copies a file from the lower to the upper before its first change. Its
//! oddities come from there: a copy is another inode, so open files and hard links part from it, and a directory cannot
//! be renamed without copying all of it. Here the upper is memory of our own, so it need be no tree. There is one
//! `node::Node` for each lower inode that anybody holds, found by the lower inode's identity, and it stays the same
//! inode for ever: it shows the lower's attributes and content until a change is made, and from then on its own,
//! *inside the same node*. So
//!
//! * what is open, mapped or hard-linked sees every change, however it was reached;
//! * inode numbers never change;
//! * a directory is renamed by moving its node, whatever lies below it;
//! * a file is copied page by page (`content`): one byte changed in a file of a gigabyte takes one page of memory. A
//!   page that was never changed keeps coming from the lower file, through its window if it has one. Small files are
//!   copied whole, so that what is left of them does not depend on the host any more.
//!
//! Names (`table`) are kept only where they differ from the lower directory: new ones, and those that are gone
//! (overlayfs' whiteouts). A directory that was removed and made again is a new node with nothing below it (overlayfs'
//! opaque directory).
//!
//! # What stays in memory
//! A node lives as long as somebody holds it; what keeps a changed one is its name, entered in its directory's table,
//! and so on up to the root (that chain is what overlayfs copies up), and for a file `Fs::known`, so that its other
//! hard links find it. Names are counted and content is bounded as in a [`crate::ramfs`]: `ENOSPC`.
//!
//! A lower inode that is held costs the host a descriptor. So it is let go of when its node has all there is to know: a
//! file whose content was copied or cut off, a link, a fifo. When many are held all the same (a program that changes the
//! modes of a whole tree), small files are copied for that alone. Large files with pages that still show, hard links and
//! directories stay.
//!
//! # When the lower changes meanwhile
//! What the program never touched follows the lower file system by its own rules. A name that the program changed, or
//! under which it changed something, stays as the program left it, whatever happens to that name below. Attributes stay
//! as they were at the first change, the size included; unchanged pages of a large file still come from the lower, with
//! whatever it holds now. Where it has become shorter reading comes to its end, a mapping has no page, and a write into
//! a part of such a page fails with `EIO`: nobody knows what the rest of it should be.
//!
//! # Locking
//! `Fs::names` first, by everything that changes names; then one node's `state`, or `known`; then a memory node's own
//! lock. The lower file system is never asked with any of them held: what it said is checked again under the lock
//! (`table::Found`). No node is dropped under a lock, since its lower inode may wait for the host then.

mod attributes;
mod content;
mod copy_up;
mod directory;
mod file;
mod names;
mod node;
mod ranges;
mod table;
#[cfg(test)]
mod tests;

use crate::ramfs::{PAGE, RamfsConfig, Shared};
use crate::{Errno, Inode, InodeId, Result, StatFs};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicU64, Ordering};
use node::Node;
use spin::Mutex;

/// `OVERLAYFS_SUPER_MAGIC` of statfs(2).
const MAGIC: u64 = 0x794c_7630;

/// Where the numbers of new inodes begin: above all that a host's file system gives in earnest.
const FIRST_INO: u64 = 1 << 62;

/// The generation of new inodes, which no lower inode has: a number the lower gives may then be the same.
const OWN_GENERATION: u64 = u64::MAX;

/// The seam to page tables, which may lead to a file's pages.
pub trait Mappings: Send + Sync {
    /// Takes every page-table entry away that shows a byte of the file from `from` up to `to`, but for private copies.
    /// Programs fault the pages in again. Called without a lock, and never waits.
    fn forget(&self, file: InodeId, from: u64, to: u64);
}

/// What an overlay is told at its making.
pub struct OverlayConfig {
    /// The root directory of what lies below. All of it must be on one device, whose number the overlay takes over.
    pub lower: Arc<dyn Inode>,
    /// The memory for what changes; its device number must be the lower's.
    pub memory: RamfsConfig,
    /// Page tables.
    pub mappings: Arc<dyn Mappings>,
    /// Files up to this size in bytes are copied whole at the first change of their content.
    pub whole: u64,
    /// When more changed lower inodes than this are held, such files are copied at any change, so that they can be let go of.
    pub held: u64,
}

/// An overlay. It is never taken apart: what keeps changed nodes also keeps the overlay, for as long as the machine runs.
pub struct Overlay {
    root: Arc<Node>,
}

impl Overlay {
    /// One that shows what lies below, and nothing else yet.
    ///
    /// # Errors
    /// `ENOTDIR` for a lower that is no directory, `EXDEV` for one on another device than the memory pretends to be on.
    pub fn new(config: OverlayConfig) -> Result<Self> {
        let OverlayConfig { lower, memory, mappings, whole, held } = config;
        let id = lower.id();
        if lower.file_type() != crate::FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        if id.dev != memory.dev {
            return Err(Errno::EXDEV);
        }
        let fs = Arc::new(Fs {
            memory: Shared::new(memory),
            mappings,
            whole,
            most_held: held,
            held: AtomicU64::new(0),
            known: Mutex::default(),
            names: Mutex::new(()),
            next_ino: AtomicU64::new(FIRST_INO),
            entries: AtomicU64::new(0),
        });
        let root = Node::below(&fs, lower, node::Place::Root);
        // Kept, not passing: a lower directory that contains itself, by whatever trick of the host, is not taken apart.
        fs.known.lock().insert(id, Known::Kept(root.clone()));
        Ok(Self { root })
    }

    /// Its root directory.
    pub fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    /// Bytes of content held in memory, in whole pages.
    pub fn used(&self) -> u64 {
        self.root.fs.memory.used()
    }
}

/// The node of a lower inode.
enum Known {
    /// Nothing was changed: it lives as long as somebody holds it.
    Passing(Weak<Node>),
    /// Something was.
    Kept(Arc<Node>),
}

impl Known {
    fn node(&self) -> Option<Arc<Node>> {
        match self {
            Self::Passing(node) => node.upgrade(),
            Self::Kept(node) => Some(node.clone()),
        }
    }
}

/// What all nodes share.
struct Fs {
    memory: Arc<Shared>,
    mappings: Arc<dyn Mappings>,
    whole: u64,
    most_held: u64,
    /// Lower inodes of changed nodes.
    held: AtomicU64,
    known: Mutex<BTreeMap<InodeId, Known>>,
    names: Mutex<()>,
    next_ino: AtomicU64,
    /// Entries in all tables of names.
    entries: AtomicU64,
}

impl Fs {
    fn dev(&self) -> u64 {
        self.memory.config().dev
    }

    /// Room for one more entry in a table. As many are allowed as there are pages, which is tmpfs' measure for inodes.
    ///
    /// # Errors
    /// `ENOSPC`.
    fn charge_entry(&self) -> Result<()> {
        let most = self.memory.limit_pages();
        let charge = |entries: u64| (entries < most).then(|| entries + 1);
        let charged = self.entries.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charge);
        charged.map(drop).map_err(|_| Errno::ENOSPC)
    }

    /// Whether it is time to let go of lower inodes.
    fn holds_many(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.most_held
    }

    fn release_entry(&self) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
    }

    fn statfs(&self) -> StatFs {
        let most = self.memory.limit_pages();
        let ffree = most.saturating_sub(self.entries.load(Ordering::Relaxed));
        StatFs { magic: MAGIC, bsize: PAGE as u32, files: most, ffree, ..self.memory.statfs() }
    }
}
