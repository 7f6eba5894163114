//! Deadlines: who is to be woken when, and the one-shot timer behind them.

use super::{Thread, sched};
use crate::arch::lapic;
use crate::time;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use spin::Mutex;

struct Timers {
    /// Sleepers by deadline (monotonic nanoseconds) and a number that makes keys unique.
    sleepers: BTreeMap<(u64, u64), Arc<Thread>>,
    next: u64,
    /// End of the running thread's time slice.
    slice: Option<u64>,
    armed: Option<Armed>,
}

/// What the one-shot timer is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Armed {
    deadline: u64,
    /// From this time on it may have fired: it cannot be set far ahead, and runs by another clock than ours.
    may_fire: u64,
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers { sleepers: BTreeMap::new(), next: 0, slice: None, armed: None });

impl Timers {
    /// Sets the timer for whatever comes first, if that is not what it is set for.
    fn arm(&mut self) {
        let first = self.sleepers.keys().next().map(|(deadline, _)| *deadline);
        let wanted = match (first, self.slice) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if wanted != self.armed.map(|armed| armed.deadline) {
            self.armed = wanted.map(|deadline| {
                let now = time::monotonic_ns();
                let ahead = deadline.saturating_sub(now).min(lapic::MAX_TIMER_NS);
                // The two clocks are told to run alike; they will not differ by more than a part in 128.
                Armed { deadline, may_fire: now + ahead - ahead / 128 }
            });
            lapic::set_timer(wanted.map(|deadline| deadline.saturating_sub(time::monotonic_ns())));
        }
    }
}

/// A place in the list of deadlines.
#[derive(Debug)]
pub struct Key((u64, u64));

/// Has `thread` woken at `deadline`.
pub fn add(deadline: u64, thread: Arc<Thread>) -> Key {
    let mut timers = TIMERS.lock();
    timers.next += 1;
    let key = (deadline, timers.next);
    timers.sleepers.insert(key, thread);
    timers.arm();
    Key(key)
}

/// Takes a deadline back; one that has passed is gone already.
pub fn remove(key: Key) {
    let mut timers = TIMERS.lock();
    if timers.sleepers.remove(&key.0).is_some() {
        timers.arm();
    }
}

/// Limits the running thread to `ns` from now; `None`: it may run on.
pub fn set_slice(ns: Option<u64>) {
    let mut timers = TIMERS.lock();
    let slice = ns.map(|ns| time::monotonic_ns() + ns);
    if slice.is_some() || timers.slice.is_some() {
        timers.slice = slice;
        timers.arm();
    }
}

/// Wakes everybody whose deadline has passed. Returns whether a time slice is over.
pub fn expire(now: u64) -> bool {
    let mut timers = TIMERS.lock();
    // Before that the interrupt was somebody else's, and the timer still runs.
    if timers.armed.is_none_or(|armed| armed.may_fire > now) {
        return false;
    }
    timers.armed = None;
    let slice_over = timers.slice.is_some_and(|end| end <= now);
    if slice_over {
        timers.slice = None;
    }
    while let Some(entry) = timers.sleepers.first_entry() {
        if entry.key().0 > now {
            break;
        }
        let thread = entry.remove();
        sched::wake(&thread);
    }
    timers.arm();
    slice_over
}
