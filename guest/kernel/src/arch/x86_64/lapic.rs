//! The local APIC: end of interrupt, and the one-shot timer.

use crate::mm::PHYS_BASE;
use core::ptr::{read_volatile, write_volatile};

/// Guest-physical address, the same on every PC.
const BASE: u64 = 0xfee0_0000;
const ID: u64 = 0x20;
const EOI: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const LVT_TIMER: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_DIVIDE: u64 = 0x3e0;

/// The vector of all interrupts; see `trap` for why there is one. Even, see `monitor.s`.
const VECTOR: u8 = 0xe0;

/// The timer cannot be set farther ahead, in nanoseconds.
pub const MAX_TIMER_NS: u64 = u32::MAX as u64;

fn register(offset: u64) -> *mut u32 {
    (PHYS_BASE + BASE + offset) as *mut u32
}

fn write(offset: u64, value: u32) {
    // SAFETY: the direct map covers the APIC's page, and its registers are 32 bits wide.
    unsafe { write_volatile(register(offset), value) }
}

/// Enables this processor's APIC. The timer counts nanoseconds: KVM's and QEMU's both run at 1 GHz.
pub fn init() {
    write(SPURIOUS, 0x1ff);
    write(TIMER_DIVIDE, 0xb);
    write(LVT_TIMER, VECTOR as u32);
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Interrupts in about `ns` nanoseconds, at most [`MAX_TIMER_NS`], in place of what was set before; `None` turns it off.
pub fn set_timer(ns: Option<u64>) {
    let ticks = ns.map_or(0, |ns| ns.clamp(1, MAX_TIMER_NS) as u32);
    write(TIMER_COUNT, ticks);
}

/// The address and data of a message that interrupts this processor (SDM volume 3, section 11.11).
pub fn message() -> (u64, u32) {
    // SAFETY: as in write; reading the id has no effect.
    let id = unsafe { read_volatile(register(ID)) } >> 24;
    (BASE | (id as u64) << 12, VECTOR as u32)
}
