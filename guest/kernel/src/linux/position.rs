//! The position of an open file: a number that one thread at a time may use across an operation that sleeps.
//!
//! read(2) and write(2) move it atomically for all who share the open file (POSIX 2.9.7), so it is held
//! while the file system works. A spin lock must not be, hence this small sleeping lock.

use crate::task::WaitQueue;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A position with its lock.
pub struct Position {
    value: AtomicU64,
    held: AtomicBool,
    waiters: WaitQueue,
}

impl Position {
    /// Position 0.
    pub const fn new() -> Self {
        Self { value: AtomicU64::new(0), held: AtomicBool::new(false), waiters: WaitQueue::new() }
    }

    /// Waits until nobody else holds it.
    pub fn hold(&self) -> Held<'_> {
        let mut free = || !self.held.swap(true, Ordering::Acquire);
        if !free() {
            // Not interruptible: the holder is working on a file, not waiting for an event.
            while !self.waiters.wait_until(&mut free, None, false).unwrap_or(false) {}
        }
        Held(self)
    }

    /// The value now, for who only shows it.
    pub fn peek(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

/// The right to use a position.
pub struct Held<'a>(&'a Position);

impl Held<'_> {
    /// The value.
    pub fn get(&self) -> u64 {
        self.0.peek()
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.value.store(value, Ordering::Relaxed);
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::Release);
        self.0.waiters.wake(1);
    }
}
