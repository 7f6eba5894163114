//! The dentry cache: which name in which directory led where, or nowhere, until when.
//!
//! Its size is fixed: every positive entry keeps an inode, and with it a file open on the host. A clock hand
//! finds the one to go. The cache drops nothing itself: what falls out is handed back, because dropping the last
//! reference to an inode talks to the host, and the cache's lock is a spin lock.

use crate::attrs::believed;
use crate::neighbours::Luck;
use crate::node::Node;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::BuildHasher;
use diolkos_vfs::Name;
use hashbrown::{DefaultHashBuilder, HashTable};

/// What a name leads to.
#[derive(Clone)]
pub(crate) enum Target {
    /// An inode.
    Node(Arc<Node>),
    /// Nothing.
    Nothing,
}

/// How a name was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody wanted it.
    Asked,
    /// It came in a listing.
    Listed,
}

struct Dentry {
    dir: u64,
    name: Box<[u8]>,
    target: Target,
    deadline: u64,
    used: bool,
    /// It came in a listing and nobody has wanted it yet.
    ahead: bool,
}

/// The cache. Directories are known by their inode's serial number.
pub(crate) struct Dentries {
    slots: Vec<Option<Dentry>>,
    free: Vec<usize>,
    places: HashTable<usize>,
    hasher: DefaultHashBuilder,
    hand: usize,
    capacity: usize,
    pub(crate) luck: Luck,
}

impl Dentries {
    /// A cache of up to `capacity` names, at least 1.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            hand: 0,
            capacity: capacity.max(1),
            luck: Luck::default(),
        }
    }

    fn place(&self, dir: u64, name: Name<'_>) -> Option<usize> {
        let name = name.as_bytes();
        let same = |slot: &usize| self.slots[*slot].as_ref().is_some_and(|d| d.dir == dir && *d.name == *name);
        self.places.find(self.hasher.hash_one((dir, name)), same).copied()
    }

    /// What a name leads to, if that may still be believed.
    pub(crate) fn get(&mut self, dir: u64, name: Name<'_>, now: u64) -> Option<Target> {
        let slot = self.place(dir, name)?;
        let dentry = self.slots[slot].as_mut()?;
        dentry.used = true;
        if !believed(dentry.deadline, now) {
            return None;
        }
        if core::mem::take(&mut dentry.ahead) {
            self.luck.used();
        }
        Some(dentry.target.clone())
    }

    /// Notes what a name leads to. What had to go for it is returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn insert(
        &mut self,
        dir: u64,
        name: Name<'_>,
        target: Target,
        deadline: u64,
        source: Source,
    ) -> Option<Target> {
        if let Some(dentry) = self.place(dir, name).and_then(|slot| self.slots[slot].as_mut()) {
            (dentry.deadline, dentry.used) = (deadline, true);
            return Some(core::mem::replace(&mut dentry.target, target));
        }
        let (slot, evicted) = match self.free.pop() {
            Some(slot) => (slot, None),
            None if self.slots.len() < self.capacity => {
                self.slots.push(None);
                (self.slots.len() - 1, None)
            }
            None => {
                let slot = self.victim();
                (slot, self.take(slot).map(|dentry| dentry.target))
            }
        };
        let name: Box<[u8]> = name.as_bytes().into();
        let hash = self.hasher.hash_one((dir, &*name));
        let ahead = source == Source::Listed;
        if ahead {
            self.luck.listed();
        }
        // New names get no second chance before they are used: a listing of a large directory must not
        // push out the names in use. But if what is listed is looked at, these are about to be.
        let used = ahead && self.luck.lasts();
        self.slots[slot] = Some(Dentry { dir, name, target, deadline, used, ahead });
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.places.insert_unique(hash, slot, |slot| match &slots[*slot] {
            Some(dentry) => hasher.hash_one((dentry.dir, &*dentry.name)),
            None => 0,
        });
        evicted
    }

    /// Finds the slot to empty. All are taken, so at most one round spends every second chance.
    fn victim(&mut self) -> usize {
        loop {
            let slot = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            match &mut self.slots[slot] {
                Some(dentry) if dentry.used => dentry.used = false,
                _ => return slot,
            }
        }
    }

    fn take(&mut self, slot: usize) -> Option<Dentry> {
        let dentry = self.slots[slot].take()?;
        let hash = self.hasher.hash_one((dentry.dir, &*dentry.name));
        if let Ok(found) = self.places.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        Some(dentry)
    }

    /// Forgets a name. What it led to, and until when, is returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn remove(&mut self, dir: u64, name: Name<'_>) -> Option<(Target, u64)> {
        let slot = self.place(dir, name)?;
        self.free.push(slot);
        self.take(slot).map(|dentry| (dentry.target, dentry.deadline))
    }

    /// Forgets all names of a directory; the targets are returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn remove_all(&mut self, dir: u64) -> Vec<Target> {
        let slots = (0..self.slots.len()).filter(|slot| self.slots[*slot].as_ref().is_some_and(|d| d.dir == dir));
        let slots: Vec<usize> = slots.collect();
        self.free.extend_from_slice(&slots);
        slots.into_iter().filter_map(|slot| self.take(slot)).map(|dentry| dentry.target).collect()
    }

    /// Forgets everything; the targets are returned, to be dropped without the lock.
    #[must_use]
    pub(crate) fn clear(&mut self) -> Vec<Target> {
        let all = self.slots.drain(..).flatten().map(|dentry| dentry.target).collect();
        self.free.clear();
        self.places.clear();
        self.hand = 0;
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    fn found(cache: &mut Dentries, dir: u64, name: &str) -> bool {
        cache.get(dir, Name::new(name.as_bytes()).unwrap(), 0).is_some()
    }

    fn add(cache: &mut Dentries, dir: u64, name: &str) {
        drop(cache.insert(dir, Name::new(name.as_bytes()).unwrap(), Target::Nothing, u64::MAX, Source::Asked));
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut cache = Dentries::new(8);
        add(&mut cache, 1, "hot");
        for i in 0..1000 {
            assert!(found(&mut cache, 1, "hot"));
            add(&mut cache, 1, &format!("cold{i}"));
        }
        assert!(found(&mut cache, 1, "hot") && !found(&mut cache, 1, "cold0"));
        assert_eq!(cache.slots.len(), 8);
        assert_eq!(cache.places.len(), 8);
    }

    #[test]
    fn names_belong_to_their_directory_and_their_time() {
        let mut cache = Dentries::new(8);
        let name = Name::new(b"a").unwrap();
        assert!(cache.insert(1, name, Target::Nothing, 100, Source::Asked).is_none());
        assert!(cache.get(1, name, 99).is_some() && cache.get(1, name, 100).is_none());
        assert!(cache.get(2, name, 0).is_none());
        assert!(cache.remove(1, name).is_some() && cache.get(1, name, 0).is_none());
        for i in 0..50 {
            add(&mut cache, i, "b");
            assert!(cache.remove(i, Name::new(b"b").unwrap()).is_some());
        }
        assert!(cache.slots.len() <= 8);
        ["a", "b", "c"].iter().for_each(|name| add(&mut cache, 1, name));
        add(&mut cache, 2, "a");
        assert_eq!(cache.remove_all(1).len(), 3);
        assert!(!found(&mut cache, 1, "a") && found(&mut cache, 2, "a"));
        ["a", "b", "c", "d", "e", "f", "g"].iter().for_each(|name| add(&mut cache, 1, name));
        assert!(found(&mut cache, 2, "a") && cache.slots.len() == 8);
        assert_eq!(cache.clear().len(), 8);
    }
}
