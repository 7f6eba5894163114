//! A lock that may be held while its holder sleeps, which a spin lock must not be.

use super::{WaitQueue, lock};
use core::sync::atomic::{AtomicBool, Ordering};

/// One thread's turn at something, for as long as it takes.
pub struct Turn {
    taken: AtomicBool,
    waiters: WaitQueue,
}

impl Turn {
    /// Nobody's.
    pub const fn new() -> Self {
        Self { taken: AtomicBool::new(false), waiters: WaitQueue::new() }
    }

    /// Waits until it is nobody else's. No signal ends that: who has it works on a file and does not wait for an event.
    pub fn take(&self) -> Taken<'_> {
        let mut free = || !self.taken.swap(true, Ordering::Acquire);
        if !free() {
            while !self.waiters.wait_until(&mut free, None, false).unwrap_or(false) {}
        }
        Taken(self)
    }

    /// Takes it if it is nobody's. Needs no kernel lock.
    pub fn try_take(&self) -> Option<Taken<'_>> {
        (!self.taken.swap(true, Ordering::Acquire)).then(|| Taken(self))
    }
}

/// The turn is its holder's until this is dropped.
pub struct Taken<'a>(&'a Turn);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::SeqCst);
        // Who waits has put itself into the queue before it looked for the last time.
        if !self.0.waiters.is_empty() {
            lock::with(|| self.0.waiters.wake(1));
        }
    }
}
