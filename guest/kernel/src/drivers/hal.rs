//! What the driver crate needs of the kernel: frames, addresses, registers.

use crate::mm::{LARGE_PAGE, PAGE_SIZE, PHYS_BASE, PHYS_END, frames, paging};
use core::ptr::NonNull;
use diolkos_virtio::{Hal, Mmio, PhysAddr, PhysRange};

/// The kernel, as the driver sees it.
#[derive(Debug, Clone, Copy)]
pub struct KernelHal;

fn order(pages: usize) -> usize {
    pages.next_power_of_two().trailing_zeros() as usize
}

// SAFETY: 1. frames are contiguous, aligned, mapped by the direct map, zeroed here and nobody else's until released;
// 2. within the direct map virtual contiguity is physical contiguity, and other addresses are refused; 3. registers
// are mapped only where there is no RAM, so nothing of Rust's can be there.
unsafe impl Hal for KernelHal {
    type Registers = Mmio;

    fn alloc_pages(&self, pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
        let phys = frames::allocate(order(pages))?;
        let start = NonNull::new(frames::pointer(phys))?;
        // SAFETY: the frames were just allocated.
        unsafe { start.write_bytes(0, (PAGE_SIZE as usize) << order(pages)) };
        Some((PhysAddr(phys), start))
    }

    unsafe fn free_pages(&self, phys: PhysAddr, _start: NonNull<u8>, pages: usize) {
        frames::release(phys.0, order(pages));
    }

    fn phys_of(&self, start: NonNull<u8>, len: usize) -> Option<PhysAddr> {
        let start = start.as_ptr() as u64;
        let end = start.checked_add(len as u64)?;
        (start >= PHYS_BASE && end <= PHYS_END).then(|| PhysAddr(start - PHYS_BASE))
    }

    fn map_mmio(&self, range: PhysRange) -> Option<Mmio> {
        if frames::is_ram(range.start().0, range.end()) {
            return None;
        }
        let start = NonNull::new(paging::map_physical(range.start().0, range.len()).ok()?)?;
        // SAFETY: the direct map reaches the range for ever, and it is not RAM, so no Rust object lies there. The
        // type of its caching does not matter: registers of virtual devices are exits.
        Some(unsafe { Mmio::new(start, range.len() as usize) })
    }
}

/// Maps a DAX window into the direct map.
pub fn map_window(range: PhysRange) -> Option<NonNull<u8>> {
    let aligned = range.start().0.is_multiple_of(LARGE_PAGE) && range.len().is_multiple_of(LARGE_PAGE);
    if !aligned || frames::is_ram(range.start().0, range.end()) {
        return None;
    }
    NonNull::new(paging::map_physical(range.start().0, range.len()).ok()?)
}
