//! From a path to a descriptor: open(2), openat(2), openat2(2), creat(2).

use super::fs_context::CWD;
use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::mm::user::{UserPtr, plain};
use alloc::vec::Vec;
use diolkos_vfs::{Errno, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls =
    &[(Sysno::open, open), (Sysno::openat, openat), (Sysno::openat2, openat2), (Sysno::creat, creat)];

plain!(raw::open_how);

fn open_path(call: &Call<'_>, dirfd: u64, path: &[u8], flags: OpenFlags, mode: u32) -> Result<u64> {
    let start = call.start(dirfd, path)?;
    let mode = mode & !call.process.fs.umask();
    let opened = call.namespace().open(&start, path, flags, mode)?;
    // O_LARGEFILE is what F_GETFL shows of every file a 64-bit program opened.
    let shown = if flags.contains(OpenFlags::PATH) { flags } else { flags | OpenFlags::LARGEFILE };
    call.install(OpenFile::new(opened, shown), flags.contains(OpenFlags::CLOEXEC))
}

/// Bits nobody knows are ignored (open(2), BUGS); `O_ASYNC` is known and ignored for files.
fn lenient(flags: u64) -> OpenFlags {
    OpenFlags::from_bits_truncate(flags as u32)
}

/// open(2).
fn open(call: &mut Call<'_>) -> Result<u64> {
    let [path, flags, mode, ..] = call.args;
    open_path(call, CWD, &call.path(path)?, lenient(flags), mode as u32 & 0o7777)
}

/// openat(2).
fn openat(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, flags, mode, ..] = call.args;
    open_path(call, dirfd, &call.path(path)?, lenient(flags), mode as u32 & 0o7777)
}

/// creat(2).
fn creat(call: &mut Call<'_>) -> Result<u64> {
    let [path, mode, ..] = call.args;
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    open_path(call, CWD, &call.path(path)?, flags, mode as u32 & 0o7777)
}

/// openat2(2): like openat, but strict. Restrictions on the walk are not there yet and refused by name.
fn openat2(call: &mut Call<'_>) -> Result<u64> {
    let [dirfd, path, how, size, ..] = call.args;
    let how = read_how(how, size)?;
    let flags = u32::try_from(how.flags).ok().and_then(OpenFlags::from_bits).ok_or(Errno::EINVAL)?;
    let makes_file = flags.intersects(OpenFlags::CREAT | OpenFlags::TMPFILE);
    if how.mode & !0o7777 != 0 || (how.mode != 0 && !makes_file) {
        return Err(Errno::EINVAL);
    }
    if how.resolve != 0 {
        // The error a kernel without the flag gives, after which programs walk by themselves.
        return Err(Errno::EINVAL);
    }
    open_path(call, dirfd, &call.path(path)?, flags, how.mode as u32)
}

/// Reads a structure that may grow: a longer one is fine as long as what we do not know is zero (openat2(2)).
fn read_how(address: u64, size: u64) -> Result<raw::open_how> {
    const KNOWN: usize = size_of::<raw::open_how>();
    const PAGE: u64 = 4096;
    if size < KNOWN as u64 {
        return Err(Errno::EINVAL);
    }
    if size > PAGE {
        return Err(Errno::E2BIG);
    }
    let how = UserPtr::<raw::open_how>::new(address).read()?;
    let rest: Vec<u8> = UserPtr::<u8>::new(address).add(KNOWN).read_vec(size as usize - KNOWN)?;
    if rest.iter().any(|byte| *byte != 0) { Err(Errno::E2BIG) } else { Ok(how) }
}
