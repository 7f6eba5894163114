//! The calls about scheduling. There is one policy, round robin with equal rights, so most of them only keep what
//! they are told within what Linux would allow.

use super::Call;
use super::table::Calls;
use super::thread::find;
use crate::mm::user::UserPtr;
use crate::task;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::sched_yield, sched_yield),
    (Sysno::sched_getaffinity, sched_getaffinity),
    (Sysno::sched_setaffinity, sched_setaffinity),
    (Sysno::sched_getscheduler, sched_getscheduler),
    (Sysno::sched_setscheduler, sched_setscheduler),
    (Sysno::sched_getparam, sched_getparam),
    (Sysno::sched_setparam, sched_setparam),
    (Sysno::sched_get_priority_max, priority_max),
    (Sysno::sched_get_priority_min, priority_min),
    (Sysno::sched_rr_get_interval, sched_rr_get_interval),
    (Sysno::getpriority, getpriority),
    (Sysno::setpriority, setpriority),
    (Sysno::ioprio_get, ioprio_get),
    (Sysno::ioprio_set, ioprio_set),
    (Sysno::getcpu, getcpu),
    (Sysno::membarrier, membarrier),
    (Sysno::rseq, rseq),
];

/// Processors a program may run on, a bit each. One, until the scheduler has more.
const PROCESSORS: u64 = 1;

fn sched_yield(_: &mut Call<'_>) -> Result<u64> {
    task::yield_now();
    Ok(0)
}

/// sched_getaffinity(2): the kernel's mask is one word long, and its length is returned.
fn sched_getaffinity(call: &mut Call<'_>) -> Result<u64> {
    let [tid, len, mask, ..] = call.args;
    let len = len as u32;
    if len < 8 || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    find(call.process, call.thread, tid as u32)?;
    UserPtr::<u64>::new(mask).write(PROCESSORS)?;
    Ok(8)
}

/// sched_setaffinity(2): any set with our processor in it.
fn sched_setaffinity(call: &mut Call<'_>) -> Result<u64> {
    let [tid, len, mask, ..] = call.args;
    let bytes = UserPtr::<u8>::new(mask).read_vec((len as u32).min(8) as usize)?;
    find(call.process, call.thread, tid as u32)?;
    let word = bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    if word & PROCESSORS == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}

fn sched_getscheduler(call: &mut Call<'_>) -> Result<u64> {
    find(call.process, call.thread, call.args[0] as u32)?;
    Ok(raw::SCHED_NORMAL.into())
}

/// sched_setscheduler(2): the ordinary policies are all the same; real-time ones need a privilege nobody has here.
fn sched_setscheduler(call: &mut Call<'_>) -> Result<u64> {
    let [tid, policy, param, ..] = call.args;
    let priority = UserPtr::<i32>::new(param).read()?;
    find(call.process, call.thread, tid as u32)?;
    match policy as u32 & !raw::SCHED_RESET_ON_FORK {
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE if priority == 0 => Ok(0),
        raw::SCHED_FIFO | raw::SCHED_RR if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn sched_getparam(call: &mut Call<'_>) -> Result<u64> {
    find(call.process, call.thread, call.args[0] as u32)?;
    UserPtr::<i32>::new(call.args[1]).write(0)?;
    Ok(0)
}

fn sched_setparam(call: &mut Call<'_>) -> Result<u64> {
    let priority = UserPtr::<i32>::new(call.args[1]).read()?;
    find(call.process, call.thread, call.args[0] as u32)?;
    if priority == 0 { Ok(0) } else { Err(Errno::EINVAL) }
}

/// The range of priorities of a policy.
fn priorities(policy: u64) -> Result<(u64, u64)> {
    match policy as u32 {
        raw::SCHED_FIFO | raw::SCHED_RR => Ok((1, 99)),
        raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE => Ok((0, 0)),
        _ => Err(Errno::EINVAL),
    }
}

fn priority_max(call: &mut Call<'_>) -> Result<u64> {
    Ok(priorities(call.args[0])?.1)
}

fn priority_min(call: &mut Call<'_>) -> Result<u64> {
    Ok(priorities(call.args[0])?.0)
}

/// sched_rr_get_interval(2): the scheduler's slice, 4 ms.
fn sched_rr_get_interval(call: &mut Call<'_>) -> Result<u64> {
    find(call.process, call.thread, call.args[0] as u32)?;
    super::clock::write_timespec(call.args[1], 4_000_000)?;
    Ok(0)
}

fn check_priority_target(call: &Call<'_>) -> Result<()> {
    let who = call.args[1] as u32;
    let known = match call.args[0] as u32 {
        raw::PRIO_PROCESS => who == 0 || call.process.thread(who).is_some(),
        raw::PRIO_PGRP => who == 0 || who == call.process.pid,
        raw::PRIO_USER => who == 0 || who == call.process.credentials.lock().uid.real,
        _ => return Err(Errno::EINVAL),
    };
    if known { Ok(()) } else { Err(Errno::ESRCH) }
}

/// getpriority(2): the kernel returns 20 minus the nice value.
fn getpriority(call: &mut Call<'_>) -> Result<u64> {
    check_priority_target(call)?;
    Ok(20)
}

/// setpriority(2): accepted; everybody has the same.
fn setpriority(call: &mut Call<'_>) -> Result<u64> {
    check_priority_target(call)?;
    Ok(0)
}

/// ioprio_get(2): class none.
fn ioprio_get(_: &mut Call<'_>) -> Result<u64> {
    Ok(0)
}

/// ioprio_set(2): advice without effect.
fn ioprio_set(_: &mut Call<'_>) -> Result<u64> {
    Ok(0)
}

/// getcpu(2).
fn getcpu(call: &mut Call<'_>) -> Result<u64> {
    for address in [call.args[0], call.args[1]] {
        if let Some(user) = UserPtr::<u32>::nullable(address) {
            user.write(0)?;
        }
    }
    Ok(0)
}

/// membarrier(2): none of its commands is offered, which its query says.
fn membarrier(call: &mut Call<'_>) -> Result<u64> {
    match call.args[0] as u32 {
        0 if call.args[1] == 0 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// rseq(2): not offered. The C library asks at every start and does without.
fn rseq(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::ENOSYS)
}
