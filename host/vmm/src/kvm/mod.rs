//! KVM, typed: the virtual machine ([`Vm`]), its processors ([`vcpu`]), what they write without an exit
//! ([`posted`]), and what the host's KVM can do ([`Hypervisor`]).

pub mod cpu;
pub mod posted;
pub mod vcpu;

use crate::layout::KVM_TSS;
use crate::memory::HostMapping;
use crate::pci::msix::Message;
use crate::virtio::interrupt::Platform;
use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_X86_DISABLE_EXITS, KVM_MAX_CPUID_ENTRIES, KVM_MEM_READONLY,
    KVM_X86_DISABLE_EXITS_HLT, kvm_enable_cap, kvm_msi, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use vmm_sys_util::eventfd::EventFd;

const DEVICE: &str = "/dev/kvm";

/// A KVM call that failed.
#[derive(Debug, Error)]
#[error("{DEVICE}: {operation}: {source}")]
pub struct KvmError {
    /// What was asked for.
    pub operation: &'static str,
    /// The host's reason.
    pub source: io::Error,
}

/// Names the operation of a failed call.
pub(crate) fn failed(operation: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
    move |error| KvmError { operation, source: error.into() }
}

/// Why KVM cannot be used.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// No such device.
    #[error("{DEVICE}: does not exist: this host has no KVM, or its module is not loaded")]
    Missing,
    /// Not for this user.
    #[error("{DEVICE}: permission denied: this user is not in the group that may use it")]
    Permission,
    /// Another hypervisor has the processor.
    #[error("{DEVICE}: busy: another hypervisor is using the processor's virtualisation")]
    Busy,
    /// A KVM of another kind.
    #[error("{DEVICE}: interface version {0}, not 12")]
    Version(i32),
    /// A KVM too old or too special.
    #[error("{DEVICE}: lacks {0}")]
    Lacks(&'static str),
    /// Something else.
    #[error("{DEVICE}: {operation}: {source}")]
    Other {
        /// What was tried.
        operation: &'static str,
        /// The host's reason.
        source: io::Error,
    },
}

impl ProbeError {
    fn new(operation: &'static str, error: kvm_ioctls::Error) -> Self {
        match error.errno() {
            libc::ENOENT | libc::ENODEV | libc::ENXIO => Self::Missing,
            libc::EACCES | libc::EPERM => Self::Permission,
            libc::EBUSY => Self::Busy,
            _ => Self::Other { operation, source: error.into() },
        }
    }
}

/// KVM, found to work: opened, and with a virtual machine made, for that is where some hosts refuse.
pub struct Hypervisor {
    /// What it can do.
    pub(crate) host: Host,
    /// The virtual machine; empty.
    pub(crate) vm: Vm,
}

impl Hypervisor {
    /// Opens it.
    ///
    /// # Errors
    /// The reason why it cannot be used, as a sentence for the user.
    pub fn open() -> Result<Self, ProbeError> {
        let host = Host::open()?;
        let vm = Vm::new(&host)?;
        Ok(Self { host, vm })
    }
}

fn open() -> Result<Kvm, ProbeError> {
    let kvm = Kvm::new().map_err(|error| ProbeError::new("open", error))?;
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION as i32 {
        return Err(ProbeError::Version(version));
    }
    let needed = [
        (Cap::UserMemory, "memory slots"),
        (Cap::SplitIrqchip, "split interrupt controllers (KVM_CAP_SPLIT_IRQCHIP)"),
        (Cap::SignalMsi, "message-signalled interrupts (KVM_CAP_SIGNAL_MSI)"),
        (Cap::Ioeventfd, "ioeventfd"),
        (Cap::ExtCpuid, "KVM_GET_SUPPORTED_CPUID"),
    ];
    match needed.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        Some((_, what)) => Err(ProbeError::Lacks(what)),
        None => Ok(kvm),
    }
}

/// The host's KVM.
pub struct Host {
    kvm: Kvm,
    cpuid: CpuId,
}

impl Host {
    /// Opens it.
    ///
    /// # Errors
    /// [`ProbeError`]: why it cannot be used.
    pub fn open() -> Result<Self, ProbeError> {
        let kvm = open()?;
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(|error| ProbeError::new("read the supported CPUID", error))?;
        Ok(Self { kvm, cpuid })
    }

    /// The CPUID it supports.
    pub fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// Most processors of one machine.
    pub fn max_cpus(&self) -> u32 {
        self.kvm.get_max_vcpus().try_into().unwrap_or(u32::MAX)
    }

    /// Whether the local APIC's timer has the TSC-deadline mode.
    pub fn has_tsc_deadline(&self) -> bool {
        self.kvm.check_extension(Cap::TscDeadlineTimer)
    }
}

