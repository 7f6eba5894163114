//! Places in the tree: an inode together with the name it was reached by.
//!
//! A [`Dentry`] keeps its parent alive, so `..`, getcwd(2) and the links of `/proc/self/fd` need no search.
//! This is no cache: a dentry lives only while somebody stands there, and file systems cache by themselves.
//! What is shared is identity: a directory knows its living children by name, so that one rename(2) moves
//! the place of everyone who stands below the renamed name. Renames made on the host are not seen here.
//!
//! # Locking
//! The locks here guard maps and names only. Nothing is dropped under them whose drop could take another.

use crate::mount::Mount;
use crate::{FileType, Inode, InodeId, notify};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::mem;
use spin::Mutex;

/// A name in a directory of one file system, and the inode it leads to.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    id: InodeId,
    place: Mutex<Place>,
    children: Mutex<BTreeMap<Box<[u8]>, Weak<Dentry>>>,
}

struct Place {
    /// `None` for the root of a file system, and for what has no place (a pipe).
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
    removed: bool,
    /// The name removed was the inode's last: it goes with this dentry.
    last: bool,
}

/// One rename's change of places is indivisible, or two of them could together make a ring.
static RENAMES: Mutex<()> = Mutex::new(());

impl Dentry {
    /// A dentry without a parent; `name` is empty for the root of a file system.
    pub(crate) fn detached(inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        Self::new(inode, None, name)
    }

    fn new(inode: Arc<dyn Inode>, parent: Option<Arc<Self>>, name: &[u8]) -> Arc<Self> {
        let id = inode.id();
        let place = Mutex::new(Place { parent, name: name.into(), removed: false, last: false });
        Arc::new(Self { inode, id, place, children: Mutex::default() })
    }

    /// The child `name` that leads to `inode`, shared with everyone who stands there.
    fn child(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Self> {
        let known = self.children.lock().get(name).and_then(Weak::upgrade);
        let id = inode.id();
        if let Some(known) = known.filter(|known| known.id == id) {
            return known;
        }
        let fresh = Self::new(inode, Some(self.clone()), name);
        // Whatever loses here is dropped after the lock.
        let (winner, _loser) = {
            let mut children = self.children.lock();
            match children.get(name).and_then(Weak::upgrade) {
                Some(other) if other.id == id => (other, Some(fresh)),
                stale => {
                    children.insert(name.into(), Arc::downgrade(&fresh));
                    (fresh, stale)
                }
            }
        };
        winner
    }

    fn parent(&self) -> Option<Arc<Self>> {
        self.place.lock().parent.clone()
    }

    fn name(&self) -> Box<[u8]> {
        self.place.lock().name.clone()
    }

    /// The inode's identity.
    pub(crate) fn id(&self) -> InodeId {
        self.id
    }

    /// The directory and the name in it, and whether that has been removed; `None` for what has none.
    pub(crate) fn named_in(&self) -> Option<(Arc<Self>, Box<[u8]>, bool)> {
        let place = self.place.lock();
        Some((place.parent.clone()?, place.name.clone(), place.removed))
    }

    /// The name that was removed was the inode's last: who watches it is told when nobody stands here any more.
    pub(crate) fn goes_with_its_last_user(&self) {
        self.place.lock().last = true;
    }

    fn take_child(&self, name: &[u8]) -> Option<Arc<Self>> {
        self.children.lock().remove(name)?.upgrade()
    }

    /// Removes the table entry of a child that is gone.
    fn forget(&self, name: &[u8]) {
        let mut children = self.children.lock();
        if children.get(name).is_some_and(|child| child.strong_count() == 0) {
            children.remove(name);
        }
    }

    /// Puts a dentry that [`Dentry::take_child`] gave under another name.
    fn plant(self: &Arc<Self>, name: &[u8], child: Arc<Self>) {
        let _old_parent = {
            let mut place = child.place.lock();
            place.name = name.into();
            place.parent.replace(self.clone())
        };
        self.children.lock().insert(name.into(), Arc::downgrade(&child));
    }

    fn lies_in(self: &Arc<Self>, ancestor: &Arc<Self>) -> bool {
        let mut at = Some(self.clone());
        while let Some(here) = at {
            if Arc::ptr_eq(&here, ancestor) {
                return true;
            }
            at = here.parent();
        }
        false
    }

    /// The name has been removed from the file system. Gives who still stands there.
    pub(crate) fn child_removed(&self, name: &[u8]) -> Option<Arc<Self>> {
        let child = self.take_child(name)?;
        child.place.lock().removed = true;
        Some(child)
    }

    /// The name has been renamed, or with `exchange` swapped, in the file system. Gives who still stands at a name that was
    /// replaced.
    pub(crate) fn child_renamed(
        self: &Arc<Self>,
        name: &[u8],
        to: &Arc<Self>,
        new: &[u8],
        exchange: bool,
    ) -> Option<Arc<Self>> {
        if Arc::ptr_eq(self, to) && name == new {
            return None;
        }
        // Outlive the guard: dropping a dentry takes locks.
        let (moving, displaced);
        let _guard = RENAMES.lock();
        moving = self.take_child(name);
        displaced = to.take_child(new);
        if let Some(moving) = &moving {
            // No sane file system moves a directory into itself; the host need not be sane.
            if !to.lies_in(moving) {
                to.plant(new, moving.clone());
            }
        }
        match &displaced {
            Some(displaced) if exchange && !self.lies_in(displaced) => self.plant(name, displaced.clone()),
            Some(displaced) => displaced.place.lock().removed = true,
            None => {}
        }
        displaced.filter(|_| !exchange)
    }
}

impl Drop for Dentry {
    /// Walks up by hand: a chain may be longer than the stack is deep.
    fn drop(&mut self) {
        let place = self.place.get_mut();
        if place.last {
            notify::gone(self.id);
        }
        let (mut parent, mut name) = (place.parent.take(), mem::take(&mut place.name));
        while let Some(dentry) = parent {
            dentry.forget(&name);
            let Some(mut last) = Arc::into_inner(dentry) else { break };
            let place = last.place.get_mut();
            (parent, name) = (place.parent.take(), mem::take(&mut place.name));
        }
    }
}

/// A place in the whole tree: a dentry and the mount it belongs to. What a working directory or a
/// descriptor stands at. Cheap to clone.
#[derive(Clone)]
pub struct Location {
    mount: Arc<Mount>,
    dentry: Arc<Dentry>,
}

impl Location {
    pub(crate) fn root_of(mount: Arc<Mount>) -> Self {
        Self { dentry: mount.root().clone(), mount }
    }

