//! Directories: listing them, and the working directory.

use super::fs_context::CWD;
use super::{Call, table::Calls};
use crate::fs::dirent::{Layout, Packer};
use crate::mm::user::UserPtr;
use diolkos_vfs::{DirStream, Errno, FileType, Lookup, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::getdents, getdents),
    (Sysno::getdents64, getdents64),
    (Sysno::getcwd, getcwd),
    (Sysno::chdir, chdir),
    (Sysno::fchdir, fchdir),
    (Sysno::chroot, chroot),
];

/// getdents(2).
fn getdents(call: &mut Call<'_>) -> Result<u64> {
    list(call, Layout::Old)
}

/// getdents64(2).
fn getdents64(call: &mut Call<'_>) -> Result<u64> {
    list(call, Layout::New)
}

/// Most bytes one listing call fills; more room than that is left unused, which readdir(3) does not notice.
const LISTING_MAX: usize = 1 << 20;

fn list(call: &Call<'_>, layout: Layout) -> Result<u64> {
    let [fd, to, room, ..] = call.args;
    let file = call.file(fd)?;
    if file.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    let stream = DirStream::new(file.inner().clone(), file.location().clone());
    let mut packer = Packer::new(layout, (room as u32 as usize).min(LISTING_MAX));
    file.list(|start| {
        let (mut next, mut refused) = (start, false);
        stream.read(call.namespace(), start, &mut |entry| {
            refused = !packer.push(entry);
            if !refused {
                next = entry.next;
            }
            !refused
        })?;
        if refused && packer.bytes().is_empty() {
            // Not even one entry fits (getdents(2)).
            return Err(Errno::EINVAL);
        }
        UserPtr::new(to).write_slice(packer.bytes())?;
        Ok((next, packer.bytes().len() as u64))
    })
}

/// getcwd(2): the length counts the NUL.
fn getcwd(call: &mut Call<'_>) -> Result<u64> {
    let [to, size, ..] = call.args;
    let place = call.process.fs.working_dir();
    if place.is_removed() {
        return Err(Errno::ENOENT);
    }
    let mut path = place.path();
    path.push(0);
    if path.len() as u64 > size {
        return Err(Errno::ERANGE);
    }
    UserPtr::new(to).write_slice(&path)?;
    Ok(path.len() as u64)
}

/// chdir(2).
fn chdir(call: &mut Call<'_>) -> Result<u64> {
    let place = call.place(CWD, call.args[0], Lookup::FOLLOW)?;
    call.process.fs.set_working_dir(place)?;
    Ok(0)
}

/// fchdir(2). An `O_PATH` descriptor will do.
fn fchdir(call: &mut Call<'_>) -> Result<u64> {
    let place = call.file_or_path(call.args[0])?.location().clone();
    call.process.fs.set_working_dir(place)?;
    Ok(0)
}

/// chroot(2): there is one root for everybody. To the root itself it changes nothing and so is allowed.
fn chroot(call: &mut Call<'_>) -> Result<u64> {
    let place = call.place(CWD, call.args[0], Lookup::FOLLOW)?;
    if place.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if place.is_same_place(&call.namespace().root()) { Ok(0) } else { Err(Errno::EPERM) }
}
