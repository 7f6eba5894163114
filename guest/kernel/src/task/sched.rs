//! The scheduler: one queue, first in first out, with a time slice for those who share a processor.

use super::{Thread, timer};
use crate::arch::{percpu, trap};
use crate::{stats, time};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::Result;
use spin::{Mutex, Once};

/// How long a thread runs while others wait.
const SLICE_NS: u64 = 4_000_000;

struct Scheduler {
    ready: VecDeque<Arc<Thread>>,
    running: Option<Arc<Thread>>,
    /// A thread that ended, on whose stack the switch away from it still ran.
    ended: Option<Arc<Thread>>,
    idle: Option<Arc<Thread>>,
}

static SCHEDULER: Mutex<Scheduler> =
    Mutex::new(Scheduler { ready: VecDeque::new(), running: None, ended: None, idle: None });
static WANTED: AtomicBool = AtomicBool::new(false);

/// The running thread; `None` before the first.
pub fn try_current() -> Option<&'static Thread> {
    let thread = percpu::current() as *const Thread;
    // SAFETY: the per-CPU pointer is set to the running thread, which the scheduler keeps alive while it runs; the
    // code that asks runs on that thread.
    unsafe { thread.as_ref() }
}

/// The running thread.
pub fn current() -> Arc<Thread> {
    SCHEDULER.lock().running.clone().expect("threads run the kernel from boot's end on")
}

/// Puts a thread into the run queue.
pub fn enqueue(thread: Arc<Thread>) {
    let mut scheduler = SCHEDULER.lock();
    scheduler.ready.push_back(thread);
    drop(scheduler);
    WANTED.store(true, Ordering::Relaxed);
}

/// Wakes a thread that sleeps; one that does not is left alone.
pub fn wake(thread: &Arc<Thread>) {
    if !thread.awake.swap(true, Ordering::SeqCst) {
        enqueue(thread.clone());
    }
}

/// An interrupt came: wake sleepers whose time has come, and end the slice of whoever runs if it is over.
pub fn tick() {
    if timer::expire(time::monotonic_ns()) {
        WANTED.store(true, Ordering::Relaxed);
    }
}

/// On the way back to the program: gives way if somebody waits for the processor and it is time.
pub fn reschedule_if_needed() {
    if WANTED.swap(false, Ordering::Relaxed) && !SCHEDULER.lock().ready.is_empty() {
        yield_now();
    }
    stop_if_ending();
}

/// The thread that ends the machine, by its address; 0 if it was none.
static ENDER: Once<u64> = Once::new();

/// The machine is about to end, for which its last messages have to be waited for: meanwhile no other thread goes back to
/// the program, whose files and memory are being taken away. Whoever comes here second does not come back.
pub fn stop_others() {
    ENDER.call_once(percpu::current);
    stop_if_ending();
}

/// Keeps the running thread from running ever again if another one ends the machine.
pub fn stop_if_ending() {
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
    let mut scheduler = SCHEDULER.lock();
    if scheduler.ready.is_empty() {
        return;
    }
    if let Some(running) = scheduler.running.clone() {
        scheduler.ready.push_back(running);
    }
    drop(scheduler);
    switch();
}

/// Lets others run, or if nobody is ready, interrupts come in: one round of a loop that polls.
pub fn pause() {
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
    let mut scheduler = SCHEDULER.lock();
    let next = match scheduler.ready.pop_front() {
        Some(thread) => thread,
        None => scheduler.idle.clone().expect("the idle thread is made before the first switch"),
    };
    let previous = scheduler.running.replace(next.clone());
    let share = !scheduler.ready.is_empty();
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
            // SAFETY: previous is the caller; next was in no other place than the queue or idle.
            unsafe { (*from).switch_to(&*to) }
        }
        None => unreachable!("start makes the boot context a thread"),
    }
}

/// Runs first after every switch, on the new thread's stack: now an ended thread's stack is unused.
pub(super) fn after_switch() {
    let ended = SCHEDULER.lock().ended.take();
    drop(ended);
}

/// Ends the running thread.
pub(super) fn exit_current() -> ! {
    let mut scheduler = SCHEDULER.lock();
    scheduler.ended = scheduler.running.clone();
    drop(scheduler);
    switch();
    unreachable!("an ended thread was scheduled")
}

/// Turns the boot context into the first thread's predecessor and runs threads from now on. `first` goes into the
/// queue; the caller's stack is left for good.
///
/// # Errors
/// `ENOMEM`.
pub fn start() -> Result<core::convert::Infallible> {
    let idle = super::thread::idle(alloc::boxed::Box::new(|| {
        loop {
            // Nobody is ready: sleep until an interrupt makes somebody so.
            trap::wait_for_interrupt();
            if !SCHEDULER.lock().ready.is_empty() {
                switch();
            }
        }
    }))?;
    let boot = super::thread::idle(alloc::boxed::Box::new(|| {}))?;
    {
        let mut scheduler = SCHEDULER.lock();
        scheduler.idle = Some(idle);
        scheduler.running = Some(boot);
    }
    switch();
    unreachable!("the boot context was scheduled")
}
