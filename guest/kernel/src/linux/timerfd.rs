//! timerfd_create(2) and its calls.

use super::clock::{Clock, read_timespec, wall_to_monotonic, write_timespec};
use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::fs::timerfd::TimerFd;
use crate::time;
use diolkos_vfs::{Errno, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::timerfd_create, timerfd_create),
    (Sysno::timerfd_settime, timerfd_settime),
    (Sysno::timerfd_gettime, timerfd_gettime),
];

/// Bytes of a `struct timespec`; a `struct itimerspec` is two: interval, then value.
const TIMESPEC: u64 = 16;

/// timerfd_create(2).
fn timerfd_create(call: &mut Call<'_>) -> Result<u64> {
    let flags = call.args[1] as u32;
    if flags & !(raw::TFD_CLOEXEC | raw::TFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let refused = |errno| if errno == Errno::EOPNOTSUPP { Errno::EINVAL } else { errno };
    let wall = match Clock::decode_to_wait(call.args[0]).map_err(refused)? {
        Clock::Wall => true,
        Clock::Monotonic => false,
        Clock::ProcessTime | Clock::ThreadTime(_) => return Err(Errno::EINVAL),
    };
    let timer = TimerFd::new(wall)?;
    let status = OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags & raw::TFD_NONBLOCK);
    call.install(OpenFile::unnamed(timer, "anon_inode:[timerfd]", status), flags & raw::TFD_CLOEXEC != 0)
}

/// timerfd_settime(2). The wall clock never jumps here, so `TFD_TIMER_CANCEL_ON_SET` has nothing to cancel.
fn timerfd_settime(call: &mut Call<'_>) -> Result<u64> {
    let [fd, flags, new, old, ..] = call.args;
    if flags as u32 & !(raw::TFD_TIMER_ABSTIME | raw::TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let (interval, value) = (read_timespec(new)?, read_timespec(new.saturating_add(TIMESPEC))?);
    let file = call.file(fd)?;
    let timer = timer_of(&file)?;
    let next = match value {
        0 => None,
        _ if flags as u32 & raw::TFD_TIMER_ABSTIME == 0 => Some(time::monotonic_ns().saturating_add(value)),
        // A moment in the past has expired at once; 0 would be "not armed".
        _ if timer.is_wall() => Some(wall_to_monotonic(value).max(1)),
        _ => Some(value),
    };
    let before = timer.set(next, interval);
    if old != 0 {
        write_itimerspec(old, before)?;
    }
    Ok(0)
}

/// timerfd_gettime(2).
fn timerfd_gettime(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let state = timer_of(&file)?.state();
    write_itimerspec(call.args[1], state)?;
    Ok(0)
}

fn timer_of(file: &OpenFile) -> Result<&TimerFd> {
    file.inner().as_any().downcast_ref().ok_or(Errno::EINVAL)
}

fn write_itimerspec(address: u64, (left, interval): (u64, u64)) -> Result<()> {
    write_timespec(address, interval)?;
    write_timespec(address.saturating_add(TIMESPEC), left)
}
