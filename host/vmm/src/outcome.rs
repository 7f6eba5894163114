//! How a run ended, and what was counted on the way.

use crate::bus::Bus;
use crate::kvm::Vm;
use crate::moments::Moments;
use crate::virtio::blk::disk::DiskStats;
use crate::virtio::fs::window::WindowStats;
use diolkos_common::report::{DecodeError, End};
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// The machine's memory and KVM's part of it, given back when this is dropped.
    pub remains: Remains,
}

/// What is left of a machine: nothing that runs, only what it occupied.
///
/// Giving it back takes Linux about ten milliseconds while the process lives, for it waits until no processor of the
/// host can be looking at the memory any more. A process that is about to end anyway need not wait.
pub struct Remains(Option<(Arc<Bus>, Arc<Vm>)>);

impl Remains {
    pub(crate) fn new(bus: Arc<Bus>, vm: Arc<Vm>) -> Self {
        Self(Some((bus, vm)))
    }

    /// Leaves everything to the end of the process, which must be near.
    pub fn leave_to_exit(mut self) {
        std::mem::forget(self.0.take());
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remains")
    }
}
