//! The inode of a share: an identity the host gave us, with the lookups we owe back for it.
//!
//! One object for each inode however many names lead to it, found through [`Table`]. It lives as long as
//! anything refers to it: a dentry, an open file, a mapping, the layer above. Its end takes its chunks out of the
//! window first, and then gives back the lookups, exactly as many as were counted.
//!
//! # Locking
//! Dropping the last reference may wait for the host: not under a spin lock.

use crate::PAGE;
use crate::attrs::{AttrCache, Update, deadline};
use crate::bare::Bare;
use crate::fs::Fs;
use crate::neighbours::Neighbours;
use crate::ops::NodeId;
use crate::ops::attr::{GetAttr, TimedAttributes};
use crate::ops::data::OpenNode;
use crate::ops::name::{Entry, Forgotten};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use diolkos_pages::{PageKey, Pages, Passes, Turn, Which};
use diolkos_vfs::{Errno, FileType, Metadata, Result, Timespec};
use hashbrown::HashMap;
use spin::Mutex;

/// An inode of a share.
pub(crate) struct Node {
    pub(crate) fs: Arc<Fs>,
    /// Which of our inodes: unlike the host's number it never comes back.
    pub(crate) serial: u64,
    pub(crate) id: NodeId,
    pub(crate) generation: u64,
    pub(crate) kind: FileType,
    lookups: AtomicU64,
    attrs: Mutex<AttrCache>,
    /// The host has put something else in its place.
    stale: AtomicBool,
    /// It has lost a name, maybe the last: the host should hear soon when we let go of it.
    pub(crate) unlinked: AtomicBool,
    /// The host will not map it, or not writable.
    pub(crate) unmappable: AtomicBool,
    pub(crate) unmappable_for_writing: AtomicBool,
    /// It has had chunks in the window.
    pub(crate) windowed: AtomicBool,
    /// It has had pages in the page cache.
    pub(crate) cached: AtomicBool,
    /// What was read past the page cache.
    pub(crate) passes: Mutex<Passes>,
    /// Directories: the inode number of the one it was last found in, for `..`.
    pub(crate) parent_ino: AtomicU64,
    /// Directories: goes up when we change a name in it. A LOOKUP that was under way then says nothing certain.
    pub(crate) changes: AtomicU64,
    /// Directories: names were looked up since the last piece of a listing, so attributes with the next one are worth it.
    pub(crate) looked_up: AtomicBool,
    /// Directories: how it was listed last, without attributes.
    pub(crate) bare: Mutex<Bare>,
    /// Directories: what was listed because names were looked up.
    pub(crate) neighbours: Mutex<Neighbours>,
    /// Symbolic links: where it led, and the change time that it had then.
    pub(crate) target: Mutex<Option<(Timespec, Vec<u8>)>>,
}

impl Node {
    pub(crate) fn new(
        fs: &Arc<Fs>,
        id: NodeId,
        generation: u64,
        first: &TimedAttributes,
        lookups: u64,
        stamp: u64,
    ) -> Self {
        let until = deadline(fs.cache, fs.platform.now_ns(), first.valid);
        Self {
            fs: fs.clone(),
            serial: fs.next_serial(),
            id,
            generation,
            kind: first.attributes.kind,
            lookups: AtomicU64::new(lookups),
            attrs: Mutex::new(AttrCache::new(first, fs.dev, until, stamp)),
            stale: AtomicBool::new(false),
            unlinked: AtomicBool::new(false),
            unmappable: AtomicBool::new(false),
            unmappable_for_writing: AtomicBool::new(false),
            windowed: AtomicBool::new(false),
            cached: AtomicBool::new(false),
            passes: Mutex::default(),
            parent_ino: AtomicU64::new(first.attributes.metadata.ino),
            changes: AtomicU64::new(0),
            looked_up: AtomicBool::new(false),
            bare: Mutex::default(),
            neighbours: Mutex::default(),
            target: Mutex::default(),
        }
    }

    /// Takes in attributes from a reply whose request got `stamp`.
    ///
    /// # Errors
    /// `ESTALE` when it has become something of another type.
    pub(crate) fn learn(&self, new: &TimedAttributes, stamp: u64) -> Result<()> {
        if new.attributes.kind != self.kind {
            self.stale.store(true, Relaxed);
            return Err(Errno::ESTALE);
        }
        let until = deadline(self.fs.cache, self.fs.platform.now_ns(), new.valid);
        let update = self.attrs.lock().update(new, until, stamp);
        let size = new.attributes.metadata.size;
        match update {
            Update::Late | Update::Taken => {}
            Update::Changed => self.distrust_pages(),
            Update::Shrunk => {
                self.distrust_pages();
                self.cut_pages(size);
                self.drop_chunks_from(size);
            }
        }
        Ok(())
    }

