//! Threads: made by clone(2), ended by exit(2); and the words in memory they leave behind.

use super::process::{Process, Start, UserThread};
use super::signal::state::ThreadSignals;
use super::table::Calls;
use super::{Call, futex};
use crate::arch::{self, xstate};
use crate::mm::USER_TOP;
use crate::mm::user::{UserPtr, plain};
use crate::{report, task};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use bitflags::bitflags;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_common::report::End;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::clone, clone),
    (Sysno::clone3, clone3),
    (Sysno::fork, fork),
    (Sysno::vfork, vfork),
    (Sysno::exit, exit),
    (Sysno::exit_group, exit_group),
    (Sysno::set_tid_address, set_tid_address),
    (Sysno::set_robust_list, set_robust_list),
    (Sysno::get_robust_list, get_robust_list),
    (Sysno::gettid, gettid),
    (Sysno::wait4, no_children),
    (Sysno::waitid, no_children),
];

bitflags! {
    /// Flags of clone(2). The low byte is the signal sent at the child's end.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct CloneFlags: u64 {
        const VM = raw::CLONE_VM as u64;
        const FS = raw::CLONE_FS as u64;
        const FILES = raw::CLONE_FILES as u64;
        const SIGHAND = raw::CLONE_SIGHAND as u64;
        const THREAD = raw::CLONE_THREAD as u64;
        /// Semaphores' undo lists, which never come to be used.
        const SYSVSEM = raw::CLONE_SYSVSEM as u64;
        const SETTLS = raw::CLONE_SETTLS as u64;
        const PARENT_SETTID = raw::CLONE_PARENT_SETTID as u64;
        const CHILD_CLEARTID = raw::CLONE_CHILD_CLEARTID as u64;
        const CHILD_SETTID = raw::CLONE_CHILD_SETTID as u64;
        /// Ignored (clone(2)).
        const DETACHED = raw::CLONE_DETACHED as u64;
        /// Shared I/O context; there is nothing to share.
        const IO = raw::CLONE_IO as u64;
    }
}

impl CloneFlags {
    /// What makes a thread rather than a process.
    const THREAD_SET: Self = Self::VM.union(Self::FS).union(Self::FILES).union(Self::SIGHAND).union(Self::THREAD);
}

/// What clone(2) and clone3(2) ask for.
struct CloneRequest {
    flags: u64,
    /// New stack pointer, or 0 for the caller's.
    stack: u64,
    parent_tid: u64,
    child_tid: u64,
    tls: u64,
}

/// clone(2).
fn clone(call: &mut Call<'_>) -> Result<u64> {
    let [flags, stack, parent_tid, child_tid, tls, _] = call.args;
    make(call, &CloneRequest { flags, stack, parent_tid, child_tid, tls })
}

plain!(raw::clone_args);

/// Bytes of the first version of `struct clone_args`.
const CLONE_ARGS_V0: u64 = 64;

/// clone3(2).
fn clone3(call: &mut Call<'_>) -> Result<u64> {
    let [address, size, ..] = call.args;
    let known = size_of::<raw::clone_args>() as u64;
    if size < CLONE_ARGS_V0 {
        return Err(Errno::EINVAL);
    }
    if size > crate::mm::PAGE_SIZE {
        return Err(Errno::E2BIG);
    }
    let mut bytes = UserPtr::<u8>::new(address).read_vec(size as usize)?;
    // A longer structure is one of a newer kernel: fine as long as it asks for nothing we do not know.
    if bytes.iter().skip(known as usize).any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    bytes.resize(known as usize, 0);
    let word = |i: usize| u64::from_le_bytes(core::array::from_fn(|b| bytes[i * 8 + b]));
    let [flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size] =
        core::array::from_fn(word);
    if (stack == 0) != (stack_size == 0) {
        return Err(Errno::EINVAL);
    }
    if set_tid_size != 0 || set_tid != 0 || pidfd != 0 && flags & u64::from(raw::CLONE_PIDFD) != 0 {
        return Err(Errno::EINVAL);
    }
    // The signal shares a byte with flags clone3 does not have.
    let flags = flags & !0xff | exit_signal & 0xff;
    let stack = stack.checked_add(stack_size).ok_or(Errno::EINVAL)?;
    make(call, &CloneRequest { flags, stack, parent_tid, child_tid, tls })
}

