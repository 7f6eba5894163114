//! The scheduler: one queue for all processors, first in first out, with a time slice for those who share one.
//!
//! One queue needs no balancing: a processor that has nothing to do takes whoever has waited longest. It costs no
//! contention, since whoever touches it holds the kernel lock anyway. What it does not do is to keep a thread where its
//! caches are, except that a processor that is asleep and ran a thread last is the one woken for it.
//!
//! A thread that was made ready runs on a processor that is asleep; if there is none, on the present one, which gives
//! way at its next return to the program. Whoever shares a processor has a time slice. At the end of each, the
//! processors on which somebody has run for longer without having to share are told to take their turn.

use super::{Thread, lock, timer};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{lapic, processors, trap};
use crate::mm::shootdown;
use crate::{stats, time};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::Result;
use spin::{Mutex, Once};

/// How long a thread runs while others wait.
const SLICE_NS: u64 = 4_000_000;

/// What a processor is doing.
struct Processor {
    running: Option<Arc<Thread>>,
    /// A thread that ended, on whose stack the switch away from it still ran.
    ended: Option<Arc<Thread>>,
    idle: Option<Arc<Thread>>,
    /// It sleeps, or is about to, and nobody has woken it yet.
    asleep: bool,
    /// Monotonic time of its last switch.
    since_ns: u64,
}

struct Scheduler {
    ready: VecDeque<Arc<Thread>>,
    processors: [Processor; MAX_CPUS],
}

static SCHEDULER: Mutex<Scheduler> = Mutex::new(Scheduler {
    ready: VecDeque::new(),
    processors: [const { Processor { running: None, ended: None, idle: None, asleep: false, since_ns: 0 } }; MAX_CPUS],
});
/// Which processors are to look for somebody else to run.
static WANTED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

impl Scheduler {
    /// The first ready thread that may run on `cpu`.
    fn find(&self, cpu: usize) -> Option<usize> {
        self.ready.iter().position(|thread| thread.may_run_on(cpu))
    }

    /// Whether somebody runs on `cpu` who is not its idle thread.
    fn is_busy(&self, cpu: usize) -> bool {
        let Processor { running, idle, .. } = &self.processors[cpu];
        match (running, idle) {
            (Some(running), Some(idle)) => !Arc::ptr_eq(running, idle),
            (running, _) => running.is_some(),
        }
    }

    /// Wakes a sleeping processor for `thread`, the one it ran on last if it can be, and returns whether there was one.
    fn wake_processor(&mut self, thread: &Thread) -> bool {
        let all = || 0..processors::count();
        let fits = |cpu: &usize| self.processors[*cpu].asleep && thread.may_be_on(*cpu);
        let Some(cpu) = all().find(|cpu| *cpu == thread.last_cpu() && fits(cpu)).or_else(|| all().find(fits)) else {
            return false;
        };
        self.processors[cpu].asleep = false;
        lapic::interrupt(cpu);
        true
    }
}

/// Has processor `cpu` look for somebody else to run, or for what is due to the thread it runs.
pub(super) fn prod(cpu: usize) {
    WANTED[cpu].store(true, Ordering::Release);
    if cpu != percpu::cpu() {
        lapic::interrupt(cpu);
    }
}

/// The running thread; `None` before the first.
pub fn try_current() -> Option<&'static Thread> {
    let thread = percpu::current() as *const Thread;
    // SAFETY: the per-CPU pointer is set to the running thread, which the scheduler keeps alive while it runs; the
    // code that asks runs on that thread.
    unsafe { thread.as_ref() }
}

/// The running thread.
pub fn current() -> Arc<Thread> {
    let running = &SCHEDULER.lock().processors[percpu::cpu()].running;
    running.clone().expect("threads run the kernel from boot's end on")
}

/// Puts a thread into the run queue.
pub fn enqueue(thread: Arc<Thread>) {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    scheduler.ready.push_back(thread.clone());
    // The idle loop looks at the queue before it sleeps.
    let idle_here = !scheduler.is_busy(own) && thread.may_be_on(own);
    if idle_here || scheduler.wake_processor(&thread) {
        return;
    }
    drop(scheduler);
    if thread.may_be_on(own) {
        WANTED[own].store(true, Ordering::Relaxed);
    } else if let Some(cpu) = (0..processors::count()).find(|cpu| thread.may_be_on(*cpu)) {
        prod(cpu);
    }
}

/// Wakes a thread that sleeps; one that does not is left alone.
pub fn wake(thread: &Arc<Thread>) {
    if !thread.awake.swap(true, Ordering::SeqCst) {
        enqueue(thread.clone());
    }
}

/// Has a thread that runs on another processor come into the kernel, to see what is due to it.
pub fn kick(thread: &Thread) {
    if let Some(cpu) = thread.running_on().filter(|cpu| *cpu != percpu::cpu()) {
        prod(cpu);
    }
}

/// An interrupt came: wake sleepers whose time has come, and end the slice of whoever runs if it is over.
pub fn tick() {
    let now = time::monotonic_ns();
    if !timer::expire(now) {
        return;
    }
    let own = percpu::cpu();
    WANTED[own].store(true, Ordering::Relaxed);
    let scheduler = SCHEDULER.lock();
    for cpu in (0..processors::count()).filter(|cpu| *cpu != own) {
        let long = now.saturating_sub(scheduler.processors[cpu].since_ns) > SLICE_NS;
        if long && scheduler.is_busy(cpu) && !timer::has_slice(cpu) && scheduler.find(cpu).is_some() {
            prod(cpu);
        }
    }
}

/// Whether this processor has been told to look for somebody else to run.
pub fn is_prodded() -> bool {
    WANTED[percpu::cpu()].load(Ordering::Acquire)
}

