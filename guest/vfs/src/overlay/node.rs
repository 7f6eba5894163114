//! An inode of the overlay: a lower inode, a memory node, or first the one and then the other with the first behind it.

use super::ranges::Ranges;
use super::table::{Found, Table};
use super::{Fs, Known, OWN_GENERATION};
use crate::ramfs;
use crate::{Errno, FileType, Inode, InodeId, Name, Result};
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use spin::Mutex;

/// An inode.
pub(super) struct Node {
    pub(super) fs: Arc<Fs>,
    pub(super) this: Weak<Node>,
    pub(super) id: InodeId,
    pub(super) kind: FileType,
    /// What it shows as long as nothing was changed, and what a file's unchanged pages come from after that.
    lower: Mutex<Option<Arc<dyn Inode>>>,
    /// The number shown to programs: new nodes have it from the start, others from the first change on.
    pub(super) ino: AtomicU64,
    /// A program may have pages of it mapped.
    pub(super) mapped: AtomicBool,
    pub(super) state: Mutex<State>,
}

/// What of an inode changes.
pub(super) struct State {
    /// Attributes, extended attributes and content, from the first change on.
    pub(super) upper: Option<Arc<ramfs::Node>>,
    /// Of a regular file with `upper`: the pages that still come from the lower file. The memory node has none of them.
    pub(super) shown: Ranges,
    /// Of a directory with `upper`: the lower's size at that time.
    pub(super) lower_size: u64,
    /// Of what has `upper`: no other hard link of the lower inode may need to find this node.
    pub(super) alone: bool,
    /// How many hard links it has gained, as long as there is no `upper` to count them.
    pub(super) links: i32,
    pub(super) place: Place,
    /// Of a directory.
    pub(super) table: Table,
}

/// Where a node was found.
pub(super) enum Place {
    /// At the root of the overlay.
    Root,
    /// Under a name of the lower directory; nothing knows of this node but who holds it.
    Passing(Arc<Node>, Box<[u8]>),
    /// Its name is in the directory's table, or it has none any more.
    Kept(Weak<Node>),
}

/// Who answers for an inode's attributes.
pub(super) enum Shown {
    /// Its memory node, after a change.
    Upper(Arc<ramfs::Node>),
    /// The lower inode.
    Lower(Arc<dyn Inode>),
}

impl Place {
    fn passing(&self) -> Option<(Arc<Node>, Box<[u8]>)> {
        match self {
            Self::Passing(parent, name) => Some((parent.clone(), name.clone())),
            _ => None,
        }
    }
}

impl Node {
    /// The node of a lower inode.
    pub(super) fn below(fs: &Arc<Fs>, lower: Arc<dyn Inode>, place: Place) -> Arc<Self> {
        let (id, kind) = (lower.id(), lower.file_type());
        Self::new(fs, id, kind, 0, Some(lower), None, place)
    }

    /// A node of our own, without anything below.
    pub(super) fn fresh(fs: &Arc<Fs>, upper: Arc<ramfs::Node>, parent: Weak<Node>) -> Arc<Self> {
        let ino = fs.next_ino.fetch_add(1, Ordering::Relaxed);
        let id = InodeId { dev: fs.dev(), node: ino, generation: OWN_GENERATION };
        let kind = upper.file_type();
        Self::new(fs, id, kind, ino, None, Some(upper), Place::Kept(parent))
    }