    /// Lets go of the window chunks that hold nothing before byte `size`.
    pub(crate) fn drop_chunks_from(&self, size: u64) {
        if let Some(window) = &self.fs.window
            && self.windowed.load(Relaxed)
        {
            window.drop_from(self.serial, size);
        }
    }

    /// The pages of the cache, if it may have some of this inode.
    pub(crate) fn cached_pages(&self) -> Option<&Arc<Pages>> {
        self.fs.pages.as_ref().filter(|_| self.cached.load(Relaxed))
    }

    /// The content may be another: what the host has too is thrown out. Stores it does not know stay, and win.
    pub(crate) fn distrust_pages(&self) {
        if let Some(pages) = self.cached_pages() {
            pages.drop_range(self.serial, 0, u64::MAX, Which::Clean);
        }
    }

    /// The file ends at `size` now: nothing behind that is left in the cache.
    pub(crate) fn cut_pages(&self, size: u64) {
        if let Some(pages) = self.cached_pages() {
            pages.drop_range(self.serial, size.div_ceil(PAGE), u64::MAX, Which::All);
            pages.zero_tail(self.serial, size);
        }
    }

    /// Pages that hold bytes from `start` to `end` go; what mappings stored in them has been written back.
    pub(crate) fn drop_pages(&self, start: u64, end: u64) {
        if let Some(pages) = self.cached_pages() {
            pages.drop_range(self.serial, start / PAGE, end.div_ceil(PAGE), Which::All);
        }
    }

    /// The host has put other bytes from `start` to `end`, while nothing was written back ([`Node::turn`]). Pages go, but
    /// for those that hold other bytes too, in which a program may just have stored something: these get what
    /// `content` says is at a place now, so many bytes.
    pub(crate) fn replaced(&self, start: u64, end: u64, content: &dyn Fn(u64, usize) -> Option<Vec<u8>>) {
        let Some(pages) = self.cached_pages() else { return };
        let (first, last) = (start.div_ceil(PAGE), end / PAGE);
        pages.drop_range(self.serial, first, last, Which::All);
        let head = (start, end.min(first * PAGE));
        let tail = (start.max(last * PAGE), end);
        for (from, to) in [head, tail] {
            if from >= to {
                continue;
            }
            pages.drop_range(self.serial, from / PAGE, from / PAGE + 1, Which::Clean);
            if pages.has(PageKey { owner: self.serial, number: from / PAGE })
                && let Some(bytes) = content(from, (to - from) as usize)
            {
                pages.patch(self.serial, from, &bytes);
            }
        }
    }

    /// Writes back what mappings stored in the bytes from `start` to `end`.
    pub(crate) fn write_back(&self, start: u64, end: u64) {
        if let Some(pages) = self.cached_pages() {
            pages.write_back(self.serial, start / PAGE, end.div_ceil(PAGE));
        }
    }

    /// # Errors
    /// What the host said to writing back, if nobody has heard of it yet.
    pub(crate) fn write_back_error(&self) -> Result<()> {
        self.cached_pages().and_then(|pages| pages.take_error(self.serial)).map_or(Ok(()), Err)
    }

    /// Keeps others from writing back until it is dropped. For who makes the host change the content: an old page that
    /// comes after that would undo it.
    pub(crate) fn turn(&self) -> Option<Turn> {
        self.cached_pages().map(|pages| pages.turn(self.serial))
    }

    /// Asks the host for the attributes, through an open file if there is one.
    ///
    /// # Errors
    /// `ESTALE` when it is something else now, or what the host says.
    pub(crate) fn refresh(&self, file: Option<OpenNode>) -> Result<Metadata> {
        self.check()?;
        let stamp = self.fs.session.stamp();
        let call = GetAttr { node: self.id, handle: file.map(|f| f.handle) };
        let reply = self.heed(self.fs.session.call(&call))?;
        self.learn(&reply, stamp)?;
        Ok(*self.attrs.lock().last())
    }

