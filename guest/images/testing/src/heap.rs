//! A heap like the guest's, which has nothing larger than 4 MiB in one piece, for tests that something makes do with that. Every
//! program that this crate is linked into has it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// Less than the guest's 4 MiB: its heap needs some of them itself.
const MOST: usize = (4 << 20) - (8 << 10);

thread_local! {
    static LIMITED: Cell<bool> = const { Cell::new(false) };
}

struct Heap;

// SAFETY: it is the system's, which is asked for less.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST && LIMITED.get() {
            return std::ptr::null_mut();
        }
        // SAFETY: as our caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: it came from there.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static HEAP: Heap = Heap;

/// Does `work` with a heap like the guest's: what wants more in one piece fails, or ends the process as it would the guest.
pub fn limited<R>(work: impl FnOnce() -> R) -> R {
    LIMITED.set(true);
    let result = work();
    LIMITED.set(false);
    result
}