    fn new(
        fs: &Arc<Fs>,
        id: InodeId,
        kind: FileType,
        ino: u64,
        lower: Option<Arc<dyn Inode>>,
        upper: Option<Arc<ramfs::Node>>,
        place: Place,
    ) -> Arc<Self> {
        let (shown, table) = (Ranges::default(), Table::new());
        let state = State { upper, shown, lower_size: 0, alone: false, links: 0, place, table };
        Arc::new_cyclic(|this| Self {
            fs: fs.clone(),
            this: this.clone(),
            id,
            kind,
            lower: Mutex::new(lower),
            ino: AtomicU64::new(ino),
            mapped: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// Itself, as who holds it does.
    pub(super) fn itself(&self) -> Result<Arc<Self>> {
        self.this.upgrade().ok_or(Errno::ESTALE)
    }

    pub(super) fn upper(&self) -> Option<Arc<ramfs::Node>> {
        self.state.lock().upper.clone()
    }

    /// The lower inode, as long as something of it may be needed.
    pub(super) fn lower(&self) -> Option<Arc<dyn Inode>> {
        self.lower.lock().clone()
    }

    /// The lower directory as far as its names show.
    pub(super) fn lower_dir(&self) -> Option<Arc<dyn Inode>> {
        self.lower().filter(|_| self.kind == FileType::Directory)
    }

    /// Who answers for the attributes.
    pub(super) fn shown(&self) -> Result<Shown> {
        // In this order: the lower inode is let go of only after there is a memory node.
        let lower = self.lower();
        let upper = self.upper().map(Shown::Upper);
        upper.or(lower.map(Shown::Lower)).ok_or(Errno::EIO)
    }

    /// Lets go of the lower inode, which costs the host a descriptor, if nothing of it is needed any more: all that still
    /// shows has been copied, and no other hard link leads to it.
    pub(super) fn let_go_of_lower(&self) {
        let done = {
            let state = self.state.lock();
            state.upper.is_some() && state.alone && state.shown.is_empty()
        };
        if !done || self.kind == FileType::Directory {
            return;
        }
        // Dropped when no lock is held.
        let lower = self.lower.lock().take();
        if lower.is_some() {
            self.fs.held.fetch_sub(1, Ordering::Relaxed);
            let _known = self.fs.known.lock().remove(&self.id);
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().table.dead
    }

    pub(super) fn need_directory(&self) -> Result<()> {
        if self.kind == FileType::Directory { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// The node of an inode, if it is of this overlay.
    pub(super) fn own(&self, inode: &Arc<dyn Inode>) -> Result<Arc<Node>> {
        let node = inode.as_any().downcast_ref::<Node>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&node.fs, &self.fs) {
            return Err(Errno::EXDEV);
        }
        node.itself()
    }

    /// The directory above; itself for the root and for what is nowhere.
    pub(super) fn parent(&self) -> Result<Arc<Node>> {
        let parent = match &self.state.lock().place {
            Place::Root => None,
            Place::Passing(parent, _) => Some(parent.clone()),
            Place::Kept(parent) => parent.upgrade(),
        };
        parent.map_or_else(|| self.itself(), Ok)
    }

    /// What a name leads to.
    ///
    /// # Errors
    /// What the lower file system says, but for `ENOENT`.
    pub(super) fn find(&self, name: Name<'_>) -> Result<Found> {
        self.need_directory()?;
        loop {
            let changes = {
                let state = self.state.lock();
                if let Some(entry) = state.table.get(name.as_bytes()) {
                    return Ok(Found { node: entry.node.clone(), named: true, below: entry.hides });
                }
                if state.table.dead {
                    return Ok(Found { node: None, named: false, below: false });
                }
                state.table.changes
            };
            let found = match self.lower_dir().map(|lower| lower.lookup(name)) {
                None | Some(Err(Errno::ENOENT)) => None,
                Some(Err(errno)) => return Err(errno),
                Some(Ok(inode)) => self.adopt(name, inode)?,
            };
            if self.state.lock().table.changes == changes {
                let below = found.is_some();
                return Ok(Found { node: found, named: false, below });
            }
        }
    }

    /// The node of a lower inode that was found here under `name`. `None` for a directory that the program has moved
    /// elsewhere, and the host after it: it has one place only.
    fn adopt(&self, name: Name<'_>, lower: Arc<dyn Inode>) -> Result<Option<Arc<Node>>> {
        let id = lower.id();
        let here = || -> Result<Place> { Ok(Place::Passing(self.itself()?, name.as_bytes().into())) };
        let known = |node: &Arc<Node>| node.kind == lower.file_type();
        let existing = self.fs.known.lock().get(&id).and_then(Known::node);
        let node = match existing.filter(known) {
            Some(node) => node,
            None => {
                let fresh = Node::below(&self.fs, lower.clone(), here()?);
                // What loses here is dropped after the lock.
                let mut table = self.fs.known.lock();
                let other = table.get(&id).and_then(Known::node);
                match other.clone().filter(known) {
                    Some(other) => other,
                    None => {
                        let before = table.insert(id, Known::Passing(Arc::downgrade(&fresh)));
                        drop(table);
                        drop((before, other));
                        return Ok(Some(fresh));
                    }
                }
            }
        };
        let place = here()?;
        let _before = {
            let mut state = node.state.lock();
            let passing = state.place.passing();
            match passing {
                Some(_) => core::mem::replace(&mut state.place, place),
                None if node.kind == FileType::Directory => return Ok(None),
                None => place,
            }
        };
        Ok(Some(node))
    }

    /// Enters a node that was changed, and every directory above it, into the table of its directory, so that the change
    /// stays when nobody holds them any more.
    ///
    /// # Errors
    /// `ENOSPC`.
    pub(super) fn keep(&self) -> Result<()> {
        // The nodes without an entry, the lowest first, and what they stood in; dropped after the lock.
        let mut chain = Vec::new();
        let mut before = Vec::new();
        let mut node = self.itself()?;
        let _names = self.fs.names.lock();
        loop {
            let Some((parent, name)) = node.state.lock().place.passing() else { break };
            chain.push((core::mem::replace(&mut node, parent.clone()), parent, name));
        }
        // From above, so that there is no entry in a directory that nobody knows.
        for (node, parent, name) in chain.iter().rev() {
            let mut above = parent.state.lock();
            // A name that is there already leads elsewhere.
            if above.table.get(name).is_none() && !above.table.dead {
                self.fs.charge_entry()?;
                above.table.set(name, Some(node.clone()), true);
            }
            drop(above);
            let kept = Place::Kept(Arc::downgrade(parent));
            before.push(core::mem::replace(&mut node.state.lock().place, kept));
        }
        drop(_names);
        Ok(())
    }

    /// The name it was found under is gone. The caller drops what is returned after its locks.
    pub(super) fn lose_place(&self) -> Place {
        core::mem::replace(&mut self.state.lock().place, Place::Kept(Weak::new()))
    }

    /// Counts hard links that came or went. `lower` is what the lower inode has, for a node without attributes of its
    /// own. The caller drops what is returned after its locks.
    pub(super) fn count_links(&self, by: i32, lower: u32) -> Option<Known> {
        let left = {
            let mut state = self.state.lock();
            match &state.upper {
                Some(upper) => {
                    upper.add_links(by);
                    upper.links()
                }
                None => {
                    state.links = state.links.saturating_add(by);
                    lower.saturating_add_signed(state.links)
                }
            }
        };
        self.hold_by_id(left > 0)
    }

    /// Has other hard links of a changed lower file find this node, or lets go of one that has none any more.
    pub(super) fn hold_by_id(&self, on: bool) -> Option<Known> {
        let this = self.this.upgrade().filter(|_| self.lower().is_some() && self.kind != FileType::Directory)?;
        let entry = if on { Known::Kept(this) } else { Known::Passing(Arc::downgrade(&this)) };
        self.fs.known.lock().insert(self.id, entry)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.lower.get_mut().is_some() {
            if self.state.get_mut().upper.is_some() {
                self.fs.held.fetch_sub(1, Ordering::Relaxed);
            }
            let mut known = self.fs.known.lock();
            if let Some(Known::Passing(node)) = known.get(&self.id)
                && core::ptr::eq(node.as_ptr(), self)
            {
                known.remove(&self.id);
            }
        }
        // Walks up by hand: a chain of directories may be longer than the stack is deep.
        let mut place = core::mem::replace(&mut self.state.get_mut().place, Place::Root);
        while let Place::Passing(parent, _) = place {
            let Some(mut last) = Arc::into_inner(parent) else { break };
            place = core::mem::replace(&mut last.state.get_mut().place, Place::Root);
        }
    }
}
