//! Making data safe, and advice about access: fsync(2), sync(2), posix_fadvise(2), readahead(2).

use super::{Call, table::Calls};
use crate::drivers::blk;
use diolkos_vfs::{Errno, FileType, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::fsync, fsync),
    (Sysno::fdatasync, fdatasync),
    (Sysno::sync, sync),
    (Sysno::syncfs, syncfs),
    (Sysno::sync_file_range, sync_file_range),
    (Sysno::fadvise64, fadvise64),
    (Sysno::readahead, readahead),
];

/// fsync(2).
fn fsync(call: &mut Call<'_>) -> Result<u64> {
    call.file(call.args[0])?.inner().fsync(false)?;
    Ok(0)
}

/// fdatasync(2).
fn fdatasync(call: &mut Call<'_>) -> Result<u64> {
    call.file(call.args[0])?.inner().fsync(true)?;
    Ok(0)
}

/// sync(2): every file system that is mounted. It has no errors to give.
fn sync(call: &mut Call<'_>) -> Result<u64> {
    for mount in call.namespace().mounts() {
        let _ = mount.sync();
    }
    for disk in blk::all() {
        let _ = disk.flush();
    }
    Ok(0)
}

/// syncfs(2).
fn syncfs(call: &mut Call<'_>) -> Result<u64> {
    call.file(call.args[0])?.inode().sync_fs()?;
    Ok(0)
}

/// sync_file_range(2): promises nothing about metadata, so making all the data safe is more than it asks.
fn sync_file_range(call: &mut Call<'_>) -> Result<u64> {
    let [fd, offset, len, flags, ..] = call.args;
    let known = raw::SYNC_FILE_RANGE_WAIT_BEFORE | raw::SYNC_FILE_RANGE_WRITE | raw::SYNC_FILE_RANGE_WAIT_AFTER;
    let file = call.file(fd)?;
    let in_range = (offset as i64) >= 0 && (len as i64) >= 0 && (offset as i64).checked_add(len as i64).is_some();
    if flags as u32 & !known != 0 || !in_range {
        return Err(Errno::EINVAL);
    }
    match file.inode().file_type() {
        FileType::Regular | FileType::BlockDevice | FileType::Directory | FileType::Symlink => {}
        _ => return Err(Errno::ESPIPE),
    }
    if flags as u32 & raw::SYNC_FILE_RANGE_WAIT_AFTER != 0 {
        file.inner().fsync(true)?;
    }
    Ok(0)
}

/// posix_fadvise(2): the advice is checked and not taken.
fn fadvise64(call: &mut Call<'_>) -> Result<u64> {
    let [fd, _, len, advice, ..] = call.args;
    let file = call.file(fd)?;
    if file.inner().is_stream() {
        return Err(Errno::ESPIPE);
    }
    if (len as i64) < 0 || advice as u32 > raw::POSIX_FADV_NOREUSE {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}

/// readahead(2): reading ahead is the host's business.
fn readahead(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    if !file.flags().reads() {
        return Err(Errno::EBADF);
    }
    if file.inode().file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    Ok(0)
}
