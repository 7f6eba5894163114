//! Deadlines: who is to be woken when, and the one-shot timers behind them, one a processor.

use super::{Thread, sched};
use crate::arch::lapic;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::time;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use spin::Mutex;

struct Timers {
    /// Sleepers by deadline (monotonic nanoseconds) and a number that makes keys unique.
    sleepers: BTreeMap<(u64, u64), Arc<Thread>>,
    next: u64,
    /// The processor whose timer wakes the first sleeper, and when.
    watch: Option<(usize, u64)>,
    processors: [Processor; MAX_CPUS],
}

/// A processor's own timer.
struct Processor {
    /// End of the running thread's time slice.
    slice: Option<u64>,
    armed: Option<Armed>,
}

/// What a one-shot timer is set for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Armed {
    deadline: u64,
    /// From this time on it may have fired: it cannot be set far ahead, and runs by another clock than ours.
    may_fire: u64,
}

static TIMERS: Mutex<Timers> = Mutex::new(Timers {
    sleepers: BTreeMap::new(),
    next: 0,
    watch: None,
    processors: [const { Processor { slice: None, armed: None } }; MAX_CPUS],
});

/// [`Armed::may_fire`] of each processor's timer, to be read by it without the kernel lock.
static MAY_FIRE: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(u64::MAX) }; MAX_CPUS];

impl Timers {
    /// Sets this processor's timer for whatever comes first, if that is not what it is set for: the end of its slice, or
    /// the first sleeper unless another processor's timer wakes that one.
    fn arm(&mut self) {
        let own = percpu::cpu();
        let first = self.sleepers.keys().next().map(|(deadline, _)| *deadline);
        let first = first.filter(|first| self.watch.is_none_or(|(cpu, when)| cpu == own || *first < when));
        if first.is_some() || self.watch.is_some_and(|(cpu, _)| cpu == own) {
            self.watch = first.map(|first| (own, first));
        }
        let processor = &mut self.processors[own];
        let wanted = match (first, processor.slice) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if wanted != processor.armed.map(|armed| armed.deadline) {
            processor.armed = wanted.map(|deadline| {
                let now = time::monotonic_ns();
                let ahead = deadline.saturating_sub(now).min(lapic::MAX_TIMER_NS);
                // The two clocks are told to run alike; they will not differ by more than a part in 128.
                Armed { deadline, may_fire: now + ahead - ahead / 128 }
            });
            MAY_FIRE[own].store(processor.armed.map_or(u64::MAX, |armed| armed.may_fire), Ordering::Relaxed);
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

/// Limits the thread that runs on this processor to `ns` from now; `None`: it may run on.
pub fn set_slice(ns: Option<u64>) {
    let mut timers = TIMERS.lock();
    let slice = ns.map(|ns| time::monotonic_ns() + ns);
    let old = &mut timers.processors[percpu::cpu()].slice;
    if slice.is_some() || old.is_some() {
        *old = slice;
        timers.arm();
    }
}

/// Whether the thread that runs on `cpu` has a time slice.
pub fn has_slice(cpu: usize) -> bool {
    TIMERS.lock().processors[cpu].slice.is_some()
}

/// Whether this processor's timer may have fired. Needs no lock.
pub fn may_have_fired() -> bool {
    MAY_FIRE[percpu::cpu()].load(Ordering::Relaxed) <= time::monotonic_ns()
}

/// Wakes everybody whose deadline has passed. Returns whether this processor's time slice is over.
pub fn expire(now: u64) -> bool {
    let own = percpu::cpu();
    let mut timers = TIMERS.lock();
    let processor = &mut timers.processors[own];
    // Before that the interrupt was somebody else's, and the timer still runs.
    if processor.armed.is_none_or(|armed| armed.may_fire > now) {
        return false;
    }
    processor.armed = None;
    let slice_over = processor.slice.is_some_and(|end| end <= now);
    if slice_over {
        processor.slice = None;
    }
    if timers.watch.is_some_and(|(cpu, _)| cpu == own) {
        timers.watch = None;
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
