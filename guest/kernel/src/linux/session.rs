//! Process numbers, groups and sessions. Process 1 leads the one group and the one session there are.

use super::Call;
use super::table::Calls;
use diolkos_vfs::{Errno, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::getpid, getpid),
    (Sysno::getppid, getppid),
    (Sysno::getpgrp, getpid),
    (Sysno::getpgid, getpgid),
    (Sysno::getsid, getpgid),
    (Sysno::setpgid, setpgid),
    (Sysno::setsid, setsid),
];

fn getpid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.pid.into())
}

/// getppid(2): like the first process of a PID namespace, it has no parent it could see.
fn getppid(_: &mut Call<'_>) -> Result<u64> {
    Ok(0)
}

fn check_self(call: &Call<'_>, pid: u64) -> Result<()> {
    let pid = pid as u32;
    if pid == 0 || call.process.thread(pid).is_some() { Ok(()) } else { Err(Errno::ESRCH) }
}

/// getpgid(2), getsid(2).
fn getpgid(call: &mut Call<'_>) -> Result<u64> {
    check_self(call, call.args[0])?;
    Ok(call.process.pid.into())
}

/// setpgid(2): a session leader stays where it is.
fn setpgid(call: &mut Call<'_>) -> Result<u64> {
    if (call.args[1] as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    check_self(call, call.args[0])?;
    Err(Errno::EPERM)
}

/// setsid(2): a group leader cannot found a session.
fn setsid(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::EPERM)
}
