//! The names of a directory that differ from the lower directory's.

use super::node::Node;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Cookies 0 and 1 are `.` and `..`.
pub(super) const FIRST: u64 = 2;

/// What a name leads to that is in a table.
#[derive(Clone)]
pub(super) struct Entry {
    /// `None`: the lower's name is gone.
    pub(super) node: Option<Arc<Node>>,
    /// The lower has this name too, as far as we know.
    pub(super) hides: bool,
    /// Its place in the listing.
    pub(super) cookie: u64,
}

/// The names. A cookie is never given twice.
pub(super) struct Table {
    by_name: BTreeMap<Box<[u8]>, Entry>,
    by_cookie: BTreeMap<u64, Box<[u8]>>,
    next_cookie: u64,
    /// How many of the names lead somewhere.
    present: usize,
    /// Changes with every change here: tells a lookup that waited for the lower whether its answer still counts.
    pub(super) changes: u64,
    /// Removed: nothing may be made here any more.
    pub(super) dead: bool,
}

/// What a name led to, at some moment.
pub(super) struct Found {
    /// The node, if there is one.
    pub(super) node: Option<Arc<Node>>,
    /// It was in the table.
    pub(super) named: bool,
    /// The lower has the name, so that taking it away leaves a mark.
    pub(super) below: bool,
}

impl Table {
    pub(super) fn new() -> Self {
        Self {
            by_name: BTreeMap::new(),
            by_cookie: BTreeMap::new(),
            next_cookie: FIRST,
            present: 0,
            changes: 0,
            dead: false,
        }
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Entry> {
        self.by_name.get(name)
    }

    /// Whether `found` still tells the truth about what is here.
    pub(super) fn agrees(&self, name: &[u8], found: &Found) -> bool {
        match (self.get(name), &found.node) {
            (None, _) => !found.named,
            (Some(Entry { node: Some(node), .. }), Some(other)) => found.named && Arc::ptr_eq(node, other),
            (Some(Entry { node: None, .. }), None) => found.named,
            _ => false,
        }
    }

    /// Number of names that lead somewhere.
    pub(super) fn present(&self) -> usize {
        self.present
    }

    /// Sets what a name leads to and returns what it led to before.
    pub(super) fn set(&mut self, name: &[u8], node: Option<Arc<Node>>, hides: bool) -> Option<Arc<Node>> {
        self.changes += 1;
        self.present += usize::from(node.is_some());
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.hides = hides;
            let before = core::mem::replace(&mut entry.node, node);
            self.present -= usize::from(before.is_some());
            return before;
        }
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.by_cookie.insert(cookie, name.into());
        self.by_name.insert(name.into(), Entry { node, hides, cookie });
        None
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<Entry> {
        self.changes += 1;
        let entry = self.by_name.remove(name)?;
        self.by_cookie.remove(&entry.cookie);
        self.present -= usize::from(entry.node.is_some());
        Some(entry)
    }

    /// The lower has the name now, or has lost it.
    pub(super) fn set_hides(&mut self, name: &[u8], hides: bool) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.hides = hides;
        }
    }

    /// The next `most` names from a cookie on that lead somewhere.
    pub(super) fn after(&self, cookie: u64, most: usize) -> Vec<(Box<[u8]>, Entry)> {
        let entries = self.by_cookie.range(cookie..).filter_map(|(_, name)| Some((name, self.by_name.get(name)?)));
        let present = entries.filter(|(_, entry)| entry.node.is_some());
        present.take(most).map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }
}
