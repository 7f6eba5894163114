//! The calls about signals: actions, masks, stacks, sending and waiting.

use super::state::{Action, Disposition, SIG_IGN};
use super::{deliver, force, send_to_process, send_to_thread, wait};
use crate::abi::siginfo::{SI_TKILL, SI_USER, SigInfo};
use crate::abi::signal_frame::{AltStack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, StackT};
use crate::abi::signal_set::{DefaultAction, Signal, SignalSet};
use crate::linux::Call;
use crate::linux::clock::read_timespec;
use crate::linux::process::{Process, UserThread};
use crate::linux::table::Calls;
use crate::mm::user::{UserPtr, plain};
use crate::time;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::rt_sigaction, rt_sigaction),
    (Sysno::rt_sigprocmask, rt_sigprocmask),
    (Sysno::rt_sigpending, rt_sigpending),
    (Sysno::rt_sigsuspend, rt_sigsuspend),
    (Sysno::rt_sigtimedwait, rt_sigtimedwait),
    (Sysno::rt_sigqueueinfo, rt_sigqueueinfo),
    (Sysno::rt_tgsigqueueinfo, rt_tgsigqueueinfo),
    (Sysno::rt_sigreturn, rt_sigreturn),
    (Sysno::sigaltstack, sigaltstack),
    (Sysno::pause, pause),
    (Sysno::kill, kill),
    (Sysno::tkill, tkill),
    (Sysno::tgkill, tgkill),
];

plain!(StackT, SigInfo);

/// The only size of a signal set the kernel knows.
const SET_SIZE: u64 = 8;

/// `MINSIGSTKSZ` of the kernel's headers; what a frame really takes is told by `AT_MINSIGSTKSZ`.
const MIN_STACK: u64 = raw::MINSIGSTKSZ as u64;

fn check_set_size(size: u64) -> Result<()> {
    if size == SET_SIZE { Ok(()) } else { Err(Errno::EINVAL) }
}

fn signal_argument(value: u64) -> Result<Signal> {
    // An int argument: only its low half counts.
    Signal::new(value as u32 as u64).ok_or(Errno::EINVAL)
}

/// rt_sigaction(2).
fn rt_sigaction(call: &mut Call<'_>) -> Result<u64> {
    let [signal, new, old, size, ..] = call.args;
    check_set_size(size)?;
    let signal = signal_argument(signal)?;
    let new = UserPtr::<Action>::nullable(new).map(UserPtr::read).transpose()?;
    if new.is_some() && SignalSet::UNBLOCKABLE.contains(signal) {
        return Err(Errno::EINVAL);
    }
    let before = {
        let mut signals = call.process.signals.lock();
        match new {
            None => *signals.action(signal),
            Some(new) => {
                let new = Action { mask: SignalSet(new.mask).blockable().0, ..new };
                let before = signals.set_action(signal, new);
                if ignores(signal, &new) {
                    signals.pending.discard(signal);
                }
                before
            }
        }
    };
    if new.is_some_and(|new| ignores(signal, &new)) {
        for thread in call.process.threads() {
            thread.signals.lock().pending.discard(signal);
        }
    }
    if let Some(old) = UserPtr::nullable(old) {
        old.write(before)?;
    }
    Ok(0)
}

fn ignores(signal: Signal, action: &Action) -> bool {
    action.handler == SIG_IGN
        || action.disposition() == Disposition::Default && signal.default_action() == DefaultAction::Ignore
}

/// rt_sigprocmask(2).
fn rt_sigprocmask(call: &mut Call<'_>) -> Result<u64> {
    let [how, new, old, size, ..] = call.args;
    check_set_size(size)?;
    let new = UserPtr::<u64>::nullable(new).map(UserPtr::read).transpose()?;
    let before = call.thread.signals.lock().mask;
    if let Some(new) = new {
        let new = SignalSet(new).blockable();
        let mask = match how as u32 {
            raw::SIG_BLOCK => before | new,
            raw::SIG_UNBLOCK => before & !new,
            raw::SIG_SETMASK => new,
            _ => return Err(Errno::EINVAL),
        };
        set_mask(call.thread, mask);
    }
    if let Some(old) = UserPtr::nullable(old) {
        old.write(before.0)?;
    }
    Ok(0)
}

