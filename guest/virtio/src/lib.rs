//! The guest's virtio driver: PCI transport, split virtqueues and the devices on them.
//!
//! A device's way into service: [`pci::scan`] lists the virtio functions of bus 0 and places their BARs,
//! [`Device::open`] maps the registers and programs MSI-X, and a typed driver ([`fs::VirtioFs`],
//! [`blk::VirtioBlk`], [`console::VirtioConsole`], [`rng::VirtioRng`]) negotiates features, sets up queues and starts it.
//! The crate knows no FUSE and no kernel: memory, address translation and register mapping come from a [`Hal`].
//!
//! Left out: legacy (0.9) devices, packed rings, virtio-mmio, INTx interrupts, bridges.
//!
//! The hard idea is distrust. Whatever the driver needs to know about its own rings it keeps in private
//! memory; shared memory is written for the device and read only to learn what the device claims, and
//! every claim is checked. A device that lies is a value ([`QueueError::Broken`]), never a panic.
//!
//! Section numbers refer to *Virtual I/O Device (VIRTIO) Version 1.2*.
//!
//! # Locking
//! Nothing in here locks: drivers take `&mut self`, and the kernel wraps each in a lock that masks
//! interrupts. Whatever is said to be interrupt-safe neither sleeps nor allocates nor frees.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod blk;
pub mod console;
mod device;
mod error;
#[cfg(test)]
mod fake;
mod features;
pub mod fs;
mod live;
mod mem;
mod patience;
pub mod pci;
mod queue;
mod ring;
pub mod rng;

pub use device::{Device, MsiMessage};
pub use error::Error;
pub use features::Features;
pub use mem::{DmaBuf, DmaPages, Hal, Mmio, PAGE_SIZE, PhysAddr, PhysRange, Registers};
pub use patience::{Look, Patience};
pub use pci_types::{ConfigRegionAccess, PciAddress};
pub use queue::{Fault, QueueError, Refused, Token, Used, VirtQueue};
