//! The keeper: a second process that holds the machine's memory and descriptors a moment longer than we do.
//!
//! Linux takes a virtual machine down when the last process that holds it lets go. It gives back shadow page tables and
//! memory, and waits more than once until no processor can be looking at them any more: 4 to 8 ms on the machines we know,
//! in which whoever has started us waits for a result that was there long before. A process is waited for until it has
//! given everything back, so only another process can do that later. The keeper is one: it shares our memory and
//! descriptors (`CLONE_VM`, `CLONE_FILES`), sleeps until we are gone (a pidfd tells), closes the standard streams, for
//! somebody may read until their end, and ends, which takes the rest down. The user's files are closed before by
//! [`Remains::leave`](crate::Remains::leave).
//!
//! # Trust
//! It is made before the guest's first instruction and before our own confinement, whose rules stay as narrow as they
//! were. As its memory is ours, whoever took us over could make it do anything: so it gives up all capabilities and has
//! rules of its own, which let it wait for a descriptor and end. It blocks all signals; Ctrl-C is our business.
//!
//! Where there can be no keeper (a kernel without pidfds, a limit on processes) all is as it would be without it, but later.

use crate::confine;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use seccompiler::{BpfProgram, sock_filter};
use std::arch::asm;
use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::null_mut;

/// Bytes of its stack.
const STACK: usize = 16 << 10;

/// What the keeper is told. It stays where it is until the end of the process.
struct Orders {
    /// A pidfd of ours.
    process: c_int,
    rules: libc::sock_fprog,
    _process: OwnedFd,
    _program: BpfProgram,
}

/// Starts the keeper of this process, which must have one thread only.
///
/// # Errors
/// There is none, and why.
pub fn start() -> std::io::Result<()> {
    let process = pidfd_open(getpid(), PidfdFlags::empty())?;
    let mut program = confine::keeper_rules().map_err(std::io::Error::other)?;
    let rules = libc::sock_fprog {
        len: program.len().try_into().map_err(std::io::Error::other)?,
        // `sock_filter` of seccompiler and libc are the same `struct sock_filter` of linux/filter.h.
        filter: program.as_mut_ptr().cast(),
    };
    const { assert!(size_of::<sock_filter>() == size_of::<libc::sock_filter>()) };
    let orders = Orders { process: process.as_raw_fd(), rules, _process: process, _program: program };
    let orders: *mut Orders = Box::leak(Box::new(orders));
    let stack = Box::leak(vec![0_u128; STACK / size_of::<u128>()].into_boxed_slice());
    // SAFETY: 1. `stack` and `orders` are leaked, so they outlive the keeper, which alone uses the stack. 2. It runs `keep`
    // only, which touches neither thread-local storage nor locks, both of which it shares with us. 3. The signal sets
    // are locals that the calls fill; with all signals blocked no handler ever runs in the keeper.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let top = stack.as_mut_ptr_range().end.cast();
        let pid = libc::clone(keep, top, libc::CLONE_VM | libc::CLONE_FILES, orders.cast());
        let error = std::io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, null_mut());
        if pid < 0 { Err(error) } else { Ok(()) }
    }
}

/// `struct __user_cap_header_struct` and two of `struct __user_cap_data_struct` (linux/capability.h, version 3): this very
/// thread, and nothing.
static NO_CAPABILITIES: ([u32; 2], [u32; 6]) = ([0x2008_0522, 0], [0; 6]);

/// The keeper's life.
extern "C" fn keep(orders: *mut c_void) -> c_int {
    let orders = orders.cast::<Orders>();
    // SAFETY: `orders` is what `start` leaked, which nobody changes. The calls get pointers to it and to a local.
    unsafe {
        call(libc::SYS_prctl, [libc::PR_SET_NAME as usize, c"diolkos-keeper".as_ptr() as usize, 0, 0, 0]);
        call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]);
        let (header, nothing) = (&raw const NO_CAPABILITIES.0, &raw const NO_CAPABILITIES.1);
        call(libc::SYS_capset, [header as usize, nothing as usize, 0, 0, 0]);
        let rules = &raw const (*orders).rules;
        let confined = call(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, 0, rules as usize, 0, 0]) == 0;
        let mut gone = libc::pollfd { fd: (*orders).process, events: libc::POLLIN, revents: 0 };
        if confined {
            call(libc::SYS_ppoll, [&raw mut gone as usize, 1, 0, 0, 0]);
            call(libc::SYS_close_range, [0, 2, 0, 0, 0]);
        }
        call(libc::SYS_exit_group, [0; 5]);
    }
    0
}

/// A system call without the C library, whose `errno` is another thread's.
///
/// # Safety
/// As the call itself with these arguments.
unsafe fn call(number: libc::c_long, arguments: [usize; 5]) -> isize {
    let [a, b, c, d, e] = arguments;
    let result;
    // SAFETY: the kernel keeps all registers but these; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}
