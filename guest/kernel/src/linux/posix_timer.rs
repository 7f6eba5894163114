//! Timers that send signals: alarm(2), setitimer(2), timer_create(2).
//!
//! Each process with a timer has one kernel thread that sleeps to the next deadline. Timers of processor time are not
//! there: the scheduler counts it but cannot be woken by it.

use super::clock::{Clock, SECOND, wall_to_monotonic};
use super::process::{Process, UserThread};
use super::table::Calls;
use super::{Call, signal};
use crate::abi::siginfo::SigInfo;
use crate::abi::signal_set::Signal;
use crate::mm::user::{UserPtr, plain};
use crate::task::{self, WaitQueue};
use crate::time;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::alarm, alarm),
    (Sysno::getitimer, getitimer),
    (Sysno::setitimer, setitimer),
    (Sysno::timer_create, timer_create),
    (Sysno::timer_settime, timer_settime),
    (Sysno::timer_gettime, timer_gettime),
    (Sysno::timer_getoverrun, timer_getoverrun),
    (Sysno::timer_delete, timer_delete),
];

/// Most timers of a process.
const MAX_TIMERS: usize = 1024;

/// The number `ITIMER_REAL` has among the others, which count from 0.
const REAL: i32 = -1;

/// Whom a timer tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Nobody,
    Process,
    Thread(u32),
}

#[derive(Debug, Clone, Copy)]
struct Timer {
    clock: Clock,
    target: Target,
    signal: Signal,
    /// `sigev_value`.
    value: u64,
    /// Nanoseconds between expirations; 0 for once.
    interval: u64,
    /// Monotonic time of the next expiration.
    deadline: Option<u64>,
    /// Expirations the last signal stands for beside its own.
    overrun: i32,
}

impl Timer {
    /// Time left and interval.
    fn state(&self) -> (u64, u64) {
        let left = match (self.deadline, self.target) {
            (None, _) => 0,
            (Some(deadline), target) => {
                let left = deadline.saturating_sub(time::monotonic_ns());
                // A timer that is armed never shows 0, except one that has nobody to tell and is over.
                if left == 0 && target != Target::Nobody { 1 } else { left }
            }
        };
        (left, self.interval)
    }

    /// Counts expirations up to `now` and sets the next; returns whether there was one.
    fn expire(&mut self, now: u64) -> bool {
        let Some(deadline) = self.deadline.filter(|deadline| *deadline <= now) else { return false };
        match (now - deadline).checked_div(self.interval) {
            None => {
                self.deadline = None;
                self.overrun = 0;
            }
            Some(missed) => {
                self.overrun = missed.min(i32::MAX as u64) as i32;
                self.deadline = Some(deadline.saturating_add((missed + 1).saturating_mul(self.interval)));
            }
        }
        true
    }
}

/// The timers of a process.
#[derive(Default)]
pub struct ProcessTimers {
    timers: Mutex<BTreeMap<i32, Timer>>,
    bell: Bell,
}

/// What wakes the process' timer thread.
struct Bell {
    queue: WaitQueue,
    rung: AtomicBool,
    /// Whether the thread has been started.
    started: AtomicBool,
}

impl Default for Bell {
    fn default() -> Self {
        Self { queue: WaitQueue::new(), rung: AtomicBool::new(false), started: AtomicBool::new(false) }
    }
}

impl ProcessTimers {
    /// Takes away what exec takes away: all but the interval timer (execve(2)).
    pub fn delete_all(&self) {
        self.timers.lock().retain(|id, _| *id == REAL);
    }

    fn next_deadline(&self) -> Option<u64> {
        self.timers.lock().values().filter_map(|timer| timer.deadline).min()
    }

    /// Lets the timer thread see a change.
    ///
    /// # Errors
    /// `EAGAIN` when it cannot be started.
    fn changed(&self, process: &Arc<Process>) -> Result<()> {
        if self.next_deadline().is_some() && !self.bell.started.swap(true, Ordering::SeqCst) {
            let process = Arc::downgrade(process);
            if task::spawn(None, None, Box::new(move || serve(&process))).is_err() {
                self.bell.started.store(false, Ordering::SeqCst);
                return Err(Errno::EAGAIN);
            }
        }
        self.bell.rung.store(true, Ordering::SeqCst);
        self.bell.queue.wake_all();
        Ok(())
    }
}