/// fork(2).
fn fork(_: &mut Call<'_>) -> Result<u64> {
    Err(refuse_process("fork"))
}

/// vfork(2).
fn vfork(_: &mut Call<'_>) -> Result<u64> {
    Err(refuse_process("vfork"))
}

/// Says once that there is only one process.
fn refuse_process(name: &str) -> Errno {
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        report::warning(format_args!("{name}: the program tried to start another process, which is not supported yet"));
    }
    Errno::ENOSYS
}

fn make(call: &mut Call<'_>, request: &CloneRequest) -> Result<u64> {
    let flags = CloneFlags::from_bits_truncate(request.flags & !0xff);
    // The combinations Linux refuses (copy_process).
    if flags.contains(CloneFlags::THREAD) && !flags.contains(CloneFlags::SIGHAND)
        || flags.contains(CloneFlags::SIGHAND) && !flags.contains(CloneFlags::VM)
    {
        return Err(Errno::EINVAL);
    }
    if !flags.contains(CloneFlags::THREAD_SET) {
        return Err(refuse_process("clone"));
    }
    if request.flags & !0xff & !CloneFlags::all().bits() != 0 {
        return Err(Errno::EINVAL);
    }
    let fs_base = if flags.contains(CloneFlags::SETTLS) { request.tls } else { arch::fs_base() };
    if fs_base >= USER_TOP {
        return Err(Errno::EPERM);
    }
    let mask = call.thread.signals.lock().mask;
    let signals = ThreadSignals { mask, ..ThreadSignals::default() };
    let child = call.process.add_thread(signals, *call.thread.name.lock())?;
    *child.schedule.lock() = call.thread.schedule.lock().inherited();
    let set = |flag, address| match flags.contains(flag) {
        true => UserPtr::<u32>::new(address).write(child.tid),
        false => Ok(()),
    };
    // Both are in memory the two threads share, so both can be written from here.
    let started = set(CloneFlags::PARENT_SETTID, request.parent_tid).and_then(|()| {
        // Linux does not fail for a bad child address.
        let _ = set(CloneFlags::CHILD_SETTID, request.child_tid);
        if flags.contains(CloneFlags::CHILD_CLEARTID) {
            child.clear_child_tid.store(request.child_tid, Ordering::Relaxed);
        }
        let mut frame = call.frame.clone();
        frame.rax = 0;
        if request.stack != 0 {
            frame.rsp = request.stack;
        }
        let (size, _) = xstate::layout();
        let mut area = vec![0; size];
        xstate::save_user(call.frame, &mut area);
        run(&child, Start { frame, fs_base, xstate: area })
    });
    if let Err(errno) = started {
        call.process.remove_thread(child.tid);
        return Err(errno);
    }
    Ok(child.tid.into())
}

/// Starts a thread with these registers.
///
/// # Errors
/// `EAGAIN` when there is no memory for its kernel stack, as clone(2) has it.
pub fn run(thread: &Arc<UserThread>, start: Start) -> Result<()> {
    *thread.start.lock() = Some(Box::new(start));
    let space = thread.process.space();
    let kernel = task::spawn(Some(space), Some(thread.clone()), Box::new(begin)).map_err(|_| Errno::EAGAIN)?;
    thread.attach(&kernel);
    Ok(())
}

/// First code of a program's thread. Its stack is left for good at the end, so it owns nothing then.
fn begin() {
    let Some(start) = task::try_current().and_then(|thread| thread.user.as_ref()).and_then(|t| t.start.lock().take())
    else {
        return;
    };
    let Start { mut frame, fs_base, xstate: area } = *start;
    if !area.is_empty() {
        // It was saved from a thread's own registers, so the processor takes it.
        let _restored = xstate::restore_user(&mut frame, &area);
    }
    drop(area);
    arch::set_fs_base(fs_base);
    arch::enter_user_frame(frame)
}

