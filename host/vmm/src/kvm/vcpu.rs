//! A processor as a function: run it, get the reason why it stopped.

use super::Vm;
use crate::layout::{DOORBELLS, DOORBELLS_END, ECAM, REGISTERS};
use crate::pci::root::{CONFIG_ADDRESS, CONFIG_DATA_END};
use diolkos_common::ports;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::Arc;

/// Why a processor came back. Slices are KVM's own: what a read puts there the guest gets when it runs again.
#[derive(Debug)]
pub enum Exit<'a> {
    /// `out`, or `rep outs` with all its bytes.
    PortWrite(u16, &'a [u8]),
    /// `in`.
    PortRead(u16, &'a mut [u8]),
    /// A store where there is no memory, or only memory for reading.
    MemoryWrite(u64, &'a [u8]),
    /// A load where there is no memory.
    MemoryRead(u64, &'a mut [u8]),
    /// A signal, or nothing in particular: look around and go on.
    Interrupted,
    /// `hlt` that KVM does not handle itself.
    Halted,
    /// Triple fault.
    TripleFault,
    /// The guest touched memory the host cannot give; the guest-physical address if KVM says which.
    MemoryFault(Option<u64>),
    /// KVM cannot go on, for this reason.
    Failed(String),
}

impl Exit<'_> {
    /// The name under which it is counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PortWrite(ports::REPORT, _) => "report",
            Self::PortWrite(ports::POWER_OFF, _) => "power_off",
            Self::PortWrite(CONFIG_ADDRESS..=CONFIG_DATA_END, _) => "pci_port_write",
            Self::PortRead(CONFIG_ADDRESS..=CONFIG_DATA_END, _) => "pci_port_read",
            Self::PortWrite(..) => "other_port_write",
            Self::PortRead(..) => "other_port_read",
            Self::MemoryWrite(ECAM..REGISTERS, _) => "config_write",
            Self::MemoryWrite(REGISTERS..DOORBELLS, _) => "register_write",
            Self::MemoryWrite(DOORBELLS..DOORBELLS_END, _) => "doorbell",
            Self::MemoryRead(ECAM..DOORBELLS, _) => "register_read",
            Self::MemoryWrite(..) => "other_memory_write",
            Self::MemoryRead(..) => "other_memory_read",
            Self::Interrupted => "interrupted",
            Self::Halted => "halt",
            Self::TripleFault => "triple_fault",
            Self::MemoryFault(_) => "memory_fault",
            Self::Failed(_) => "failed",
        }
    }
}

/// A processor.
pub struct Vcpu {
    fd: VcpuFd,
    // A processor touches the machine's memory, so it keeps the machine.
    _vm: Arc<Vm>,
}

impl Vcpu {
    /// Wraps a processor that has been set up.
    pub fn new(fd: VcpuFd, vm: Arc<Vm>) -> Self {
        Self { fd, _vm: vm }
    }

    /// What KVM calls it.
    pub fn fd(&self) -> &VcpuFd {
        &self.fd
    }

    /// Runs it until it comes back. Must always be called from the same thread.
    pub fn run(&mut self) -> Exit<'_> {
        // On an error that is not about memory the exit reason is stale; `registers` needs the borrow back, so the
        // error is sorted first.
        match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite(port, data),
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead(port, data),
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MemoryWrite(address, data),
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MemoryRead(address, data),
            Ok(VcpuExit::Hlt) => Exit::Halted,
            Ok(VcpuExit::Shutdown) => Exit::TripleFault,
            // KVM_SYSTEM_EVENT_CRASH, _RESET and _SHUTDOWN come from paravirtual interfaces this machine has not.
            Ok(VcpuExit::SystemEvent(kind, _)) => Exit::Failed(format!("system event {kind}")),
            Ok(VcpuExit::Intr | VcpuExit::IoapicEoi(_) | VcpuExit::IrqWindowOpen) => Exit::Interrupted,
            Ok(VcpuExit::MemoryFault { gpa, .. }) => Exit::MemoryFault(Some(gpa)),
            Ok(VcpuExit::FailEntry(reason, _)) => Exit::Failed(format!("entry refused, reason {reason:#x}")),
            Ok(VcpuExit::InternalError) => Exit::Failed("internal error, see the kernel log".into()),
            Ok(other) => Exit::Failed(format!("unexpected exit {other:?}")),
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => Exit::Interrupted,
                libc::EFAULT | libc::EHWPOISON => Exit::MemoryFault(None),
                _ => Exit::Failed(error.to_string()),
            },
        }
    }

    /// Its general registers, to tell whether it has got on; `None` when the host will not say.
    pub fn registers(&self) -> Option<kvm_bindings::kvm_regs> {
        self.fd.get_regs().ok()
    }

    /// Where it is, for a message about a failure: the instruction pointer and the page-fault address.
    pub fn position(&self) -> Option<(u64, u64)> {
        Some((self.fd.get_regs().ok()?.rip, self.fd.get_sregs().ok()?.cr2))
    }
}
