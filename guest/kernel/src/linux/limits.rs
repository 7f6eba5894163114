//! Resource limits (getrlimit(2)). In force are those on descriptors, here by the descriptor table, and on the main
//! stack, at exec; the others are remembered and given back.

use super::Call;
use super::table::Calls;
use crate::abi::signal_queue::MAX_QUEUED;
use crate::fs::fd_table::{DEFAULT_LIMIT, MAX_LIMIT};
use crate::mm::user::UserPtr;
use diolkos_vfs::{Errno, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::getrlimit, getrlimit), (Sysno::setrlimit, setrlimit), (Sysno::prlimit64, prlimit64)];

/// No limit.
pub const INFINITY: u64 = u64::MAX;

/// A resource whose limit differs from "none", by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes of the main stack.
    Stack = 3,
    /// Bytes of a core file.
    Core = 4,
    /// Threads.
    Processes = 6,
    /// Descriptors.
    Descriptors = 7,
    /// Locked bytes.
    LockedMemory = 8,
    /// Queued signals.
    PendingSignals = 11,
    /// Bytes in message queues.
    MessageQueues = 12,
    /// Nice values.
    Nice = 13,
    /// Real-time priority.
    RealtimePriority = 14,
}

/// How many there are.
pub const COUNT: usize = 16;

/// All limits of a process: soft and hard.
#[derive(Debug, Clone)]
pub struct Limits([(u64, u64); COUNT]);

impl Default for Limits {
    /// What Linux gives to its first process, with the descriptors of ordinary systems.
    fn default() -> Self {
        const STACK: u64 = 8 << 20;
        const LOCKED: u64 = 8 << 20;
        const MESSAGES: u64 = 819_200;
        let threads = super::process::MAX_THREADS as u64;
        let mut limits = [(INFINITY, INFINITY); COUNT];
        for (resource, soft, hard) in [
            (Resource::Stack, STACK, INFINITY),
            (Resource::Core, 0, INFINITY),
            (Resource::Processes, threads, threads),
            (Resource::Descriptors, DEFAULT_LIMIT.into(), MAX_LIMIT.into()),
            (Resource::LockedMemory, LOCKED, LOCKED),
            (Resource::PendingSignals, MAX_QUEUED as u64, MAX_QUEUED as u64),
            (Resource::MessageQueues, MESSAGES, MESSAGES),
            (Resource::Nice, 0, 0),
            (Resource::RealtimePriority, 0, 0),
        ] {
            limits[resource as usize] = (soft, hard);
        }
        Self(limits)
    }
}

impl Limits {
    /// Soft and hard limit.
    pub fn get(&self, resource: Resource) -> (u64, u64) {
        self.0[resource as usize]
    }

    /// By number.
    pub fn by_number(&self, number: usize) -> Option<(u64, u64)> {
        self.0.get(number).copied()
    }
}

/// Reads the old limits and sets new ones.
fn exchange(call: &Call<'_>, number: u64, new: Option<(u64, u64)>) -> Result<(u64, u64)> {
    let number = number as u32 as usize;
    let privileged = call.process.credentials.lock().uid.effective == 0;
    let mut limits = call.process.limits.lock();
    let slot = limits.0.get_mut(number).ok_or(Errno::EINVAL)?;
    let old = *slot;
    if let Some((soft, hard)) = new {
        if soft > hard {
            return Err(Errno::EINVAL);
        }
        let descriptors = number == Resource::Descriptors as usize;
        // Beyond nr_open nobody may go (getrlimit(2)).
        if hard > old.1 && !privileged || descriptors && hard > MAX_LIMIT.into() {
            return Err(Errno::EPERM);
        }
        *slot = (soft, hard);
        drop(limits);
        if descriptors {
            call.process.files.set_limit(soft);
        }
        if number == Resource::Stack as usize {
            call.process.space().set_stack_limit(soft);
        }
    }
    Ok(old)
}

fn getrlimit(call: &mut Call<'_>) -> Result<u64> {
    let (soft, hard) = exchange(call, call.args[0], None)?;
    UserPtr::<[u64; 2]>::new(call.args[1]).write([soft, hard])?;
    Ok(0)
}

fn setrlimit(call: &mut Call<'_>) -> Result<u64> {
    let [soft, hard] = UserPtr::<[u64; 2]>::new(call.args[1]).read()?;
    exchange(call, call.args[0], Some((soft, hard)))?;
    Ok(0)
}

/// prlimit64(2), for the caller's own process.
fn prlimit64(call: &mut Call<'_>) -> Result<u64> {
    let [pid, resource, new, old, ..] = call.args;
    if pid as u32 != 0 && call.process.thread(pid as u32).is_none() {
        return Err(Errno::ESRCH);
    }
    let new = UserPtr::<[u64; 2]>::nullable(new).map(UserPtr::read).transpose()?;
    let before = exchange(call, resource, new.map(|[soft, hard]| (soft, hard)))?;
    if let Some(user) = UserPtr::<[u64; 2]>::nullable(old) {
        user.write([before.0, before.1])?;
    }
    Ok(0)
}