/// exit(2): ends the thread, with the last one the process. The end itself comes on the way out of the kernel, when
/// nothing is left on the stack.
fn exit(call: &mut Call<'_>) -> Result<u64> {
    if call.process.thread_count() == 1 {
        return exit_group(call);
    }
    end(call.thread);
    Ok(0)
}

/// Has a thread end before it runs on in the program.
pub fn end(thread: &UserThread) {
    thread.exiting.store(true, Ordering::SeqCst);
    thread.notify();
}

/// Ends all threads but the caller and waits until they are gone: for exec, which only one survives.
///
/// # Errors
/// `EAGAIN` when another thread is doing the same and was first; the caller is about to end.
pub fn end_others(process: &Process, own: &UserThread) -> Result<()> {
    for thread in process.threads() {
        if thread.tid != own.tid {
            end(&thread);
        }
    }
    let ending = || own.exiting.load(Ordering::SeqCst);
    process.ended_bell.wait_until(&mut || process.thread_count() == 1 || ending(), None, false)?;
    if ending() { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// exit_group(2).
fn exit_group(call: &mut Call<'_>) -> Result<u64> {
    task::sched::stop_others();
    let status = call.args[0] as u8;
    call.process.files.close_all(call.process.pid);
    crate::boot::finish(End::Exited(status))
}

/// Ends the running thread of a program, which is not the last.
pub fn end_current() -> ! {
    {
        let kernel = task::try_current().expect("called on a thread");
        let thread = kernel.user.as_ref().expect("called on a program's thread");
        leave_memory(thread);
        let left = thread.process.remove_thread(thread.tid);
        // Nobody can begin to wait for a lock of this thread any more.
        futex::pi::release_all(thread.tid);
        if left == 0 {
            // Two threads passed the check in `exit` together.
            crate::boot::finish(End::Exited(0));
        }
    }
    task::exit()
}

/// What a thread does to its memory at its end: robust futexes are marked, and the word set_tid_address(2) named is
/// cleared and woken, which is what pthread_join(3) waits for.
fn leave_memory(thread: &UserThread) {
    let list = thread.robust_list.swap(0, Ordering::Relaxed);
    if list != 0 {
        futex::release_robust(thread, list);
    }
    let address = thread.clear_child_tid.swap(0, Ordering::Relaxed);
    // Where the program has unmapped it nobody waits for it.
    if address != 0 && UserPtr::<u32>::new(address).write(0).is_ok() {
        futex::wake_one(&thread.process, address);
    }
}

/// set_tid_address(2).
fn set_tid_address(call: &mut Call<'_>) -> Result<u64> {
    call.thread.clear_child_tid.store(call.args[0], Ordering::Relaxed);
    Ok(call.thread.tid.into())
}

/// set_robust_list(2).
fn set_robust_list(call: &mut Call<'_>) -> Result<u64> {
    if call.args[1] != size_of::<raw::robust_list_head>() as u64 {
        return Err(Errno::EINVAL);
    }
    call.thread.robust_list.store(call.args[0], Ordering::Relaxed);
    Ok(0)
}

/// get_robust_list(2).
fn get_robust_list(call: &mut Call<'_>) -> Result<u64> {
    let [tid, head, len, ..] = call.args;
    let thread = find(call.process, call.thread, tid as u32)?;
    let list = thread.robust_list.load(Ordering::Relaxed);
    UserPtr::<u64>::new(len).write(size_of::<raw::robust_list_head>() as u64)?;
    UserPtr::<u64>::new(head).write(list)?;
    Ok(0)
}

/// The thread a call names; 0 is the caller.
///
/// # Errors
/// `ESRCH`.
pub fn find(process: &Process, own: &Arc<UserThread>, tid: u32) -> Result<Arc<UserThread>> {
    match tid {
        0 => Ok(own.clone()),
        tid => process.thread(tid).ok_or(Errno::ESRCH),
    }
}

/// gettid(2).
fn gettid(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.thread.tid.into())
}

/// wait4(2), waitid(2): nobody can have children.
fn no_children(_: &mut Call<'_>) -> Result<u64> {
    Err(Errno::ECHILD)
}
