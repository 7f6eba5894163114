//! The state of a processor before its first instruction: what PVH asks for, and what CPUID says.

use super::{Host, KvmError, failed};
use kvm_bindings::{CpuId, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET, KVMIO, kvm_device_attr, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl_with_ref;
use vmm_sys_util::ioctl_iow_nr;

// kvm-ioctls has it for other architectures only.
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);

const PHYS_BITS_LEAF: u32 = 0x8000_0008;
/// What every 64-bit processor has at least.
const MIN_PHYS_BITS: u32 = 36;

/// Width of guest-physical addresses in bits.
pub fn phys_bits(cpuid: &CpuId) -> u32 {
    let leaf = cpuid.as_slice().iter().find(|entry| entry.function == PHYS_BITS_LEAF);
    // Bits 7:0, and in 23:16 the guest's own width when it is smaller (AMD APM volume 3, E.4.7).
    leaf.map_or(MIN_PHYS_BITS, |entry| match (entry.eax & 0xff, entry.eax >> 16 & 0xff) {
        (host, 0) => host,
        (host, guest) => host.min(guest),
    })
    .clamp(MIN_PHYS_BITS, 52)
}

/// Says what processor `id` of `count` can do.
///
/// # Errors
/// [`KvmError`].
pub fn describe(vcpu: &VcpuFd, host: &Host, id: u32, count: u32) -> Result<(), KvmError> {
    vcpu.set_cpuid2(&cpuid_for(host, id, count)).map_err(failed("set CPUID"))
}

/// Sets the first processor up to start at `entry` with `start_info` in `ebx`, in the 32-bit protected mode the PVH boot
/// protocol demands (Xen, `docs/misc/pvh.pandoc`). Others are started by its messages.
///
/// # Errors
/// [`KvmError`].
pub fn set_up(vcpu: &VcpuFd, entry: u32, start_info: u32) -> Result<(), KvmError> {
    let mut sregs = vcpu.get_sregs().map_err(failed("read the system registers"))?;
    let flat = |selector, type_| kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    sregs.cs = flat(0x08, 0xb);
    let data = flat(0x10, 0x3);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.tr = kvm_segment { limit: 0x67, type_: 0xb, present: 1, ..Default::default() };
    // Protection enabled, paging off; ET is wired to one.
    sregs.cr0 = 0x11;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.set_sregs(&sregs).map_err(failed("set the system registers"))?;
    let regs = kvm_regs { rip: entry.into(), rbx: start_info.into(), rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(failed("set the registers"))
}

fn cpuid_for(host: &Host, id: u32, count: u32) -> CpuId {
    let mut cpuid = host.cpuid().clone();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            // EBX: brand and CLFLUSH size kept; number of processors; initial APIC id.
            1 => {
                entry.ebx = entry.ebx & 0xffff | (count & 0xff) << 16 | id << 24;
                if host.has_tsc_deadline() {
                    entry.ecx |= 1 << 24;
                }
            }
            // The x2APIC id.
            0xb | 0x1f => entry.edx = id,
            _ => {}
        }
    }
    cpuid
}

/// Makes the guest's time stamp counter the host's, if KVM can; the guest manages without.
pub fn share_tsc(vcpu: &VcpuFd) {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: &raw const offset as u64,
        flags: 0,
    };
    // SAFETY: KVM reads the attribute and the eight bytes it points to, both alive until the call is over.
    if unsafe { ioctl_with_ref(vcpu, KVM_SET_DEVICE_ATTR(), &attribute) } != 0 {
        let error = std::io::Error::last_os_error();
        tracing::debug!("the guest's time stamp counter is not the host's: {error}");
    }
}

/// Frequency of the guest's time stamp counter in kHz; 0 when KVM does not know.
pub fn tsc_khz(vcpu: &VcpuFd) -> u64 {
    vcpu.get_tsc_khz().map_or(0, u64::from)
}

/// The host's time stamp counter.
pub fn host_tsc() -> u64 {
    // SAFETY: every x86-64 processor has the instruction, and Linux does not forbid it to processes unless asked to.
    unsafe { core::arch::x86_64::_rdtsc() }
}
