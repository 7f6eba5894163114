//! Reading and writing: read(2), write(2), their vectored and positioned forms, and lseek(2).

use super::open_file::{Aim, OpenFile, Whence};
use super::{Call, signal, table::Calls};
use crate::mm::user::UserBuffers;
use diolkos_vfs::{Errno, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::read, read),
    (Sysno::write, write),
    (Sysno::readv, readv),
    (Sysno::writev, writev),
    (Sysno::pread64, pread64),
    (Sysno::pwrite64, pwrite64),
    (Sysno::preadv, preadv),
    (Sysno::pwritev, pwritev),
    (Sysno::preadv2, preadv2),
    (Sysno::pwritev2, pwritev2),
    (Sysno::lseek, lseek),
];

/// The one buffer of a call. A length that is negative as an `ssize_t` leaves user space wherever it starts.
fn one_buffer(address: u64, len: u64) -> Result<UserBuffers> {
    if len > i64::MAX as u64 {
        return Err(Errno::EFAULT);
    }
    UserBuffers::new(address, len as usize)
}

/// The buffers of the vectored calls. A count that does not fit is refused like any other over the maximum.
pub fn many_buffers(iov: u64, count: u64) -> Result<UserBuffers> {
    UserBuffers::from_iovec(iov, usize::try_from(count).map_err(|_| Errno::EINVAL)?)
}

/// An explicit offset: never negative.
fn offset(value: u64) -> Result<u64> {
    if value > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(value) }
}

/// Writes, and raises SIGPIPE when nobody is left to read (pipe(7)).
pub fn write_or_signal(call: &Call<'_>, write: impl FnOnce() -> Result<usize>) -> Result<u64> {
    let result = write();
    if result == Err(Errno::EPIPE) {
        signal::raise(call.thread, raw::SIGPIPE);
    }
    result.map(|n| n as u64)
}

/// read(2).
fn read(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffer = one_buffer(call.args[1], call.args[2])?;
    Ok(file.read(&mut buffer)? as u64)
}

/// write(2).
fn write(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffer = one_buffer(call.args[1], call.args[2])?;
    write_or_signal(call, || file.write(&mut buffer))
}

/// readv(2).
fn readv(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    Ok(file.read(&mut buffers)? as u64)
}

/// writev(2).
fn writev(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    write_or_signal(call, || file.write(&mut buffers))
}

/// pread(2).
fn pread64(call: &mut Call<'_>) -> Result<u64> {
    let offset = offset(call.args[3])?;
    let file = call.file(call.args[0])?;
    let mut buffer = one_buffer(call.args[1], call.args[2])?;
    Ok(file.read_at(offset, &mut buffer)? as u64)
}

/// pwrite(2).
fn pwrite64(call: &mut Call<'_>) -> Result<u64> {
    let offset = offset(call.args[3])?;
    let file = call.file(call.args[0])?;
    let mut buffer = one_buffer(call.args[1], call.args[2])?;
    write_or_signal(call, || file.write_at(offset, &mut buffer, Aim::AsOpened))
}

/// preadv(2). On a 64-bit machine the offset is the fourth argument alone; the fifth is not looked at.
fn preadv(call: &mut Call<'_>) -> Result<u64> {
    let offset = offset(call.args[3])?;
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    Ok(file.read_at(offset, &mut buffers)? as u64)
}

/// pwritev(2).
fn pwritev(call: &mut Call<'_>) -> Result<u64> {
    let offset = offset(call.args[3])?;
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    write_or_signal(call, || file.write_at(offset, &mut buffers, Aim::AsOpened))
}

/// Not to append although the file was opened so, since Linux 6.9 (linux/fs.h).
const RWF_NOAPPEND: u32 = 0x20;

/// Checks what preadv2(2) and pwritev2(2) are asked (`kiocb_set_rw_flags` in Linux' include/linux/fs.h). Not supported are
/// `RWF_NOWAIT`, `RWF_ATOMIC` and `RWF_DONTCACHE`, as for Linux' FUSE client.
fn aim(flags: u32) -> Result<Aim> {
    const KNOWN: u32 = raw::RWF_HIPRI | raw::RWF_DSYNC | raw::RWF_SYNC | raw::RWF_APPEND | RWF_NOAPPEND;
    if flags & !KNOWN != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match (flags & raw::RWF_APPEND != 0, flags & RWF_NOAPPEND != 0) {
        (true, true) => Err(Errno::EINVAL),
        (true, false) => Ok(Aim::End),
        (false, true) => Ok(Aim::Offset),
        (false, false) => Ok(Aim::AsOpened),
    }
}

/// Offset -1 of the second versions: the current position.
const CURRENT: u64 = u64::MAX;

/// preadv2(2).
fn preadv2(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    aim(call.args[5] as u32)?;
    let n = match call.args[3] {
        CURRENT => file.read(&mut buffers)?,
        at => file.read_at(offset(at)?, &mut buffers)?,
    };
    Ok(n as u64)
}

/// pwritev2(2).
fn pwritev2(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let mut buffers = many_buffers(call.args[1], call.args[2])?;
    let flags = call.args[5] as u32;
    let (aim, at) = (aim(flags)?, call.args[3]);
    write_or_signal(call, || {
        let n = match at {
            CURRENT => file.write_aimed(&mut buffers, aim)?,
            at => file.write_at(offset(at)?, &mut buffers, aim)?,
        };
        sync_if_asked(&file, n, flags)
    })
}

fn sync_if_asked(file: &OpenFile, n: usize, flags: u32) -> Result<usize> {
    if n > 0 && flags & (raw::RWF_DSYNC | raw::RWF_SYNC) != 0 {
        file.inner().fsync(flags & raw::RWF_SYNC == 0)?;
    }
    Ok(n)
}

/// lseek(2).
fn lseek(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    let whence = match call.args[2] as u32 {
        raw::SEEK_SET => Whence::Set,
        raw::SEEK_CUR => Whence::Current,
        raw::SEEK_END => Whence::End,
        raw::SEEK_DATA => Whence::Data,
        raw::SEEK_HOLE => Whence::Hole,
        _ => return Err(Errno::EINVAL),
    };
    file.seek(whence, call.args[1] as i64)
}
