//! Descriptors themselves: close(2), dup(2) and its kin, fcntl(2).

use super::open_file::{CHANGEABLE, OpenFile};
use super::{Call, locks, table::Calls};
use alloc::sync::Arc;
use diolkos_vfs::{Errno, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::close, close),
    (Sysno::close_range, close_range),
    (Sysno::dup, dup),
    (Sysno::dup2, dup2),
    (Sysno::dup3, dup3),
    (Sysno::fcntl, fcntl),
];

/// Flags of close_range(2), from `linux/close_range.h`, which the bindings lack.
const CLOSE_RANGE_UNSHARE: u32 = 1 << 1;
const CLOSE_RANGE_CLOEXEC: u32 = 1 << 2;

/// What every closed descriptor needs, once it is out of the table.
fn finish_close(call: &Call<'_>, file: &Arc<OpenFile>) -> Result<()> {
    locks::release_records(call.process.pid, file);
    file.flush()
}

/// close(2). The descriptor is gone even when the error is reported.
fn close(call: &mut Call<'_>) -> Result<u64> {
    let file = call.process.files.remove(call.args[0] as i32)?;
    finish_close(call, &file)?;
    Ok(0)
}

/// close_range(2).
fn close_range(call: &mut Call<'_>) -> Result<u64> {
    let (first, last, flags) = (call.args[0] as u32, call.args[1] as u32, call.args[2] as u32);
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    // The table is never shared with another process, so CLOSE_RANGE_UNSHARE has nothing to do.
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        call.process.files.mark_range(first, last);
        return Ok(0);
    }
    for file in call.process.files.remove_range(first, last) {
        let _ = finish_close(call, &file);
    }
    Ok(0)
}

/// dup(2).
fn dup(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file_or_path(call.args[0])?;
    call.process.files.insert(file, false).map(|fd| fd as u64)
}

/// dup2(2): unlike dup3 it allows the two numbers to be equal, and then does nothing.
fn dup2(call: &mut Call<'_>) -> Result<u64> {
    let (old, new) = (call.args[0] as i32, call.args[1] as i32);
    let file = call.file_or_path(call.args[0])?;
    if old == new {
        return Ok(new as u64);
    }
    duplicate_to(call, file, new, false)
}

/// dup3(2).
fn dup3(call: &mut Call<'_>) -> Result<u64> {
    let (old, new, flags) = (call.args[0] as i32, call.args[1] as i32, call.args[2] as u32);
    if flags & !raw::O_CLOEXEC != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let file = call.file_or_path(call.args[0])?;
    duplicate_to(call, file, new, flags & raw::O_CLOEXEC != 0)
}

fn duplicate_to(call: &Call<'_>, file: Arc<OpenFile>, new: i32, close_on_exec: bool) -> Result<u64> {
    if let Some(old) = call.process.files.replace(new, file, close_on_exec)? {
        // Its error is lost, as dup2(2) warns.
        let _ = finish_close(call, &old);
    }
    Ok(new as u64)
}

/// fcntl(2).
fn fcntl(call: &mut Call<'_>) -> Result<u64> {
    let (fd, command, argument) = (call.args[0] as i32, call.args[1] as u32, call.args[2]);
    let file = call.file_or_path(call.args[0])?;
    let files = &call.process.files;
    match command {
        raw::F_DUPFD => return files.insert_from(argument as i32, file, false).map(|fd| fd as u64),
        raw::F_DUPFD_CLOEXEC => return files.insert_from(argument as i32, file, true).map(|fd| fd as u64),
        raw::F_GETFD => return files.close_on_exec(fd).map(|on| if on { raw::FD_CLOEXEC.into() } else { 0 }),
        raw::F_SETFD => {
            return files.set_close_on_exec(fd, argument as u32 & raw::FD_CLOEXEC != 0).map(|()| 0);
        }
        raw::F_GETFL => return Ok(file.flags().bits().into()),
        _ => {}
    }
    // What open(2) allows for an O_PATH descriptor ends above.
    if file.flags().contains(OpenFlags::PATH) {
        return Err(Errno::EBADF);
    }
    match command {
        raw::F_SETFL => {
            file.set_flags(OpenFlags::from_bits_truncate(argument as u32) & CHANGEABLE);
            Ok(0)
        }
        raw::F_GETLK | raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW => {
            locks::fcntl_lock(call, fd, &file, command, argument)
        }
        raw::F_GETPIPE_SZ | raw::F_SETPIPE_SZ => {
            super::pipe::size(&file, command == raw::F_SETPIPE_SZ, argument as u32)
        }
        // Nobody is ever told: there is no SIGIO here. Owner 0 is "none" (fcntl(2)).
        raw::F_GETOWN | raw::F_GETSIG => Ok(0),
        raw::F_SETOWN | raw::F_SETSIG if argument == 0 => Ok(0),
        // Everything else, sealing (`F_ADD_SEALS`) and leases among it, is what a file system without them says.
        _ => Err(Errno::EINVAL),
    }
}
