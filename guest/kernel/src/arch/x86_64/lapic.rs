//! The local APIC: end of interrupt, and the one-shot timer.

use crate::mm::PHYS_BASE;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicU64, Ordering};

/// Guest-physical address, the same on every PC.
const BASE: u64 = 0xfee0_0000;
const ID: u64 = 0x20;
const EOI: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const LVT_TIMER: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_NOW: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3e0;

/// Vectors. All in one priority class (0xe0 to 0xee), so that one that is not ended blocks the others and the
/// single interrupt stack is never overwritten; even only, see `monitor.s`.
pub mod vector {
    /// The timer.
    pub const TIMER: u8 = 0xe0;
    /// The first and last for devices.
    pub const DEVICES: core::ops::RangeInclusive<u8> = 0xe2..=0xee;
}

/// Timer ticks per millisecond.
static TICKS_PER_MS: AtomicU64 = AtomicU64::new(1_000_000);

fn register(offset: u64) -> *mut u32 {
    (PHYS_BASE + BASE + offset) as *mut u32
}

fn write(offset: u64, value: u32) {
    // SAFETY: the direct map covers the APIC's page, and its registers are 32 bits wide.
    unsafe { write_volatile(register(offset), value) }
}

/// Enables this processor's APIC and measures its timer against the time stamp counter of `tsc_khz`.
pub fn init(tsc_khz: u64) {
    write(SPURIOUS, 0x1ff);
    write(TIMER_DIVIDE, 0xb);
    write(LVT_TIMER, 1 << 16);
    // KVM's and QEMU's APIC timers run at 1 GHz; a fifth of a millisecond of listening tells if this one does not.
    write(TIMER_COUNT, u32::MAX);
    let start = super::rdtsc();
    while super::rdtsc() - start < tsc_khz / 5 {
        core::hint::spin_loop();
    }
    // SAFETY: as in write.
    let ticks = u32::MAX as u64 - unsafe { read_volatile(register(TIMER_NOW)) } as u64;
    let elapsed = super::rdtsc() - start;
    let per_ms = ticks * tsc_khz / elapsed.max(1);
    if !(900_000..1_100_000).contains(&per_ms) && per_ms > 0 {
        TICKS_PER_MS.store(per_ms, Ordering::Relaxed);
    }
    write(TIMER_COUNT, 0);
    write(LVT_TIMER, vector::TIMER as u32);
}

/// Ends the interrupt in service.
pub fn end_of_interrupt() {
    write(EOI, 0);
}

/// Raises [`vector::TIMER`] in about `ns` nanoseconds, in place of what was set before; `None` turns it off.
pub fn set_timer(ns: Option<u64>) {
    let ticks = ns.map_or(0, |ns| {
        let ticks = ns.saturating_mul(TICKS_PER_MS.load(Ordering::Relaxed)) / 1_000_000;
        ticks.clamp(1, u32::MAX as u64) as u32
    });
    write(TIMER_COUNT, ticks);
}

/// The address and data of a message that raises `vector` here (SDM volume 3, section 11.11).
pub fn message(vector: u8) -> (u64, u32) {
    // SAFETY: as in write; reading the id has no effect.
    let id = unsafe { read_volatile(register(ID)) } >> 24;
    (BASE | (id as u64) << 12, vector as u32)
}
