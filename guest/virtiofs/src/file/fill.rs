//! Filling pages of the cache: READ messages on their way, for which somebody waits or nobody.
//!
//! Whoever misses a page posts a READ for it, together with others for what he is likely to want next, and waits for his
//! own. The others land while he is busy with that, in whatever thread looks at the device then. Their pages are reserved
//! meanwhile: who comes to one waits for it, and who changes the file sees to it that what lands does not count.

use super::OpenFile;
use crate::PAGE;
use crate::counters::Tally;
use crate::node::Node;
use crate::ops::data::Read;
use crate::posted::Landing;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicUsize, Ordering};
use diolkos_pages::Loading;
use diolkos_vfs::Result;
use spin::Mutex;

/// READs on their way of a mount that nobody waits for, at most: their pages cannot be taken away meanwhile.
const MOST_UNWAITED: usize = 6;

/// What a READ brought, once that is known.
pub(super) type Outcome = Arc<Mutex<Option<Result<usize>>>>;

/// READs on their way, as they are counted.
#[derive(Debug, Default, Clone)]
pub(crate) struct Underway(Arc<AtomicUsize>);

impl Underway {
    /// Whether there are none.
    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }

    fn one_more(&self) -> Self {
        self.0.fetch_add(1, Ordering::AcqRel);
        self.clone()
    }

    fn one_less(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One READ, from its posting to its landing.
pub(super) struct Fill {
    node: Arc<Node>,
    start: u64,
    /// How long the file was when it was asked.
    size: u64,
    /// Pages that somebody has asked for.
    wanted: u64,
    loading: Loading,
    outcome: Outcome,
    of_mount: Underway,
    of_handle: Underway,
}

impl OpenFile {
    /// Whether READs may be posted that nobody waits for.
    pub(super) fn has_room_for_fills(&self) -> bool {
        self.node.fs.fills.0.load(Ordering::Relaxed) < MOST_UNWAITED
    }

    /// A READ that fills reserved pages, from number `first` on, `wanted` of which somebody has asked for.
    pub(super) fn fill(&self, first: u64, wanted: u64, mut loading: Loading) -> (Read, Box<Fill>) {
        let start = first * PAGE;
        let read = Read { file: self.open, offset: start, size: loading.bytes().len() as u32 };
        let fill = Fill {
            node: self.node.clone(),
            start,
            size: self.node.last_known().size,
            wanted,
            loading,
            outcome: Outcome::default(),
            of_mount: self.node.fs.fills.one_more(),
            of_handle: self.handle.underway.one_more(),
        };
        (read, Box::new(fill))
    }
}

impl Fill {
    /// Where its outcome will be.
    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.clone()
    }

    /// Bytes that the file has here, if it is as long as it was said to be.
    pub(super) fn expected(&mut self) -> u64 {
        self.size.saturating_sub(self.start).min(self.loading.bytes().len() as u64)
    }

    /// Puts `n` bytes that came at the program's disposal: as pages, if the file is what it was said to be.
    fn keep(mut self, n: usize) {
        let (expected, memory) = (self.expected(), self.loading.bytes());
        let ended = n < memory.len();
        memory[n..].fill(0);
        let counters = &self.node.fs.session.counters;
        counters.add(Tally::MessageRead, n as u64);
        if ended && self.start + n as u64 != self.node.last_known().size {
            self.node.expire();
        }
        if n == 0 || (n as u64) < expected {
            return;
        }
        let valid = (n as u64).div_ceil(PAGE);
        counters.add(Tally::PagesRead, valid);
        counters.add(Tally::PagesAhead, valid.saturating_sub(self.wanted));
        let Self { loading, .. } = self;
        loading.publish(valid);
    }
}

impl Landing for Fill {
    fn memory(&mut self) -> &mut [u8] {
        self.loading.bytes()
    }

    fn landed(self: Box<Self>, result: Result<usize>) {
        let (outcome, of_mount, of_handle) = (self.outcome.clone(), self.of_mount.clone(), self.of_handle.clone());
        match result {
            Ok(n) => (*self).keep(n),
            Err(_) => drop(self),
        }
        // Last, since whoever waits for this goes on, and may let go of the file.
        *outcome.lock() = Some(result);
        of_mount.one_less();
        of_handle.one_less();
    }
}
