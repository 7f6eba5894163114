//! Translations on other processors: before what a page-table entry led to is used for something else, every processor
//! must have forgotten it.
//!
//! Only the holder of the kernel lock changes page tables, and only the holder and processors that run the program use
//! translations of the program's memory. So each change gets a number. A processor that takes the lock forgets its
//! translations if the number is not the one it saw last ([`catch_up`]); it never has to be interrupted for that, be it
//! idle or waiting for the lock. Those that run the program are interrupted and waited for: they are through when they
//! have left the program, or have seen the change without taking the lock ([`serve_alone`]).
//!
//! Where the host has fewer processors than the machine, the one that is waited for may not be running at all, and a
//! processor that spins may be in its place. So who has waited for a while halts ([`wait_until`]), and is woken by who
//! is waited for ([`answer`]). No wake-up is lost: the waiter says that it halts and then looks once more; the other one
//! does what it was asked for and then looks whether somebody halts. These are sequentially consistent, so at least one
//! of the two sees what the other has done; and an interrupt that comes between the look and the halt is recorded, which
//! ends the halt.
//!
//! # Locking
//! All but [`serve`], [`serve_alone`] and [`leave_program`] need the kernel lock. Waiting with it held cannot end in a
//! deadlock: nobody needs the lock to leave the program.

use super::paging::{self, Tables};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{lapic, processors, rdtsc, trap};
use crate::{stats, task, time};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// How long to spin before halting: about what interrupting a processor takes, and waking one that halts.
const SPIN_NS: u64 = 30_000;

/// What others must know of a processor; a cache line of its own.
#[repr(align(64))]
struct Processor {
    /// It may be running the program.
    in_program: AtomicBool,
    /// The number of the last change whose translations it has forgotten.
    seen: AtomicU64,
    /// Root of the page tables it uses; 0: the kernel's.
    root: AtomicU64,
    /// It must stop using the tables at `root`.
    must_leave: AtomicBool,
}

static PROCESSORS: [Processor; MAX_CPUS] = [const {
    Processor {
        in_program: AtomicBool::new(false),
        seen: AtomicU64::new(0),
        root: AtomicU64::new(0),
        must_leave: AtomicBool::new(false),
    }
}; MAX_CPUS];

/// The number of the last change.
static CHANGES: AtomicU64 = AtomicU64::new(0);
/// Who halts until others have done what it asked for: its number plus one, or 0. There is one at most, the holder of the
/// kernel lock.
static WAITER: AtomicU32 = AtomicU32::new(0);

fn own() -> &'static Processor {
    &PROCESSORS[percpu::cpu()]
}

/// The processors but this one.
fn others() -> impl Iterator<Item = (usize, &'static Processor)> {
    let own = percpu::cpu();
    PROCESSORS.iter().enumerate().take(processors::count()).filter(move |(cpu, _)| *cpu != own)
}

/// This processor is about to run the program. Its translations are right: the lock is still held.
pub fn enter_program() {
    own().in_program.store(true, Ordering::Relaxed);
}

/// This processor does not run the program any more, and touches none of its memory before it has the lock.
pub fn leave_program() {
    own().in_program.store(false, Ordering::SeqCst);
    answer();
}

/// Waits until `done`, which others make true before they [`answer`].
fn wait_until(done: impl Fn() -> bool) {
    let start = rdtsc();
    let limit = time::ns_to_ticks(SPIN_NS);
    while !done() {
        if rdtsc().wrapping_sub(start) < limit {
            core::hint::spin_loop();
            continue;
        }
        stats::SHOOTDOWN_HALTS.count();
        WAITER.store(percpu::cpu() as u32 + 1, Ordering::SeqCst);
        trap::halt_unless(&done);
        WAITER.store(0, Ordering::Relaxed);
    }
}

/// Wakes the one that waits, if it halts, to look whether this processor's last sequentially consistent store was what
/// it waits for.
fn answer() {
    match WAITER.load(Ordering::SeqCst) {
        0 => {}
        cpu => lapic::interrupt(cpu as usize - 1),
    }
}

