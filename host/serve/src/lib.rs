//! The file server of `diolkos-vmm` as a vhost-user-fs daemon: the same server behind another front.
//!
//! A virtual machine monitor (the *front-end*; QEMU, say) keeps the device and lends us the guest's memory and queues over
//! a Unix socket. Requests go from the queues to the very [`FileServer`] that our own machine uses; so what a guest
//! may do to the host is decided in one place.
//!
//! ```text
//!   daemon ── one connection after the other
//!     └─ backend ── the front-end's messages           (crate vhost)
//!          ├─ memory   the guest's memory
//!          ├─ vring    a queue and its thread ──► diolkos_vmm::fs::FileServer
//!          └─ shmem    the DAX window, kept by the front-end
//! ```
//!
//! A crate of its own and no part of the machine, because it shares nothing with it but the server, and because the
//! messages come from a crate whose memory library is a version ahead of the machine's: `memory` is where the two meet.
//!
//! # Trust
//! The guest is hostile, as it is to our own machine. The front-end is believed no more than it must be: its numbers are
//! checked, and what it can make us hold is bounded. But it can end the daemon, by hanging up or by cutting short the
//! memory it lent.
//!
//! Left out: migration, memory added one piece at a time, requests kept over a restart of the daemon.

mod backend;
mod daemon;
mod memory;
mod shmem;
mod vring;

#[cfg(doc)]
use diolkos_vmm::fs::FileServer;

pub use daemon::{Config, Daemon, Error};
