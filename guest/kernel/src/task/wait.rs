//! Waiting: the one way a thread sleeps.
//!
//! A waiter first puts itself into the queue and clears its `awake` mark, then asks its condition, then sleeps. A waker
//! makes the condition true first and then wakes, so either the waiter sees the condition or the waker sees the waiter.

use super::{Thread, sched, timer};
use crate::time;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

/// Threads waiting for something that is not yet true.
pub struct WaitQueue {
    waiters: Mutex<VecDeque<Arc<Thread>>>,
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { waiters: Mutex::new(VecDeque::new()) }
    }

    /// Sleeps until `ready` returns true; it is asked before every sleep, so a wake-up is never lost.
    /// With `deadline` (monotonic nanoseconds) the sleep ends there at the latest and `Ok(false)` is returned.
    /// `interruptible` sleeps end with `EINTR` when a signal is waiting for the thread.
    ///
    /// # Errors
    /// `EINTR`.
    pub fn wait_until(
        &self,
        ready: &mut dyn FnMut() -> bool,
        deadline: Option<u64>,
        interruptible: bool,
    ) -> Result<bool> {
        if ready() {
            return Ok(true);
        }
        let thread = sched::current();
        let alarm = deadline.map(|deadline| timer::add(deadline, thread.clone()));
        let result = loop {
            self.waiters.lock().push_back(thread.clone());
            thread.awake.store(false, Ordering::SeqCst);
            let verdict = if ready() {
                Some(Ok(true))
            } else if interruptible && thread.take_interrupt() {
                Some(Err(Errno::EINTR))
            } else if deadline.is_some_and(|deadline| time::monotonic_ns() >= deadline) {
                Some(Ok(false))
            } else {
                None
            };
            if let Some(verdict) = verdict {
                // A waker may have put the thread into the run queue meanwhile; then it is there once too often, and
                // sleeping once takes it out again.
                if thread.awake.swap(true, Ordering::SeqCst) {
                    sched::sleep();
                }
                self.forget(&thread);
                break verdict;
            }
            sched::sleep();
            self.forget(&thread);
        };
        if let Some(key) = alarm {
            timer::remove(key);
        }
        result
    }

    fn forget(&self, thread: &Arc<Thread>) {
        self.waiters.lock().retain(|waiter| !Arc::ptr_eq(waiter, thread));
    }

    /// Whether nobody waits. Needs no kernel lock.
    pub fn is_empty(&self) -> bool {
        self.waiters.lock().is_empty()
    }

    /// Wakes up to `n` waiters, the longest waiting first, and returns how many.
    pub fn wake(&self, n: usize) -> usize {
        let mut woken = 0;
        while woken < n {
            let Some(thread) = self.waiters.lock().pop_front() else { break };
            sched::wake(&thread);
            woken += 1;
        }
        woken
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }
}
