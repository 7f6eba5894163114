//! The daemon before a virtual machine monitor that is not one: well-behaved, and otherwise.
//!
//! `machine` is the front-end: guest memory, the driver's end of the queues, a place for the DAX window. `files` sends FUSE
//! messages through it. The daemon runs on a thread, unconfined; that it also works confined is for the end-to-end tests.
//! Front-ends that do not even speak the protocol are in `garbage.rs`, a program of its own.

mod files;
mod hostile;
mod machine;
mod serving;
mod window;
