//! Advisory file locks: flock(2), and the POSIX and open file description locks of fcntl(2).
//!
//! They hold between the open files of this machine only. With one process, POSIX locks never meet another
//! owner; flock and open file description locks may. The host's processes see none of them (yet).

use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::fs::range_locks::{Owner, RangeLock, RangeLocks};
use crate::mm::user::{UserPtr, plain};
use crate::task::WaitQueue;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use diolkos_vfs::{Errno, InodeId, Result};
use linux_raw_sys::general as raw;
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family; fcntl's locks come in through [`fcntl_lock`].
pub const CALLS: Calls = &[(Sysno::flock, flock)];

plain!(raw::flock);

/// A kind of lock with all that are held. The two kinds do not see each other (flock(2), NOTES).
struct Kind {
    files: Mutex<BTreeMap<InodeId, RangeLocks>>,
    released: WaitQueue,
}

static FLOCKS: Kind = Kind::new();
static RECORDS: Kind = Kind::new();

impl Kind {
    const fn new() -> Self {
        Self { files: Mutex::new(BTreeMap::new()), released: WaitQueue::new() }
    }

    fn try_take(&self, file: InodeId, lock: RangeLock) -> Result<()> {
        let mut files = self.files.lock();
        let locks = files.entry(file).or_default();
        match locks.conflict(&lock) {
            Some(_) => Err(Errno::EAGAIN),
            None if locks.set(lock) => Ok(()),
            None => Err(Errno::ENOLCK),
        }
    }

    fn take(&self, file: InodeId, lock: RangeLock, wait: bool) -> Result<()> {
        let mut result = self.try_take(file, lock);
        if wait && result == Err(Errno::EAGAIN) {
            let mut settled = || {
                result = self.try_take(file, lock);
                result != Err(Errno::EAGAIN)
            };
            self.released.wait_until(&mut settled, None, true)?;
        }
        result
    }

    fn give_up(&self, file: InodeId, owner: Owner, first: u64, last: u64) {
        let mut files = self.files.lock();
        let Some(locks) = files.get_mut(&file) else { return };
        let changed = locks.clear(owner, first, last);
        if locks.is_empty() {
            files.remove(&file);
        }
        drop(files);
        if changed {
            self.released.wake_all();
        }
    }
}

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
    let (id, owner) = (file.inode().id(), owner_of(&file));
    let exclusive = match operation & !raw::LOCK_NB {
        raw::LOCK_SH => false,
        raw::LOCK_EX => true,
        raw::LOCK_UN => {
            FLOCKS.give_up(id, owner, 0, u64::MAX);
            return Ok(0);
        }
        _ => return Err(Errno::EINVAL),
    };
    // Changing the kind of a lock gives the old one up first (flock(2), NOTES).
    FLOCKS.give_up(id, owner, 0, u64::MAX);
    FLOCKS.take(id, RangeLock { owner, first: 0, last: u64::MAX, exclusive }, wait)?;
    Ok(0)
}

/// What an open file takes along when its last descriptor is closed.
pub fn release_flock(file: &OpenFile) {
    let (id, owner) = (file.inode().id(), owner_of(file));
    FLOCKS.give_up(id, owner, 0, u64::MAX);
    RECORDS.give_up(id, owner, 0, u64::MAX);
}

/// What closing any descriptor of a file does to the locks of its process (fcntl(2), "Record locks are ... released").
pub fn release_records(call: &Call<'_>, file: &OpenFile) {
    RECORDS.give_up(file.inode().id(), Owner::Process(call.process.pid), 0, u64::MAX);
}

/// `F_GETLK`, `F_SETLK`, `F_SETLKW` and their `F_OFD_` forms.
pub fn fcntl_lock(call: &Call<'_>, file: &Arc<OpenFile>, command: u32, argument: u64) -> Result<u64> {
    let user = UserPtr::<raw::flock>::new(argument);
    let mut request = user.read()?;
    let of_file = matches!(command, raw::F_OFD_GETLK | raw::F_OFD_SETLK | raw::F_OFD_SETLKW);
    if of_file && request.l_pid != 0 {
        return Err(Errno::EINVAL);
    }
    let owner = if of_file { owner_of(file) } else { Owner::Process(call.process.pid) };
    let (first, last) = range(file, &request)?;
    let id = file.inode().id();
    let kind = request.l_type as u32;
    let lock = RangeLock { owner, first, last, exclusive: kind == raw::F_WRLCK };
    match (command, kind) {
        (raw::F_GETLK | raw::F_OFD_GETLK, raw::F_RDLCK | raw::F_WRLCK) => {
            let conflict = RECORDS.files.lock().get(&id).and_then(|locks| locks.conflict(&lock));
            describe(&mut request, conflict);
            user.write(request)?;
            Ok(0)
        }
        (raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_SETLK | raw::F_OFD_SETLKW, raw::F_UNLCK) => {
            RECORDS.give_up(id, owner, first, last);
            Ok(0)
        }
        (_, raw::F_RDLCK) if !file.flags().reads() => Err(Errno::EBADF),
        (_, raw::F_WRLCK) if !file.flags().writes() => Err(Errno::EBADF),
        (raw::F_SETLK | raw::F_SETLKW | raw::F_OFD_SETLK | raw::F_OFD_SETLKW, raw::F_RDLCK | raw::F_WRLCK) => {
            let wait = matches!(command, raw::F_SETLKW | raw::F_OFD_SETLKW);
            RECORDS.take(id, lock, wait).map(|()| 0)
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

/// Fills in what `F_GETLK` found.
fn describe(request: &mut raw::flock, conflict: Option<RangeLock>) {
    let Some(lock) = conflict else {
        request.l_type = raw::F_UNLCK as i16;
        return;
    };
    request.l_type = if lock.exclusive { raw::F_WRLCK } else { raw::F_RDLCK } as i16;
    request.l_whence = raw::SEEK_SET as i16;
    request.l_start = lock.first as i64;
    request.l_len = if lock.last == u64::MAX { 0 } else { (lock.last - lock.first + 1) as i64 };
    request.l_pid = match lock.owner {
        Owner::Process(pid) => pid as i32,
        Owner::OpenFile(_) => -1,
    };
}
