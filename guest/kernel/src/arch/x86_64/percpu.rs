//! The per-CPU area: the fields that Rust uses of what `boot.s` lays out, reached through gs; and the areas of further
//! processors, which are made from the first one's when they are started.

use crate::mm::{PHYS_BASE, frames};
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::{Errno, Result};

/// Most processors: the descriptor table has places for so many task state segments.
pub const MAX_CPUS: usize = 64;

const SELF: u64 = 0x80;
const MASK: u64 = 0x88;
const PENDING: u64 = 0xa0;
const CURRENT: u64 = 0xb0;
const STACK_TOP: u64 = 0xb8;
const STACK_LOW: u64 = 0xc0;
const DUPLICATES: u64 = 0xc8;
const CALLS: u64 = 0xd0;
const CPU: u64 = 0x110;
const EXCEPTION_FRAMES: u64 = 0x200;
const TSS: u64 = 0x900;
const INTERRUPT_FRAMES: u64 = 0x1000;
const IST1: u64 = 0x3600;
const RSP0: u64 = 0x3a00;
const IO_BITMAP: u64 = 0x4000;
/// 32 KiB.
const ORDER: usize = 3;
const SIZE: u64 = 4096 << ORDER;

unsafe extern "C" {
    static percpu_area: [u8; 0];
    static gdt: [u8; 0];
}

/// The areas of started processors, by number; the first one's is known.
static AREAS: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

fn first_area() -> u64 {
    (&raw const percpu_area) as u64
}

/// Makes gs lead to the first processor's area. Nothing else here works before.
pub fn load_first() {
    load(first_area());
}

/// Makes gs lead to `area`, which is [`make`]'s.
pub fn load(area: u64) {
    // SAFETY: an area is there, and CR4.FSGSBASE is set.
    unsafe { asm!("wrgsbase {}", in(reg) area, options(nostack, nomem, preserves_flags)) }
}

/// A processor's area and the selector of its task state segment.
pub struct NewArea {
    /// Its address.
    pub address: u64,
    /// For `ltr`.
    pub selector: u16,
}

/// Makes the area of processor `cpu`, masked, with `thread` current on the given kernel stack. Only the first
/// processor runs yet, and interrupts are masked, so what is copied of its area does not change.
///
/// # Errors
/// `ENOMEM`.
pub fn make(cpu: usize, thread: u64, stack_low: u64, stack_top: u64) -> Result<NewArea> {
    assert!((1..MAX_CPUS).contains(&cpu), "processor {cpu} has no place in the descriptor table");
    let area = frames::pointer(frames::allocate(ORDER).ok_or(Errno::ENOMEM)?) as u64;
    let delta = area.wrapping_sub(first_area());
    let get = |at: u64| {
        // SAFETY: within the first processor's area, 8-byte aligned.
        unsafe { ((first_area() + at) as *const u64).read() }
    };
    let put = |at: u64, value: u64| {
        // SAFETY: within the new area, which nobody else knows yet.
        unsafe { ((area + at) as *mut u64).write_unaligned(value) }
    };
    // SAFETY: as above.
    unsafe { (area as *mut u8).write_bytes(0, SIZE as usize) };
    for (at, value) in [(SELF, area), (MASK, 1), (CURRENT, thread), (STACK_LOW, stack_low), (STACK_TOP, stack_top)] {
        put(at, value);
    }
    (0..8).for_each(|call| put(CALLS + 8 * call, get(CALLS + 8 * call)));
    put(CPU, cpu as u64);
    // The stubs' return frames: rip, cs, flags, rsp, ss; the stack is this area's.
    for (frames, count, stride) in [(EXCEPTION_FRAMES, 32, 48), (INTERRUPT_FRAMES, 64, 64)] {
        for frame in (0..count).map(|i| frames + i * stride) {
            (0..5).for_each(|word| put(frame + 8 * word, get(frame + 8 * word)));
            put(frame + 24, get(frame + 24).wrapping_add(delta));
        }
    }
    put(TSS + 4, area + RSP0);
    put(TSS + 0x24, area + IST1);
    put(TSS + 0x60, (IO_BITMAP - TSS) << 48);
    // The byte after the bitmap must be all ones.
    put(IO_BITMAP + 0x2000, 0xff);
    let selector = 0x40 + 16 * cpu as u64;
    let (base, limit) = (area + TSS, IO_BITMAP - TSS + 0x2000);
    let low = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    let descriptor = (PHYS_BASE + (&raw const gdt) as u64 + selector) as *mut [u64; 2];
    // SAFETY: the table has MAX_CPUS places, this one is unused, and the direct map lets us write it.
    unsafe { descriptor.write_volatile([low, base >> 32]) };
    AREAS[cpu].store(area, Ordering::Relaxed);
    Ok(NewArea { address: area, selector: selector as u16 })
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

/// The number of this processor, below [`MAX_CPUS`]. A thread that may be moved meanwhile knows an old one.
pub fn cpu() -> usize {
    read!(CPU) as usize & (MAX_CPUS - 1)
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

/// Records an interrupt again that was taken. Nobody asks which one it was.
pub fn set_pending() {
    write!(PENDING, 1);
}

/// Whether an interrupt is recorded.
pub fn has_pending() -> bool {
    read!(PENDING) != 0
}

/// Interrupts that were delivered twice, on all processors.
pub fn duplicates() -> u64 {
    let further = AREAS.iter().map(|area| area.load(Ordering::Relaxed)).filter(|area| *area != 0);
    let count = |area: u64| {
        // SAFETY: areas stay for ever, and the field is one that its processor adds to.
        unsafe { ((area + DUPLICATES) as *const u64).read_volatile() }
    };
    further.chain([first_area()]).map(count).sum()
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
