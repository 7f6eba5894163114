//! What is left of a machine: nothing that runs, only what it occupied.

use crate::bus::Bus;
use crate::kvm::Vm;
use crate::virtio::fs::window::Window;
use std::sync::Arc;

/// The machine's memory, KVM's part of it, and the files in its windows. Dropping it gives them back, which takes
/// Linux some ten milliseconds: it waits until no processor of the host can be looking at the memory any more.
pub struct Remains {
    bus: Arc<Bus>,
    vm: Arc<Vm>,
    windows: Vec<Arc<Window>>,
}

impl Remains {
    pub(crate) fn new(bus: Arc<Bus>, vm: Arc<Vm>, windows: Vec<Arc<Window>>) -> Self {
        Self { bus, vm, windows }
    }

    /// Gives back what is the user's: files, names, locks, streams. What is the machine's stays for the end of the process, which
    /// must be near, or for the `keeper` after it.
    pub fn leave(self) {
        self.windows.iter().for_each(|window| window.clear());
        std::mem::forget(self.vm);
        drop(self.bus);
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remains")
    }
}
