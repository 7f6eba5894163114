//! What the host has open for us: released when nobody needs it any more.

use crate::node::Node;
use crate::ops::data::{OpenNode, REGULAR, Release};
use alloc::sync::Arc;

/// A regular file that the host has open. The open file holds it, and so do dirty pages of its inode until they are
/// written.
///
/// # Locking
/// Dropping the last reference waits for the host.
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    pub(crate) open: OpenNode,
}

impl Handle {
    pub(crate) fn new(node: Arc<Node>, open: OpenNode) -> Self {
        Self { node, open }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // close(2) has had its errors from `flush`; nobody is there for this one.
        let _ = self.node.fs.session.call(&Release::<REGULAR> { file: self.open });
    }
}
