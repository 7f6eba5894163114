//! Time: the time stamp counter, scaled; and the wall clock, set once from the host's.

use crate::arch::{monitor, rdtsc};
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_common::cmdline::ClockSample;

static BASE: AtomicU64 = AtomicU64::new(0);
static MULT: AtomicU64 = AtomicU64::new(0);
static TSC_KHZ: AtomicU64 = AtomicU64::new(0);
static WALL_BASE_NS: AtomicU64 = AtomicU64::new(0);

/// Starts the clocks. `base` is the counter at the kernel's entry, which becomes monotonic zero; `tsc_khz` is what the
/// host says (0: ask the processor).
///
/// # Errors
/// Nobody knows how fast the counter runs.
pub fn init(base: u64, tsc_khz: u64, clock: Option<ClockSample>) -> Result<(), &'static str> {
    let khz = if tsc_khz != 0 {
        tsc_khz
    } else {
        ask_processor().ok_or("the frequency of the TSC is not known; give tsc_khz=")?
    };
    TSC_KHZ.store(khz, Ordering::Relaxed);
    BASE.store(base, Ordering::Relaxed);
    // ns per tick * 2^32 = 10^6 * 2^32 / kHz; khz is at least 1000 (checked), so this fits.
    MULT.store((1_000_000u128 << 32).div_euclid(khz.max(1000) as u128) as u64, Ordering::Relaxed);
    if let Some(sample) = clock {
        // Where guest and host share a counter, the sample's age is known exactly; else it was taken just now.
        let age = base.checked_sub(sample.host_tsc).map(ticks_to_ns).filter(|ns| *ns < MAX_AGE_NS).unwrap_or(0);
        WALL_BASE_NS.store(sample.wall_ns.saturating_add(age), Ordering::Relaxed);
    }
    Ok(())
}

/// A sample older than this was taken with another counter: 10 s.
const MAX_AGE_NS: u64 = 10_000_000_000;

/// The counter's frequency in kHz as CPUID tells it: the hypervisor's timing leaf, or Intel's crystal clock.
fn ask_processor() -> Option<u64> {
    let [top, ..] = monitor::cpuid(0x4000_0000, 0);
    if (0x4000_0010..0x4000_0100).contains(&top) {
        let [khz, ..] = monitor::cpuid(0x4000_0010, 0);
        if khz != 0 {
            return Some(khz as u64);
        }
    }
    let [max, ..] = monitor::cpuid(0, 0);
    if max >= 0x15 {
        let [denominator, numerator, hertz, _] = monitor::cpuid(0x15, 0);
        if denominator != 0 && numerator != 0 && hertz != 0 {
            return Some(hertz as u64 * numerator as u64 / denominator as u64 / 1000);
        }
    }
    None
}

fn ticks_to_ns(ticks: u64) -> u64 {
    ((ticks as u128 * MULT.load(Ordering::Relaxed) as u128) >> 32) as u64
}

/// Counter ticks in `ns` nanoseconds.
pub fn ns_to_ticks(ns: u64) -> u64 {
    (ns as u128 * TSC_KHZ.load(Ordering::Relaxed) as u128 / 1_000_000) as u64
}

/// The counter's frequency in kHz.
pub fn tsc_khz() -> u64 {
    TSC_KHZ.load(Ordering::Relaxed)
}

/// Nanoseconds since the kernel started (`CLOCK_MONOTONIC`).
pub fn monotonic_ns() -> u64 {
    ticks_to_ns(rdtsc().saturating_sub(BASE.load(Ordering::Relaxed)))
}

/// Nanoseconds since the Unix epoch (`CLOCK_REALTIME`).
pub fn wall_ns() -> u64 {
    WALL_BASE_NS.load(Ordering::Relaxed) + monotonic_ns()
}

/// How `rdtsc` becomes nanoseconds: `ns = ((tsc - base) as u128 * mult >> 32)`; for the vDSO.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    /// Counter value at monotonic zero.
    pub base: u64,
    /// Nanoseconds per tick, times 2^32.
    pub mult: u64,
    /// Wall clock at monotonic zero, in nanoseconds.
    pub wall_base_ns: u64,
}

/// The scale in force.
pub fn scale() -> Scale {
    Scale {
        base: BASE.load(Ordering::Relaxed),
        mult: MULT.load(Ordering::Relaxed),
        wall_base_ns: WALL_BASE_NS.load(Ordering::Relaxed),
    }
}
