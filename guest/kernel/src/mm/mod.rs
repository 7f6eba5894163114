//! Memory: frames, the kernel heap, page tables, address spaces, and the only ways to touch user memory.
//!
//! One tree of page tables serves kernel and program. The lower half of the address space is cut in two:
//! the program below [`USER_TOP`], the kernel above: the direct map of everything guest-physical (RAM, BARs,
//! DAX windows) at [`PHYS_BASE`], and kernel stacks at [`STACKS_BASE`].

pub mod areas;
#[cfg(guest)]
mod fault;
#[cfg(guest)]
pub mod forget;
pub mod frames;
#[cfg(guest)]
mod heap;
#[cfg(guest)]
pub mod listing;
pub mod loans;
#[cfg(guest)]
pub mod losses;
#[cfg(guest)]
pub mod marking;
#[cfg(guest)]
pub mod paging;
#[cfg(guest)]
pub mod patch;
#[cfg(guest)]
pub mod reclaim;
#[cfg(guest)]
mod request;
#[cfg(guest)]
mod residency;
#[cfg(guest)]
mod resize;
mod reverse;
#[cfg(guest)]
pub mod revoke;
#[cfg(guest)]
pub mod shootdown;
#[cfg(guest)]
pub mod space;
#[cfg(guest)]
pub mod stack;
#[cfg(guest)]
pub mod user;
pub mod vma;

#[cfg(guest)]
pub use space::AddressSpace;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;
/// Bytes in a large page.
pub const LARGE_PAGE: u64 = 2 << 20;
/// First address the program cannot use. AddressSanitizer has its heap at 0x6000_0000_0000, 4 TiB of it, wherever it runs.
pub const USER_TOP: u64 = 0x6700_0000_0000;
/// Lowest address the program can map (`mmap_min_addr`).
pub const USER_MIN: u64 = 0x1_0000;
/// Where guest-physical address 0 appears.
pub const PHYS_BASE: u64 = 0x6800_0000_0000;
/// End of the direct map: 16 TiB of guest-physical space.
pub const PHYS_END: u64 = 0x7800_0000_0000;
/// Kernel stacks.
pub const STACKS_BASE: u64 = 0x7800_0000_0000;

/// Rounds down to a page.
pub const fn page_down(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Rounds up to a page; `None` on overflow.
pub const fn page_up(address: u64) -> Option<u64> {
    match address.checked_add(PAGE_SIZE - 1) {
        Some(sum) => Some(page_down(sum)),
        None => None,
    }
}
