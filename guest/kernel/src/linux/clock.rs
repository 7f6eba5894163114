//! Clocks: reading them, and sleeping by them.
//!
//! Two run by themselves, the monotonic and the wall clock; the others count the processor time of a process or a
//! thread, and nobody can sleep by them.

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
    /// Processor time of the process.
    ProcessTime,
    /// Processor time of a thread; 0 is the caller.
    ThreadTime(u32),
}

impl Clock {
    /// Decodes a `clockid_t`.
    ///
    /// # Errors
    /// `EINVAL`.
    pub fn decode(id: u64) -> Result<Self> {
        let id = id as i32;
        // Negative ids name the clock of a process or a thread, or a device: the complement of the number, then three
        // bits: 4 for a thread, and the kind of clock (clock_getcpuclockid(3)). All kinds count the same here.
        if id < 0 {
            const DEVICE: i32 = 3;
            let number = !(id >> 3) as u32;
            return match id & 3 {
                DEVICE => Err(Errno::EINVAL),
                _ if id & 4 != 0 => Ok(Self::ThreadTime(number)),
                _ => Ok(Self::ProcessTime),
            };
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
            raw::CLOCK_PROCESS_CPUTIME_ID => Ok(Self::ProcessTime),
            raw::CLOCK_THREAD_CPUTIME_ID => Ok(Self::ThreadTime(0)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Decodes a `clockid_t` by which something is to wait: those that are only read, raw or coarse, wake nobody.
    ///
    /// # Errors
    /// `EINVAL`, `EOPNOTSUPP`.
    pub fn decode_to_wait(id: u64) -> Result<Self> {
        match id as u32 {
            raw::CLOCK_MONOTONIC_RAW | raw::CLOCK_MONOTONIC_COARSE | raw::CLOCK_REALTIME_COARSE => {
                Err(Errno::EOPNOTSUPP)
            }
            _ => Self::decode(id),
        }
    }

    /// Its time in nanoseconds.
    ///
    /// # Errors
    /// `EINVAL` for a thread that is not there.
    fn now(self, call: &Call<'_>) -> Result<u64> {
        match self {
            Self::Wall => Ok(time::wall_ns()),
            Self::Monotonic => Ok(time::monotonic_ns()),
            Self::ProcessTime => Ok(call.process.ran_ns()),
            Self::ThreadTime(0) => Ok(call.thread.ran_ns()),
            Self::ThreadTime(tid) => Ok(call.process.thread(tid).ok_or(Errno::EINVAL)?.ran_ns()),
        }
    }

    /// Whether it counts processor time.
    pub fn counts_processor(self) -> bool {
        matches!(self, Self::ProcessTime | Self::ThreadTime(_))
    }
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
    write_timespec(call.args[1], clock.now(call)?)?;
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
    let clock = match Clock::decode_to_wait(id)? {
        Clock::ThreadTime(0) => return Err(Errno::EOPNOTSUPP),
        // The thread's own clock does not run while it sleeps (clock_nanosleep(2)).
        Clock::ThreadTime(_) => return Err(Errno::EINVAL),
        Clock::ProcessTime => return Err(Errno::EOPNOTSUPP),
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
