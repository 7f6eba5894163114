//! Waiting: the one way a thread sleeps.

use diolkos_vfs::Result;

/// Threads waiting for something that is not yet true.
pub struct WaitQueue {}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {}
    }

    /// Sleeps until `ready` returns true; it is asked before every sleep, so a wake-up is never lost.
    /// With `deadline` (monotonic nanoseconds) the sleep ends there at the latest and `Ok(false)` is returned.
    /// `interruptible` sleeps end with `EINTR` when a signal is waiting for the thread.
    ///
    /// # Errors
    /// `EINTR`.
    pub fn wait_until(&self, _ready: &mut dyn FnMut() -> bool, _deadline: Option<u64>, _interruptible: bool) -> Result<bool> {
        todo!()
    }

    /// Wakes up to `n` waiters, the longest waiting first, and returns how many.
    pub fn wake(&self, _n: usize) -> usize {
        todo!()
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.wake(usize::MAX);
    }
}

/// Sleeps until the monotonic clock shows `deadline` nanoseconds.
///
/// # Errors
/// `EINTR` when a signal comes first.
pub fn sleep_until(_deadline: u64) -> Result<()> {
    todo!()
}
