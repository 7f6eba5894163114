//! The entries of a directory, by name and by the order in which they came.

use super::node::Node;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

/// Cookies 0 and 1 are `.` and `..`.
const FIRST: u64 = 2;

/// A directory. An entry's cookie is never given to another, so a listing that goes on after a change neither
/// repeats nor skips what stayed.
pub(crate) struct Directory {
    by_name: BTreeMap<Box<[u8]>, (u64, Arc<Node>)>,
    by_cookie: BTreeMap<u64, (Box<[u8]>, Arc<Node>)>,
    next_cookie: u64,
    /// The directory it lies in; for the root of the file system, nothing.
    pub(super) parent: Weak<Node>,
    /// Removed: nothing may be made here any more.
    pub(super) dead: bool,
}

impl Directory {
    pub(super) fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            by_cookie: BTreeMap::new(),
            next_cookie: FIRST,
            parent: Weak::new(),
            dead: false,
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<Arc<Node>> {
        self.by_name.get(name).map(|(_, node)| node.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Adds an entry, or changes what an existing one leads to and returns what it led to before.
    pub(super) fn insert(&mut self, name: &[u8], node: Arc<Node>) -> Option<Arc<Node>> {
        let before = self.remove(name);
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.by_cookie.insert(cookie, (name.into(), node.clone()));
        self.by_name.insert(name.into(), (cookie, node));
        before
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Arc<Node>> {
        let (cookie, node) = self.by_name.remove(name)?;
        self.by_cookie.remove(&cookie);
        Some(node)
    }

    /// The entries from a cookie on (0 is the start), with their own cookies.
    pub(super) fn after(&self, cookie: u64) -> impl Iterator<Item = (u64, Box<[u8]>, Arc<Node>)> {
        self.by_cookie.range(cookie..).map(|(at, (name, node))| (*at, name.clone(), node.clone()))
    }

    /// Takes all nodes out, for the node's own drop.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Arc<Node>> {
        self.by_name.clear();
        core::mem::take(&mut self.by_cookie).into_values().map(|(_, node)| node)
    }
}
