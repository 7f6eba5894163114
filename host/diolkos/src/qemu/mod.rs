//! QEMU as a platform: the second home of the same kernel, for hosts without a usable /dev/kvm.
//!
//! One `qemu-system-x86_64` and one virtio-fs daemon a share: this very program as `diolkos serve`, or one that the user names. Everything between them and us is an inherited socket, so
//! nothing has a name in a file system, nothing is waited for by polling, and nothing stays behind: when one end dies
//! the others see their sockets close, and the kernel kills every child whose parent is gone.
//!
//! What this platform does not have is a DAX window: stock QEMU cannot give its guest one.

mod child;
mod command;
mod confine;
mod daemon;
mod machine;
mod sockets;
mod streams;
mod tools;

use std::os::unix::net::UnixStream;

use self::machine::Machine;
use self::tools::{Accelerator, Tools};
use crate::args::FsDaemon;
use crate::clock::Reading;
use crate::plan::Plan;
use crate::platform::{Platform, Running};
use crate::report::Listener;

/// QEMU, found on this host, and what serves its shares.
pub struct Qemu {
    tools: Tools,
    accelerator: Accelerator,
}

impl Qemu {
    /// # Errors
    /// Which program is missing, and the package that has it.
    pub fn find(daemon: &FsDaemon) -> Result<Self, String> {
        Ok(Self { tools: Tools::find(daemon)?, accelerator: Accelerator::choose() })
    }
}

impl Platform for Qemu {
    fn name(&self) -> String {
        format!("qemu ({})", self.accelerator.name())
    }

    fn no_window(&self) -> Option<&'static str> {
        Some("QEMU has none; files are read by messages")
    }

    fn start(
        self: Box<Self>,
        plan: Plan,
        listener: Listener,
        signals: UnixStream,
        began: Reading,
    ) -> Result<Box<dyn Running>, String> {
        Ok(Box::new(Machine::start(&self.tools, self.accelerator, plan, listener, signals, began)?))
    }
}
