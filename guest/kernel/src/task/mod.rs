//! Threads and the scheduler: who runs, who waits, and for what.
//!
//! The kernel is not preempted: it runs with interrupts recorded, not served, and gives the processor away only
//! where it waits, or on the way back to the program. It runs on one processor at a time ([`lock`]). So a spin lock is
//! never held across a switch unless somebody sleeps with one, which is forbidden.

pub mod lock;
pub mod sched;
pub mod thread;
pub mod timer;
pub mod turn;
pub mod wait;

pub use sched::{current, pause, try_current, yield_now};
pub use thread::{Thread, exit, spawn};
pub use turn::{Taken, Turn};
pub use wait::WaitQueue;