/// Forgets this processor's translations if there were changes since it did last. A thread without a program's address
/// space touches no program's memory, and leaves that to the next one.
pub fn catch_up() {
    if is_behind() && task::try_current().is_some_and(|thread| thread.space.lock().is_some()) {
        paging::flush_all();
        own().seen.store(CHANGES.load(Ordering::SeqCst), Ordering::Relaxed);
    }
}

/// Whether this processor may have translations that have changed since.
pub(super) fn is_behind() -> bool {
    own().seen.load(Ordering::Relaxed) != CHANGES.load(Ordering::SeqCst)
}

/// Entries were taken away or lost rights, and this processor has seen to itself: returns when no other uses what they
/// said before.
pub fn forget_elsewhere() {
    if processors::count() == 1 {
        return;
    }
    let up_to_date = !is_behind();
    let change = CHANGES.fetch_add(1, Ordering::SeqCst) + 1;
    if up_to_date {
        own().seen.store(change, Ordering::Relaxed);
    }
    let mut asked = 0u64;
    for (cpu, processor) in others() {
        if processor.in_program.load(Ordering::SeqCst) {
            lapic::interrupt(cpu);
            asked |= 1 << cpu;
        }
    }
    if asked == 0 {
        return;
    }
    stats::SHOOTDOWNS.count();
    for (_, processor) in others().filter(|(cpu, _)| asked >> cpu & 1 != 0) {
        wait_until(|| !processor.in_program.load(Ordering::SeqCst) || processor.seen.load(Ordering::SeqCst) >= change);
    }
}

/// Returns when every processor that runs the program has been interrupted: what its threads did before, all of them see,
/// and none goes on with instructions it had fetched (membarrier(2)).
pub fn barrier() {
    fence(Ordering::SeqCst);
    forget_elsewhere();
}

/// Waits until no other processor runs the program. They have been interrupted, and none goes back before this one gives
/// the kernel lock away.
pub fn wait_for_others_to_leave() {
    others().for_each(|(_, processor)| wait_until(|| !processor.in_program.load(Ordering::SeqCst)));
}

/// Sees to changes, if there are any, without the kernel lock: the program was interrupted, perhaps for this alone.
/// Returns whether there were. Interrupts are masked.
pub fn serve_alone() -> bool {
    let own = own();
    let mut any = false;
    loop {
        let now = CHANGES.load(Ordering::SeqCst);
        if own.seen.load(Ordering::Relaxed) == now {
            return any;
        }
        // Only the holder of the lock gives tables up, and these are in use.
        Tables::of_root(own.root.load(Ordering::Relaxed)).reload();
        own.seen.store(now, Ordering::SeqCst);
        answer();
        any = true;
    }
}

/// Notes which tables this processor uses; it has forgotten everything by loading them.
pub(super) fn note_loaded(root: u64) {
    let own = own();
    own.root.store(root, Ordering::SeqCst);
    own.seen.store(CHANGES.load(Ordering::SeqCst), Ordering::Relaxed);
}

/// The root of the tables this processor uses.
pub(super) fn loaded() -> u64 {
    own().root.load(Ordering::Relaxed)
}

/// Has every processor stop using the tables at `root`, which are about to be freed. No thread uses them any more, but
/// idle processors keep what they had.
pub(super) fn give_up(root: u64) {
    if loaded() == root {
        Tables::kernel().load();
    }
    for (cpu, processor) in others() {
        if processor.root.load(Ordering::SeqCst) == root {
            processor.must_leave.store(true, Ordering::SeqCst);
            lapic::interrupt(cpu);
            wait_until(|| processor.root.load(Ordering::SeqCst) != root);
        }
    }
}

/// Does what [`give_up`] asks for. Called wherever a processor waits without the lock.
pub fn serve() {
    let own = own();
    if own.must_leave.load(Ordering::Acquire) {
        own.must_leave.store(false, Ordering::Relaxed);
        Tables::kernel().load();
        answer();
    }
}
