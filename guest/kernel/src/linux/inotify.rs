//! inotify(7): watching files for what this machine does to them.

use super::fs_context::CWD;
use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::fs::anon::AnonInode;
use crate::fs::waiting;
use diolkos_vfs::notify::{ALL, Events, Inotify, WatchRequest};
use diolkos_vfs::{Errno, FileType, Lookup, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::inotify_init, inotify_init),
    (Sysno::inotify_init1, inotify_init1),
    (Sysno::inotify_add_watch, inotify_add_watch),
    (Sysno::inotify_rm_watch, inotify_rm_watch),
];

/// What a mask says beside the events, from `linux/inotify.h`.
const IN_ONLYDIR: u32 = 0x0100_0000;
const IN_DONT_FOLLOW: u32 = 0x0200_0000;
const IN_EXCL_UNLINK: u32 = 0x0400_0000;
const IN_MASK_CREATE: u32 = 0x1000_0000;
const IN_MASK_ADD: u32 = 0x2000_0000;
const IN_ONESHOT: u32 = 0x8000_0000;
/// `ALL_INOTIFY_BITS` of Linux: with none of these a mask means nothing.
const KNOWN: u32 = ALL.bits()
    | IN_ONLYDIR
    | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK
    | IN_MASK_CREATE
    | IN_MASK_ADD
    | IN_ONESHOT
    // IN_UNMOUNT, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR: told, not asked for.
    | 0x4000_e000;

/// inotify_init(2).
fn inotify_init(call: &mut Call<'_>) -> Result<u64> {
    make(call, 0)
}

/// inotify_init1(2).
fn inotify_init1(call: &mut Call<'_>) -> Result<u64> {
    make(call, call.args[0] as u32)
}

fn make(call: &Call<'_>, flags: u32) -> Result<u64> {
    if flags & !(raw::O_CLOEXEC | raw::O_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let inotify = Inotify::new(AnonInode::new(0o600, 0), waiting::new_queue())?;
    let status = OpenFlags::from_bits_truncate(flags & raw::O_NONBLOCK);
    call.install(OpenFile::unnamed(inotify, "anon_inode:inotify", status), flags & raw::O_CLOEXEC != 0)
}

fn inotify_of(file: &OpenFile) -> Result<&Inotify> {
    file.inner().as_any().downcast_ref().ok_or(Errno::EINVAL)
}

/// inotify_add_watch(2).
fn inotify_add_watch(call: &mut Call<'_>) -> Result<u64> {
    const R_OK: u32 = 4;
    let [fd, path, mask, ..] = call.args;
    let mask = mask as u32;
    if mask & KNOWN == 0 {
        return Err(Errno::EINVAL);
    }
    let file = call.file(fd)?;
    if mask & IN_MASK_ADD != 0 && mask & IN_MASK_CREATE != 0 {
        return Err(Errno::EINVAL);
    }
    let inotify = inotify_of(&file)?;
    let how = if mask & IN_DONT_FOLLOW == 0 { Lookup::FOLLOW } else { Lookup::empty() };
    let place = call.place(CWD, path, how)?;
    if mask & IN_ONLYDIR != 0 && place.inode().file_type() != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    place.access(R_OK)?;
    let request = WatchRequest {
        events: Events::from_bits_truncate(mask) & ALL,
        once: mask & IN_ONESHOT != 0,
        linked_only: mask & IN_EXCL_UNLINK != 0,
        add: mask & IN_MASK_ADD != 0,
        create: mask & IN_MASK_CREATE != 0,
    };
    inotify.watch(place.inode(), &request).map(|wd| wd as u64)
}

/// inotify_rm_watch(2).
fn inotify_rm_watch(call: &mut Call<'_>) -> Result<u64> {
    let file = call.file(call.args[0])?;
    inotify_of(&file)?.remove(call.args[1] as i32)?;
    Ok(0)
}
