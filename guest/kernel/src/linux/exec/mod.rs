//! Starting a program: the first one, and the one execve(2) puts in its place.
//!
//! Two steps. [`find`] reads and checks files and can fail without harm; [`load`] fills a new address space, which must
//! be the one in use then, because memory is written like any other program memory. A failure there ends the process.

mod find;
mod load;

use super::fs_context::FsContext;
use super::identity::Credentials;
use super::process::{Process, Start, short_name};
use super::signal::host;
use super::signal::state::ThreadSignals;
use super::table::Calls;
use super::{Call, system, thread, tracing};
use crate::abi::stack;
use crate::arch::{self, Frame, rdtsc, xstate};
use crate::drivers::console;
use crate::mm::AddressSpace;
use crate::mm::user::{UserPtr, read_cstr};
use crate::{report, stats, task};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use diolkos_common::cmdline::BootOptions;
use diolkos_common::report::End;
use diolkos_vfs::{Errno, Location, Lookup, Namespace, Result};
use find::Found;
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::execve, execve), (Sysno::execveat, execveat)];

/// Why the first program did not start.
#[derive(Debug)]
pub struct StartError {
    /// 127 not found, 126 not executable, 125 our own failure.
    pub status: u8,
    /// One line, lower case, naming the file at fault.
    pub message: String,
}

/// Builds the first process and has its thread started. What goes wrong after this returns is reported as if it
/// had gone wrong here.
///
/// # Errors
/// See [`StartError`].
pub fn start(options: &BootOptions, namespace: Arc<Namespace>) -> core::result::Result<(), StartError> {
    let own = |message: String| StartError { status: 125, message };
    if options.trace.syscalls {
        tracing::enable();
    }
    system::set_hostname(&options.hostname);
    let fs = Arc::new(FsContext::new(namespace.clone()));
    // At first it is the root.
    if !matches!(&options.workdir[..], b"" | b"/") {
        fs.change_dir(&options.workdir)
            .map_err(|errno| own(format!("the working directory {}: {}", show(&options.workdir), describe(errno))))?;
    }
    let Some(name) = options.args.first() else { return Err(own("no program was given".into())) };
    if !stack::fits(&options.args, &options.env) {
        return Err(own(format!("{}: the arguments and the environment are too long", show(name))));
    }
    let start = fs.working_dir();
    let found = find::along_path(&namespace, &start, name, &options.args, &options.env)?;
    stats::FOUND.set(rdtsc());
    let space = AddressSpace::new().map_err(|_| own("no memory for the program's page tables".into()))?;
    let process = Process::new(1, space, fs, Credentials::new(options.ids.0, options.ids.1));
    process.files.open_stdio().map_err(|errno| own(format!("the standard streams: {}", describe(errno))))?;
    let env = options.env.clone();
    let name = show(name);
    let first = process
        .add_thread(ThreadSignals::default(), short_name(&found.execfn))
        .map_err(|errno| own(format!("the first thread: {}", describe(errno))))?;
    let space = process.space();
    let body = Box::new(move || first_steps(process, found, env, &name));
    let kernel = task::spawn(Some(space), Some(first.clone()), body)
        .map_err(|_| own("no memory for the program's first thread".into()))?;
    first.attach(&kernel);
    host::attend(&first.process);
    Ok(())
}

/// The first thread's way to the program. Its stack counts as empty afterwards, so everything is dropped first.
fn first_steps(process: Arc<Process>, found: Found, env: Vec<Vec<u8>>, name: &str) {
    let frame = load::load(&process, found, env).unwrap_or_else(|errno| {
        let message = format!("{name}: cannot be loaded: {}", describe(errno));
        crate::boot::finish(End::NotStarted { status: 126, message })
    });
    drop(process);
    // The host names the streams while everything else is made ready.
    console::wait_ready().unwrap_or_else(|errno| {
        crate::boot::finish(End::NotStarted { status: 125, message: format!("console: {errno}") })
    });
    stats::PROGRAM.set(rdtsc());
    arch::set_fs_base(0);
    arch::enter_user(frame.rip, frame.rsp)
}

/// execve(2).
fn execve(call: &mut Call<'_>) -> Result<u64> {
    let [path, args, env, ..] = call.args;
    let path = call.path(path)?;
    let start = call.process.fs.working_dir();
    replace(call, &start, path, args, env)
}