    /// The attributes, from the cache while it may be believed.
    ///
    /// # Errors
    /// As [`Node::refresh`].
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        self.check()?;
        self.believed().map_or_else(|| self.refresh(None), Ok)
    }

    /// The attributes that are known, while they may be believed.
    pub(crate) fn believed(&self) -> Option<Metadata> {
        let now = self.fs.platform.now_ns();
        self.attrs.lock().fresh(now, self.fs.doubted.load(Relaxed))
    }

    /// The size, from the cache while it may be believed.
    ///
    /// # Errors
    /// As [`Node::refresh`].
    pub(crate) fn size(&self, file: Option<OpenNode>) -> Result<u64> {
        self.check()?;
        self.believed_size().map_or_else(|| self.refresh(file).map(|metadata| metadata.size), Ok)
    }

    /// The size, if the cache has it and may be believed.
    pub(crate) fn believed_size(&self) -> Option<u64> {
        let now = self.fs.platform.now_ns();
        self.attrs.lock().fresh_size(now, self.fs.doubted.load(Relaxed))
    }

    /// What was last heard of it.
    pub(crate) fn last_known(&self) -> Metadata {
        *self.attrs.lock().last()
    }

    /// We wrote up to `end`.
    pub(crate) fn wrote(&self, end: u64) {
        let stamp = self.fs.session.stamp();
        self.attrs.lock().wrote(end, stamp);
    }

    /// We emptied it.
    pub(crate) fn emptied(&self) {
        let stamp = self.fs.session.stamp();
        self.attrs.lock().resized(0, stamp);
        self.cut_pages(0);
        self.drop_chunks_from(0);
    }

    /// We changed its times or its links.
    pub(crate) fn touched(&self) {
        let stamp = self.fs.session.stamp();
        self.attrs.lock().touched(stamp);
    }

    /// The host is to be asked for the attributes next time.
    pub(crate) fn expire(&self) {
        self.attrs.lock().expire();
    }

    /// Passes a result on; when the host says that this inode is gone, names stop leading here.
    pub(crate) fn heed<T>(&self, result: Result<T>) -> Result<T> {
        result.inspect_err(|errno| {
            if *errno == Errno::ESTALE {
                self.stale.store(true, Relaxed);
            }
        })
    }

    /// # Errors
    /// `ESTALE` when the host has put something else in its place.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stale.load(Relaxed) { Err(Errno::ESTALE) } else { Ok(()) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.fs.table.lock().remove(self);
        self.drop_chunks_from(0);
        // Dirty ones there are none: whoever has those keeps the inode.
        self.drop_pages(0, u64::MAX);
        let _ = self.write_back_error();
        if self.id != NodeId::ROOT {
            let forgotten = Forgotten { node: self.id, lookups: *self.lookups.get_mut() };
            self.fs.session.forget(forgotten, *self.unlinked.get_mut());
        }
    }
}

/// Every inode that is alive, by what the host calls it.
#[derive(Default)]
pub(crate) struct Table {
    nodes: HashMap<(NodeId, u64), (u64, Weak<Node>)>,
}

impl Table {
    /// The inode of an entry that was just received, which counts one lookup of it. An old inode of another
    /// type under the same name of the host becomes stale. Nothing is dropped here: the second value is to be, without
    /// the lock.
    pub(crate) fn adopt(&mut self, fs: &Arc<Fs>, entry: &Entry, stamp: u64) -> (Arc<Node>, Option<Arc<Node>>) {
        let key = (entry.node, entry.generation);
        let known = self.nodes.get(&key).and_then(|(_, node)| node.upgrade());
        match known {
            Some(node) if node.kind == entry.attributes.attributes.kind => {
                node.lookups.fetch_add(1, Relaxed);
                // Whatever was wrong with it, the host has just found it.
                node.stale.store(false, Relaxed);
                (node, None)
            }
            replaced => {
                if let Some(old) = &replaced {
                    old.stale.store(true, Relaxed);
                }
                let node = Arc::new(Node::new(fs, entry.node, entry.generation, &entry.attributes, 1, stamp));
                self.nodes.insert(key, (node.serial, Arc::downgrade(&node)));
                (node, replaced)
            }
        }
    }

    fn remove(&mut self, node: &Node) {
        let key = (node.id, node.generation);
        // Another object may live under the key by now.
        if self.nodes.get(&key).is_some_and(|(serial, _)| *serial == node.serial) {
            self.nodes.remove(&key);
        }
    }
}