fn set_mask(thread: &UserThread, mask: SignalSet) {
    thread.signals.lock().mask = mask;
    // What was blocked may be due now.
    thread.attention.store(true, Ordering::SeqCst);
}

/// rt_sigpending(2).
fn rt_sigpending(call: &mut Call<'_>) -> Result<u64> {
    let [set, size, ..] = call.args;
    // Smaller sets are allowed here, alone of all these calls (sys_rt_sigpending).
    if size > SET_SIZE {
        return Err(Errno::EINVAL);
    }
    let pending = {
        let process = call.process.signals.lock();
        let own = call.thread.signals.lock();
        (process.pending.set() | own.pending.set()) & own.mask
    };
    UserPtr::<u8>::new(set).write_slice(&pending.0.to_le_bytes()[..size as usize])?;
    Ok(0)
}

/// rt_sigsuspend(2).
fn rt_sigsuspend(call: &mut Call<'_>) -> Result<u64> {
    let [mask, size, ..] = call.args;
    check_set_size(size)?;
    let mask = UserPtr::<u64>::new(mask).read()?;
    super::with_mask(call.thread, mask, || wait::pause(call.thread))
}

/// pause(2).
fn pause(call: &mut Call<'_>) -> Result<u64> {
    wait::pause(call.thread)
}

/// rt_sigtimedwait(2).
fn rt_sigtimedwait(call: &mut Call<'_>) -> Result<u64> {
    let [set, info, timeout, size, ..] = call.args;
    check_set_size(size)?;
    let wanted = SignalSet(UserPtr::<u64>::new(set).read()?).blockable();
    let deadline = match timeout {
        0 => None,
        address => Some(time::monotonic_ns().saturating_add(read_timespec(address)?)),
    };
    let (signal, record) = wait::take(call.thread, wanted, deadline)?;
    if let Some(info) = UserPtr::nullable(info) {
        info.write(record)?;
    }
    Ok(signal.number().into())
}

/// sigaltstack(2).
fn sigaltstack(call: &mut Call<'_>) -> Result<u64> {
    let [new, old, ..] = call.args;
    let new = UserPtr::<StackT>::nullable(new).map(UserPtr::read).transpose()?;
    let sp = call.frame.rsp;
    let before = call.thread.signals.lock().alternate;
    if let Some(new) = new {
        if before.in_use(sp) {
            return Err(Errno::EPERM);
        }
        let autodisarm = new.flags & SS_AUTODISARM != 0;
        let alternate = match new.flags & !SS_AUTODISARM {
            SS_DISABLE => AltStack { base: 0, size: 0, autodisarm },
            // Linux takes SS_ONSTACK as if it were 0.
            0 | SS_ONSTACK if new.size < MIN_STACK => return Err(Errno::ENOMEM),
            0 | SS_ONSTACK => AltStack { base: new.sp, size: new.size, autodisarm },
            _ => return Err(Errno::EINVAL),
        };
        call.thread.signals.lock().alternate = alternate;
    }
    if let Some(old) = UserPtr::nullable(old) {
        old.write(before.describe(sp))?;
    }
    Ok(0)
}

/// rt_sigreturn(2).
fn rt_sigreturn(call: &mut Call<'_>) -> Result<u64> {
    match deliver::sigreturn(call.thread, call.frame) {
        Ok(rax) => Ok(rax),
        Err(_) => {
            crate::verbose!("a signal handler returned to a frame that is none, at {:#x}", call.frame.rsp);
            force(call.thread, Signal::SEGV, SigInfo::kernel(Signal::SEGV));
            Ok(0)
        }
    }
}