/// The body of the timer thread.
fn serve(process: &Weak<Process>) {
    while let Some(process) = process.upgrade() {
        let timers = &process.timers;
        let deadline = timers.next_deadline();
        // Not interruptible, so it cannot fail.
        let _ = timers.bell.queue.wait_until(&mut || timers.bell.rung.swap(false, Ordering::SeqCst), deadline, false);
        let now = time::monotonic_ns();
        let due: Vec<(i32, Timer)> = timers
            .timers
            .lock()
            .iter_mut()
            .filter_map(|(id, timer)| timer.expire(now).then_some((*id, *timer)))
            .collect();
        for (id, timer) in due {
            fire(&process, id, &timer);
        }
    }
}

fn fire(process: &Arc<Process>, id: i32, timer: &Timer) {
    let info = match id {
        REAL => SigInfo::kernel(timer.signal),
        _ => SigInfo::timer(timer.signal, id, timer.overrun, timer.value),
    };
    // A full queue loses the signal, as Linux may.
    let _ = match timer.target {
        Target::Nobody => Ok(()),
        Target::Process => signal::send_to_process(process, timer.signal, info),
        Target::Thread(tid) => match process.thread(tid) {
            Some(thread) => signal::send_to_thread(&thread, timer.signal, info),
            None => Ok(()),
        },
    };
}

/// Sets the interval timer and returns what was left of it and its interval.
fn set_real(call: &Call<'_>, first: u64, interval: u64) -> Result<(u64, u64)> {
    let timers = &call.process.timers;
    let deadline = (first != 0).then(|| time::monotonic_ns().saturating_add(first));
    let timer = Timer {
        clock: Clock::Monotonic,
        target: Target::Process,
        signal: Signal::ALRM,
        value: 0,
        interval,
        deadline,
        overrun: 0,
    };
    let old = timers.timers.lock().insert(REAL, timer);
    timers.changed(call.process)?;
    Ok(old.map_or((0, 0), |old| old.state()))
}

/// alarm(2).
fn alarm(call: &mut Call<'_>) -> Result<u64> {
    let (left, _) = set_real(call, (call.args[0] as u32 as u64) * SECOND, 0)?;
    // Rounded, but never to 0 while it runs (alarm_setitimer).
    Ok(if left == 0 { 0 } else { ((left + SECOND / 2) / SECOND).max(1) })
}

/// Interval timers other than the real one count processor time.
fn check_real(which: u64) -> Result<()> {
    match which as u32 {
        raw::ITIMER_REAL => Ok(()),
        raw::ITIMER_VIRTUAL | raw::ITIMER_PROF => {
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                crate::report::warning(format_args!("setitimer: timers of processor time are not supported yet"));
            }
            Err(Errno::EINVAL)
        }
        _ => Err(Errno::EINVAL),
    }
}

fn write_itimerval(address: u64, (left, interval): (u64, u64)) -> Result<u64> {
    if let Some(user) = UserPtr::<u64>::nullable(address) {
        let words = [interval / SECOND, interval % SECOND / 1000, left / SECOND, left % SECOND / 1000];
        user.write_slice(&words)?;
    }
    Ok(0)
}

/// getitimer(2).
fn getitimer(call: &mut Call<'_>) -> Result<u64> {
    check_real(call.args[0])?;
    let state = call.process.timers.timers.lock().get(&REAL).map_or((0, 0), Timer::state);
    write_itimerval(call.args[1], state)
}

/// setitimer(2).
fn setitimer(call: &mut Call<'_>) -> Result<u64> {
    let [which, new, old, ..] = call.args;
    check_real(which)?;
    let mut words = [0; 4];
    if let Some(user) = UserPtr::<u64>::nullable(new) {
        words.copy_from_slice(&user.read_vec(4)?);
    }
    let parse = |sec: u64, usec: u64| {
        if sec > i64::MAX as u64 || usec >= 1_000_000 {
            return Err(Errno::EINVAL);
        }
        Ok(sec.saturating_mul(SECOND).saturating_add(usec * 1000))
    };
    let (interval, first) = (parse(words[0], words[1])?, parse(words[2], words[3])?);
    let state = set_real(call, first, interval)?;
    write_itimerval(old, state)
}

/// The kernel's `struct sigevent`.
#[derive(Clone, Copy)]
#[repr(C)]
struct SigEvent {
    value: u64,
    signo: i32,
    notify: i32,
    thread: i32,
    pad: [i32; 11],
}
plain!(SigEvent);

