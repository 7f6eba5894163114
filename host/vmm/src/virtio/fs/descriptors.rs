//! How many descriptors guests may make the process hold.
//!
//! Every node a guest knows costs one, and so does every file it opens. They come out of one pool for all shares of the
//! process, which is what the user may open less a reserve for the process itself: a guest that takes all there are gets
//! `ENFILE`, and the machine goes on working.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Descriptors kept for the process itself: KVM, doorbells and interrupts of every device, threads' signals, and what
/// serving one request opens for a moment.
const RESERVE: usize = 256;
/// Most there can be, whatever the user may open: each costs the host some hundred bytes that it cannot swap.
const MOST: usize = 1 << 20;

/// A pool.
#[derive(Debug)]
pub struct Descriptors {
    limit: usize,
    used: AtomicUsize,
}

/// The right to hold one descriptor. Dropping it gives it back; do that when the descriptor is closed.
#[derive(Debug)]
pub struct Token(Arc<Descriptors>);

impl Descriptors {
    /// A pool of `limit`.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }

    /// The process' own. Makes use of all the user may open.
    pub fn of_process() -> Arc<Self> {
        static POOL: OnceLock<Arc<Descriptors>> = OnceLock::new();
        POOL.get_or_init(|| Self::new(for_guests(raise_limit()))).clone()
    }

    /// Takes one, if there is one left.
    pub fn take(self: &Arc<Self>) -> Option<Token> {
        let more = |used| (used < self.limit).then_some(used + 1);
        self.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok().map(|_| Token(self.clone()))
    }

    /// How many are taken.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What guests get of a limit. Where it is tiny they still get a part, or nothing would run.
fn for_guests(limit: usize) -> usize {
    limit.saturating_sub(RESERVE).max(limit / 4).min(MOST)
}

/// Raises the soft limit of open files to the hard one, and returns what holds then.
fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if limit.current != limit.maximum && setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit of open files stays at {:?}", limit.current);
    }
    // None means that there is no limit.
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_gives_what_it_has_and_takes_it_back() {
        let pool = Descriptors::new(2);
        let (one, two) = (pool.take(), pool.take());
        assert!(one.is_some() && two.is_some() && pool.take().is_none());
        drop(one);
        assert_eq!(pool.used(), 1);
        assert!(pool.take().is_some());
    }

    #[test]
    fn the_process_keeps_some_for_itself() {
        assert_eq!(for_guests(1024), 768);
        assert_eq!(for_guests(100), 25);
        assert_eq!(for_guests(usize::MAX), MOST);
    }
}
