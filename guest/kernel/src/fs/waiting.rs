//! The scheduler's wait queue as the file systems see it: waiters of a pipe, and with them whoever polls.

use super::readiness;
use crate::task;
use alloc::sync::Arc;
use diolkos_vfs::{Result, WaitQueue};

struct Queue(task::WaitQueue);

impl WaitQueue for Queue {
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool) -> Result<()> {
        while !self.0.wait_until(ready, None, true)? {}
        Ok(())
    }

    fn wake_all(&self) {
        self.0.wake_all();
        readiness::changed();
    }
}

/// Makes wait queues for pipes, named or not (see [`diolkos_vfs::NamespaceConfig`]).
pub fn new_queue() -> Arc<dyn WaitQueue> {
    Arc::new(Queue(task::WaitQueue::new()))
}
