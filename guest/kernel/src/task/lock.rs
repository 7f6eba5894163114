//! The kernel lock: one processor at a time runs the kernel, the others run the program.
//!
//! It is taken on the way in from the program, and given back on the way out and before a processor halts. A switch
//! from thread to thread keeps it: the processor holds it, not the thread. So with any number of processors the kernel
//! is what it is with one: nothing happens between two points where it waits, and everything may have happened after.
//! The spin locks inside it are never contended. Where it waits without sleeping it lets the others in ([`relax`]).
//!
//! Tickets make it fair. Who has waited for a while halts, so that a processor that waits does not take the place of the
//! one that is waited for, where the host has fewer processors than the machine; whoever gives the lock back wakes the
//! next one if it halted. A processor that waits uses no translation of the program's memory, so nobody has to wait for
//! it when those change (see `mm::shootdown`).
//!
//! With one processor there is no lock.

use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{lapic, rdtsc, trap};
use crate::mm::shootdown;
use crate::{stats, time};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// How long to spin before halting: about what waking a halted processor takes.
const SPIN_NS: u64 = 30_000;

static ON: AtomicBool = AtomicBool::new(false);
/// The next ticket to be given out.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// The ticket whose owner has the lock.
static SERVING: AtomicU32 = AtomicU32::new(0);
/// Who halts waiting for its turn, as its number plus one, by the ticket's remainder: no processor has two tickets.
static HALTED: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(0) }; MAX_CPUS];

/// Turns the lock on, taken by the calling processor, before others are started.
pub fn enable() {
    NEXT.store(1, Ordering::Relaxed);
    ON.store(true, Ordering::SeqCst);
}

/// Takes the lock, with interrupts masked. From here on this processor's translations are right.
pub fn acquire() {
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    shootdown::leave_program();
    let ticket = NEXT.fetch_add(1, Ordering::Relaxed);
    if SERVING.load(Ordering::Acquire) != ticket {
        wait(ticket);
    }
    shootdown::catch_up();
}

#[cold]
fn wait(ticket: u32) {
    stats::LOCK_WAITS.count();
    let start = rdtsc();
    let limit = time::ns_to_ticks(SPIN_NS);
    while SERVING.load(Ordering::Acquire) != ticket {
        shootdown::serve();
        if rdtsc().wrapping_sub(start) < limit {
            core::hint::spin_loop();
            continue;
        }
        stats::LOCK_HALTS.count();
        let slot = &HALTED[ticket as usize % MAX_CPUS];
        slot.store(percpu::cpu() as u32 + 1, Ordering::SeqCst);
        // Either we see that it is our turn, or whoever makes it so sees that we halt.
        trap::halt_unless(|| SERVING.load(Ordering::SeqCst) == ticket);
        slot.store(0, Ordering::Relaxed);
    }
}

/// Gives the lock back.
pub fn release() {
    if !ON.load(Ordering::Relaxed) {
        return;
    }
    let next = SERVING.load(Ordering::Relaxed).wrapping_add(1);
    SERVING.swap(next, Ordering::SeqCst);
    match HALTED[next as usize % MAX_CPUS].load(Ordering::SeqCst) {
        0 => {}
        cpu => lapic::interrupt(cpu as usize - 1),
    }
}

/// Gives it back on the way out to the program.
pub fn release_to_program() {
    if ON.load(Ordering::Relaxed) {
        shootdown::enter_program();
        release();
    }
}

/// Lets those in who wait for the lock, if anybody does. The caller holds no other lock and relies on nothing that
/// another thread may change, as if it slept.
pub fn relax() {
    if ON.load(Ordering::Relaxed) && NEXT.load(Ordering::Relaxed) != SERVING.load(Ordering::Relaxed).wrapping_add(1) {
        release();
        acquire();
    }
}
