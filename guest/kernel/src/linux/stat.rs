//! Looking at files: stat(2), statx(2), access(2), statfs(2), readlink(2).

use super::fs_context::CWD;
use super::{Call, table::Calls};
use crate::fs::stat as layout;
use crate::mm::user::{UserPtr, plain};
use diolkos_vfs::{Errno, Location, Lookup, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::stat, stat),
    (Sysno::lstat, lstat),
    (Sysno::fstat, fstat),
    (Sysno::newfstatat, newfstatat),
    (Sysno::statx, statx),
    (Sysno::access, access),
    (Sysno::faccessat, faccessat),
    (Sysno::faccessat2, faccessat2),
    (Sysno::statfs, statfs),
    (Sysno::fstatfs, fstatfs),
    (Sysno::readlink, readlink),
    (Sysno::readlinkat, readlinkat),
];

plain!(raw::stat, raw::statx, raw::statfs);

fn write_stat(place: &Location, address: u64) -> Result<u64> {
    UserPtr::new(address).write(layout::stat(&place.metadata()?))?;
    Ok(0)
}

/// stat(2).
fn stat(call: &mut Call<'_>) -> Result<u64> {
    write_stat(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, call.args[1])
}

/// lstat(2).
fn lstat(call: &mut Call<'_>) -> Result<u64> {
    write_stat(&call.place(CWD, call.args[0], Lookup::empty())?, call.args[1])
}

/// fstat(2).
fn fstat(call: &mut Call<'_>) -> Result<u64> {
    write_stat(call.file_or_path(call.args[0])?.location(), call.args[1])
}

/// How the `AT_` flags of most calls look a path up; any flag that is not in `known` is refused.
pub fn lookup_from(flags: u64, known: u32) -> Result<Lookup> {
    let flags = flags as u32;
    if flags & !known != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = Lookup::FOLLOW;
    how.set(Lookup::FOLLOW, flags & raw::AT_SYMLINK_NOFOLLOW == 0);
    how.set(Lookup::EMPTY_PATH, flags & raw::AT_EMPTY_PATH != 0);
    Ok(how)
}

/// fstatat(2). `AT_NO_AUTOMOUNT` is always so: nothing mounts by itself here.
fn newfstatat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, to, flags, ..] = call.args;
    let how = lookup_from(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH | raw::AT_NO_AUTOMOUNT)?;
    write_stat(&call.place(dirfd, path, how)?, to)
}

/// statx(2).
fn statx(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, flags, mask, to, _] = call.args;
    let sync = flags as u32 & raw::AT_STATX_SYNC_TYPE;
    if mask as u32 & raw::STATX__RESERVED != 0 || sync == raw::AT_STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    let known = raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH | raw::AT_NO_AUTOMOUNT | raw::AT_STATX_SYNC_TYPE;
    let how = lookup_from(flags, known)?;
    // A null path with AT_EMPTY_PATH means the descriptor itself since Linux 6.11.
    let place = if path == 0 && how.contains(Lookup::EMPTY_PATH) {
        call.find(dirfd, b"", how)?
    } else {
        call.place(dirfd, path, how)?
    };
    UserPtr::new(to).write(layout::statx(&place.metadata()?, place.mount().id()))?;
    Ok(0)
}

/// access(2).
fn access(call: &mut Call<'_>) -> Result<u64> {
    let [path, mask, ..] = call.args;
    call.as_real_user(|| check_access(call, CWD, path, mask, Lookup::FOLLOW))
}

/// faccessat(2) as the kernel has it: without flags; a C library's comes as faccessat2.
fn faccessat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, mask, ..] = call.args;
    call.as_real_user(|| check_access(call, dirfd, path, mask, Lookup::FOLLOW))
}

/// faccessat2(2): asks as the real user, or with `AT_EACCESS` as the effective one.
fn faccessat2(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, mask, flags, ..] = call.args;
    let how = lookup_from(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH | raw::AT_EACCESS)?;
    let check = || check_access(call, dirfd, path, mask, how);
    if flags as u32 & raw::AT_EACCESS != 0 { check() } else { call.as_real_user(check) }
}

fn check_access(call: &Call<'_>, dirfd: u64, path: u64, mask: u64, how: Lookup) -> Result<u64> {
    let mask = mask as u32;
    if mask & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    call.place(dirfd, path, how)?.access(mask)?;
    Ok(0)
}

fn write_statfs(place: &Location, address: u64) -> Result<u64> {
    let packed = layout::statfs(&place.statfs()?, place.metadata()?.dev, place.mount().is_read_only());
    UserPtr::new(address).write(packed)?;
    Ok(0)
}

/// statfs(2).
fn statfs(call: &mut Call<'_>) -> Result<u64> {
    write_statfs(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, call.args[1])
}

/// fstatfs(2). Since Linux 3.12 an `O_PATH` descriptor will do.
fn fstatfs(call: &mut Call<'_>) -> Result<u64> {
    write_statfs(call.file_or_path(call.args[0])?.location(), call.args[1])
}

/// readlink(2).
fn readlink(call: &mut Call<'_>) -> Result<u64> {
    let [path, to, size, ..] = call.args;
    copy_target(call, CWD, path, to, size)
}

/// readlinkat(2). The empty path always means the link the descriptor stands at.
fn readlinkat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, to, size, ..] = call.args;
    copy_target(call, dirfd, path, to, size)
}

/// Copies as much of the target as fits, without a NUL.
fn copy_target(call: &Call<'_>, dirfd: u64, path: u64, to: u64, size: u64) -> Result<u64> {
    let size = usize::try_from(size as i32).ok().filter(|size| *size > 0).ok_or(Errno::EINVAL)?;
    let path = call.path(path)?;
    let how = if dirfd == CWD { Lookup::empty() } else { Lookup::EMPTY_PATH };
    let target = call.namespace().readlink(&call.start(dirfd, &path)?, &path, how)?;
    let shown = &target[..target.len().min(size)];
    UserPtr::new(to).write_slice(shown)?;
    Ok(shown.len() as u64)
}
