//! Changing attributes: chmod(2), chown(2), utimensat(2), truncate(2), umask(2).

use super::fs_context::CWD;
use super::stat::lookup_from;
use super::{Call, table::Calls};
use crate::mm::user::{UserPtr, plain};
use diolkos_vfs::notify::Events;
use diolkos_vfs::{Errno, FileType, Location, Lookup, Result, SetMetadata, SetTime, Timespec, remove_privileges};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::chmod, chmod),
    (Sysno::fchmod, fchmod),
    (Sysno::fchmodat, fchmodat),
    (Sysno::fchmodat2, fchmodat2),
    (Sysno::chown, chown),
    (Sysno::lchown, lchown),
    (Sysno::fchown, fchown),
    (Sysno::fchownat, fchownat),
    (Sysno::utimensat, utimensat),
    (Sysno::utimes, utimes),
    (Sysno::futimesat, futimesat),
    (Sysno::utime, utime),
    (Sysno::truncate, truncate),
    (Sysno::ftruncate, ftruncate),
    (Sysno::umask, umask),
];

plain!([raw::__kernel_timespec; 2], [raw::__kernel_old_timeval; 2], [i64; 2]);

fn set_mode(place: &Location, mode: u64) -> Result<u64> {
    place.set_metadata(&SetMetadata { mode: Some(mode as u32 & 0o7777), ..SetMetadata::default() })?;
    Ok(0)
}

/// chmod(2).
fn chmod(call: &mut Call<'_>) -> Result<u64> {
    set_mode(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, call.args[1])
}

/// fchmod(2).
fn fchmod(call: &mut Call<'_>) -> Result<u64> {
    set_mode(call.file(call.args[0])?.location(), call.args[1])
}

/// fchmodat(2) as the kernel has it: without flags.
fn fchmodat(call: &mut Call<'_>) -> Result<u64> {
    set_mode(&call.place(call.args[0], call.args[1], Lookup::FOLLOW)?, call.args[2])
}

/// fchmodat2(2).
fn fchmodat2(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, mode, flags, ..] = call.args;
    let how = lookup_from(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    set_mode(&call.place(dirfd, path, how)?, mode)
}

/// An id of -1 stays as it is (chown(2)). With both so, Linux still takes set-user-id bits away and stamps the inode,
/// which is what giving it to its owner does.
fn set_owner(place: &Location, uid: u64, gid: u64) -> Result<u64> {
    let id = |value: u64| Some(value as u32).filter(|id| *id != u32::MAX);
    let mut change = SetMetadata { uid: id(uid), gid: id(gid), ..SetMetadata::default() };
    if change == SetMetadata::default() {
        change.uid = Some(place.metadata()?.uid);
    }
    place.set_metadata(&change)?;
    Ok(0)
}

/// chown(2).
fn chown(call: &mut Call<'_>) -> Result<u64> {
    set_owner(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, call.args[1], call.args[2])
}

/// lchown(2).
fn lchown(call: &mut Call<'_>) -> Result<u64> {
    set_owner(&call.place(CWD, call.args[0], Lookup::empty())?, call.args[1], call.args[2])
}

/// fchown(2).
fn fchown(call: &mut Call<'_>) -> Result<u64> {
    set_owner(call.file(call.args[0])?.location(), call.args[1], call.args[2])
}

/// fchownat(2).
fn fchownat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, uid, gid, flags, _] = call.args;
    let how = lookup_from(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    set_owner(&call.place(dirfd, path, how)?, uid, gid)
}

fn set_times(place: &Location, [atime, mtime]: [Option<SetTime>; 2]) -> Result<u64> {
    if atime.is_some() || mtime.is_some() {
        place.set_metadata(&SetMetadata { atime, mtime, ..SetMetadata::default() })?;
    }
    Ok(0)
}

const NOW: [Option<SetTime>; 2] = [Some(SetTime::Now); 2];

/// A time of utimensat(2): two values of the nanoseconds mean "now" and "leave it".
fn from_timespec(time: raw::__kernel_timespec) -> Result<Option<SetTime>> {
    match time.tv_nsec {
        n if n == i64::from(raw::UTIME_NOW) => Ok(Some(SetTime::Now)),
        n if n == i64::from(raw::UTIME_OMIT) => Ok(None),
        nsec @ 0..1_000_000_000 => Ok(Some(SetTime::To(Timespec { sec: time.tv_sec, nsec: nsec as u32 }))),
        _ => Err(Errno::EINVAL),
    }
}

