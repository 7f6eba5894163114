//! Scheduling policies, priorities and nice values. The scheduler has one policy, round robin with equal rights, so what a
//! thread is told to be is kept and shown, within what Linux would allow, and changes nothing. Real-time policies would
//! promise what is not there and are refused, as to somebody without the privilege.

use super::Call;
use super::identity::CAP_SYS_NICE;
use super::process::UserThread;
use super::table::Calls;
use super::thread::find;
use crate::mm::PAGE_SIZE;
use crate::mm::user::{UserPtr, plain};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::sched_getscheduler, sched_getscheduler),
    (Sysno::sched_setscheduler, sched_setscheduler),
    (Sysno::sched_getparam, sched_getparam),
    (Sysno::sched_setparam, sched_setparam),
    (Sysno::sched_getattr, sched_getattr),
    (Sysno::sched_setattr, sched_setattr),
    (Sysno::sched_get_priority_max, priority_max),
    (Sysno::sched_get_priority_min, priority_min),
    (Sysno::sched_rr_get_interval, sched_rr_get_interval),
    (Sysno::getpriority, getpriority),
    (Sysno::setpriority, setpriority),
    (Sysno::ioprio_get, ioprio_get),
    (Sysno::ioprio_set, ioprio_set),
];

/// What a thread was told about its scheduling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// `SCHED_OTHER`, `SCHED_BATCH` or `SCHED_IDLE`.
    policy: u32,
    /// -20 to 19.
    nice: i32,
    /// New threads begin without an advantage (`SCHED_RESET_ON_FORK`).
    reset: bool,
}

impl Schedule {
    /// As the first thread begins.
    pub const ORDINARY: Self = Self { policy: raw::SCHED_NORMAL, nice: 0, reset: false };

    /// What a thread that this one makes begins with.
    pub fn inherited(self) -> Self {
        if self.reset { Self { nice: self.nice.max(0), reset: false, ..self } } else { self }
    }

    /// The nice value.
    pub fn nice(self) -> i32 {
        self.nice
    }
}

