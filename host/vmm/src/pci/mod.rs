//! One PCI bus: configuration space as ports and as memory (ECAM), and the devices on it.
//!
//! Every BAR has its address before the guest starts, and keeps it: a guest may size BARs by writing all ones
//! and may write the old address back, but a BAR that is given another address answers at the old one.
//! There is no bus but 0, no hot plug, no legacy interrupt.

pub mod config;
pub mod msix;
pub mod root;

pub use config::{Bar, ConfigSpace, Identity};
pub use root::{PciDevice, PciRoot};
