//! What the machine (host) and the kernel (guest) must agree on, written once.
//!
//! Three things cross the wall beside virtio: the kernel command line ([`cmdline`]), which says what to
//! run; the report ([`report`]), a byte stream from the kernel that says what became of it; and the two
//! I/O ports they use ([`ports`]). Both sides are tested together here, without a machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cmdline;
pub mod ports;
pub mod report;
