//! prctl(2) and arch_prctl(2): small settings of a process, a thread, or the processor.

use super::Call;
use super::table::Calls;
use crate::arch;
use crate::mm::USER_TOP;
use crate::mm::user::{UserPtr, read_cstr};
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::prctl as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::prctl, prctl), (Sysno::arch_prctl, arch_prctl)];

/// Number of capabilities (`CAP_LAST_CAP` + 1).
const CAPABILITIES: u64 = 41;

/// The default slack of timers, in nanoseconds; ours have none that could be set.
const TIMER_SLACK_NS: u64 = 50_000;

/// prctl(2). What is only remembered on Linux without an effect here is accepted; what would promise protection that
/// is not there is refused, as by a kernel built without it.
fn prctl(call: &mut Call<'_>) -> Result<u64> {
    let [option, first, ..] = call.args;
    match option as u32 {
        raw::PR_SET_NAME => {
            let text = read_cstr(first, 15).or_else(|errno| match errno {
                // A longer name is cut (prctl(2)).
                Errno::ENAMETOOLONG => UserPtr::<u8>::new(first).read_vec(15),
                errno => Err(errno),
            })?;
            let mut name = [0; 16];
            name[..text.len()].copy_from_slice(&text);
            *call.thread.name.lock() = name;
            Ok(0)
        }
        raw::PR_GET_NAME => {
            let name = *call.thread.name.lock();
            UserPtr::<u8>::new(first).write_slice(&name)?;
            Ok(0)
        }
        // There is no parent whose death could be told.
        raw::PR_SET_PDEATHSIG if first <= 64 => Ok(0),
        raw::PR_GET_PDEATHSIG => {
            UserPtr::<u32>::new(first).write(0)?;
            Ok(0)
        }
        raw::PR_GET_DUMPABLE => Ok(call.process.dumpable.load(Ordering::Relaxed).into()),
        raw::PR_SET_DUMPABLE if first <= 1 => {
            call.process.dumpable.store(first as u32, Ordering::Relaxed);
            Ok(0)
        }
        raw::PR_SET_NO_NEW_PRIVS if first == 1 => {
            call.process.no_new_privs.store(true, Ordering::Relaxed);
            Ok(0)
        }
        raw::PR_GET_NO_NEW_PRIVS => Ok(call.process.no_new_privs.load(Ordering::Relaxed).into()),
        raw::PR_GET_SECCOMP | raw::PR_GET_KEEPCAPS | raw::PR_GET_THP_DISABLE | raw::PR_GET_CHILD_SUBREAPER => {
            if option as u32 == raw::PR_GET_CHILD_SUBREAPER {
                UserPtr::<u32>::new(first).write(0)?;
            }
            Ok(0)
        }
        raw::PR_SET_KEEPCAPS | raw::PR_SET_THP_DISABLE | raw::PR_SET_CHILD_SUBREAPER if first <= 1 => Ok(0),
        raw::PR_CAPBSET_READ if first < CAPABILITIES => Ok(1),
        // Capabilities guard nothing here, so giving them up for exec needs no memory.
        raw::PR_CAPBSET_DROP if first < CAPABILITIES => Ok(0),
        raw::PR_CAP_AMBIENT => match first as u32 {
            raw::PR_CAP_AMBIENT_RAISE => Err(Errno::EPERM),
            raw::PR_CAP_AMBIENT_IS_SET | raw::PR_CAP_AMBIENT_LOWER | raw::PR_CAP_AMBIENT_CLEAR_ALL => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        raw::PR_GET_SECUREBITS => Ok(0),
        raw::PR_GET_TIMERSLACK => Ok(TIMER_SLACK_NS),
        raw::PR_SET_TIMERSLACK => Ok(0),
        raw::PR_GET_TSC => {
            UserPtr::<u32>::new(first).write(raw::PR_TSC_ENABLE)?;
            Ok(0)
        }
        raw::PR_SET_TSC if first == raw::PR_TSC_ENABLE.into() => Ok(0),
        // Among the rest PR_SET_SECCOMP and PR_SET_VMA.
        _ => Err(Errno::EINVAL),
    }
}

/// arch_prctl(2), with asm/prctl.h's numbers.
fn arch_prctl(call: &mut Call<'_>) -> Result<u64> {
    const ARCH_SET_GS: u64 = 0x1001;
    const ARCH_SET_FS: u64 = 0x1002;
    const ARCH_GET_FS: u64 = 0x1003;
    const ARCH_GET_GS: u64 = 0x1004;
    let [code, address, ..] = call.args;
    match code {
        ARCH_SET_FS if address >= USER_TOP => Err(Errno::EPERM),
        ARCH_SET_FS => {
            arch::set_fs_base(address);
            Ok(0)
        }
        ARCH_GET_FS => {
            UserPtr::<u64>::new(address).write(arch::fs_base())?;
            Ok(0)
        }
        // gs leads to the kernel's per-processor data while the program runs, too: kernel and program share ring 3, and
        // there is no swapgs. No common program asks for it.
        ARCH_SET_GS => Err(Errno::EPERM),
        ARCH_GET_GS => {
            UserPtr::<u64>::new(address).write(0)?;
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}
