//! What the host has open for us: released when nobody needs it any more.

use super::fill::Underway;
use crate::node::Node;
use crate::ops::data::{Open, OpenNode, Opened, REGULAR, Release};
use alloc::sync::Arc;
use diolkos_vfs::Result;

/// A regular file that the host has open. The open file holds it, and so do dirty pages of its inode until they are
/// written.
///
/// # Locking
/// Dropping the last reference waits for the host.
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    pub(crate) open: OpenNode,
    /// READs that nobody waits for.
    pub(super) underway: Underway,
}

impl Handle {
    /// One that the host has opened already.
    pub(crate) fn new(node: Arc<Node>, open: OpenNode) -> Self {
        Self { node, open, underway: Underway::default() }
    }

    /// Has the host open a file with `flags`.
    ///
    /// # Errors
    /// What the host says.
    pub(crate) fn open(node: &Arc<Node>, flags: u32) -> Result<(Arc<Self>, Opened)> {
        let request = Open::<REGULAR> { node: node.id, flags };
        let opened = node.heed(node.fs.with_descriptors(|| node.fs.session.call(&request)))?;
        let open = OpenNode { node: node.id, handle: opened.handle, flags };
        Ok((Arc::new(Self::new(node.clone(), open)), opened))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The host would not know any more what they are about.
        self.node.fs.session.wait_for(&|| self.underway.is_none());
        // close(2) has had its errors from `flush`; nobody is there for this one.
        let _ = self.node.fs.session.call(&Release::<REGULAR> { file: self.open });
    }
}
