//! The one bell for everything poll(2), select(2) and epoll(7) wait for.
//!
//! Whatever makes a stream ready (bytes in a pipe, input at the console, a counted event) rings it after the
//! change; whoever waits for any of several files asks them all again. With few waiters that is cheaper than a list
//! of waiters in every file, and no wake-up can be lost: a waiter is on the queue before it asks.

use crate::task::WaitQueue;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::Result;

static BELL: WaitQueue = WaitQueue::new();
static RINGS: AtomicU64 = AtomicU64::new(0);

/// Says that some file may have become ready. Does not sleep.
pub fn changed() {
    RINGS.fetch_add(1, Ordering::Relaxed);
    BELL.wake_all();
}

/// How often [`changed`] was called.
pub fn count() -> u64 {
    RINGS.load(Ordering::Relaxed)
}

/// Waits until `ready` returns true, or until `deadline` (monotonic nanoseconds), which gives `false`.
/// `ready` is asked after every [`changed`] and must not sleep.
///
/// # Errors
/// `EINTR` when a signal comes first.
pub fn wait(ready: &mut dyn FnMut() -> bool, deadline: Option<u64>) -> Result<bool> {
    BELL.wait_until(ready, deadline, true)
}
