//! Things that come in pairs or without a name: pipe(2), socketpair(2), eventfd(2), memfd_create(2).

use super::open_file::OpenFile;
use super::{Call, table::Calls};
use crate::fs::anon::{now, owner};
use crate::fs::eventfd::EventFd;
use crate::fs::{devices, waiting};
use crate::mm::user::{UserPtr, read_cstr};
use alloc::format;
use alloc::sync::Arc;
use diolkos_vfs::pipe::{self, PipeEnd};
use diolkos_vfs::{Errno, File, OpenFlags, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::pipe, pipe_call),
    (Sysno::pipe2, pipe2),
    (Sysno::eventfd, eventfd),
    (Sysno::eventfd2, eventfd2),
    (Sysno::memfd_create, memfd_create),
];

/// Enters two open files and writes their numbers to the program; on failure neither stays.
pub fn install_pair(call: &Call<'_>, pair: [OpenFile; 2], close_on_exec: bool, to: u64) -> Result<u64> {
    let files = &call.process.files;
    let [first, second] = pair;
    let first = files.insert(Arc::new(first), close_on_exec)?;
    let result = files.insert(Arc::new(second), close_on_exec).and_then(|second| {
        UserPtr::new(to).write([first, second]).inspect_err(|_| {
            let _ = files.remove(second);
        })
    });
    if result.is_err() {
        let _ = files.remove(first);
    }
    result.map(|()| 0)
}

/// pipe(2).
fn pipe_call(call: &mut Call<'_>) -> Result<u64> {
    make_pipe(call, OpenFlags::empty())
}

/// pipe2(2). `O_DIRECT` (packet mode) is refused rather than ignored.
fn pipe2(call: &mut Call<'_>) -> Result<u64> {
    let flags = OpenFlags::from_bits(call.args[1] as u32).ok_or(Errno::EINVAL)?;
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    make_pipe(call, flags)
}

fn make_pipe(call: &Call<'_>, flags: OpenFlags) -> Result<u64> {
    let (reader, writer) = pipe::pipe(devices::PIPES, owner(), &now, &waiting::new_queue, flags);
    let shown = format!("pipe:[{}]", reader.inode().metadata()?.ino);
    let status = flags & OpenFlags::NONBLOCK;
    let ends =
        [OpenFile::unnamed(reader, &shown, status), OpenFile::unnamed(writer, &shown, status | OpenFlags::WRONLY)];
    install_pair(call, ends, flags.contains(OpenFlags::CLOEXEC), call.args[0])
}

/// `F_GETPIPE_SZ` and `F_SETPIPE_SZ`: pipes have one size, and asking for no more than that succeeds (fcntl(2)).
pub fn size(file: &OpenFile, set: bool, wanted: u32) -> Result<u64> {
    let Some(_) = file.inner().as_any().downcast_ref::<PipeEnd>() else { return Err(Errno::EBADF) };
    match set {
        true if wanted as usize > pipe::CAPACITY => Err(Errno::EPERM),
        _ => Ok(pipe::CAPACITY as u64),
    }
}

/// eventfd(2), the form without flags.
fn eventfd(call: &mut Call<'_>) -> Result<u64> {
    make_eventfd(call, 0)
}

/// eventfd2, which the C library calls eventfd.
fn eventfd2(call: &mut Call<'_>) -> Result<u64> {
    make_eventfd(call, call.args[1] as u32)
}

fn make_eventfd(call: &Call<'_>, flags: u32) -> Result<u64> {
    if flags & !(raw::EFD_SEMAPHORE | raw::EFD_CLOEXEC | raw::EFD_NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let event = EventFd::new(u64::from(call.args[0] as u32), flags & raw::EFD_SEMAPHORE != 0);
    let status = OpenFlags::RDWR | OpenFlags::from_bits_truncate(flags & raw::EFD_NONBLOCK);
    call.install(OpenFile::unnamed(Arc::new(event), "anon_inode:[eventfd]", status), flags & raw::EFD_CLOEXEC != 0)
}

/// memfd_create(2): a file without a name in a memory file system of its own. Sealing and huge pages are refused
/// like flags of a newer kernel.
fn memfd_create(call: &mut Call<'_>) -> Result<u64> {
    /// Longest name (memfd_create(2)).
    const NAME_MAX: usize = 249;
    let [name, flags, ..] = call.args;
    let flags = flags as u32;
    if flags & !(raw::MFD_CLOEXEC | raw::MFD_NOEXEC_SEAL | raw::MFD_EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = read_cstr(name, NAME_MAX).map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let mode = if flags & raw::MFD_NOEXEC_SEAL != 0 { 0o666 } else { 0o777 };
    let (inode, file) = devices::memory_files().tmpfile(mode, OpenFlags::RDWR)?;
    let _ = inode;
    let shown = format!("/memfd:{} (deleted)", alloc::string::String::from_utf8_lossy(&name));
    let open = OpenFile::unnamed(file, &shown, OpenFlags::RDWR | OpenFlags::LARGEFILE);
    call.install(open, flags & raw::MFD_CLOEXEC != 0)
}
