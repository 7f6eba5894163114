//! How many descriptors guests may make the process hold.
//!
//! Every node a guest knows costs one, and so does every file it opens. They come out of one pool for all shares of the
//! process, which is what the user may open less a reserve for the process itself: a guest that takes all there are gets
//! `ENFILE`, and the machine goes on working.

use crate::worker::{borrow, eventfd};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Descriptors kept for the process itself: KVM, doorbells and interrupts of every device, threads' signals, and what
/// serving one request opens for a moment.
const RESERVE: usize = 256;
/// Most there can be, whatever the user may open: each costs the host some hundred bytes that it cannot swap.
const MOST: usize = 1 << 20;
/// Descriptors that the kernel's table of them has room for from the start: twice the names that a guest keeps of a share.
const ROOM: usize = 16 << 10;

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

    /// The process' own. Makes use of all the user may open. The first call is quick as long as the process has one thread.
    pub fn of_process() -> Arc<Self> {
        static POOL: OnceLock<Arc<Descriptors>> = OnceLock::new();
        let make = || {
            let limit = raise_limit();
            make_room(limit);
            Self::new(for_guests(limit))
        };
        POOL.get_or_init(make).clone()
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

/// Has the kernel make its table of descriptors large now. It doubles the table whenever that is full; but where several
/// threads share one, it first waits until no processor uses the old one any more (`expand_fdtable` in fs/file.c), and the
/// open(2) of a guest's request would take 5 to 40 ms.
fn make_room(limit: usize) {
    let highest = limit.min(ROOM).saturating_sub(1) as i32; // at most 2^14
    if let Err(error) = eventfd().and_then(|any| Ok(fcntl_dupfd_cloexec(borrow(&any), highest)?)) {
        tracing::debug!("no room for {highest} descriptors: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_room_from_the_start() {
        let _ = Descriptors::of_process();
        let limit = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("FDSize:")).unwrap();
        assert!(line.trim().parse::<usize>().unwrap() >= limit.min(ROOM), "{line}");
    }

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
