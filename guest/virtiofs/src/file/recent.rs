//! Files that were opened for reading a moment ago, and stay open on the host for the next time.
//!
//! Programs open the same files again and again, mostly to look at them and close them. Each time would be two messages.
//! An open file for reading has no state on the host that tells one from another (offsets are sent with each READ, locks get
//! a file of their own), so all that are open for reading at once, or one after the other, share one. It is used as long as
//! the inode's attributes may be believed without asking, and have the change time that they had: then nothing says that
//! another OPEN might fail or show something else.

use super::Handle;
use crate::node::Node;
use crate::ops::data::Opened;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::Timespec;
use hashbrown::HashMap;

/// One of them. It is a descriptor of the host's, and keeps a file that the host deletes from being freed.
pub(crate) struct Kept {
    pub(crate) handle: Arc<Handle>,
    pub(crate) opened: Opened,
    /// When the inode had last changed.
    pub(crate) changed: Timespec,
}

/// Those of a share, at most one of an inode.
///
/// # Locking
/// Under a spin lock; dropping a [`Kept`] may wait for the host. So all that goes is handed to the caller.
pub(crate) struct Recent {
    /// By the serial numbers of their inodes, with the turn at which each was last used.
    files: HashMap<u64, (u64, Kept)>,
    /// The same by their turns.
    used: BTreeMap<u64, u64>,
    turn: u64,
    most: usize,
}

impl Recent {
    /// None, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { files: HashMap::new(), used: BTreeMap::new(), turn: 0, most }
    }

    /// The file of an inode, opened with these flags when the inode had last changed at `changed`.
    pub(crate) fn find(&mut self, node: &Node, flags: u32, changed: Timespec) -> Option<(Arc<Handle>, Opened)> {
        let (last, kept) = self.files.get_mut(&node.serial)?;
        if kept.handle.open.flags != flags || kept.changed != changed {
            return None;
        }
        self.turn += 1;
        self.used.remove(&core::mem::replace(last, self.turn));
        self.used.insert(self.turn, node.serial);
        Some((kept.handle.clone(), kept.opened))
    }

    /// Keeps one more, in place of another of that inode or, at worst, of the one that has not been used for longest.
    pub(crate) fn keep(&mut self, kept: Kept) -> Vec<Kept> {
        let serial = kept.handle.node.serial;
        self.turn += 1;
        self.used.insert(self.turn, serial);
        let mut gone = Vec::new();
        if let Some((last, kept)) = self.files.insert(serial, (self.turn, kept)) {
            self.used.remove(&last);
            gone.push(kept);
        }
        while self.files.len() > self.most
            && let Some((_, oldest)) = self.used.pop_first()
        {
            gone.extend(self.files.remove(&oldest).map(|(_, kept)| kept));
        }
        gone
    }

    /// Keeps none of an inode.
    pub(crate) fn forget(&mut self, node: &Node) -> Option<Kept> {
        let (last, kept) = self.files.remove(&node.serial)?;
        self.used.remove(&last);
        Some(kept)
    }

    /// Keeps none.
    #[must_use = "dropping what was kept waits for the host, which no lock may be held for"]
    pub(crate) fn clear(&mut self) -> Vec<Kept> {
        self.used.clear();
        core::mem::take(&mut self.files).into_values().map(|(_, kept)| kept).collect()
    }
}