/// The thread a call names; its numbers are signed, and none is negative.
fn target(call: &Call<'_>, tid: u64) -> Result<Arc<UserThread>> {
    if (tid as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    find(call.process, call.thread, tid as u32)
}

/// What a call asks for; `None` stays as it is.
#[derive(Default)]
struct Wanted {
    policy: Option<u32>,
    priority: u32,
    nice: Option<i32>,
    reset: bool,
}

/// `__sched_setscheduler` in Linux' kernel/sched.
fn set(call: &Call<'_>, thread: &UserThread, wanted: &Wanted) -> Result<u64> {
    const MAX_PRIORITY: u32 = 99;
    let old = *thread.schedule.lock();
    let policy = wanted.policy.unwrap_or(old.policy);
    let realtime = matches!(policy, raw::SCHED_FIFO | raw::SCHED_RR);
    let known =
        realtime || matches!(policy, raw::SCHED_NORMAL | raw::SCHED_BATCH | raw::SCHED_IDLE | raw::SCHED_DEADLINE);
    if !known || wanted.priority > MAX_PRIORITY || realtime != (wanted.priority != 0) {
        return Err(Errno::EINVAL);
    }
    let fair = matches!(policy, raw::SCHED_NORMAL | raw::SCHED_BATCH);
    let nice = wanted.nice.filter(|_| fair).unwrap_or(old.nice);
    let privileged = call.process.credentials.lock().has(CAP_SYS_NICE);
    if realtime || policy == raw::SCHED_DEADLINE || nice < old.nice && !privileged {
        return Err(Errno::EPERM);
    }
    *thread.schedule.lock() = Schedule { policy, nice, reset: wanted.reset };
    Ok(0)
}

fn sched_getscheduler(call: &mut Call<'_>) -> Result<u64> {
    let Schedule { policy, reset, .. } = *target(call, call.args[0])?.schedule.lock();
    Ok((policy | if reset { raw::SCHED_RESET_ON_FORK } else { 0 }).into())
}

/// Reads a `struct sched_param`, which is one number.
fn read_priority(address: u64) -> Result<u32> {
    UserPtr::<u32>::nullable(address).ok_or(Errno::EINVAL)?.read()
}

fn sched_setscheduler(call: &mut Call<'_>) -> Result<u64> {
    let [tid, policy, param, ..] = call.args;
    let policy = policy as u32;
    if (policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = read_priority(param)?;
    let reset = policy & raw::SCHED_RESET_ON_FORK != 0;
    let policy = Some(policy & !raw::SCHED_RESET_ON_FORK);
    let thread = target(call, tid)?;
    set(call, &thread, &Wanted { policy, priority, reset, ..Wanted::default() })
}

fn sched_getparam(call: &mut Call<'_>) -> Result<u64> {
    let user = UserPtr::<i32>::nullable(call.args[1]).ok_or(Errno::EINVAL)?;
    target(call, call.args[0])?;
    user.write(0)?;
    Ok(0)
}

fn sched_setparam(call: &mut Call<'_>) -> Result<u64> {
    let priority = read_priority(call.args[1])?;
    let thread = target(call, call.args[0])?;
    let reset = thread.schedule.lock().reset;
    set(call, &thread, &Wanted { priority, reset, ..Wanted::default() })
}

/// `struct sched_attr` of sched_setattr(2), in its second version; the first ends before the last two fields.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
    utilisation: [u32; 2],
}
plain!(Attributes);
const KNOWN: usize = size_of::<Attributes>();
const FIRST_VERSION: u64 = 48;
const _: () = assert!(KNOWN == 56);

/// Reads attributes whose size is their first field. One we cannot take is answered with ours.
fn read_attributes(address: u64) -> Result<Attributes> {
    let user = UserPtr::<Attributes>::nullable(address).ok_or(Errno::EINVAL)?;
    let size = match u64::from(UserPtr::<u32>::new(address).read()?) {
        0 => FIRST_VERSION,
        size => size,
    };
    let too_big = || UserPtr::new(address).write(KNOWN as u32).and(Err(Errno::E2BIG));
    if !(FIRST_VERSION..=PAGE_SIZE).contains(&size) {
        return too_big();
    }
    let beyond: Vec<u8> = user.cast().add(KNOWN).read_vec((size as usize).saturating_sub(KNOWN))?;
    if beyond.iter().any(|byte| *byte != 0) {
        return too_big();
    }
    if size >= KNOWN as u64 {
        return user.read();
    }
    let words = UserPtr::<u64>::new(address).read_vec(FIRST_VERSION as usize / 8)?;
    let [first, flags, nice, runtime, deadline, period] = words[..] else { return Err(Errno::EINVAL) };
    Ok(Attributes {
        size: first as u32,
        policy: (first >> 32) as u32,
        flags,
        nice: nice as i32,
        priority: (nice >> 32) as u32,
        runtime,
        deadline,
        period,
        utilisation: [0; 2],
    })
}

/// sched_setattr(2). Flags about deadlines and utilisation are for what is not there.
fn sched_setattr(call: &mut Call<'_>) -> Result<u64> {
    const SUPPORTED: u32 = raw::SCHED_FLAG_RESET_ON_FORK | raw::SCHED_FLAG_KEEP_POLICY | raw::SCHED_FLAG_KEEP_PARAMS;
    let [tid, attributes, flags, ..] = call.args;
    if attributes == 0 || flags as u32 != 0 || (tid as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let wanted = read_attributes(attributes)?;
    let flags = u32::try_from(wanted.flags).map_err(|_| Errno::EINVAL)?;
    if (wanted.policy as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    let thread = target(call, tid)?;
    match flags & !SUPPORTED {
        0 => {}
        other if other & !raw::SCHED_FLAG_UTIL_CLAMP == 0 => return Err(Errno::EOPNOTSUPP),
        _ => return Err(Errno::EINVAL),
    }
    let keeps = |flag| flags & flag != 0;
    let params = !keeps(raw::SCHED_FLAG_KEEP_PARAMS);
    let wanted = Wanted {
        policy: (!keeps(raw::SCHED_FLAG_KEEP_POLICY)).then_some(wanted.policy),
        priority: if params { wanted.priority } else { 0 },
        nice: params.then_some(wanted.nice.clamp(-20, 19)),
        reset: keeps(raw::SCHED_FLAG_RESET_ON_FORK),
    };
    set(call, &thread, &wanted)
}

/// sched_getattr(2).
fn sched_getattr(call: &mut Call<'_>) -> Result<u64> {
    let [tid, to, room, flags, ..] = call.args;
    let room = u64::from(room as u32);
    if to == 0 || !(FIRST_VERSION..=PAGE_SIZE).contains(&room) || flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let Schedule { policy, nice, reset } = *target(call, tid)?.schedule.lock();
    let size = room.min(KNOWN as u64) as u32;
    let flags = u64::from(if reset { raw::SCHED_FLAG_RESET_ON_FORK } else { 0 });
    let first = u64::from(size) | u64::from(policy) << 32;
    let words = [first, flags, u64::from(nice as u32), 0, 0, 0, 0];
    UserPtr::<u64>::new(to).write_slice(&words[..size as usize / 8])?;
    Ok(0)
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
    target(call, call.args[0])?;
    super::clock::write_timespec(call.args[1], 4_000_000)?;
    Ok(0)
}

/// The threads that getpriority(2) and setpriority(2) mean: nice values are a thread's, not a process'.
fn of_target(call: &Call<'_>) -> Result<Vec<Arc<UserThread>>> {
    let who = call.args[1] as u32;
    let everybody = match call.args[0] as u32 {
        raw::PRIO_PROCESS => return Ok(alloc::vec![find(call.process, call.thread, who)?]),
        raw::PRIO_PGRP => who == 0 || who == call.process.pid,
        raw::PRIO_USER => who == 0 || who == call.process.credentials.lock().uid.real,
        _ => return Err(Errno::EINVAL),
    };
    if everybody { Ok(call.process.threads()) } else { Err(Errno::ESRCH) }
}

/// getpriority(2): the kernel returns 20 minus the lowest nice value.
fn getpriority(call: &mut Call<'_>) -> Result<u64> {
    let lowest = of_target(call)?.iter().map(|thread| thread.schedule.lock().nice).min().ok_or(Errno::ESRCH)?;
    Ok((20 - lowest) as u64)
}

/// setpriority(2).
fn setpriority(call: &mut Call<'_>) -> Result<u64> {
    let nice = (call.args[2] as i32).clamp(-20, 19);
    let privileged = call.process.credentials.lock().has(CAP_SYS_NICE);
    for thread in of_target(call)? {
        let mut schedule = thread.schedule.lock();
        if nice < schedule.nice && !privileged {
            return Err(Errno::EACCES);
        }
        schedule.nice = nice;
    }
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
