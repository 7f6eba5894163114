//! The calls about processors: giving one away, which ones a thread may use, and which one it is on. How threads share them
//! is in [`super::policy`].

use super::Call;
use super::table::Calls;
use super::thread::find;
use crate::arch::{percpu, processors};
use crate::mm::user::UserPtr;
use crate::task;
use diolkos_vfs::{Errno, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::sched_yield, sched_yield),
    (Sysno::sched_getaffinity, sched_getaffinity),
    (Sysno::sched_setaffinity, sched_setaffinity),
    (Sysno::getcpu, getcpu),
    (Sysno::rseq, rseq),
];

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
    let thread = find(call.process, call.thread, tid as u32)?;
    let affinity = thread.kernel().map_or(u64::MAX, |kernel| kernel.affinity());
    UserPtr::<u64>::new(mask).write(affinity & processors::all())?;
    Ok(8)
}

/// sched_setaffinity(2): any set with a processor in it that exists.
fn sched_setaffinity(call: &mut Call<'_>) -> Result<u64> {
    let [tid, len, mask, ..] = call.args;
    let bytes = UserPtr::<u8>::new(mask).read_vec((len as u32).min(8) as usize)?;
    let thread = find(call.process, call.thread, tid as u32)?;
    let affinity = bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte)) & processors::all();
    if affinity == 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(kernel) = thread.kernel() {
        kernel.set_affinity(affinity);
    }
    Ok(0)
}

/// getcpu(2): there is one node.
fn getcpu(call: &mut Call<'_>) -> Result<u64> {
    for (address, value) in [(call.args[0], percpu::cpu() as u32), (call.args[1], 0)] {
        if let Some(user) = UserPtr::<u32>::nullable(address) {
            user.write(value)?;
        }
    }
    Ok(0)
}

/// rseq(2): not offered. The C library asks at every start and does without.
fn rseq(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::ENOSYS)
}
