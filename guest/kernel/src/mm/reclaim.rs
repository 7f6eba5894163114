//! Memory that can be had back: what the page caches of shares hold.
//!
//! Page caches grow until a part of the memory is left, so that nobody else has to ask for it back all the time; who finds
//! none left asks here before he gives up.

use super::{PAGE_SIZE, frames};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use spin::Once;

/// Gives back so many pages or more and says how many; the flag says whether it may wait for the host.
type GiveBack = fn(pages: usize, may_wait: bool) -> usize;

/// Bytes that page caches hold.
static CACHED: AtomicU64 = AtomicU64::new(0);
static GIVE_BACK: Once<GiveBack> = Once::new();

/// What is had back at once, at least: 1 MiB.
const BATCH: usize = 256;

/// Who holds memory that can be had back.
pub fn init(give_back: GiveBack) {
    GIVE_BACK.call_once(|| give_back);
}

/// Has memory given back, 2^`order` frames or more; whether any was. With `may_wait` it may wait for the host, and no spin
/// lock may be held; without, none that a page fault takes.
pub fn reclaim(order: usize, may_wait: bool) -> bool {
    GIVE_BACK.get().is_some_and(|give_back| give_back(BATCH.max(1 << order), may_wait) > 0)
}

/// Frames for a page cache: the cache gives some back itself before it takes what others need. May wait for the host.
pub fn allocate_for_cache(order: usize) -> Option<u64> {
    loop {
        let (free, total) = frames::usage();
        // A small machine leaves what the kernel needs and a cushion; a large one a sixteenth.
        let left = (frames::KERNEL_RESERVE * 2).max(total / 16);
        if free >= left + (PAGE_SIZE << order)
            && let Some(block) = frames::allocate_for_program(order)
        {
            CACHED.fetch_add(PAGE_SIZE << order, Relaxed);
            return Some(block);
        }
        if order > 0 && free >= left + (PAGE_SIZE << order) {
            // There is memory, but not in one piece.
            return None;
        }
        if !reclaim(order, true) {
            return None;
        }
    }
}

/// Takes frames back from a page cache.
pub fn release_from_cache(phys: u64, order: usize) {
    CACHED.fetch_sub(PAGE_SIZE << order, Relaxed);
    frames::release(phys, order);
}

/// Bytes that page caches hold.
pub fn cached() -> u64 {
    CACHED.load(Relaxed)
}
