//! The scheduler.

use super::Thread;
use alloc::sync::Arc;

/// The running thread.
pub fn current() -> &'static Arc<Thread> {
    todo!()
}

/// Lets others run first.
pub fn yield_now() {
    todo!()
}
