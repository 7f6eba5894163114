//! The scheduler: a run queue for each processor ([`RunQueues`] decides who goes where), with a time slice for those who
//! share one.
//!
//! All queues are under one lock, and whoever touches them holds the kernel lock anyway: queues of their own keep threads
//! where their caches are, and an interrupt away from nobody; they do not save contention.
//!
//! A thread that was made ready has a processor that sleeps woken for it, or one that runs another give way at its next
//! return to the program. Whoever shares a processor has a time slice. At the end of each, the processors on which
//! somebody has run for longer without having to share are told to take their turn with those who wait elsewhere: so three
//! threads on two processors get two thirds of one each.

use super::run_queues::{RunQueues, Runnable};
use super::{Thread, lock, timer};
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{lapic, processors, trap};
use crate::mm::shootdown;
use crate::{stats, time};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::Result;
use spin::{Mutex, Once};

/// How long a thread runs while others wait.
const SLICE_NS: u64 = 4_000_000;

/// What a processor is doing.
struct Processor {
    running: Option<Arc<Thread>>,
    /// The thread that was switched away from, for which there is something to be done on the next one's stack.
    left: Option<Arc<Thread>>,
    idle: Option<Arc<Thread>>,
    /// It sleeps, or is about to, and nobody has woken it yet.
    asleep: bool,
    /// Monotonic time of its last switch.
    since_ns: u64,
}

struct Scheduler {
    queues: RunQueues<Arc<Thread>, MAX_CPUS>,
    processors: [Processor; MAX_CPUS],
}

static SCHEDULER: Mutex<Scheduler> = Mutex::new(Scheduler {
    queues: RunQueues::new(),
    processors: [const { Processor { running: None, left: None, idle: None, asleep: false, since_ns: 0 } }; MAX_CPUS],
});
/// Which processors are to look for somebody else to run.
static WANTED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

impl Runnable for Arc<Thread> {
    fn may_be_on(&self, cpu: usize) -> bool {
        Thread::may_be_on(self, cpu)
    }

    fn last_cpu(&self) -> usize {
        Thread::last_cpu(self)
    }

    fn running_on(&self) -> Option<usize> {
        Thread::running_on(self)
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(self, other)
    }
}

impl Scheduler {
    /// Whether there is a thread for `cpu` to run next.
    fn has_for(&self, cpu: usize) -> bool {
        self.queues.has_for(cpu, processors::count())
    }

    /// Whether somebody runs on `cpu` who is not its idle thread.
    fn is_busy(&self, cpu: usize) -> bool {
        let Processor { running, idle, .. } = &self.processors[cpu];
        match (running, idle) {
            (Some(running), Some(idle)) => !Arc::ptr_eq(running, idle),
            (running, _) => running.is_some(),
        }
    }

    /// Puts a thread into a queue and sees to it that somebody looks there.
    fn enqueue(&mut self, thread: Arc<Thread>) {
        let cpu = self.queues.place(&thread, percpu::cpu(), processors::count(), |cpu| self.is_busy(cpu));
        let still_runs = thread.running_on().is_some();
        self.queues.push(cpu, thread);
        // Where it still runs it is found when it is let go, and one that is idle and awake looks before it sleeps.
        if !still_runs && !self.wake_processor(cpu) && self.is_busy(cpu) {
            prod(cpu);
        }
    }

    /// Wakes `cpu` if it sleeps, and returns whether it did.
    fn wake_processor(&mut self, cpu: usize) -> bool {
        let asleep = core::mem::take(&mut self.processors[cpu].asleep);
        if asleep {
            lapic::interrupt(cpu);
        }
        asleep
    }

    /// Processor `own` has let go of `left`, which may have been made ready before: now it can go to where it may be. And who
    /// waits here, be it that one, need not wait while another processor sleeps.
    fn let_go(&mut self, own: usize, left: &Arc<Thread>) {
        let count = processors::count();
        if !left.may_be_on(own)
            && let Some(moved) = self.queues.take_misplaced(left, count)
        {
            self.enqueue(moved);
        }
        let sleeper =
            |waiting: &Arc<Thread>| (0..count).find(|cpu| self.processors[*cpu].asleep && waiting.may_be_on(*cpu));
        if let Some(cpu) = self.queues.waiting(own).and_then(sleeper) {
            self.wake_processor(cpu);
        }
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

/// Puts a thread into a run queue.
pub(super) fn enqueue(thread: Arc<Thread>) {
    SCHEDULER.lock().enqueue(thread);
}

/// The affinity of a thread has changed. Where it runs now it leaves at its next way into the kernel and out; where it
/// waits it leaves at once.
pub(super) fn affinity_changed(thread: &Arc<Thread>) {
    if let Some(cpu) = thread.running_on() {
        if !thread.may_be_on(cpu) {
            prod(cpu);
        }
        return;
    }
    let mut scheduler = SCHEDULER.lock();
    if let Some(moved) = scheduler.queues.take_misplaced(thread, processors::count()) {
        scheduler.enqueue(moved);
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
        if long && scheduler.is_busy(cpu) && !timer::has_slice(cpu) && scheduler.has_for(cpu) {
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

/// Whether somebody is ready whom this processor could run instead.
pub fn has_others() -> bool {
    SCHEDULER.lock().has_for(percpu::cpu())
}

/// Lets others run first.
pub fn yield_now() {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    let Some(running) = scheduler.processors[own].running.clone() else { return };
    if running.may_be_on(own) && !scheduler.has_for(own) {
        return;
    }
    scheduler.queues.push(own, running);
    drop(scheduler);
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
    let next = match scheduler.queues.take(own, processors::count()) {
        Some((thread, from)) => {
            stats::STEALS.add(u64::from(from != own));
            thread
        }
        None => scheduler.processors[own].idle.clone().expect("the idle thread is made before the first switch"),
    };
    scheduler.processors[own].since_ns = time::monotonic_ns();
    let previous = scheduler.processors[own].running.replace(next.clone());
    let share = scheduler.queues.waiting(own).is_some();
    drop(scheduler);
    timer::set_slice(share.then_some(SLICE_NS));
    match previous {
        Some(previous) if Arc::ptr_eq(&previous, &next) => {}
        Some(previous) => {
            stats::SWITCHES.count();
            // The pointers outlive the references: `running` holds next, and `left` previous until it has been left.
            let (from, to) = (Arc::as_ptr(&previous), Arc::as_ptr(&next));
            SCHEDULER.lock().processors[own].left = Some(previous);
            drop(next);
            // SAFETY: previous is the caller; next was in no other place than a run queue or idle, and runs nowhere.
            unsafe { (*from).switch_to(&*to) }
        }
        None => unreachable!("start makes the boot context a thread"),
    }
}

/// Runs first after every switch, on the new thread's stack. If the old one has ended, its stack is unused now and goes.
pub(super) fn after_switch() {
    let own = percpu::cpu();
    let mut scheduler = SCHEDULER.lock();
    let Some(left) = scheduler.processors[own].left.take() else { return };
    scheduler.let_go(own, &left);
    drop(scheduler);
    drop(left);
}

/// Ends the running thread.
pub(super) fn exit_current() -> ! {
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
        let ready = scheduler.has_for(own);
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
