//! The attribute cache of one inode.
//!
//! The hard idea is order. Replies may overtake each other, and a reply sent before a change of ours may arrive after
//! it. Every request and every change has a stamp ([`crate::session::Session::stamp`]); what is cached carries the
//! stamp it is from, and only a later one replaces it. So a late reply never undoes a newer one.

use crate::ops::Validity;
use crate::ops::attr::TimedAttributes;
use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::Metadata;

/// When something stops being believed, in [`crate::Platform::now_ns`]'s time.
pub(crate) fn deadline(mode: CacheMode, now: u64, valid: Validity) -> u64 {
    match mode {
        CacheMode::None => 0,
        CacheMode::Auto => now.saturating_add(valid.as_nanos()),
        CacheMode::Always => u64::MAX,
    }
}

/// Whether a deadline still lies ahead. 0 never does, `u64::MAX` always.
pub(crate) fn believed(deadline: u64, now: u64) -> bool {
    deadline == u64::MAX || now < deadline
}

/// What is known of an inode's attributes.
#[derive(Debug)]
pub(crate) struct AttrCache {
    metadata: Metadata,
    deadline: u64,
    /// We changed something that shows in the times or the link count, but not in the size.
    outdated: bool,
    stamp: u64,
    /// The stamp of the request that brought the size. Our own changes do not make it later.
    asked: u64,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Update {
    /// Something newer was there already.
    Late,
    /// It is in, and tells nothing new of the content.
    Taken,
    /// It is in, and the content is another: size or modification time differ.
    Changed,
    /// It is in, and the file is shorter than it was.
    Shrunk,
}

impl AttrCache {
    pub(crate) fn new(first: &TimedAttributes, dev: u64, deadline: u64, stamp: u64) -> Self {
        let metadata = Metadata { dev, ..first.attributes.metadata };
        Self { metadata, deadline, outdated: false, stamp, asked: stamp }
    }

    /// Takes the attributes of a reply whose request got `stamp`.
    pub(crate) fn update(&mut self, new: &TimedAttributes, deadline: u64, stamp: u64) -> Update {
        if stamp <= self.stamp {
            return Update::Late;
        }
        let old = self.metadata;
        self.metadata = Metadata { dev: old.dev, ..new.attributes.metadata };
        (self.deadline, self.outdated, self.stamp, self.asked) = (deadline, false, stamp, stamp);
        match () {
            () if self.metadata.size < old.size => Update::Shrunk,
            () if (self.metadata.size, self.metadata.mtime) != (old.size, old.mtime) => Update::Changed,
            () => Update::Taken,
        }
    }

    /// We wrote up to `end`, and the host confirmed it before the moment `stamp`.
    pub(crate) fn wrote(&mut self, end: u64, stamp: u64) {
        self.metadata.size = self.metadata.size.max(end);
        self.touched(stamp);
    }

    /// We cut or stretched it to `size`, before the moment `stamp`.
    pub(crate) fn resized(&mut self, size: u64, stamp: u64) {
        self.metadata.size = size;
        self.touched(stamp);
    }

    /// We did something that changes times or link counts, before the moment `stamp`.
    pub(crate) fn touched(&mut self, stamp: u64) {
        self.outdated = true;
        self.stamp = self.stamp.max(stamp);
    }

    /// The host is to be asked next time.
    pub(crate) fn expire(&mut self) {
        self.deadline = 0;
    }

    /// Everything, if it may still be believed: nothing is that was asked for before the moment `since`.
    pub(crate) fn fresh(&self, now: u64, since: u64) -> Option<Metadata> {
        self.fresh_size(now, since).filter(|_| !self.outdated).map(|_| self.metadata)
    }

    /// The size, if it may still be believed. Our own writes do not make it doubtful.
    pub(crate) fn fresh_size(&self, now: u64, since: u64) -> Option<u64> {
        (self.asked > since && believed(self.deadline, now)).then_some(self.metadata.size)
    }

    /// What was last heard, believed or not.
    pub(crate) fn last(&self) -> &Metadata {
        &self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::attr::Attributes;
    use fuse_abi::linux::fuse_attr;

    fn sized(size: u64) -> TimedAttributes {
        let attr = fuse_attr { mode: 0o100644, size, ..Default::default() };
        TimedAttributes { attributes: Attributes::parse(&attr).unwrap(), valid: Validity::new(1, 0) }
    }

    #[test]
    fn a_late_reply_undoes_nothing() {
        let mut cache = AttrCache::new(&sized(10), 7, 100, 2);
        assert_eq!(cache.update(&sized(30), 200, 8), Update::Changed);
        assert_eq!(cache.update(&sized(30), 200, 9), Update::Taken);
        assert_eq!(cache.update(&sized(20), 300, 6), Update::Late);
        assert_eq!((cache.last().size, cache.last().dev), (30, 7));
        cache.wrote(40, 12);
        assert_eq!(cache.update(&sized(30), 300, 10), Update::Late, "asked before the write was confirmed");
        assert_eq!(cache.last().size, 40);
        assert_eq!(cache.update(&sized(5), 300, 14), Update::Shrunk);
    }

    #[test]
    fn writes_leave_the_size_certain_and_the_times_not() {
        let mut cache = AttrCache::new(&sized(10), 7, 100, 2);
        cache.wrote(12, 4);
        assert_eq!((cache.fresh(50, 0), cache.fresh_size(50, 0)), (None, Some(12)));
        assert_eq!(cache.fresh_size(100, 0), None);
    }

    #[test]
    fn nothing_asked_for_before_a_loss_is_believed() {
        let mut cache = AttrCache::new(&sized(10), 7, u64::MAX, 2);
        assert!(cache.fresh(50, 1).is_some());
        cache.wrote(12, 6);
        assert_eq!((cache.fresh_size(50, 1), cache.fresh_size(50, 4)), (Some(12), None), "our own write is no news");
        cache.update(&sized(5), u64::MAX, 8);
        assert_eq!(cache.fresh(50, 4).map(|known| known.size), Some(5));
    }

    #[test]
    fn deadlines_follow_the_mode_and_do_not_overflow() {
        let valid = Validity::new(u64::MAX, u32::MAX);
        assert_eq!(deadline(CacheMode::Auto, 5, valid), u64::MAX);
        assert_eq!(deadline(CacheMode::Auto, 5, Validity::new(1, 1)), 1_000_000_006);
        assert!(!believed(deadline(CacheMode::None, 5, valid), 0));
        assert!(believed(deadline(CacheMode::Always, 5, Validity::new(0, 0)), u64::MAX));
        assert!(!believed(deadline(CacheMode::Auto, 5, Validity::new(0, 0)), 5));
    }
}
