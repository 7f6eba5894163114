//! membarrier(2): memory barriers on all processors that run the program, made by one thread for all.

use super::Call;
use super::table::Calls;
use crate::mm::shootdown;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::membarrier, membarrier)];

// Commands, from `linux/membarrier.h`. The last two pairs but one: the forms for rseq(2) are not offered, nor is that.
const QUERY: u32 = 0;
const GLOBAL: u32 = 1;
const GLOBAL_EXPEDITED: u32 = 1 << 1;
const REGISTER_GLOBAL_EXPEDITED: u32 = 1 << 2;
const PRIVATE_EXPEDITED: u32 = 1 << 3;
const REGISTER_PRIVATE_EXPEDITED: u32 = 1 << 4;
const PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 5;
const REGISTER_PRIVATE_EXPEDITED_SYNC_CORE: u32 = 1 << 6;
const OFFERED: u32 = (1 << 7) - 1;

/// membarrier(2).
fn membarrier(call: &mut Call<'_>) -> Result<u64> {
    let (command, flags) = (call.args[0] as u32, call.args[1] as u32);
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let registered = &call.process.barriers;
    match command {
        QUERY => return Ok(OFFERED.into()),
        GLOBAL | GLOBAL_EXPEDITED => {}
        // Asking for a barrier that was not announced is a mistake (membarrier(2), EPERM).
        PRIVATE_EXPEDITED | PRIVATE_EXPEDITED_SYNC_CORE => {
            let announcement = command << 1;
            if registered.load(Ordering::Relaxed) & announcement == 0 {
                return Err(Errno::EPERM);
            }
        }
        REGISTER_GLOBAL_EXPEDITED | REGISTER_PRIVATE_EXPEDITED | REGISTER_PRIVATE_EXPEDITED_SYNC_CORE => {
            registered.fetch_or(command, Ordering::Relaxed);
        }
        _ => return Err(Errno::EINVAL),
    }
    shootdown::barrier();
    Ok(0)
}
