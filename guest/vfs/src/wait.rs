//! The seam to the scheduler: how code here sleeps and wakes.

use crate::Result;
use alloc::sync::Arc;

/// Threads waiting for something to become true. The kernel implements it with its scheduler, tests with `std`.
pub trait WaitQueue: Send + Sync {
    /// Sleeps until `ready` gives `true`, calling it at least once. It must be called again after every
    /// [`WaitQueue::wake_all`] that comes after its last call began: no wakeup may be lost.
    ///
    /// # Locking
    /// `ready` takes spin locks, so none of the implementation's own may be held that `wake_all` takes
    /// while somebody else holds those. Callers hold no lock across this.
    ///
    /// # Errors
    /// `EINTR` when a signal arrived first.
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool) -> Result<()>;

    /// Lets every waiter look again. Called after the change, with no lock held.
    fn wake_all(&self);
}

/// Makes wait queues.
pub trait WaitQueues: Send + Sync {
    /// A new one, with no waiters.
    fn wait_queue(&self) -> Arc<dyn WaitQueue>;
}

impl<F: Fn() -> Arc<dyn WaitQueue> + Send + Sync> WaitQueues for F {
    fn wait_queue(&self) -> Arc<dyn WaitQueue> {
        self()
    }
}
