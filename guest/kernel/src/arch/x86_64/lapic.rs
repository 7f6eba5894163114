//! The local APIC: end of interrupt, the one-shot timer, and messages between processors.

use super::percpu;
use crate::mm::PHYS_BASE;
use core::ptr::{read_volatile, write_volatile};
use core::sync::atomic::{AtomicU32, Ordering};

/// Guest-physical address, the same on every PC.
const BASE: u64 = 0xfee0_0000;
const ID: u64 = 0x20;
const EOI: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const COMMAND: u64 = 0x300;
const COMMAND_TARGET: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const TIMER_COUNT: u64 = 0x380;
const TIMER_DIVIDE: u64 = 0x3e0;
/// Commands (SDM volume 3, section 11.6.1): level asserted, and how it is delivered.
const FIXED: u32 = 0x4000;
const INIT: u32 = 0x4500;
const START_UP: u32 = 0x4600;

/// The vector of all interrupts; see `trap` for why there is one. Even, see `monitor.s`.
const VECTOR: u8 = 0xe0;
/// The timer cannot be set farther ahead, in nanoseconds.
pub const MAX_TIMER_NS: u64 = u32::MAX as u64;

/// The APIC ids of started processors.
static IDS: [AtomicU32; percpu::MAX_CPUS] = [const { AtomicU32::new(0) }; percpu::MAX_CPUS];

fn register(offset: u64) -> *mut u32 {
    (PHYS_BASE + BASE + offset) as *mut u32
}

fn write(offset: u64, value: u32) {
    // SAFETY: the direct map covers the APIC's page, and its registers are 32 bits wide.
    unsafe { write_volatile(register(offset), value) }
}

fn id() -> u32 {
    // SAFETY: as in write; reading the id has no effect.
    unsafe { read_volatile(register(ID)) >> 24 }
}

/// Enables this processor's APIC. The timer counts nanoseconds: KVM's and QEMU's both run at 1 GHz.
pub fn init() {
    write(SPURIOUS, 0x1ff);
    write(TIMER_DIVIDE, 0xb);
    write(LVT_TIMER, VECTOR as u32);
    IDS[percpu::cpu()].store(id(), Ordering::Relaxed);
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
    (BASE | (id() as u64) << 12, VECTOR as u32)
}

/// The same for one that interrupts all processors: 0xff is nobody's id.
pub fn message_to_all() -> (u64, u32) {
    (BASE | 0xff << 12, VECTOR as u32)
}

/// Sends a command. A virtual APIC takes it at once, so nobody has to wait until the last one has gone.
fn command(target: u32, command: u32) {
    write(COMMAND_TARGET, target << 24);
    write(COMMAND, command);
}

/// Interrupts processor `cpu`, which has been started.
pub fn interrupt(cpu: usize) {
    command(IDS[cpu].load(Ordering::Relaxed), FIXED | VECTOR as u32);
}

/// Resets the processor with APIC id `id`; it then waits for [`start`].
pub fn reset(id: u32) {
    command(id, INIT);
}

/// Starts the processor with APIC id `id` in real mode at physical address `code`, a page below 1 MiB.
pub fn start(id: u32, code: u32) {
    command(id, START_UP | code >> 12);
}
