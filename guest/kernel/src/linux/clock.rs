//! Clocks: reading them, and sleeping by them.
//!
//! Two are real, the monotonic and the wall clock. The processor-time clocks show the time since the process started,
//! an upper bound, until the scheduler accounts for it.

use super::process::Process;
use super::table::Calls;
use super::{Call, signal};
use crate::mm::user::UserPtr;
use crate::task::WaitQueue;
use crate::time;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::clock_gettime, clock_gettime),
    (Sysno::clock_getres, clock_getres),
    (Sysno::clock_nanosleep, clock_nanosleep),
    (Sysno::clock_settime, clock_settime),
    (Sysno::clock_adjtime, clock_settime),
    (Sysno::adjtimex, clock_settime),
    (Sysno::nanosleep, nanosleep),
    (Sysno::gettimeofday, gettimeofday),
    (Sysno::settimeofday, clock_settime),
    (Sysno::time, time_call),
];

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// A clock a program can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// Time since the epoch.
    Wall,
    /// Time since the kernel started.
    Monotonic,
    /// Processor time of the process or a thread.
    Cpu,
}

impl Clock {
    /// Decodes a `clockid_t`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn decode(id: u64) -> Result<Self> {
        let id = id as i32;
        // Negative ids name the clock of a process or thread, or a device (clock_getcpuclockid(3)); ours only.
        if id < 0 {
            return if id & 7 == 3 { Err(Errno::EINVAL) } else { Ok(Self::Cpu) };
        }
        match id as u32 {
            raw::CLOCK_REALTIME | raw::CLOCK_REALTIME_COARSE | raw::CLOCK_REALTIME_ALARM | raw::CLOCK_TAI => {
                Ok(Self::Wall)
            }
            raw::CLOCK_MONOTONIC
            | raw::CLOCK_MONOTONIC_RAW
            | raw::CLOCK_MONOTONIC_COARSE
            | raw::CLOCK_BOOTTIME
            | raw::CLOCK_BOOTTIME_ALARM => Ok(Self::Monotonic),
            raw::CLOCK_PROCESS_CPUTIME_ID | raw::CLOCK_THREAD_CPUTIME_ID => Ok(Self::Cpu),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Its time in nanoseconds.
    pub fn now(self, process: &Process) -> u64 {
        match self {
            Self::Wall => time::wall_ns(),
            Self::Monotonic => time::monotonic_ns(),
            Self::Cpu => cpu_ns(process),
        }
    }
}

/// Processor time of a process, as far as it is known: an upper bound.
pub fn cpu_ns(process: &Process) -> u64 {
    time::monotonic_ns().saturating_sub(process.started_ns)
}

/// When the monotonic clock will show what the wall clock shows at `wall` nanoseconds; 0 for the past.
pub fn wall_to_monotonic(wall: u64) -> u64 {
    let offset = time::wall_ns().saturating_sub(time::monotonic_ns());
    wall.saturating_sub(offset)
}

/// Reads a `struct timespec` as nanoseconds, at most what 64 bits hold (584 years).
///
/// # Errors
/// `EFAULT`; `EINVAL` for a negative time or a fraction that is none.
pub fn read_timespec(address: u64) -> Result<u64> {
    let [sec, nsec] = UserPtr::<[u64; 2]>::new(address).read()?;
    if sec > i64::MAX as u64 || nsec >= SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(sec.saturating_mul(SECOND).saturating_add(nsec))
}

/// Writes nanoseconds as a `struct timespec`.
///
/// # Errors
/// `EFAULT`.
pub fn write_timespec(address: u64, ns: u64) -> Result<()> {
    UserPtr::<[u64; 2]>::new(address).write([ns / SECOND, ns % SECOND])
}

/// clock_gettime(2).
fn clock_gettime(call: &mut Call<'_>) -> Result<u64> {
    let clock = Clock::decode(call.args[0])?;
    write_timespec(call.args[1], clock.now(call.process))?;
    Ok(0)
}

/// clock_getres(2). Every clock counts nanoseconds.
fn clock_getres(call: &mut Call<'_>) -> Result<u64> {
    Clock::decode(call.args[0])?;
    if call.args[1] != 0 {
        write_timespec(call.args[1], 1)?;
    }
    Ok(0)
}

/// clock_settime(2), settimeofday(2), adjtimex(2): the clock is the host's.
fn clock_settime(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::EPERM)
}

/// Sleeps to a monotonic time; interrupted, it writes what is left to `remaining` unless that is 0.
fn sleep(call: &Call<'_>, deadline: u64, remaining: u64) -> Result<u64> {
    match signal::wait::sleep(call.thread, &WaitQueue::new(), &mut || false, Some(deadline)) {
        Ok(_) => Ok(0),
        Err(errno) => {
            if remaining != 0 {
                write_timespec(remaining, deadline.saturating_sub(time::monotonic_ns()))?;
            }
            Err(errno)
        }
    }
}

/// nanosleep(2).
fn nanosleep(call: &mut Call<'_>) -> Result<u64> {
    let ns = read_timespec(call.args[0])?;
    sleep(call, time::monotonic_ns().saturating_add(ns), call.args[1])
}

/// clock_nanosleep(2).
fn clock_nanosleep(call: &mut Call<'_>) -> Result<u64> {
    let [id, flags, request, remaining, ..] = call.args;
    let clock = match Clock::decode(id)? {
        // The thread's own clock does not run while it sleeps (clock_nanosleep(2)).
        Clock::Cpu if id as u32 == raw::CLOCK_THREAD_CPUTIME_ID => return Err(Errno::EINVAL),
        Clock::Cpu => return Err(Errno::EOPNOTSUPP),
        clock => clock,
    };
    let ns = read_timespec(request)?;
    if flags as u32 & raw::TIMER_ABSTIME == 0 {
        return sleep(call, time::monotonic_ns().saturating_add(ns), remaining);
    }
    let deadline = if clock == Clock::Wall { wall_to_monotonic(ns) } else { ns };
    sleep(call, deadline, 0)
}

/// gettimeofday(2). The time zone is UTC.
fn gettimeofday(call: &mut Call<'_>) -> Result<u64> {
    let now = time::wall_ns();
    if let Some(tv) = UserPtr::<[u64; 2]>::nullable(call.args[0]) {
        tv.write([now / SECOND, now % SECOND / 1000])?;
    }
    if let Some(tz) = UserPtr::<[i32; 2]>::nullable(call.args[1]) {
        tz.write([0, 0])?;
    }
    Ok(0)
}

/// time(2).
fn time_call(call: &mut Call<'_>) -> Result<u64> {
    let seconds = time::wall_ns() / SECOND;
    if let Some(user) = UserPtr::nullable(call.args[0]) {
        user.write(seconds)?;
    }
    Ok(seconds)
}
