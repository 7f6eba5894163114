//! Stopping a machine from outside.

use crate::worker::{borrow, eventfd};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vmm_sys_util::eventfd::EventFd;

#[derive(Debug)]
struct State {
    requested: AtomicBool,
    fd: EventFd,
}

/// Stops a machine, from any thread, before, during or after its run.
#[derive(Debug, Clone)]
pub struct Stopper(Arc<State>);

impl Stopper {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(State { requested: AtomicBool::new(false), fd: eventfd()? })))
    }

    /// Asks the machine to stop; returns at once. [`Machine::run`](crate::Machine::run) then returns within
    /// milliseconds, whatever the guest or its output is waiting for.
    pub fn stop(&self) {
        self.0.requested.store(true, Ordering::Release);
        let _ = self.0.fd.write(1);
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        borrow(&self.0.fd)
    }
}
