//! x86-64: boot, the ring-0 monitor, the ways into the kernel and out, and the processor's registers.

mod frame;
pub mod port;

pub use frame::Frame;

/// Copies `len` bytes between ranges of which either may fault, and returns how many were left undone.
///
/// # Safety
/// Each range is Rust-valid memory or memory whose faults the kernel recovers from (user memory below
/// `USER_TOP`, the DAX window).
pub unsafe fn copy_fallible(_to: *mut u8, _from: *const u8, _len: usize) -> usize {
    todo!()
}

/// Sizes and copies of the processor's extended state (x87, SSE, AVX, AVX-512) in the XSAVE standard format.
pub mod xstate {
    use super::Frame;

    /// Bytes of a save area, and the mask of components (XCR0) it holds.
    pub fn layout() -> (usize, u64) {
        todo!()
    }

    /// Saves the program's whole extended state: what the entry code saved in `frame`, the rest from the registers.
    /// `area` is 64-byte aligned and [`layout`] long.
    pub fn save_user(_frame: &Frame, _area: &mut [u8]) {
        todo!()
    }

    /// The reverse; an area the processor would refuse (reserved bits, from a program) gives `false` and changes nothing.
    pub fn restore_user(_frame: &mut Frame, _area: &mut [u8]) -> bool {
        todo!()
    }
}

/// The base of fs, which the program's thread-local storage hangs on.
pub fn fs_base() -> u64 {
    todo!()
}

/// Sets it.
pub fn set_fs_base(_base: u64) {
    todo!()
}

/// Starts the program's first instruction at `rip` with stack pointer `rsp`, all other registers zero, on the
/// current thread; the kernel stack is empty afterwards.
pub fn enter_user(_rip: u64, _rsp: u64) -> ! {
    todo!()
}

/// Reads the time stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: rdtsc reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
