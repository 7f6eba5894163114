//! Register writes that wait for the next exit: coalesced MMIO (Linux, Documentation/virt/kvm/api.rst, section 4.116).
//!
//! Most of what a driver writes while it sets up a device means nothing until a later write says go. KVM keeps such writes
//! in a ring, a tenth of an exit each, and whoever handles the next exit applies them first, so that the device sees all
//! writes in their order.

use super::{KvmError, Vm, failed};
use kvm_bindings::{KVM_COALESCED_MMIO_PAGE_OFFSET, kvm_coalesced_mmio};
use kvm_ioctls::{Cap, IoEventAddress, VcpuFd};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

const PAGE: usize = 4096;
/// Indices of the first and of the end of what is in the ring, before its entries.
const HEADER: usize = 8;
/// `KVM_COALESCED_MMIO_MAX` (linux/kvm.h).
const ENTRIES: u32 = ((PAGE - HEADER) / size_of::<kvm_coalesced_mmio>()) as u32;

/// A machine's ring of such writes. There is one, which KVM shows at each of its processors.
#[derive(Debug)]
pub struct PostedWrites {
    ring: NonNull<u8>,
}

// SAFETY: the page belongs to the value, and is reached by atomic and volatile accesses only.
unsafe impl Send for PostedWrites {}

impl PostedWrites {
    /// Maps the ring of `vm` at `vcpu`, one of its processors, and has writes to `ranges` of guest-physical addresses go
    /// there. `None` when KVM cannot do that: every write is an exit then.
    ///
    /// # Errors
    /// [`KvmError`].
    pub fn new(vm: &Vm, vcpu: &VcpuFd, ranges: &[Range<u64>]) -> Result<Option<Self>, KvmError> {
        let offset = vm.fd.check_extension_int(Cap::CoalescedMmio);
        if offset != KVM_COALESCED_MMIO_PAGE_OFFSET as i32 {
            return Ok(None);
        }
        // SAFETY: the descriptor is open as long as `vcpu` is borrowed.
        let fd = unsafe { BorrowedFd::borrow_raw(vcpu.as_raw_fd()) };
        let (protection, at) = (ProtFlags::READ | ProtFlags::WRITE, u64::from(KVM_COALESCED_MMIO_PAGE_OFFSET));
        // SAFETY: a new mapping at an address the kernel chooses replaces nothing; KVM shows the ring's page there.
        let page = unsafe { mmap(null_mut(), PAGE, protection, MapFlags::SHARED, fd, at * PAGE as u64) }
            .map_err(|source| KvmError { operation: "map the ring of posted writes", source: source.into() })?;
        let ring = NonNull::new(page.cast()).expect("the kernel maps nothing at address 0 unasked");
        // Before the first write is kept there is who takes it out.
        let posted = Self { ring };
        for range in ranges {
            let (start, len) = (IoEventAddress::Mmio(range.start), (range.end - range.start) as u32);
            vm.fd.register_coalesced_mmio(start, len).map_err(failed("have register writes posted"))?;
        }
        Ok(Some(posted))
    }

    fn index(&self, at: usize) -> &AtomicU32 {
        // SAFETY: both indices lie, aligned, in the page, which lives as long as `self`, and KVM writes them in one piece.
        unsafe { AtomicU32::from_ptr(self.ring.as_ptr().add(at).cast()) }
    }

    /// Takes the first write out of the ring: its guest-physical address and its bytes.
    fn take(&mut self) -> Option<(u64, [u8; 8], usize)> {
        let (first, end) = (self.index(0).load(Ordering::Relaxed), self.index(4).load(Ordering::Acquire));
        if first == end || first >= ENTRIES {
            return None;
        }
        let at = HEADER + first as usize * size_of::<kvm_coalesced_mmio>();
        // SAFETY: `first` is below the number of entries that the page has room for, entries are plain integers at
        // multiples of 8, and KVM, which has put this one before `end`, leaves it alone until `first` has passed it.
        let entry = unsafe { self.ring.as_ptr().add(at).cast::<kvm_coalesced_mmio>().read_volatile() };
        self.index(0).store((first + 1) % ENTRIES, Ordering::Release);
        Some((entry.phys_addr, entry.data, (entry.len as usize).min(8)))
    }

    /// Hands all writes to `apply`, the first that was made first; returns how many.
    pub fn apply(&mut self, mut apply: impl FnMut(u64, &[u8])) -> u64 {
        let mut count = 0;
        while let Some((address, data, len)) = self.take() {
            apply(address, &data[..len]);
            count += 1;
        }
        count
    }
}

impl Drop for PostedWrites {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.ring.as_ptr().cast(), PAGE) };
    }
}
