//! The kernel lock: one processor at a time runs the kernel, the others run the program.
//!
//! It is taken on the way in from the program, and given back on the way out and before a processor halts. A switch
//! from thread to thread keeps it: the processor holds it, not the thread. So with any number of processors the kernel
//! is what it is with one: nothing happens between two points where it waits, and everything may have happened after.
//! The spin locks inside it are not contended but by those few things that do without it. Where it waits without
//! sleeping it lets the others in ([`relax`]).
//!
//! Tickets make it fair. Who has waited for a while halts, so that a processor that waits does not take the place of the
//! one that is waited for, where the host has fewer processors than the machine; whoever gives the lock back wakes the
//! next one if it halted. A processor that waits uses no translation of the program's memory, so nobody has to wait for
//! it when those change (see `mm::shootdown`).
//!
//! A processor can also be in the kernel without it, for what is safe beside the holder ([`without`]): it counts as one that
//! runs the program then, so whoever changes page tables waits for it. An exception takes the lock for as long as it is
//! served, and whatever else needs it says so ([`with`]).
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

/// Which processors are in the kernel without the lock.
static OUTSIDE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

/// Whether there is a lock: whether there are several processors.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

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

/// This processor has come from the program and stays in the kernel without the lock, with interrupts masked, until
/// [`come_in`] or [`leave_outside`].
pub fn stay_outside() {
    OUTSIDE[percpu::cpu()].store(true, Ordering::Relaxed);
}

/// This processor is on its way back to the program, and did not need the lock.
pub fn leave_outside() {
    OUTSIDE[percpu::cpu()].store(false, Ordering::Relaxed);
}

/// Takes the lock if this processor is in the kernel without it, and returns whether it was. Who gets `true` calls
/// [`go_out`] in the end, on whichever processor it is then.
pub fn come_in() -> bool {
    let outside = OUTSIDE[percpu::cpu()].swap(false, Ordering::Relaxed);
    if outside {
        acquire();
    }
    outside
}

/// Gives the lock back and stays in the kernel.
pub fn go_out() {
    stay_outside();
    release_to_program();
}

/// Does `work` with the lock, whether or not the caller has it.
pub fn with<T>(work: impl FnOnce() -> T) -> T {
    let outside = come_in();
    let result = work();
    if outside {
        go_out();
    }
    result
}

/// Does `work`, which touches nothing but memory of the program and memory that is held for the caller, without the lock.
/// Others run meanwhile, as if the caller slept.
pub fn without<T>(work: impl FnOnce() -> T) -> T {
    let inside = is_on() && !OUTSIDE[percpu::cpu()].load(Ordering::Relaxed);
    if inside {
        go_out();
    }
    let result = work();
    if inside {
        come_in();
    }
    result
}
