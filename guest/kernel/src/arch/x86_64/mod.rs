//! x86-64: boot, the ring-0 monitor, the ways into the kernel and out, and the processor's registers.
//!
//! The story: `boot.s` takes the machine from the PVH entry to ring 3; from then on ring 0 holds only the monitor
//! (`monitor.s`), which reflects exceptions and interrupts to `entry.s` and serves a handful of calls
//! ([`monitor`]). `entry.s` saves a [`Frame`] and calls [`trap`]; everything from there on is Rust.

mod frame;
pub mod lapic;
pub mod monitor;
pub mod percpu;
pub mod port;
pub mod processors;
pub mod trap;
pub mod xstate;

use core::arch::{asm, global_asm};
pub use frame::Frame;

global_asm!(
    include_str!("boot.s"),
    include_str!("monitor.s"),
    include_str!("entry.s"),
    include_str!("memory.s"),
    include_str!("symbols.s"),
    options(att_syntax)
);

unsafe extern "C" {
    fn copy_fallible_asm(to: *mut u8, from: *const u8, len: usize) -> usize;
    fn exchange_fallible_asm(word: *mut u32, expected: u32, new: u32) -> u64;
    fn resume_frame(frame: *const Frame) -> !;
    fn switch_stacks(save: *mut u64, load: u64);
    fn thread_entry();
    #[link_name = "direct_call"]
    fn direct_call_asm();
}

/// Where a system call that is made by a jump comes in (entry.s).
pub fn direct_call() -> u64 {
    direct_call_asm as *const () as u64
}

/// Copies `len` bytes between ranges of which either may fault, and returns how many were left undone.
///
/// # Safety
/// Each range is Rust-valid memory or memory whose faults the kernel recovers from (user memory below
/// `USER_TOP`, the DAX window).
pub unsafe fn copy_fallible(to: *mut u8, from: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise; the assembly touches only the two ranges.
    unsafe { copy_fallible_asm(to, from, len) }
}

/// Sets the word to `new` if it is `expected`, in one step that no other processor can come between, and returns what
/// it was; `None` if it cannot be written.
///
/// # Safety
/// The word is aligned, and memory as for [`copy_fallible`].
pub unsafe fn exchange_fallible(word: *mut u32, expected: u32, new: u32) -> Option<u32> {
    // SAFETY: the caller's promise; the assembly touches only the word.
    u32::try_from(unsafe { exchange_fallible_asm(word, expected, new) }).ok()
}

/// Gives the processor from one kernel stack to another; returns when somebody switches back.
///
/// # Safety
/// `load` is a stack pointer that [`switch_stacks`] saved, or [`first_stack`] made, whose stack nobody runs on;
/// `save` stays valid until the switch back.
pub unsafe fn switch(save: *mut u64, load: u64) {
    // SAFETY: the caller's promise.
    unsafe { switch_stacks(save, load) }
}

/// Prepares an empty stack so that the first switch to it calls `thread_start(argument)`. Returns its stack pointer.
///
/// # Safety
/// `top` is the 16-byte aligned end of a mapped stack that nobody uses.
pub unsafe fn first_stack(top: u64, argument: u64) -> u64 {
    // What switch_stacks pops: r15 r14 r13 r12 rbp rbx, then the return address; two words keep the alignment.
    let words = [0, 0, 0, 0, 0, argument, thread_entry as *const () as u64, 0, 0];
    let stack = top - size_of_val(&words) as u64;
    // SAFETY: the words lie in the stack's topmost bytes.
    unsafe { (stack as *mut [u64; 9]).write(words) };
    stack
}

/// The base of fs, which the program's thread-local storage hangs on.
pub fn fs_base() -> u64 {
    let base;
    // SAFETY: CR4.FSGSBASE is set; reading has no effect.
    unsafe { asm!("rdfsbase {}", out(reg) base, options(nostack, nomem, preserves_flags)) };
    base
}

/// Sets it. The kernel does not use fs.
pub fn set_fs_base(base: u64) {
    // SAFETY: CR4.FSGSBASE is set; callers keep the base canonical by keeping it below USER_TOP.
    unsafe { asm!("wrfsbase {}", in(reg) base, options(nostack, nomem, preserves_flags)) }
}

/// Starts the program's first instruction at `rip` with stack pointer `rsp`, all other registers zero or initial, on
/// the current thread; its kernel stack counts as empty from then on.
pub fn enter_user(rip: u64, rsp: u64) -> ! {
    xstate::load(&xstate::Area::initial());
    xstate::set_kernel_mxcsr();
    enter_user_frame(Frame { rip, rsp, ..Frame::user() })
}

/// Leaves to the program with all of `frame`'s registers: how a new thread of it starts.
pub fn enter_user_frame(mut frame: Frame) -> ! {
    trap::leave_to_program(&mut frame);
    // The frame is on this stack, which an interrupt between unmasking and the last pop would not touch: handlers run
    // below the interrupted rsp.
    // SAFETY: a whole frame whose cs and ss are the program's.
    unsafe { resume_frame(&frame) }
}

/// Reads the time stamp counter.
pub fn rdtsc() -> u64 {
    // SAFETY: rdtsc reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