/// timer_create(2).
fn timer_create(call: &mut Call<'_>) -> Result<u64> {
    let [clock, event, id, ..] = call.args;
    let clock = Clock::decode(clock)?;
    if clock.counts_processor() {
        return Err(Errno::EOPNOTSUPP);
    }
    let event = UserPtr::<SigEvent>::nullable(event).map(UserPtr::read).transpose()?;
    let timers = &call.process.timers;
    let mut timer = Timer {
        clock,
        target: Target::Process,
        signal: Signal::ALRM,
        value: 0,
        interval: 0,
        deadline: None,
        overrun: 0,
    };
    if let Some(event) = event {
        timer.target = target(call, &event)?;
        timer.value = event.value;
        if timer.target != Target::Nobody {
            timer.signal = Signal::new(event.signo as u32 as u64).ok_or(Errno::EINVAL)?;
        }
    }
    let number = {
        let mut all = timers.timers.lock();
        if all.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        // The lowest free number; there are few.
        let number = (0..).find(|number| !all.contains_key(number)).ok_or(Errno::EAGAIN)?;
        if event.is_none() {
            timer.value = number as u64;
        }
        all.insert(number, timer);
        number
    };
    UserPtr::<i32>::new(id).write(number).inspect_err(|_| {
        timers.timers.lock().remove(&number);
    })?;
    Ok(0)
}

fn target(call: &Call<'_>, event: &SigEvent) -> Result<Target> {
    match event.notify as u32 {
        raw::SIGEV_NONE => Ok(Target::Nobody),
        // SIGEV_THREAD is the library's business; what reaches the kernel is a signal.
        raw::SIGEV_SIGNAL | raw::SIGEV_THREAD => Ok(Target::Process),
        raw::SIGEV_THREAD_ID => {
            let thread: Option<Arc<UserThread>> = call.process.thread(event.thread as u32);
            thread.map(|thread| Target::Thread(thread.tid)).ok_or(Errno::EINVAL)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Runs `use_it` on the timer with this number.
fn with_timer<T>(call: &Call<'_>, id: u64, use_it: impl FnOnce(&mut Timer) -> T) -> Result<T> {
    let id = id as i32;
    let mut timers = call.process.timers.timers.lock();
    // The interval timer's number is none of the program's.
    let timer = timers.get_mut(&id).filter(|_| id >= 0).ok_or(Errno::EINVAL)?;
    Ok(use_it(timer))
}

fn write_itimerspec(address: u64, (left, interval): (u64, u64)) -> Result<u64> {
    if let Some(user) = UserPtr::<u64>::nullable(address) {
        user.write_slice(&[interval / SECOND, interval % SECOND, left / SECOND, left % SECOND])?;
    }
    Ok(0)
}

/// timer_settime(2).
fn timer_settime(call: &mut Call<'_>) -> Result<u64> {
    let [id, flags, new, old, ..] = call.args;
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let interval = super::clock::read_timespec(new)?;
    let first = super::clock::read_timespec(new.wrapping_add(16))?;
    let absolute = flags as u32 & raw::TIMER_ABSTIME != 0;
    let before = with_timer(call, id, |timer| {
        let before = timer.state();
        timer.interval = interval;
        timer.overrun = 0;
        timer.deadline = (first != 0).then(|| match (absolute, timer.clock) {
            (false, _) => time::monotonic_ns().saturating_add(first),
            (true, Clock::Wall) => wall_to_monotonic(first),
            (true, _) => first,
        });
        before
    })?;
    call.process.timers.changed(call.process)?;
    write_itimerspec(old, before)
}

/// timer_gettime(2).
fn timer_gettime(call: &mut Call<'_>) -> Result<u64> {
    let state = with_timer(call, call.args[0], |timer| timer.state())?;
    UserPtr::<u64>::new(call.args[1]).read()?;
    write_itimerspec(call.args[1], state)
}

/// timer_getoverrun(2).
fn timer_getoverrun(call: &mut Call<'_>) -> Result<u64> {
    with_timer(call, call.args[0], |timer| timer.overrun as u64)
}

/// timer_delete(2).
fn timer_delete(call: &mut Call<'_>) -> Result<u64> {
    with_timer(call, call.args[0], |_| ())?;
    call.process.timers.timers.lock().remove(&(call.args[0] as i32));
    Ok(0)
}
