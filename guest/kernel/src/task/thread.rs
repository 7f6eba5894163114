//! The thread: a kernel stack and what is saved while it does not run.

use super::sched;
use crate::arch::{self, percpu, xstate};
use crate::linux::process::UserThread;
use crate::mm::AddressSpace;
use crate::mm::stack::Stack;
use crate::time;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use diolkos_vfs::Result;
use spin::Mutex;

/// What a thread runs first.
type Body = Box<dyn FnOnce() + Send>;

/// A thread of the kernel. One with a [`UserThread`] runs a program too.
pub struct Thread {
    /// The address space it runs in; a kernel thread uses whichever is loaded.
    pub space: Mutex<Option<Arc<AddressSpace>>>,
    /// The program's side of it.
    pub user: Option<Arc<UserThread>>,
    stack: Stack,
    body: Mutex<Option<Body>>,
    /// Stack pointer while it does not run.
    saved_stack: AtomicU64,
    /// Base of fs while it does not run.
    fs_base: AtomicU64,
    /// Extended state of the program's side while it does not run.
    xstate: Mutex<Box<xstate::Area>>,
    /// Set while it is in the run queue or running; cleared by a waiter before it sleeps.
    pub(super) awake: AtomicBool,
    /// Set when a signal wants an interruptible sleep to end.
    interrupted: AtomicBool,
    /// Nanoseconds it has run, up to its last switch.
    ran_ns: AtomicU64,
    /// Monotonic time since which it runs.
    since_ns: AtomicU64,
    /// The processor it runs on, or ran on last.
    cpu: AtomicUsize,
    /// Whether it runs there now.
    running: AtomicBool,
    /// The processors it may run on, a bit each.
    affinity: AtomicU64,
}

impl Thread {
    fn new(space: Option<Arc<AddressSpace>>, user: Option<Arc<UserThread>>, body: Option<Body>) -> Result<Arc<Self>> {
        let stack = Stack::new()?;
        let top = stack.top();
        // A thread of the program may run where its maker may (sched_setaffinity(2)).
        let affinity = match (&user, sched::try_current()) {
            (Some(_), Some(maker)) if maker.user.is_some() => maker.affinity(),
            _ => u64::MAX,
        };
        let thread = Arc::new(Self {
            space: Mutex::new(space),
            user,
            stack,
            body: Mutex::new(body),
            saved_stack: AtomicU64::new(0),
            fs_base: AtomicU64::new(0),
            xstate: Mutex::new(Box::new(xstate::Area::initial())),
            awake: AtomicBool::new(true),
            interrupted: AtomicBool::new(false),
            ran_ns: AtomicU64::new(0),
            since_ns: AtomicU64::new(0),
            cpu: AtomicUsize::new(percpu::cpu()),
            running: AtomicBool::new(false),
            affinity: AtomicU64::new(affinity),
        });
        // SAFETY: the stack is new. The argument is borrowed: the scheduler holds the thread while it runs.
        let start = unsafe { arch::first_stack(top, Arc::as_ptr(&thread) as u64) };
        thread.saved_stack.store(start, Ordering::Relaxed);
        Ok(thread)
    }

    /// Ends its interruptible sleep, now or the next one; if it runs the program on another processor it comes into the
    /// kernel.
    pub fn interrupt(self: &Arc<Self>) {
        self.interrupted.store(true, Ordering::SeqCst);
        sched::wake(self);
        sched::kick(self);
    }

    /// The bounds of its kernel stack.
    pub fn stack(&self) -> (u64, u64) {
        (self.stack.low(), self.stack.top())
    }

    /// The processors it may run on, a bit each.
    pub fn affinity(&self) -> u64 {
        self.affinity.load(Ordering::Relaxed)
    }

    /// Sets them, at least one of which exists. Where it runs now it leaves at its next way into the kernel and out.
    pub fn set_affinity(self: &Arc<Self>, processors: u64) {
        self.affinity.store(processors, Ordering::Relaxed);
        sched::affinity_changed(self);
    }

    /// Whether its affinity lets it run on `cpu`.
    pub(super) fn may_be_on(&self, cpu: usize) -> bool {
        self.affinity() >> cpu & 1 != 0
    }

    /// The processor it runs on now.
    pub fn running_on(&self) -> Option<usize> {
        self.running.load(Ordering::Relaxed).then(|| self.last_cpu())
    }

    /// The processor it runs on or ran on last.
    pub fn last_cpu(&self) -> usize {
        self.cpu.load(Ordering::Relaxed)
    }

    /// Whether an interruptible sleep must end; asking takes the mark away.
    pub fn take_interrupt(&self) -> bool {
        self.interrupted.swap(false, Ordering::SeqCst)
    }

    /// Nanoseconds of processor time it has had.
    pub fn ran_ns(&self) -> u64 {
        let since = time::monotonic_ns().saturating_sub(self.since_ns.load(Ordering::Relaxed));
        self.ran_ns.load(Ordering::Relaxed) + if self.running_on().is_some() { since } else { 0 }
    }

    /// Gives the processor from `self` to `next`. Returns when somebody gives it back.
    ///
    /// # Safety
    /// `self` runs here, `next` runs nowhere, and both are kept alive by the scheduler until the switch back.
    pub(super) unsafe fn switch_to(&self, next: &Self) {
        let now = time::monotonic_ns();
        if self.running.swap(false, Ordering::Relaxed) {
            self.ran_ns.fetch_add(now.saturating_sub(self.since_ns.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        next.since_ns.store(now, Ordering::Relaxed);
        next.cpu.store(percpu::cpu(), Ordering::Relaxed);
        next.running.store(true, Ordering::Relaxed);
        if self.user.is_some() {
            self.fs_base.store(arch::fs_base(), Ordering::Relaxed);
            xstate::save(&mut self.xstate.lock());
        }
        if let Some(space) = next.space.lock().as_ref() {
            space.load();
        }
        percpu::set_current(next as *const Self as u64, next.stack.low(), next.stack.top());
        if next.user.is_some() {
            arch::set_fs_base(next.fs_base.load(Ordering::Relaxed));
            xstate::load(&next.xstate.lock());
            xstate::set_kernel_mxcsr();
        }
        // SAFETY: next's stack pointer was saved by its own switch, or made by first_stack.
        unsafe { arch::switch(self.saved_stack.as_ptr(), next.saved_stack.load(Ordering::Relaxed)) };
        sched::after_switch();
    }
}

/// First code of every thread, called by the entry code.
#[unsafe(no_mangle)]
extern "C" fn thread_start(thread: *const Thread) -> ! {
    sched::after_switch();
    // SAFETY: the scheduler keeps the running thread alive.
    let body = unsafe { (*thread).body.lock().take() };
    if let Some(body) = body {
        body();
    }
    exit()
}

/// Makes a thread and puts it into the run queue.
///
/// # Errors
/// `ENOMEM`.
pub fn spawn(space: Option<Arc<AddressSpace>>, user: Option<Arc<UserThread>>, body: Body) -> Result<Arc<Thread>> {
    let thread = Thread::new(space, user, Some(body))?;
    sched::enqueue(thread.clone());
    Ok(thread)
}

/// The thread of a processor that has nothing to do. It never ends and is never in the run queue.
pub(super) fn idle(body: Body) -> Result<Arc<Thread>> {
    Thread::new(None, None, Some(body))
}

/// Ends the running thread. What its stack still owns is lost, so callers drop first.
pub fn exit() -> ! {
    sched::exit_current()
}
