//! The space of files: fallocate(2).

use super::{Call, table::Calls};
use diolkos_vfs::notify::Events;
use diolkos_vfs::{Allocation, Errno, FileType, Result, remove_privileges};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::fallocate, fallocate)];

/// What a mode asks for. Other combinations are refused (`vfs_fallocate` in Linux' fs/open.c).
fn allocation(mode: u32) -> Result<Allocation> {
    let keep_size = mode & raw::FALLOC_FL_KEEP_SIZE != 0;
    match mode & !raw::FALLOC_FL_KEEP_SIZE {
        0 => Ok(Allocation::Reserve { keep_size }),
        raw::FALLOC_FL_PUNCH_HOLE if keep_size => Ok(Allocation::Punch),
        raw::FALLOC_FL_ZERO_RANGE => Ok(Allocation::Zero { keep_size }),
        raw::FALLOC_FL_UNSHARE_RANGE => Ok(Allocation::Unshare { keep_size }),
        raw::FALLOC_FL_COLLAPSE_RANGE if !keep_size => Ok(Allocation::Collapse),
        raw::FALLOC_FL_INSERT_RANGE if !keep_size => Ok(Allocation::Insert),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// fallocate(2). The order of the checks is Linux'.
fn fallocate(call: &mut Call<'_>) -> Result<u64> {
    let [fd, mode, offset, len, ..] = call.args;
    let file = call.file(fd)?;
    if offset > i64::MAX as u64 || len > i64::MAX as u64 || len == 0 {
        return Err(Errno::EINVAL);
    }
    let what = allocation(mode as u32)?;
    if !file.flags().writes() {
        return Err(Errno::EBADF);
    }
    match file.inode().file_type() {
        FileType::Regular | FileType::BlockDevice => {}
        FileType::Fifo => return Err(Errno::ESPIPE),
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::ENODEV),
    }
    offset.checked_add(len).filter(|end| *end <= i64::MAX as u64).ok_or(Errno::EFBIG)?;
    remove_privileges(file.inode())?;
    file.inner().allocate(what, offset, len)?;
    file.location().tell(Events::MODIFY);
    Ok(0)
}
