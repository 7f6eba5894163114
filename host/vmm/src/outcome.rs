//! How a run ended, and what was counted on the way.

use crate::moments::Moments;
use crate::remains::Remains;
use crate::virtio::blk::disk::DiskStats;
use crate::virtio::fs::window::WindowStats;
use diolkos_common::report::{DecodeError, End};
use std::collections::BTreeMap;

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// By the kernel's own word.
    Ended(End),
    /// The kernel turned the machine off without a word.
    PoweredOff,
    /// The kernel died without a word.
    TripleFault,
    /// [`Stopper::stop`](crate::Stopper::stop) was called.
    Stopped,
    /// What the kernel reported makes no sense.
    BadReport(DecodeError),
    /// The guest touched memory the host cannot give.
    MemoryFault(MemoryFault),
    /// KVM, or a thread of ours, could not go on.
    Failed(String),
}

/// A guest's access to memory the host cannot give: a page of a DAX window that is not mapped, or whose file has been
/// cut short on the host meanwhile; a write to a page mapped read-only; or RAM the host has none left for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFault {
    /// Guest-physical address, if the host's KVM says it (Linux 6.8 on).
    pub address: Option<u64>,
    /// The share whose window that is, and the offset in it.
    pub window: Option<(String, u64)>,
    /// The guest's instruction pointer and page-fault address.
    pub position: Option<(u64, u64)>,
}

/// A share's counters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareStats {
    /// The share's tag.
    pub tag: String,
    /// FUSE requests by name.
    pub requests: BTreeMap<&'static str, u64>,
    /// The window's; `None` when it has none.
    pub window: Option<WindowStats>,
}

/// The machine's counters and times.
#[derive(Debug, Clone)]
pub struct MachineStats {
    /// Exits of all processors by reason. Accesses to ports or memory where nothing is count as `unclaimed` as well.
    pub exits: BTreeMap<&'static str, u64>,
    /// Interrupts sent to the guest.
    pub interrupts: u64,
    /// The shares, in the order of the configuration.
    pub shares: Vec<ShareStats>,
    /// The disks by their files' names, in the order of the configuration.
    pub disks: Vec<(String, DiskStats)>,
    /// Writes to registers that were no exits of their own.
    pub posted: u64,
    /// What the machine has passed, from its building to its end.
    pub moments: Moments,
}

/// A run that is over.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub outcome: Outcome,
    /// What was counted.
    pub stats: MachineStats,
    /// What it occupied, given back when this is dropped.
    pub remains: Remains,
}
