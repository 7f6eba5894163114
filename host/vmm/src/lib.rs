//! The Diolkos machine: a small virtual machine monitor on KVM.
//!
//! [`Hypervisor::open`] finds KVM, a [`MachineConfig`] says what to build, [`Machine::new`] builds it, [`Machine::run`] runs it to its
//! [`Outcome`]. The guest gets RAM, processors, and virtio devices on a PCI bus: a file system for each share, with
//! a DAX window into the host's page cache; a block device for each disk; a console that is plain streams; and a source of entropy.
//!
//! ```text
//!   machine, run ── who builds, who runs, how it ends
//!     ├─ kvm       the virtual machine and its processors
//!     ├─ layout    where everything lies       memory, shadow: what lies there
//!     ├─ boot      the kernel and what it is told
//!     └─ bus ── pci ── virtio ── fs, blk, console, rng
//! ```
//!
//! # Trust
//! The guest is an adversary. Nothing it can write may panic this crate, make it allocate without bound, or reach
//! memory outside its RAM and windows. What protects us is said where it happens: `memory` (no reference to guest
//! memory), `virtio::ring` (rings), `virtio::fs` (files, names, windows), `virtio::blk` (sectors).
//!
//! What happens when all that fails is bounded by [`Machine::confine`], which the caller calls between `new` and `run`.
//!
//! Left out: hot plug, migration, legacy devices.

mod boot;
mod bus;
mod config;
pub mod confine;
mod initrd;
mod keeper;
mod kvm;
mod layout;
mod losses;
mod machine;
mod memory;
mod moments;
mod outcome;
mod pci;
pub mod polling;
mod remains;
mod run;
mod shadow;
mod stop;
mod virtio;
pub mod worker;

/// The file server by itself, for a front that is not this machine's own device.
pub mod fs {
    pub use crate::virtio::fs::requests::Requests;
    pub use crate::virtio::fs::server::FileServer;
    pub use crate::virtio::fs::share::{MAX_TAG, Share, ShareError, check_tags};
    pub use crate::virtio::fs::window::{DaxWindow, MAX_RUNS, PAGE, WindowRange, check_source};
    pub use crate::virtio::ring::Chain;
}

pub use boot::BootError;
pub use config::{DiskConfig, MAX_CPUS, MachineConfig, ShareConfig};
pub use confine::{ConfineError, Confined, Files};
pub use kvm::{Hypervisor, KvmError, ProbeError};
pub use layout::LayoutError;
pub use machine::{Error, Machine};
pub use memory::MemoryError;
pub use moments::Moments;
pub use outcome::{Finished, MachineStats, MemoryFault, Outcome, ShareStats};
pub use remains::Remains;
pub use stop::Stopper;
pub use virtio::blk::disk::{Disk, DiskStats, OpenError};
pub use virtio::console::Stdio;
pub use virtio::fs::share::ShareError;
pub use virtio::fs::window::WindowStats;