/// utimensat(2). A null path means the descriptor itself: that is how futimens(3) is made.
fn utimensat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, times, flags, ..] = call.args;
    let times = match UserPtr::<[raw::__kernel_timespec; 2]>::nullable(times) {
        Some(times) => {
            let [atime, mtime] = times.read()?;
            [from_timespec(atime)?, from_timespec(mtime)?]
        }
        None => NOW,
    };
    if times == [None; 2] {
        // Linux looks at nothing else then.
        return Ok(0);
    }
    if path == 0 && dirfd as i32 != raw::AT_FDCWD {
        if flags as u32 != 0 {
            return Err(Errno::EINVAL);
        }
        return set_times(call.file(dirfd)?.location(), times);
    }
    let how = lookup_from(flags, raw::AT_SYMLINK_NOFOLLOW | raw::AT_EMPTY_PATH)?;
    set_times(&call.place(dirfd, path, how)?, times)
}

fn read_timevals(address: u64) -> Result<[Option<SetTime>; 2]> {
    let Some(times) = UserPtr::<[raw::__kernel_old_timeval; 2]>::nullable(address) else { return Ok(NOW) };
    let mut set = NOW;
    for (time, set) in times.read()?.into_iter().zip(&mut set) {
        if !(0..1_000_000).contains(&time.tv_usec) {
            return Err(Errno::EINVAL);
        }
        *set = Some(SetTime::To(Timespec { sec: time.tv_sec, nsec: time.tv_usec as u32 * 1000 }));
    }
    Ok(set)
}

/// utimes(2).
fn utimes(call: &mut Call<'_>) -> Result<u64> {
    let times = read_timevals(call.args[1])?;
    set_times(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, times)
}

/// futimesat(2), the forgotten form; a null path means the descriptor itself there too.
fn futimesat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, times, ..] = call.args;
    let times = read_timevals(times)?;
    if path == 0 && dirfd as i32 != raw::AT_FDCWD {
        return set_times(call.file(dirfd)?.location(), times);
    }
    set_times(&call.place(dirfd, path, Lookup::FOLLOW)?, times)
}

/// utime(2): two times in whole seconds.
fn utime(call: &mut Call<'_>) -> Result<u64> {
    let times = match UserPtr::<[i64; 2]>::nullable(call.args[1]) {
        Some(times) => times.read()?.map(|sec| Some(SetTime::To(Timespec { sec, nsec: 0 }))),
        None => NOW,
    };
    set_times(&call.place(CWD, call.args[0], Lookup::FOLLOW)?, times)
}

fn size(value: u64) -> Result<u64> {
    if value > i64::MAX as u64 { Err(Errno::EINVAL) } else { Ok(value) }
}

/// truncate(2).
fn truncate(call: &mut Call<'_>) -> Result<u64> {
    const W_OK: u32 = 2;
    let size = size(call.args[1])?;
    let place = call.place(CWD, call.args[0], Lookup::FOLLOW)?;
    // The order of Linux: what it is, then whether it may be written.
    match place.inode().file_type() {
        FileType::Directory => return Err(Errno::EISDIR),
        FileType::Regular => place.access(W_OK)?,
        _ => return Err(Errno::EINVAL),
    }
    place.truncate(size)?;
    Ok(0)
}

/// ftruncate(2). A descriptor that cannot be written is `EINVAL` here, not `EBADF`.
fn ftruncate(call: &mut Call<'_>) -> Result<u64> {
    let size = size(call.args[1])?;
    let file = call.file(call.args[0])?;
    if !file.flags().writes() || file.inode().file_type() != FileType::Regular {
        return Err(Errno::EINVAL);
    }
    remove_privileges(file.inode())?;
    // The open file already proves the right to write, whatever the mount or the mode says now.
    file.inode().set_metadata(&SetMetadata { size: Some(size), ..SetMetadata::default() })?;
    file.location().tell(Events::MODIFY);
    Ok(0)
}

/// umask(2).
fn umask(call: &mut Call<'_>) -> Result<u64> {
    Ok(call.process.fs.set_umask(call.args[0] as u32).into())
}
