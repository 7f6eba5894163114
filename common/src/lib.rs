//! What the machine (host) and the kernel (guest) must agree on, written once.
//!
//! These cross the wall beside virtio: the kernel command line ([`cmdline`]), which says what to
//! run and what to mount ([`root`]); the report ([`report`]), a byte stream from the kernel that says what became of it; the
//! I/O ports they use ([`ports`]); the record of lost window memory ([`losses`]); and what images look like ([`image`]). Both sides are tested together
//! here, without a machine.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod cmdline;
pub mod image;
pub mod losses;
pub mod ports;
pub mod range_locks;
pub mod report;
pub mod root;
