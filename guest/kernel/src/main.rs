//! The Diolkos unikernel.
//!
//! For the guest (`cfg(guest)`, set by the build script when the command line's build asks for it) this is a
//! freestanding kernel; otherwise it is an ordinary program that only says so, and its pure modules are
//! tested on the host.
#![cfg_attr(guest, no_std)]
#![cfg_attr(guest, no_main)]

extern crate alloc;

#[cfg(any(guest, test))]
mod abi;
#[cfg(guest)]
mod arch;
#[cfg(guest)]
mod boot;
#[cfg(guest)]
mod drivers;
#[cfg(any(guest, test))]
mod fs;
#[cfg(any(guest, test))]
#[cfg_attr(test, allow(dead_code, reason = "the tests do not look at owners and times"))]
mod ipc;
#[cfg(guest)]
mod linux;
#[cfg(any(guest, test))]
#[cfg_attr(test, allow(dead_code, reason = "the tests use the pure part of it"))]
mod mm;
#[cfg(guest)]
mod report;
#[cfg(guest)]
mod stats;
#[cfg(any(guest, test))]
mod task;
#[cfg(guest)]
mod time;

#[cfg(not(guest))]
fn main() {
    eprintln!("this is the Diolkos guest kernel; it runs in a virtual machine: use `diolkos run`");
    std::process::exit(1);
}