/// Signal 0 only asks whether somebody is there.
///
/// # Errors
/// `EINVAL` for a number that is no signal's.
pub fn optional_signal(value: u64) -> Result<Option<Signal>> {
    match value as u32 {
        0 => Ok(None),
        _ => signal_argument(value).map(Some),
    }
}

/// What comes with a signal that the caller sends by kill(2) or the like.
pub fn from_caller(call: &Call<'_>, signal: Signal) -> SigInfo {
    sender(call, signal, SI_USER)
}

fn sender(call: &Call<'_>, signal: Signal, code: i32) -> SigInfo {
    let uid = call.process.credentials.lock().uid.real;
    SigInfo::from_process(signal, code, call.process.pid, uid)
}

/// kill(2). Our process is the only one, and the only member of its group.
fn kill(call: &mut Call<'_>) -> Result<u64> {
    let pid = call.args[0] as i32;
    let signal = optional_signal(call.args[1])?;
    let own = call.process.pid as i32;
    // -1 means everybody but the sender and the first process: nobody is left.
    if pid != own && pid != 0 && pid != -own || pid == -1 && own != 1 {
        return Err(Errno::ESRCH);
    }
    if let Some(signal) = signal {
        send_to_process(call.process, signal, from_caller(call, signal))?;
    }
    Ok(0)
}

fn find_thread(process: &Process, tgid: Option<i32>, tid: i32) -> Result<Arc<UserThread>> {
    if tid <= 0 || tgid.is_some_and(|tgid| tgid <= 0) {
        return Err(Errno::EINVAL);
    }
    if tgid.is_some_and(|tgid| tgid as u32 != process.pid) {
        return Err(Errno::ESRCH);
    }
    process.thread(tid as u32).ok_or(Errno::ESRCH)
}

/// tkill(2).
fn tkill(call: &mut Call<'_>) -> Result<u64> {
    let thread = find_thread(call.process, None, call.args[0] as i32)?;
    send_code(call, &thread, call.args[1])
}

/// tgkill(2).
fn tgkill(call: &mut Call<'_>) -> Result<u64> {
    let thread = find_thread(call.process, Some(call.args[0] as i32), call.args[1] as i32)?;
    send_code(call, &thread, call.args[2])
}

fn send_code(call: &Call<'_>, thread: &UserThread, signal: u64) -> Result<u64> {
    if let Some(signal) = optional_signal(signal)? {
        send_to_thread(thread, signal, sender(call, signal, SI_TKILL))?;
    }
    Ok(0)
}

/// Reads a record a program sends; it may claim anything about itself, since it can send only to itself.
fn read_info(signal: Option<Signal>, address: u64) -> Result<SigInfo> {
    let mut info = UserPtr::<SigInfo>::new(address).read()?;
    info.signo = signal.map_or(0, |signal| signal.number().into());
    Ok(info)
}

/// rt_sigqueueinfo(2).
fn rt_sigqueueinfo(call: &mut Call<'_>) -> Result<u64> {
    let [pid, signal, info, ..] = call.args;
    let signal = optional_signal(signal)?;
    let info = read_info(signal, info)?;
    if pid as u32 != call.process.pid {
        return Err(Errno::ESRCH);
    }
    if let Some(signal) = signal {
        send_to_process(call.process, signal, info)?;
    }
    Ok(0)
}

/// rt_tgsigqueueinfo(2).
fn rt_tgsigqueueinfo(call: &mut Call<'_>) -> Result<u64> {
    let [tgid, tid, signal, info, ..] = call.args;
    let signal = optional_signal(signal)?;
    let info = read_info(signal, info)?;
    let thread = find_thread(call.process, Some(tgid as i32), tid as i32)?;
    if let Some(signal) = signal {
        send_to_thread(&thread, signal, info)?;
    }
    Ok(0)
}
