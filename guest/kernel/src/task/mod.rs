//! Threads and the scheduler: who runs, who waits, and for what.
//!
//! The kernel is not preempted: it runs with interrupts recorded, not served, and gives the processor away only
//! where it waits, or on the way back to the program. It runs on one processor at a time ([`lock`]), but for
//! copies and small reads. So a spin lock is never held across a switch unless somebody sleeps with one, which is
//! forbidden.

#[cfg(guest)]
pub mod lock;
mod run_queues;
#[cfg(guest)]
pub mod sched;
#[cfg(guest)]
pub mod thread;
#[cfg(guest)]
pub mod timer;
#[cfg(guest)]
pub mod turn;
#[cfg(guest)]
pub mod wait;

#[cfg(guest)]
pub use sched::{current, pause, try_current, yield_now};
#[cfg(guest)]
pub use thread::{Thread, exit, spawn};
#[cfg(guest)]
pub use turn::{Taken, Turn};
#[cfg(guest)]
pub use wait::WaitQueue;
