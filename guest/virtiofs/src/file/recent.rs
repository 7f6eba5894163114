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
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::Timespec;

/// One of them. It is a descriptor of the host's, and keeps a file that the host deletes from being freed.
pub(crate) struct Kept {
    pub(crate) handle: Arc<Handle>,
    pub(crate) opened: Opened,
    /// When the inode had last changed.
    pub(crate) changed: Timespec,
}

/// Those of a share, the one used last at the end.
///
/// # Locking
/// Under a spin lock; dropping a [`Kept`] may wait for the host. So all that goes is handed to the caller.
pub(crate) struct Recent {
    files: VecDeque<Kept>,
    most: usize,
}

impl Recent {
    /// None, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self { files: VecDeque::new(), most }
    }

    /// The file of an inode, opened with these flags when the inode had last changed at `changed`.
    pub(crate) fn find(&mut self, node: &Node, flags: u32, changed: Timespec) -> Option<(Arc<Handle>, Opened)> {
        let is_it = |kept: &Kept| {
            kept.handle.node.serial == node.serial && kept.handle.open.flags == flags && kept.changed == changed
        };
        let kept = self.files.iter().position(is_it).and_then(|at| self.files.remove(at))?;
        let found = (kept.handle.clone(), kept.opened);
        self.files.push_back(kept);
        Some(found)
    }

    /// Keeps one more, in place of another of that inode or, at worst, of the one that has not been used for longest.
    pub(crate) fn keep(&mut self, kept: Kept) -> Vec<Kept> {
        let mut gone = self.forget(&kept.handle.node);
        self.files.push_back(kept);
        while self.files.len() > self.most {
            gone.extend(self.files.pop_front());
        }
        gone
    }

    /// Keeps none of an inode.
    pub(crate) fn forget(&mut self, node: &Node) -> Vec<Kept> {
        let (gone, kept) = self.files.drain(..).partition(|kept| kept.handle.node.serial == node.serial);
        self.files = kept;
        Vec::from(gone)
    }

    /// Keeps none.
    #[must_use = "dropping what was kept waits for the host, which no lock may be held for"]
    pub(crate) fn clear(&mut self) -> VecDeque<Kept> {
        core::mem::take(&mut self.files)
    }
}
