//! The Linux ABI: what a program asks by `syscall`, decoded here and handed to the room it concerns.
//!
//! A handler is thin: decode to domain types, refuse with the exact errno, call a subsystem, encode. Number to
//! handler is data: each family lists its calls, [`table`] gathers them. A number nobody lists returns `ENOSYS`
//! and is counted.

pub mod advice;
pub mod attributes;
pub mod clock;
pub mod copy;
pub mod descriptors;
pub mod directory;
pub mod epoll;
pub mod exec;
mod fault;
pub mod fd;
pub mod fs_context;
pub mod futex;
pub mod identity;
pub mod inotify;
pub mod ioctl;
pub mod ipc;
pub mod limits;
pub mod locks;
pub mod membarrier;
pub mod memory;
pub mod names;
pub mod open;
pub mod open_file;
pub mod pidfd;
pub mod pipe;
pub mod policy;
pub mod poll;
pub mod position;
pub mod posix_timer;
pub mod prctl;
pub mod process;
pub mod process_vm;
pub mod read_write;
pub mod scheduling;
pub mod session;
pub mod signal;
pub mod socket;
pub mod space;
pub mod splice;
pub mod stat;
pub mod sync;
pub mod system;
pub mod table;
pub mod thread;
pub mod timeout;
pub mod timerfd;
mod tracing;
pub mod unlocked;
pub mod usage;
pub mod xattr;

pub use fault::fault;
pub use signal::deliver::before_user;

use crate::arch::Frame;
use crate::{stats, task};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::{Errno, Result};
use process::{Process, UserThread};
use signal::state::{Interrupted, Restart};
use syscalls::Sysno;

/// One system call in progress.
pub struct Call<'a> {
    /// The six arguments as the program left them in rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
    /// The program's registers.
    pub frame: &'a mut Frame,
    /// The thread that called.
    pub thread: &'a Arc<UserThread>,
    /// Its process.
    pub process: &'a Arc<Process>,
}

/// The function behind a system call number. `Ok` is what rax gets.
pub type Handler = fn(&mut Call<'_>) -> Result<u64>;

/// Serves one system call: called by the entry code, before [`before_user`].
pub fn syscall(frame: &mut Frame) {
    stats::SYSCALLS.count();
    let number = frame.rax;
    let args = [frame.rdi, frame.rsi, frame.rdx, frame.r10, frame.r8, frame.r9];
    let thread = task::try_current().and_then(|thread| thread.user.as_ref()).expect("only programs make system calls");
    tracing::before(number, &args);
    let result = match table::handler(number) {
        Some(handler) => {
            let mut serve = || handler(&mut Call { args, frame, thread, process: &thread.process });
            // A name led to a file that its file system has lost sight of, and the call came no further. The next walk asks
            // where the name leads now. Linux tries so often as well (`retry_estale`).
            serve().or_else(|errno| if errno == Errno::ESTALE { serve() } else { Err(errno) })
        }
        None => unknown(number),
    };
    tracing::after(number, &args, result);
    frame.rax = match result {
        Ok(value) => value,
        Err(errno) => {
            if errno == Errno::EINTR {
                interrupted(thread, number, &args);
            }
            (-i64::from(errno.into_raw())) as u64
        }
    };
}

/// Remembers that a signal ended a call, so that [`before_user`] can make it again where signal(7) says so.
fn interrupted(thread: &UserThread, number: u64, args: &[u64; 6]) {
    let Some(rule) = restart_rule(thread, number, args) else { return };
    thread.signals.lock().interrupted = Some(Interrupted { number, rule });
    thread.attention.store(true, Ordering::SeqCst);
}

/// signal(7), "Interruption of system calls". `None`: never.
fn restart_rule(thread: &UserThread, number: u64, args: &[u64; 6]) -> Option<Restart> {
    // Made again, they would wait for the whole time once more.
    let timed = |timeout| socket::has_timeout(&thread.process, args[0], timeout);
    match Sysno::new(number as usize)? {
        Sysno::read | Sysno::readv | Sysno::recvfrom | Sysno::recvmsg | Sysno::recvmmsg
            if timed(|o| o.receive_timeout) =>
        {
            None
        }
        Sysno::accept | Sysno::accept4 if timed(|o| o.receive_timeout) => None,
        Sysno::write | Sysno::writev | Sysno::sendto | Sysno::sendmsg | Sysno::sendmmsg
            if timed(|o| o.send_timeout) =>
        {
            None
        }
        Sysno::connect if timed(|o| o.send_timeout) => None,
        Sysno::rt_sigtimedwait | Sysno::epoll_wait | Sysno::epoll_pwait | Sysno::epoll_pwait2 => None,
        Sysno::pause
        | Sysno::rt_sigsuspend
        | Sysno::poll
        | Sysno::ppoll
        | Sysno::select
        | Sysno::pselect6
        | Sysno::nanosleep
        | Sysno::semop
        | Sysno::semtimedop
        | Sysno::msgsnd
        | Sysno::msgrcv
        | Sysno::clock_nanosleep => Some(Restart::NoHandler),
        Sysno::futex if futex::takes_lock(args[1]) => Some(Restart::Always),
        // With a timeout the call could not be made again as it was.
        Sysno::futex if args[3] != 0 => Some(Restart::NoHandler),
        _ => Some(Restart::Flag),
    }
}

/// Numbers already complained about.
static COMPLAINED: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];

fn unknown(number: u64) -> Result<u64> {
    stats::UNKNOWN_SYSCALLS.count();
    let first = COMPLAINED.get((number / 64) as usize).is_some_and(|word| {
        let bit = 1 << (number % 64);
        word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    });
    if first && (crate::report::is_verbose() || tracing::is_on()) {
        let name = Sysno::new(number as usize).map_or("?", |sysno| sysno.name());
        crate::report::warning(format_args!("the system call {name} ({number}) is not implemented"));
    }
    Err(Errno::ENOSYS)
}