/// A virtual machine. It keeps the memory it shows its guest.
pub struct Vm {
    fd: VmFd,
    // Declared after `fd`, and so given back after the machine is gone.
    memory: Mutex<Vec<Arc<HostMapping>>>,
    fails_at_once: bool,
}

impl Vm {
    /// A machine with local APICs in KVM and nothing else.
    ///
    /// # Errors
    /// [`ProbeError`] when there can be no machine, else as `Other`.
    pub fn new(host: &Host) -> Result<Self, ProbeError> {
        let fd = host.kvm.create_vm().map_err(|error| ProbeError::new("create a virtual machine", error))?;
        fd.set_tss_address(KVM_TSS as usize).map_err(|error| ProbeError::new("set the TSS address", error))?;
        // No PIC and no I/O APIC: the devices send messages. (With KVM's own each memory slot costs milliseconds.)
        let mut cap = kvm_enable_cap { cap: KVM_CAP_SPLIT_IRQCHIP, ..Default::default() };
        cap.args[0] = 24;
        fd.enable_cap(&cap).map_err(|error| ProbeError::new("split the interrupt controllers", error))?;
        let fails_at_once = refuse_asynchronous_faults(&fd);
        Ok(Self { fd, memory: Mutex::default(), fails_at_once })
    }

    /// Shows the guest `len` bytes of `mapping`, from its start, at guest-physical `base`, as slot `slot`.
    ///
    /// # Errors
    /// [`KvmError`], also for a `len` over the mapping's.
    pub fn map(
        &self,
        slot: u32,
        base: u64,
        len: u64,
        mapping: &Arc<HostMapping>,
        read_only: bool,
    ) -> Result<(), KvmError> {
        const OPERATION: &str = "set a memory slot";
        if len > mapping.len() as u64 {
            return Err(KvmError { operation: OPERATION, source: io::ErrorKind::InvalidInput.into() });
        }
        let region = kvm_userspace_memory_region {
            slot,
            guest_phys_addr: base,
            memory_size: len,
            userspace_addr: mapping.as_ptr() as u64,
            flags: if read_only { KVM_MEM_READONLY } else { 0 },
        };
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).push(mapping.clone());
        // SAFETY: the range lies in `mapping`, of which the machine now has a share for as long as it lives; and no
        // Rust reference to its bytes exists anywhere.
        unsafe { self.fd.set_user_memory_region(region) }.map_err(failed(OPERATION))
    }

    /// Whether a guest's access to memory the host cannot give makes the processor come back at once. If not, it may try
    /// for ever, inside KVM.
    pub fn fails_at_once(&self) -> bool {
        self.fails_at_once
    }

    /// Whether slots can be read-only.
    pub fn has_read_only_memory(&self) -> bool {
        self.fd.check_extension(Cap::ReadonlyMem)
    }

    /// Makes processor `id`.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn create_vcpu(&self, id: u32) -> Result<kvm_ioctls::VcpuFd, KvmError> {
        self.fd.create_vcpu(id.into()).map_err(failed("create a processor"))
    }
}

/// Keeps KVM from fetching missing pages in the background; returns whether it can be kept from it.
///
/// KVM lets a processor sleep while it does that, and then has it try again. It takes for granted that the page is there
/// then; when the file has been cut short it is not, and processor and background go on like this for ever (patches to
/// report an error were never merged). KVM does nothing in the background for a machine whose `hlt` does not leave the guest, since it
/// has no way to make such a guest sleep (`kvm_can_do_async_pf`). On a processor with hardware virtualisation that would
/// cost a whole core while the guest is idle; where page tables are virtualised `hlt` is emulated all the same.
fn refuse_asynchronous_faults(fd: &VmFd) -> bool {
    if !std::path::Path::new("/sys/module/kvm_pvm").exists() {
        return false;
    }
    let mut cap = kvm_enable_cap { cap: KVM_CAP_X86_DISABLE_EXITS, ..Default::default() };
    cap.args[0] = KVM_X86_DISABLE_EXITS_HLT.into();
    fd.enable_cap(&cap).is_ok()
}

/// Devices are in this process, so a message is one call: no eventfd, and no routing table to keep up to date, each
/// change of which would wait for all processors of the host.
impl Platform for Vm {
    fn send(&self, message: Message) {
        let msi = kvm_msi {
            address_lo: message.address as u32,
            address_hi: (message.address >> 32) as u32,
            data: message.data,
            ..Default::default()
        };
        // An address that is no processor's is the guest's own mistake, and its own loss.
        if let Err(error) = self.fd.signal_msi(msi) {
            tracing::debug!("message {message:x?} went nowhere: {error}");
        }
    }

    fn doorbell(&self, address: u64, fd: &EventFd) -> Result<(), KvmError> {
        self.fd.register_ioevent(fd, &IoEventAddress::Mmio(address), NoDatamatch).map_err(failed("set an ioeventfd"))
    }
}