/// execveat(2).
fn execveat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, args, env, flags, _] = call.args;
    let known = raw::AT_EMPTY_PATH | raw::AT_SYMLINK_NOFOLLOW;
    let flags = flags as u32;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let path = call.path(path)?;
    let start = call.start(dirfd, &path)?;
    if path.is_empty() && flags & raw::AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if flags & raw::AT_SYMLINK_NOFOLLOW != 0 {
        let place = call.namespace().find(&start, &path, Lookup::EMPTY_PATH)?;
        if place.inode().file_type() == diolkos_vfs::FileType::Symlink {
            return Err(Errno::ELOOP);
        }
    }
    // The program is told the path by which it could be opened again.
    let path = if path.is_empty() { start.path() } else { path };
    replace(call, &start, path, args, env)
}

fn replace(call: &mut Call<'_>, start: &Location, path: Vec<u8>, args: u64, env: u64) -> Result<u64> {
    let mut total = 0;
    let mut args = read_strings(args, &mut total)?;
    let env = read_strings(env, &mut total)?;
    if args.is_empty() {
        // Since Linux 5.18 there is always an argv[0].
        args.push(Vec::new());
    }
    let found = find::program(call.namespace(), start, &path, args).map_err(|failure| {
        crate::verbose!("execve: {}", failure.message);
        failure.errno
    })?;
    let space = AddressSpace::new()?;
    // From here on there is no way back.
    thread::end_others(call.process, call.thread)?;
    let name = show(&path);
    switch_space(call.process, space);
    forget_old_program(call, &found.execfn);
    let frame = load::load(call.process, found, env).unwrap_or_else(|errno| {
        report::warning(format_args!("{name}: cannot be loaded: {}", describe(errno)));
        crate::boot::finish(End::Killed(9))
    });
    if call.thread.tid != call.process.pid {
        hand_over(call, frame);
        return Ok(0);
    }
    arch::set_fs_base(0);
    xstate::load(&xstate::Area::initial());
    xstate::set_kernel_mxcsr();
    *call.frame = frame;
    Ok(0)
}

/// The program goes on in a thread that has the process' number (execve(2)); the caller's own ends.
fn hand_over(call: &Call<'_>, frame: Frame) {
    let signals = core::mem::take(&mut *call.thread.signals.lock());
    let start = Start { frame, fs_base: 0, xstate: Vec::new() };
    let name = *call.thread.name.lock();
    let leader = call.process.add_leader(signals, name).and_then(|leader| {
        *leader.schedule.lock() = *call.thread.schedule.lock();
        thread::run(&leader, start)
    });
    if leader.is_err() {
        report::warning(format_args!("no memory for the program's thread"));
        crate::boot::finish(End::Killed(9));
    }
    thread::end(call.thread);
}

/// Puts the caller and its process into a new address space. The old one goes when nothing leads to it any more.
fn switch_space(process: &Process, space: Arc<AddressSpace>) {
    space.load();
    let kernel = task::current();
    let of_thread = kernel.space.lock().replace(space.clone());
    let of_process = core::mem::replace(&mut *process.space.lock(), space);
    drop((of_thread, of_process));
}

/// What exec takes away from a process (execve(2)).
fn forget_old_program(call: &Call<'_>, path: &[u8]) {
    call.process.files.close_for_exec(call.process.pid);
    call.process.signals.lock().reset_handlers();
    call.process.timers.delete_all();
    call.process.dumpable.store(1, Ordering::Relaxed);
    call.process.barriers.store(0, Ordering::Relaxed);
    {
        let mut own = call.thread.signals.lock();
        own.alternate = Default::default();
        own.saved_mask = None;
    }
    call.thread.clear_child_tid.store(0, Ordering::Relaxed);
    call.thread.robust_list.store(0, Ordering::Relaxed);
    *call.thread.name.lock() = short_name(path);
}

/// Reads a null-terminated list of strings; `total` counts bytes against Linux' limit over both lists.
fn read_strings(list: u64, total: &mut usize) -> Result<Vec<Vec<u8>>> {
    let mut strings = Vec::new();
    if list == 0 {
        return Ok(strings);
    }
    loop {
        let address = UserPtr::<u64>::new(list).add(strings.len()).read()?;
        if address == 0 {
            return Ok(strings);
        }
        let string = read_cstr(address, stack::MAX_STRING - 1)
            .map_err(|errno| if errno == Errno::ENAMETOOLONG { Errno::E2BIG } else { errno })?;
        *total += string.len() + 1 + size_of::<u64>();
        if *total > stack::MAX_TOTAL {
            return Err(Errno::E2BIG);
        }
        strings.push(string);
    }
}

/// A path for a message.
fn show(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// An error for a message, in lower case.
fn describe(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "not found".into(),
        _ => errno.description().unwrap_or("unknown error").to_lowercase(),
    }
}
