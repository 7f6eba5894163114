//! Timers that send signals: alarm(2), setitimer(2), timer_create(2).
//!
//! Each process with a timer has one kernel thread that sleeps to the next deadline. Processor time cannot wake
//! anybody, but it never runs faster than all processors together: for a timer of it the thread sleeps as long as that
//! would take at the least, and looks again.

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

/// The numbers that the interval timers have among the others, which count from 0.
const REAL: i32 = -1;
const VIRTUAL: i32 = -2;
const PROF: i32 = -3;

/// The shortest sleep for a timer of processor time: a process that does nothing must not keep its timer thread busy.
const LOOK_AGAIN: u64 = 1_000_000;

/// The shortest time between two looks after some expired, in nanoseconds: a timer whose interval is shorter than a look takes
/// would leave the processor to nobody else. What is missed meanwhile is counted.
const SHORTEST: u64 = 50_000;

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
    /// Time of the next expiration: monotonic, or processor time where the clock counts that.
    deadline: Option<u64>,
    /// Expirations that the signal delivered last stands for beside its own.
    overrun: i32,
}

impl Timer {
    /// What its clock shows, in the terms of its deadline. The time of a thread that has ended stands still.
    fn now(&self, process: &Process) -> u64 {
        match self.clock {
            Clock::Wall | Clock::Monotonic => time::monotonic_ns(),
            Clock::ProcessTime => process.ran_ns(),
            Clock::ThreadTime(tid) => process.thread(tid).map_or(0, |thread| thread.ran_ns()),
        }
    }

    /// Time left and interval.
    fn state(&self, process: &Process) -> (u64, u64) {
        let left = match (self.deadline, self.target) {
            (None, _) => 0,
            (Some(deadline), target) => {
                let left = deadline.saturating_sub(self.now(process));
                // A timer that is armed never shows 0, except one that has nobody to tell and is over.
                if left == 0 && target != Target::Nobody { 1 } else { left }
            }
        };
        (left, self.interval)
    }

    /// When, on the monotonic clock, to look at it.
    fn look_at(&self, process: &Process) -> Option<u64> {
        let deadline = self.deadline?;
        if !self.clock.counts_processor() {
            return Some(deadline);
        }
        let left = deadline.saturating_sub(self.now(process));
        Some(time::monotonic_ns() + left.max(LOOK_AGAIN))
    }

