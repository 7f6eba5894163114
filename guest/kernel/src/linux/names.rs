//! Making, moving and removing names: mkdir(2), mknod(2), link(2), symlink(2), unlink(2), rmdir(2), rename(2).

use super::fs_context::CWD;
use super::{Call, table::Calls};
use diolkos_vfs::{Errno, Lookup, RenameFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::mkdir, mkdir),
    (Sysno::mkdirat, mkdirat),
    (Sysno::mknod, mknod),
    (Sysno::mknodat, mknodat),
    (Sysno::link, link),
    (Sysno::linkat, linkat),
    (Sysno::symlink, symlink),
    (Sysno::symlinkat, symlinkat),
    (Sysno::unlink, unlink),
    (Sysno::unlinkat, unlinkat),
    (Sysno::rmdir, rmdir),
    (Sysno::rename, rename),
    (Sysno::renameat, renameat),
    (Sysno::renameat2, renameat2),
];

fn make_dir(call: &Call<'_>, dirfd: u64, path: u64, mode: u64) -> Result<u64> {
    let path = call.path(path)?;
    let mode = mode as u32 & 0o1777 & !call.process.fs.umask();
    call.namespace().mkdir(&call.start(dirfd, &path)?, &path, mode)?;
    Ok(0)
}

/// mkdir(2).
fn mkdir(call: &mut Call<'_>) -> Result<u64> {
    make_dir(call, CWD, call.args[0], call.args[1])
}

/// mkdirat(2).
fn mkdirat(call: &mut Call<'_>) -> Result<u64> {
    make_dir(call, call.args[0], call.args[1], call.args[2])
}

fn make_node(call: &Call<'_>, dirfd: u64, path: u64, mode: u64, rdev: u64) -> Result<u64> {
    let path = call.path(path)?;
    let mode = mode as u32 & !call.process.fs.umask();
    // The device number is 32 bits wide in the call.
    call.namespace().mknod(&call.start(dirfd, &path)?, &path, mode, rdev & 0xffff_ffff)?;
    Ok(0)
}

/// mknod(2).
fn mknod(call: &mut Call<'_>) -> Result<u64> {
    make_node(call, CWD, call.args[0], call.args[1], call.args[2])
}

/// mknodat(2).
fn mknodat(call: &mut Call<'_>) -> Result<u64> {
    make_node(call, call.args[0], call.args[1], call.args[2], call.args[3])
}

fn make_link(call: &Call<'_>, from: (u64, u64), to: (u64, u64), how: Lookup) -> Result<u64> {
    let (old, new) = (call.path(from.1)?, call.path(to.1)?);
    let (old_start, new_start) = (call.start(from.0, &old)?, call.start(to.0, &new)?);
    call.namespace().link(&old_start, &old, how, &new_start, &new)?;
    Ok(0)
}

/// link(2): a symbolic link is not followed but gets the name itself.
fn link(call: &mut Call<'_>) -> Result<u64> {
    make_link(call, (CWD, call.args[0]), (CWD, call.args[1]), Lookup::empty())
}

/// linkat(2).
fn linkat(call: &mut Call<'_>) -> Result<u64> {
    let [old_dir, old, new_dir, new, flags, _] = call.args;
    let flags = flags as u32;
    if flags & !(raw::AT_SYMLINK_FOLLOW | raw::AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut how = Lookup::empty();
    how.set(Lookup::FOLLOW, flags & raw::AT_SYMLINK_FOLLOW != 0);
    how.set(Lookup::EMPTY_PATH, flags & raw::AT_EMPTY_PATH != 0);
    make_link(call, (old_dir, old), (new_dir, new), how)
}

fn make_symlink(call: &Call<'_>, target: u64, dirfd: u64, path: u64) -> Result<u64> {
    let (target, path) = (call.path(target)?, call.path(path)?);
    call.namespace().symlink(&target, &call.start(dirfd, &path)?, &path)?;
    Ok(0)
}

/// symlink(2).
fn symlink(call: &mut Call<'_>) -> Result<u64> {
    make_symlink(call, call.args[0], CWD, call.args[1])
}

/// symlinkat(2).
fn symlinkat(call: &mut Call<'_>) -> Result<u64> {
    make_symlink(call, call.args[0], call.args[1], call.args[2])
}

fn remove(call: &Call<'_>, dirfd: u64, path: u64, directory: bool) -> Result<u64> {
    let path = call.path(path)?;
    let start = call.start(dirfd, &path)?;
    if directory {
        call.namespace().rmdir(&start, &path)?;
    } else {
        call.namespace().unlink(&start, &path)?;
    }
    Ok(0)
}

/// unlink(2).
fn unlink(call: &mut Call<'_>) -> Result<u64> {
    remove(call, CWD, call.args[0], false)
}

/// rmdir(2).
fn rmdir(call: &mut Call<'_>) -> Result<u64> {
    remove(call, CWD, call.args[0], true)
}

/// unlinkat(2).
fn unlinkat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, flags, ..] = call.args;
    match flags as u32 {
        0 => remove(call, dirfd, path, false),
        raw::AT_REMOVEDIR => remove(call, dirfd, path, true),
        _ => Err(Errno::EINVAL),
    }
}

fn move_name(call: &Call<'_>, from: (u64, u64), to: (u64, u64), flags: RenameFlags) -> Result<u64> {
    let (old, new) = (call.path(from.1)?, call.path(to.1)?);
    let (old_start, new_start) = (call.start(from.0, &old)?, call.start(to.0, &new)?);
    call.namespace().rename(&old_start, &old, &new_start, &new, flags)?;
    Ok(0)
}

/// rename(2).
fn rename(call: &mut Call<'_>) -> Result<u64> {
    move_name(call, (CWD, call.args[0]), (CWD, call.args[1]), RenameFlags::empty())
}

/// renameat(2).
fn renameat(call: &mut Call<'_>) -> Result<u64> {
    let [old_dir, old, new_dir, new, ..] = call.args;
    move_name(call, (old_dir, old), (new_dir, new), RenameFlags::empty())
}

/// renameat2(2). `RENAME_WHITEOUT` is for overlays made of directories, which ours are not: `EINVAL`.
fn renameat2(call: &mut Call<'_>) -> Result<u64> {
    let [old_dir, old, new_dir, new, flags, _] = call.args;
    let flags = RenameFlags::from_bits(flags as u32).ok_or(Errno::EINVAL)?;
    move_name(call, (old_dir, old), (new_dir, new), flags)
}