    /// A thing outside the tree, such as a pipe; `name` is what `/proc/self/fd` shows, e.g. `pipe:[7]`.
    pub fn detached(inode: Arc<dyn Inode>, name: &[u8]) -> Self {
        Self::root_of(Mount::anonymous(Dentry::detached(inode, name)))
    }

    /// The child of this directory that a lookup of `name` gave.
    pub(crate) fn child(&self, name: &[u8], inode: Arc<dyn Inode>) -> Self {
        Self { mount: self.mount.clone(), dentry: self.dentry.child(name, inode) }
    }

    /// A child that no name leads to (O_TMPFILE).
    pub(crate) fn unnamed_child(&self, shown: &[u8], inode: Arc<dyn Inode>) -> Self {
        let dentry = Dentry::new(inode, Some(self.dentry.clone()), shown);
        dentry.place.lock().removed = true;
        Self { mount: self.mount.clone(), dentry }
    }

    /// The name it was reached by; `None` for the root of a mount.
    pub(crate) fn name(&self) -> Option<Box<[u8]>> {
        Some(self.dentry.name()).filter(|name| !name.is_empty())
    }

    /// The inode.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.dentry.inode
    }

    /// The inode's identity.
    pub fn id(&self) -> InodeId {
        self.dentry.id
    }

    /// The mount it lies in.
    pub fn mount(&self) -> &Arc<Mount> {
        &self.mount
    }

    pub(crate) fn dentry(&self) -> &Arc<Dentry> {
        &self.dentry
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.inode().file_type() == FileType::Directory
    }

    /// Whether both are the same inode seen through the same mount.
    pub fn is_same_place(&self, other: &Self) -> bool {
        self.mount.id() == other.mount.id() && self.id() == other.id()
    }

    /// The directory above, across mounts; `None` at the root and outside the tree.
    pub fn parent(&self) -> Option<Self> {
        match self.dentry.parent() {
            Some(dentry) => Some(Self { mount: self.mount.clone(), dentry }),
            None => self.mount.point().map(|point| point.dir.clone()),
        }
    }

    /// Whether the name it was reached by has been unlinked, removed or replaced through this tree since.
    /// getcwd(2) then fails with `ENOENT`, and `/proc/self/fd` shows ` (deleted)`.
    pub fn is_removed(&self) -> bool {
        self.dentry.place.lock().removed
    }

    /// The absolute path, or for what has no place the name given to [`Location::detached`].
    /// A removed name keeps the path it had.
    pub fn path(&self) -> Vec<u8> {
        let mut names: Vec<Box<[u8]>> = Vec::new();
        let mut at = self.clone();
        loop {
            let (parent, own) = (at.parent(), at.dentry.name());
            let mounted = || at.mount.point().map(|point| point.name.clone());
            match parent {
                // A root has no name of its own: it is called what it is mounted at.
                Some(up) => {
                    names.push(if own.is_empty() { mounted().unwrap_or_default() } else { own });
                    at = up;
                }
                None if names.is_empty() && !own.is_empty() => return own.into_vec(),
                None => break,
            }
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }
}

impl core::fmt::Debug for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&alloc::string::String::from_utf8_lossy(&self.path()))
    }
}