    /// If it has expired by `now`, sets the next deadline and returns how often it has beside that once.
    fn expire(&mut self, now: u64) -> Option<i32> {
        let deadline = self.deadline.filter(|deadline| *deadline <= now)?;
        let missed = (now - deadline).checked_div(self.interval);
        self.deadline = missed.map(|missed| deadline.saturating_add((missed + 1).saturating_mul(self.interval)));
        Some(missed.unwrap_or(0).min(i32::MAX as u64) as i32)
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
    /// Takes away what exec takes away: all but the interval timers (execve(2)).
    pub fn delete_all(&self) {
        self.timers.lock().retain(|id, _| *id < 0);
    }

    /// A signal that a timer sent has reached the program: timer_getoverrun(2) tells of it from now on.
    pub fn delivered(&self, info: &SigInfo) {
        let Some((id, overrun)) = info.of_timer() else { return };
        if let Some(timer) = self.timers.lock().get_mut(&id) {
            timer.overrun = overrun;
        }
    }

    fn next_look(&self, process: &Process) -> Option<u64> {
        self.timers.lock().values().filter_map(|timer| timer.look_at(process)).min()
    }

    /// Lets the timer thread see a change.
    ///
    /// # Errors
    /// `EAGAIN` when it cannot be started.
    fn changed(&self, process: &Arc<Process>) -> Result<()> {
        if self.next_look(process).is_some() && !self.bell.started.swap(true, Ordering::SeqCst) {
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
    let mut rested = 0;
    while let Some(process) = process.upgrade() {
        let timers = &process.timers;
        let deadline = timers.next_look(&process).map(|at| at.max(rested));
        // Not interruptible, so it cannot fail.
        let _ = timers.bell.queue.wait_until(&mut || timers.bell.rung.swap(false, Ordering::SeqCst), deadline, false);
        let due: Vec<(i32, Timer, i32)> = timers
            .timers
            .lock()
            .iter_mut()
            .filter_map(|(id, timer)| Some((*id, *timer, timer.expire(timer.now(&process))?)))
            .collect();
        if !due.is_empty() {
            rested = time::monotonic_ns() + SHORTEST;
        }
        for (id, timer, missed) in due {
            fire(&process, id, &timer, missed);
        }
    }
}

/// Sends what a timer sends. A signal of its own that still waits counts the expiration instead ([`SignalQueue::push`]).
///
/// [`SignalQueue::push`]: crate::abi::signal_queue::SignalQueue::push
fn fire(process: &Arc<Process>, id: i32, timer: &Timer, missed: i32) {
    let info = match id {
        ..0 => SigInfo::kernel(timer.signal),
        _ => SigInfo::timer(timer.signal, id, missed, timer.value),
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

/// Sets an interval timer and returns what was left of it and its interval.
fn set_interval(call: &Call<'_>, which: Interval, first: u64, interval: u64) -> Result<(u64, u64)> {
    let timers = &call.process.timers;
    let mut timer = Timer {
        clock: which.clock,
        target: Target::Process,
        signal: which.signal,
        value: 0,
        interval,
        deadline: None,
        overrun: 0,
    };
    timer.deadline = (first != 0).then(|| timer.now(call.process).saturating_add(first));
    let old = timers.timers.lock().insert(which.number, timer);
    timers.changed(call.process)?;
    Ok(old.map_or((0, 0), |old| old.state(call.process)))
}

/// alarm(2).
fn alarm(call: &mut Call<'_>) -> Result<u64> {
    let real = Interval::decode(raw::ITIMER_REAL.into())?;
    let (left, _) = set_interval(call, real, (call.args[0] as u32 as u64) * SECOND, 0)?;
    // Rounded, but never to 0 while it runs (alarm_setitimer).
    Ok(if left == 0 { 0 } else { ((left + SECOND / 2) / SECOND).max(1) })
}

/// One of the three interval timers.
struct Interval {
    number: i32,
    clock: Clock,
    signal: Signal,
}

impl Interval {
    /// Decodes the first argument of setitimer(2). Time in the kernel is not told apart from the program's own, so the
    /// virtual timer counts both.
    fn decode(which: u64) -> Result<Self> {
        let (number, clock, signal) = match which as u32 {
            raw::ITIMER_REAL => (REAL, Clock::Monotonic, Signal::ALRM),
            raw::ITIMER_VIRTUAL => (VIRTUAL, Clock::ProcessTime, Signal::VTALRM),
            raw::ITIMER_PROF => (PROF, Clock::ProcessTime, Signal::PROF),
            _ => return Err(Errno::EINVAL),
        };
        Ok(Self { number, clock, signal })
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
    let which = Interval::decode(call.args[0])?;
    let timers = call.process.timers.timers.lock();
    let state = timers.get(&which.number).map_or((0, 0), |timer| timer.state(call.process));
    drop(timers);
    write_itimerval(call.args[1], state)
}

/// setitimer(2).
fn setitimer(call: &mut Call<'_>) -> Result<u64> {
    let [which, new, old, ..] = call.args;
    let which = Interval::decode(which)?;
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
    let state = set_interval(call, which, first, interval)?;
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
    let clock = match Clock::decode_to_wait(clock)? {
        Clock::ThreadTime(0) => Clock::ThreadTime(call.thread.tid),
        clock => clock,
    };
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
        let before = timer.state(call.process);
        timer.interval = interval;
        timer.overrun = 0;
        timer.deadline = (first != 0).then(|| match (absolute, timer.clock) {
            (false, _) => timer.now(call.process).saturating_add(first),
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
    let state = with_timer(call, call.args[0], |timer| timer.state(call.process))?;
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
