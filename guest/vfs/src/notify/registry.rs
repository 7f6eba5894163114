//! Who watches which inode.
//!
//! # Locking
//! The lock here guards the map only: watches are taken out of it before they are told, since telling takes an
//! instance's lock, and dropped after it, since a watch may be the last to hold an inode.

use super::Events;
use super::instance::Watch;
use crate::InodeId;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};
use spin::Mutex;

static WATCHES: Mutex<BTreeMap<InodeId, Vec<Arc<Watch>>>> = Mutex::new(BTreeMap::new());
/// How many there are, for who wants to know without the lock.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What is told.
pub(super) struct Told<'a> {
    pub(super) what: Events,
    /// Which name of the directory that is told, if it is about one.
    pub(super) name: Option<&'a [u8]>,
    pub(super) cookie: u32,
    /// The file's name has been taken away, and it is used all the same.
    pub(super) unlinked: bool,
}

pub(super) fn count() -> usize {
    COUNT.load(Ordering::Relaxed)
}

pub(super) fn any() -> bool {
    count() > 0
}

pub(super) fn add(id: InodeId, watch: Arc<Watch>) {
    WATCHES.lock().entry(id).or_default().push(watch);
    COUNT.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn remove(id: InodeId, watch: &Arc<Watch>) {
    let mut watches = WATCHES.lock();
    let Some(list) = watches.get_mut(&id) else { return };
    let Some(place) = list.iter().position(|other| Arc::ptr_eq(other, watch)) else { return };
    // The caller has another reference: nothing is dropped for good here.
    list.remove(place);
    if list.is_empty() {
        watches.remove(&id);
    }
    COUNT.fetch_sub(1, Ordering::Relaxed);
}

fn of(id: InodeId) -> Vec<Arc<Watch>> {
    if !any() {
        return Vec::new();
    }
    WATCHES.lock().get(&id).cloned().unwrap_or_default()
}

/// Tells everybody who watches this inode.
pub(super) fn tell(id: InodeId, told: &Told<'_>) {
    for watch in of(id) {
        watch.tell(told);
    }
}

/// The inode is gone, and all watches of it with it.
pub(super) fn forget(id: InodeId) {
    for watch in of(id) {
        watch.end();
    }
}

/// Whether anybody watches this inode.
#[cfg(test)]
pub(super) fn watches(id: InodeId) -> bool {
    !of(id).is_empty()
}
