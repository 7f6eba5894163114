//! Advisory file locks: flock(2), and the POSIX and open file description locks of fcntl(2).
//!
//! They hold between the open files of this machine and, on a share whose server keeps locks, between this machine, the
//! host's processes and other machines ([`table`]). With one process, POSIX locks never meet another process' in the
//! machine, so there is no ring of waiting processes to be found (`EDEADLK`); rings that lead through the host are not
//! seen, as on network file systems.

mod table;

use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::mm::user::{UserPtr, plain};
use alloc::sync::Arc;
use diolkos_vfs::{Errno, LockFamily, LockRequest, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;
use table::{InTheWay, Lock, Owner, Table};

/// The calls of this family; fcntl's locks come in through [`fcntl_lock`].
pub const CALLS: Calls = &[(Sysno::flock, flock)];

plain!(raw::flock);

static FLOCKS: Table = Table::new(LockFamily::Flock);
static RECORDS: Table = Table::new(LockFamily::Record);

fn owner_of(file: &OpenFile) -> Owner {
    Owner::OpenFile(core::ptr::from_ref(file).addr())
}

/// flock(2).
fn flock(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let operation = call.args[1] as u32;
    let wait = operation & raw::LOCK_NB == 0;
    if operation & raw::LOCK_MAND != 0 {
        // Once a lock for servers of other systems; since Linux 5.16 accepted and ignored.
        return Ok(0);
    }
    let owner = owner_of(&file);
    let exclusive = match operation & !raw::LOCK_NB {
        raw::LOCK_SH => false,
        raw::LOCK_EX => true,
        raw::LOCK_UN => return FLOCKS.give_up(&file, owner, 0, u64::MAX).map(|()| 0),
        _ => return Err(Errno::EINVAL),
    };
    match FLOCKS.holds(file.inode().id(), owner, 0, u64::MAX) {
        Some(held) if held == exclusive => return Ok(0),
        // Changing the kind of a lock gives the old one up first (flock(2), NOTES).
        Some(_) => FLOCKS.give_up(&file, owner, 0, u64::MAX)?,
        None => {}
    }
    FLOCKS.take(&file, Lock { owner, first: 0, last: u64::MAX, exclusive }, wait)?;
    Ok(0)
}

/// What an open file takes along when its last descriptor is closed. May wait for the host.
pub fn release_open_file(file: &OpenFile) {
    // Nobody is there to be told of an error.
    for table in [&FLOCKS, &RECORDS] {
        let _ = table.give_up(file, owner_of(file), 0, u64::MAX);
    }
}

/// What closing any descriptor of a file does to the locks of its process `pid` (fcntl(2), "Record locks are …
/// released"); of one opened with `O_PATH` nothing. May wait for the host.
pub fn release_records(pid: u32, file: &OpenFile) {
    if !file.flags().contains(OpenFlags::PATH) {
        let _ = RECORDS.give_up(file, Owner::Process(pid), 0, u64::MAX);
    }
}

/// `F_GETLK`, `F_SETLK`, `F_SETLKW` and their `F_OFD_` forms, for the open file of descriptor `fd`.
pub fn fcntl_lock(call: &Call<'_>, fd: i32, file: &Arc<OpenFile>, command: u32, argument: u64) -> Result<u64> {
    let user = UserPtr::<raw::flock>::new(argument);
    let mut request = user.read()?;
    let of_file = matches!(command, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    if of_file && request.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if of_file { owner_of(file) } else { Owner::Process(call.process.pid) };
    let (first, last) = range(file, &request)?;
    let kind = request.l_type as u32;
    let lock = Lock { owner, first, last, exclusive: kind == raw::F_WRLCK };
    match (command, kind) {
        (raw::F_GETLK | raw::F_OFD_GETLK, raw::F_RDLCK | raw::F_WRLCK) => {
            describe(&mut request, RECORDS.find(file, &lock)?);
            user.write(request)?;
            Ok(0)
        }
        (raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_SETLK | raw::F_OFD_SETLKW, raw::F_UNLCK) => {
            RECORDS.give_up(file, owner, first, last).map(|()| 0)
        }
        (_, raw::F_RDLCK) if !file.flags().reads() => Err(Errno::EBADF),
        (_, raw::F_WRLCK) if !file.flags().writes() => Err(Errno::EBADF),
        (raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_SETLK | raw::F_OFD_SETLKW, raw::F_RDLCK | raw::F_WRLCK) => {
            let wait = matches!(command, raw::F_SETLKW | raw::F_OFD_SETLKW);
            RECORDS.take(file, lock, wait)?;
            // Another thread may have closed the descriptor meanwhile, and with it what the process holds: Linux takes the
            // lock back, too (`fcntl_setlk` in fs/locks.c).
            let closed = !of_file && !call.process.files.get(fd).is_ok_and(|now| Arc::ptr_eq(&now, file));
            if closed {
                release_records(call.process.pid, file);
                return Err(Errno::EBADF);
            }
            Ok(0)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The bytes a `struct flock` means, both ends included.
fn range(file: &OpenFile, request: &raw::flock) -> Result<(u64, u64)> {
    let base = match request.l_whence as u32 {
        raw::SEEK_SET => 0,
        raw::SEEK_CUR => file.position() as i64,
        raw::SEEK_END => file.inode().metadata()?.size as i64,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(request.l_start).ok_or(Errno::EOVERFLOW)?;
    // A negative length counts backwards from the start; zero reaches to the end.
    let (first, last) = match request.l_len {
        0 => (start, i64::MAX),
        n if n > 0 => (start, start.checked_add(n - 1).ok_or(Errno::EOVERFLOW)?),
        n => (start.checked_add(n).ok_or(Errno::EINVAL)?, start - 1),
    };
    if first < 0 {
        return Err(Errno::EINVAL);
    }
    Ok((first as u64, if last == i64::MAX { u64::MAX } else { last as u64 }))
}

/// Fills in what `F_GETLK` found. Who is no process of this machine has no number here.
fn describe(request: &mut raw::flock, found: Option<InTheWay>) {
    let (first, last, exclusive, pid) = match found {
        None => {
            request.l_type = raw::F_UNLCK as i16;
            return;
        }
        Some(InTheWay::Outside(lock)) => (lock.first, lock.last, lock.exclusive, -1),
        Some(InTheWay::Here(Lock { owner, first, last, exclusive })) => {
            let pid = match owner {
                Owner::Process(pid) => pid as i32,
                Owner::OpenFile(_) => -1,
            };
            (first, last, exclusive, pid)
        }
    };
    request.l_type = if exclusive { raw::F_WRLCK } else { raw::F_RDLCK } as i16;
    request.l_whence = raw::SEEK_SET as i16;
    request.l_start = first as i64;
    request.l_len = if last >= LockRequest::TO_END { 0 } else { (last - first + 1) as i64 };
    request.l_pid = pid;
}
