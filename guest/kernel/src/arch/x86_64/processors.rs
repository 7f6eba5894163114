//! Starting further processors: each is reset, begins in real mode in a page below 1 MiB (`boot.s`), and takes the first
//! one's way to ring 3, where it idles until there is something for it to run.
//!
//! One is started after the other: they share the few words that tell a new processor where its area and stack are.

use super::{lapic, percpu, rdtsc, trap, xstate};
use crate::mm::paging::Tables;
use crate::mm::{PHYS_BASE, frames};
use crate::{task, time};
use core::sync::atomic::{AtomicUsize, Ordering};
use diolkos_vfs::{Errno, Result};

/// Where the first code goes: `AP_CODE` in `boot.s`. Every machine keeps this page free of what we are told.
const CODE: u64 = 0x8000;
/// How long a processor may take: 2 s. (A millisecond is usual; a busy host may let it wait for its turn.)
const PATIENCE_NS: u64 = 2_000_000_000;
/// A start-up message that nothing came of is sent once more (SDM volume 3, section 9.4.4.1): after 100 ms.
const REPEAT_NS: u64 = 100_000_000;

unsafe extern "C" {
    static ap_code: [u8; 0];
    static ap_code_end: [u8; 0];
    static mut ap_tables: u64;
    static mut ap_selector: u64;
    static mut ap_area: u64;
    static mut ap_frame: [u64; 5];
}

/// Processors that have come up, the first one included.
static UP: AtomicUsize = AtomicUsize::new(1);

/// The address of a word of the boot code, which is linked at its physical address.
fn word(at: *const u64) -> *mut u64 {
    (PHYS_BASE + at as u64) as *mut u64
}

/// Starts processors 1 to `count` - 1. Called on the first one, which holds the kernel lock, before there is a program.
///
/// # Errors
/// `ENOMEM`; `ETIME` when one does not come up; `ERANGE` when memory below 4 GiB has run out.
pub fn start(count: usize) -> Result<()> {
    if count == 1 {
        return Ok(());
    }
    let tables = Tables::kernel_with_boot_code()?;
    let len = (&raw const ap_code_end) as usize - (&raw const ap_code) as usize;
    // SAFETY: both ranges are in low memory, which the direct map covers and the frame allocator has no part of; the
    // words belong to the boot code, and no processor but this one runs yet or looks at them between two starts.
    unsafe {
        let code = (PHYS_BASE + (&raw const ap_code) as u64) as *const u8;
        ((PHYS_BASE + CODE) as *mut u8).copy_from_nonoverlapping(code, len);
        word(&raw const ap_tables).write_volatile(tables.low_root()?.into());
    }
    let started = (1..count).try_for_each(start_one);
    tables.free();
    started
}

fn start_one(cpu: usize) -> Result<()> {
    let idle = task::sched::add_processor(cpu)?;
    let (low, top) = idle.stack();
    let area = percpu::make(cpu, alloc::sync::Arc::as_ptr(&idle) as u64, low, top)?;
    // SAFETY: as in start.
    unsafe {
        word(&raw const ap_selector).write_volatile(area.selector.into());
        word(&raw const ap_area).write_volatile(area.address);
        word((&raw const ap_frame).cast::<u64>().wrapping_add(3)).write_volatile(top);
    }
    // Machines number their APICs from 0 in the order of the processors.
    let id = cpu as u32;
    lapic::reset(id);
    let started = rdtsc();
    let mut repeat = time::ns_to_ticks(REPEAT_NS);
    lapic::start(id, CODE as u32);
    while UP.load(Ordering::Acquire) == cpu {
        let waited = rdtsc().wrapping_sub(started);
        if waited > time::ns_to_ticks(PATIENCE_NS) {
            return Err(Errno::ETIME);
        }
        if waited > repeat {
            repeat = u64::MAX;
            lapic::start(id, CODE as u32);
        }
        core::hint::spin_loop();
    }
    Ok(())
}

/// First Rust code of a further processor, at ring 3 on its idle thread's stack with interrupts masked.
#[unsafe(no_mangle)]
extern "C" fn processor_start(area: u64) -> ! {
    percpu::load(area);
    Tables::kernel().load();
    lapic::init();
    xstate::init();
    trap::init_syscall();
    UP.fetch_add(1, Ordering::Release);
    task::lock::acquire();
    task::sched::idle_loop()
}

/// How many processors there are.
pub fn count() -> usize {
    UP.load(Ordering::Relaxed)
}

/// All of them, a bit each.
pub fn all() -> u64 {
    u64::MAX >> (percpu::MAX_CPUS - count())
}

const _: () = assert!(frames::LARGE_ORDER > 0);
