//! The timer as a file, of timerfd_create(2): readable when it has expired, and a read says how often.
//!
//! Expirations are not counted as they happen but worked out when somebody asks. Only who waits in poll(2) or epoll(7)
//! has to be woken: one kernel thread sleeps to the earliest deadline of all timers and rings their bell.

use super::anon::AnonInode;
use super::readiness;
use crate::task::{self, WaitQueue};
use crate::time;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, File, Inode, Poll, Result, Sink};
use spin::Mutex;

/// The shortest wait for an expiration, in nanoseconds. What is missed meanwhile is counted.
const SHORTEST: u64 = 20_000;

/// When a timer expires, in monotonic nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Schedule {
    /// The next expiration nobody has read; `None` when it is not armed.
    next: Option<u64>,
    /// Time between expirations; 0 for once.
    interval: u64,
}

impl Schedule {
    /// How often it has expired by `now` since the last read.
    fn expired(&self, now: u64) -> u64 {
        match self.next {
            Some(next) if next <= now => {
                (now - next).checked_div(self.interval).map_or(1, |more| more.saturating_add(1))
            }
            _ => 0,
        }
    }

    /// Takes `count` expirations as read.
    fn advance(&mut self, count: u64) {
        self.next = match self.next {
            Some(next) if self.interval > 0 => Some(next.saturating_add(self.interval.saturating_mul(count))),
            _ => None,
        };
    }
}

/// A timer.
pub struct TimerFd {
    inode: Arc<dyn Inode>,
    schedule: Mutex<Schedule>,
    /// Whether absolute times are of the wall clock.
    wall: bool,
    nonblocking: AtomicBool,
}

static TIMERS: Mutex<Vec<Weak<TimerFd>>> = Mutex::new(Vec::new());
static RESCHEDULED: WaitQueue = WaitQueue::new();
static CHANGED: AtomicBool = AtomicBool::new(false);
static SERVED: AtomicBool = AtomicBool::new(false);

impl TimerFd {
    /// A timer that is not armed, whose absolute times are of the wall clock or the monotonic one.
    ///
    /// # Errors
    /// `ENOMEM` when the thread that serves timers cannot be started.
    pub fn new(wall: bool) -> Result<Arc<Self>> {
        if !SERVED.swap(true, Ordering::SeqCst) {
            task::spawn(None, None, Box::new(serve)).inspect_err(|_| SERVED.store(false, Ordering::SeqCst))?;
        }
        let timer = Arc::new(Self {
            inode: AnonInode::new(0o600, 0),
            schedule: Mutex::default(),
            wall,
            nonblocking: AtomicBool::new(false),
        });
        let mut timers = TIMERS.lock();
        timers.retain(|timer| timer.strong_count() > 0);
        timers.push(Arc::downgrade(&timer));
        drop(timers);
        Ok(timer)
    }

    /// Arms it for `next` (monotonic nanoseconds; `None` disarms) and then every `interval` nanoseconds. Returns the time
    /// left and the interval that were in force.
    pub fn set(&self, next: Option<u64>, interval: u64) -> (u64, u64) {
        let before = self.state();
        *self.schedule.lock() = Schedule { next, interval };
        CHANGED.store(true, Ordering::SeqCst);
        RESCHEDULED.wake_all();
        readiness::changed();
        before
    }

    /// The time left to the next expiration (0 when it is not armed) and the interval.
    pub fn state(&self) -> (u64, u64) {
        let now = time::monotonic_ns();
        let mut schedule = *self.schedule.lock();
        schedule.advance_past(now);
        (schedule.next.map_or(0, |next| next.saturating_sub(now)), schedule.interval)
    }

    /// Whether absolute times are of the wall clock.
    pub fn is_wall(&self) -> bool {
        self.wall
    }

    /// When somebody who waits has to be woken: the next expiration that is still to come.
    fn alarm(&self, now: u64) -> Option<u64> {
        let mut schedule = *self.schedule.lock();
        schedule.advance_past(now);
        schedule.next
    }
}

impl Schedule {
    fn advance_past(&mut self, now: u64) {
        let expired = self.expired(now);
        if expired > 0 {
            self.advance(expired);
        }
    }
}

/// The thread that wakes who polls timers.
fn serve() {
    loop {
        let timers: Vec<_> = TIMERS.lock().iter().filter_map(Weak::upgrade).collect();
        let now = time::monotonic_ns();
        // An interval that is shorter than a look takes would leave the processor to nobody else.
        let next = timers.iter().filter_map(|timer| timer.alarm(now)).min().map(|next| next.max(now + SHORTEST));
        drop(timers);
        let woken = RESCHEDULED.wait_until(&mut || CHANGED.swap(false, Ordering::SeqCst), next, false);
        if woken == Ok(false) {
            readiness::changed();
        }
    }
}

impl File for TimerFd {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if sink.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let mut count = 0;
        let mut take = || {
            let mut schedule = self.schedule.lock();
            count = schedule.expired(time::monotonic_ns());
            if count > 0 {
                schedule.advance(count);
            }
            count > 0
        };
        while !take() {
            if self.nonblocking.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            let deadline = self.schedule.lock().next;
            let moved = || self.schedule.lock().next != deadline;
            readiness::wait(&mut { moved }, deadline)?;
        }
        sink.put(count.to_ne_bytes()[..].into())
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        let expired = self.schedule.lock().expired(time::monotonic_ns());
        if expired > 0 { Poll::IN } else { Poll::empty() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
