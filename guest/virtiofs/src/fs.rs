//! One mounted share: the session, the inodes, the names and the window, and how an entry of the host becomes an inode.

use crate::Platform;
use crate::attrs::{believed, deadline};
use crate::bounce::Pool;
use crate::counters::Tally;
use crate::dentry::{Dentries, Source, Target};
use crate::file::{Recent, Underway};
use crate::limits::Limits;
use crate::node::{Node, Table};
use crate::ops::Opcode;
use crate::ops::init::{Agreement, Features};
use crate::ops::name::{Entry, Found, Lookup};
use crate::session::Session;
use crate::window::Manager;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use diolkos_common::cmdline::CacheMode;
use diolkos_pages::Pages;
use diolkos_vfs::{Errno, Name, Result};
use spin::Mutex;

/// How long a server that is out of descriptors is given to hear what we forget. FORGET has no reply and a queue of its
/// own, with a thread of its own behind it perhaps, and a busy host may not let that one run for some time slices.
const PATIENCE_NS: u64 = 100_000_000;
/// Most tries in that time.
const MOST_TRIES: usize = 1000;

/// What all inodes and files of a share have in common.
pub(crate) struct Fs {
    pub(crate) session: Arc<Session>,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) agreement: Agreement,
    pub(crate) dev: u64,
    pub(crate) writable: bool,
    pub(crate) cache: CacheMode,
    pub(crate) window: Option<Arc<Manager>>,
    pub(crate) pages: Option<Arc<Pages>>,
    /// READs that fill pages just now.
    pub(crate) fills: Underway,
    pub(crate) table: Mutex<Table>,
    pub(crate) limits: Limits,
    pub(crate) dentries: Mutex<Dentries>,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) buffers: Pool,
    pub(crate) serials: AtomicU64,
    /// The moment up to which no attribute heard is believed: the window lost content then, so some file is shorter than
    /// we thought, or a lock was taken, and whoever had it before may have changed any file that goes with it.
    pub(crate) doubted: AtomicU64,
}

impl Fs {
    pub(crate) fn next_serial(&self) -> u64 {
        self.serials.fetch_add(1, Relaxed)
    }

    /// The inode of an entry found in `dir`, in a reply to a request that got `stamp`.
    pub(crate) fn adopt(self: &Arc<Self>, dir: &Node, entry: &Entry, stamp: u64) -> Result<Arc<Node>> {
        let (node, replaced) = self.table.lock().adopt(self, entry, stamp);
        drop(replaced);
        node.learn(&entry.attributes, stamp)?;
        node.parent_ino.store(dir.last_known().ino, Relaxed);
        Ok(node)
    }

    /// Notes where a name leads, unless a name of the directory was changed since `changes` was read.
    pub(crate) fn remember(
        &self,
        dir: &Node,
        name: Name<'_>,
        target: Target,
        until: u64,
        changes: u64,
        source: Source,
    ) {
        if !believed(until, self.platform.now_ns()) {
            return;
        }
        let dropped = {
            let mut dentries = self.dentries.lock();
            if dir.changes.load(Relaxed) != changes {
                return;
            }
            dentries.insert(dir.serial, name, target, until, source)
        };
        drop(dropped);
    }

    /// A name of the directory was changed by us: nothing about it that is cached or under way counts. Returns
    /// the inode it led to, and until when that was believed, if it was known.
    pub(crate) fn name_changed(&self, dir: &Node, name: Name<'_>) -> Option<(Arc<Node>, u64)> {
        let dropped = {
            let mut dentries = self.dentries.lock();
            dir.changes.fetch_add(1, Relaxed);
            dentries.remove(dir.serial, name)
        };
        dir.touched();
        match dropped {
            Some((Target::Node(node), until)) => Some((node, until)),
            _ => None,
        }
    }

    /// Others may have changed any file: attributes are asked for again.
    pub(crate) fn distrust_attributes(&self) {
        self.doubted.fetch_max(self.session.stamp(), Relaxed);
    }

    /// Others may have changed any name of the directory: nothing about it that is cached or under way counts.
    pub(crate) fn distrust_names(&self, dir: &Node) {
        let dropped = {
            let mut dentries = self.dentries.lock();
            dir.changes.fetch_add(1, Relaxed);
            dentries.remove_all(dir.serial)
        };
        drop(dropped);
        dir.expire();
    }

    /// Finds a name, in the cache or on the host.
    pub(crate) fn lookup(self: &Arc<Self>, dir: &Node, name: Name<'_>) -> Result<Arc<Node>> {
        dir.check()?;
        let now = self.platform.now_ns();
        let cached = self.dentries.lock().get(dir.serial, name, now);
        match cached {
            Some(Target::Node(node)) if node.check().is_ok() => return Ok(node),
            Some(Target::Nothing) => return Err(Errno::ENOENT),
            _ => {}
        }
        dir.looked_up.store(true, Relaxed);
        let (changes, stamp) = (dir.changes.load(Relaxed), self.session.stamp());
        let nothing = |until| {
            self.remember(dir, name, Target::Nothing, until, changes, Source::Asked);
            Err(Errno::ENOENT)
        };
        match self.with_descriptors(|| self.session.call(&Lookup { dir: dir.id, name })) {
            Ok(Found::Entry(entry)) => {
                let node = self.adopt(dir, &entry, stamp)?;
                let until = deadline(self.cache, now, entry.valid);
                self.remember(dir, name, Target::Node(node.clone()), until, changes, Source::Asked);
                self.bring_neighbours(dir, name, until);
                Ok(node)
            }
            Ok(Found::Nothing(valid)) => nothing(deadline(self.cache, now, valid)),
            // No time is given with an error: only for who believes for ever does it hold at all.
            Err(Errno::ENOENT) if self.cache == CacheMode::Always => nothing(u64::MAX),
            Err(errno) => Err(errno),
        }
    }

    /// Whether the server gives attributes with listings, and they are still there when somebody looks at them.
    pub(crate) fn lists_with_attributes(&self) -> bool {
        self.agreement.features.contains(Features::DO_READDIRPLUS)
            && self.session.has(Opcode::FUSE_READDIRPLUS)
            && self.cache != CacheMode::None
            && self.limits.listings_are_remembered()
    }

    /// Makes a request that takes a descriptor of the host's. When it has none left, everything that we hold without
    /// need is given back first: names, and what waits to be forgotten. Forgetting is asked for, not waited for, so
    /// it is tried again for a while. Not for requests that make something: the host may have made it and failed after that.
    pub(crate) fn with_descriptors<T>(&self, request: impl Fn() -> Result<T>) -> Result<T> {
        let mut since = None;
        for _ in 0..MOST_TRIES {
            match request() {
                Err(Errno::EMFILE | Errno::ENFILE) => self.let_go(),
                result => return result,
            }
            let now = self.platform.now_ns();
            if now.saturating_sub(*since.get_or_insert(now)) > PATIENCE_NS {
                break;
            }
        }
        request()
    }

    fn let_go(&self) {
        self.session.counters.add(Tally::LetGo, 1);
        let names = self.dentries.lock().clear();
        drop(names);
        let files = self.recent.lock().clear();
        drop(files);
        self.session.flush_forgets();
        self.platform.pause();
    }
}
