//! What a process has used: getrusage(2), times(2). The kernel's share of processor time is not told apart.

use super::Call;
use super::clock::SECOND;
use super::table::Calls;
use crate::mm::user::UserPtr;
use crate::{stats, time};
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::getrusage, getrusage), (Sysno::times, times)];

/// Words of `struct rusage`: two times of two words, then fourteen numbers.
const RUSAGE_WORDS: usize = 18;

/// getrusage(2).
fn getrusage(call: &mut Call<'_>) -> Result<u64> {
    const RUSAGE_CHILDREN: i32 = -1;
    const RUSAGE_SELF: i32 = 0;
    const RUSAGE_THREAD: i32 = 1;
    const MAX_RSS: usize = 4;
    const MINOR_FAULTS: usize = 6;
    let mut words = [0u64; RUSAGE_WORDS];
    match call.args[0] as i32 {
        RUSAGE_CHILDREN => {}
        which @ (RUSAGE_SELF | RUSAGE_THREAD) => {
            let used = if which == RUSAGE_SELF { call.process.ran_ns() } else { call.thread.ran_ns() };
            words[0] = used / SECOND;
            words[1] = used % SECOND / 1000;
            let resident = call.process.space().usage().owned;
            // In KiB; the present size, since the greatest is not kept.
            words[MAX_RSS] = resident >> 10;
            words[MINOR_FAULTS] = stats::FAULTS.get();
        }
        _ => return Err(Errno::EINVAL),
    }
    UserPtr::<u64>::new(call.args[1]).write_slice(&words)?;
    Ok(0)
}

/// times(2): in ticks of a hundredth of a second.
fn times(call: &mut Call<'_>) -> Result<u64> {
    const TICK_NS: u64 = SECOND / 100;
    if let Some(user) = UserPtr::<u64>::nullable(call.args[0]) {
        user.write_slice(&[call.process.ran_ns() / TICK_NS, 0, 0, 0])?;
    }
    Ok(time::monotonic_ns() / TICK_NS)
}

const _: () = assert!(size_of::<raw::rusage>() == RUSAGE_WORDS * 8);