/// On the way back to the program: gives way if somebody waits for the processor and it is time.
pub fn reschedule_if_needed() {
    if WANTED[percpu::cpu()].swap(false, Ordering::Relaxed) {
        yield_now();
    }
    stop_if_ending();
}

/// The thread that ends the machine, by its address; 0 if it was none.
static ENDER: Once<u64> = Once::new();

/// The machine is about to end, for which its last messages have to be waited for: meanwhile no other thread runs the
/// program, whose files and memory are being taken away. Whoever comes here second does not come back.
pub fn stop_others() {
    ENDER.call_once(percpu::current);
    stop_if_ending();
    call_others_in();
}

/// Waits until no other processor runs the program. None goes back before this one gives the kernel lock away; by then the
/// others have done what [`reschedule_if_needed`] does.
pub fn call_others_in() {
    let own = percpu::cpu();
    (0..processors::count()).filter(|cpu| *cpu != own).for_each(prod);
    shootdown::wait_for_others_to_leave();
}

/// Keeps the running thread from running ever again if another one ends the machine.
fn stop_if_ending() {
    if ENDER.get().is_none_or(|ender| *ender == percpu::current()) {
        return;
    }
    let thread = current();
    loop {
        thread.awake.store(false, Ordering::SeqCst);
        sleep();
    }
}

/// Lets others run first.
pub fn yield_now() {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    let Some(running) = scheduler.processors[own].running.clone() else { return };
    if !running.may_be_on(own) {
        drop(scheduler);
        enqueue(running);
    } else if scheduler.find(own).is_some() {
        scheduler.ready.push_back(running);
        drop(scheduler);
    } else {
        return;
    }
    switch();
}

/// Lets others run, or if nobody is ready, interrupts come in: one round of a loop that polls.
pub fn pause() {
    lock::relax();
    trap::serve_pending();
    yield_now();
    core::hint::spin_loop();
}

/// Gives the processor away until somebody wakes the caller, who has cleared its `awake` mark.
pub(super) fn sleep() {
    switch();
}

/// Runs the next ready thread, or the idle one.
fn switch() {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    let next = match scheduler.find(own).and_then(|at| scheduler.ready.remove(at)) {
        Some(thread) => thread,
        None => scheduler.processors[own].idle.clone().expect("the idle thread is made before the first switch"),
    };
    scheduler.processors[own].since_ns = time::monotonic_ns();
    let previous = scheduler.processors[own].running.replace(next.clone());
    let share = scheduler.find(own).is_some();
    // One that was made ready while it still ran here can go elsewhere now.
    if processors::count() > 1
        && let Some(left) = scheduler.ready.front().cloned()
    {
        scheduler.wake_processor(&left);
    }
    drop(scheduler);
    timer::set_slice(share.then_some(SLICE_NS));
    match previous {
        Some(previous) if Arc::ptr_eq(&previous, &next) => {}
        Some(previous) => {
            stats::SWITCHES.count();
            // The pointers outlive the references: the queue, a wait queue or `running` holds next; previous is held
            // by whoever will wake it, or by `ended`.
            let (from, to) = (Arc::as_ptr(&previous), Arc::as_ptr(&next));
            drop((previous, next));
            // SAFETY: previous is the caller; next was in no other place than the queue or idle, and runs nowhere.
            unsafe { (*from).switch_to(&*to) }
        }
        None => unreachable!("start makes the boot context a thread"),
    }
}

/// Runs first after every switch, on the new thread's stack: now an ended thread's stack is unused.
pub(super) fn after_switch() {
    let ended = SCHEDULER.lock().processors[percpu::cpu()].ended.take();
    drop(ended);
}

/// Ends the running thread.
pub(super) fn exit_current() -> ! {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    scheduler.processors[own].ended = scheduler.processors[own].running.clone();
    drop(scheduler);
    switch();
    unreachable!("an ended thread was scheduled")
}

/// Makes the idle thread of processor `cpu`, which is about to start on its stack.
///
/// # Errors
/// `ENOMEM`.
pub fn add_processor(cpu: usize) -> Result<Arc<Thread>> {
    let idle = super::thread::idle(alloc::boxed::Box::new(|| {}))?;
    let processor = &mut SCHEDULER.lock().processors[cpu];
    processor.idle = Some(idle.clone());
    processor.running = Some(idle.clone());
    Ok(idle)
}

/// What an idle thread does: runs whoever is ready, else sleeps until an interrupt makes somebody so. Holds the kernel
/// lock, but not while it sleeps.
pub fn idle_loop() -> ! {
    let own = percpu::cpu();
    loop {
        let mut scheduler = SCHEDULER.lock();
        let ready = scheduler.find(own).is_some();
        scheduler.processors[own].asleep = !ready;
        drop(scheduler);
        if ready {
            switch();
            continue;
        }
        lock::release();
        trap::wait_for_interrupt();
        shootdown::serve();
        lock::acquire();
        SCHEDULER.lock().processors[own].asleep = false;
        trap::serve_pending();
    }
}

/// Turns the boot context into the first thread's predecessor and runs threads from now on. `first` goes into the
/// queue; the caller's stack is left for good.
///
/// # Errors
/// `ENOMEM`.
pub fn start() -> Result<core::convert::Infallible> {
    let idle = super::thread::idle(alloc::boxed::Box::new(|| idle_loop()))?;
    let boot = super::thread::idle(alloc::boxed::Box::new(|| {}))?;
    {
        let processor = &mut SCHEDULER.lock().processors[percpu::cpu()];
        processor.idle = Some(idle);
        processor.running = Some(boot);
    }
    switch();
    unreachable!("the boot context was scheduled")
}
