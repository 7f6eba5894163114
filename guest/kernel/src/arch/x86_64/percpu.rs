//! The per-CPU area: the fields that Rust uses of what `boot.s` lays out, reached through gs.

use core::arch::asm;

const MASK: usize = 0x88;
const PENDING: usize = 0xa0;
const CURRENT: usize = 0xb0;
const STACK_TOP: usize = 0xb8;
const STACK_LOW: usize = 0xc0;
const DUPLICATES: usize = 0xc8;

unsafe extern "C" {
    static percpu_areas: [u8; 0];
}

/// Makes gs lead to the area of processor `cpu`. Nothing else here works before.
pub fn load(cpu: usize) {
    const SIZE: usize = 0x8000;
    let area = (&raw const percpu_areas) as usize + cpu * SIZE;
    // SAFETY: boot.s assembled one area of SIZE bytes for every processor that can be started, and CR4.FSGSBASE is set.
    unsafe { asm!("wrgsbase {}", in(reg) area, options(nostack, nomem, preserves_flags)) }
}

macro_rules! read {
    ($offset:expr) => {{
        let value: u64;
        // SAFETY: gs leads to this processor's area, and the offset is one of its 8-byte fields.
        unsafe { asm!("mov {}, gs:[{}]", out(reg) value, const $offset, options(nostack, readonly, preserves_flags)) }
        value
    }};
}

macro_rules! write {
    ($offset:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: as for reading; the entry code reads these fields between instructions, never in the middle of one.
        unsafe { asm!("mov gs:[{}], {}", const $offset, in(reg) value, options(nostack, preserves_flags)) }
    }};
}

/// Sets or clears the software interrupt mask.
pub fn set_mask(masked: bool) {
    write!(MASK, masked as u64);
}

/// Whether interrupts were recorded; they count as taken then.
pub fn take_pending() -> bool {
    if !has_pending() {
        return false;
    }
    write!(PENDING, 0);
    true
}

/// Whether an interrupt is recorded.
pub fn has_pending() -> bool {
    read!(PENDING) != 0
}

/// Interrupts that were delivered twice.
pub fn duplicates() -> u64 {
    read!(DUPLICATES)
}

/// The current thread, as the scheduler left it; 0 before the first.
pub fn current() -> u64 {
    read!(CURRENT)
}

/// Makes `thread` current, with its kernel stack.
pub fn set_current(thread: u64, stack_low: u64, stack_top: u64) {
    write!(CURRENT, thread);
    write!(STACK_LOW, stack_low);
    write!(STACK_TOP, stack_top);
}

/// The bounds of the current kernel stack.
pub fn stack() -> (u64, u64) {
    (read!(STACK_LOW), read!(STACK_TOP))
}
