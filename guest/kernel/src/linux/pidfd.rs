//! Descriptors of processes: pidfd_open(2) and its kin. There is one process to have one of, which never ends before the
//! program does, so such a descriptor is never ready.

use super::open_file::OpenFile;
use super::process::Process;
use super::signal::{calls, send_to_process};
use super::{Call, table::Calls};
use crate::abi::siginfo::SigInfo;
use crate::fs::anon::AnonInode;
use crate::fs::procfs;
use crate::mm::user::UserPtr;
use alloc::sync::{Arc, Weak};
use core::any::Any;
use diolkos_vfs::{Errno, File, Inode, OpenFlags, Poll, Result};
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::pidfd_open, pidfd_open),
    (Sysno::pidfd_send_signal, pidfd_send_signal),
    (Sysno::pidfd_getfd, pidfd_getfd),
];

/// A process as a file.
struct PidFd {
    inode: Arc<dyn Inode>,
    process: Weak<Process>,
}

impl File for PidFd {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        Poll::empty()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The process behind a descriptor.
fn process_of(call: &Call<'_>, fd: u64) -> Result<Arc<Process>> {
    let file = call.file(fd)?;
    let pidfd = file.inner().as_any().downcast_ref::<PidFd>().ok_or(Errno::EBADF)?;
    pidfd.process.upgrade().ok_or(Errno::ESRCH)
}

/// pidfd_open(2). `PIDFD_THREAD` came after Linux 6.1.
fn pidfd_open(call: &mut Call<'_>) -> Result<u64> {
    let (pid, flags) = (call.args[0] as i32, OpenFlags::from_bits_retain(call.args[1] as u32));
    if !OpenFlags::NONBLOCK.contains(flags) || pid <= 0 {
        return Err(Errno::EINVAL);
    }
    let pid = pid as u32;
    if pid != call.process.pid {
        // A thread that does not lead is not a process.
        return Err(if call.process.thread(pid).is_some() { Errno::EINVAL } else { Errno::ESRCH });
    }
    let file = PidFd { inode: AnonInode::new(0o600, 0), process: Arc::downgrade(call.process) };
    call.install(OpenFile::unnamed(Arc::new(file), "anon_inode:[pidfd]", OpenFlags::RDWR | flags), true)
}

/// Whom a signal sent through `fd` is for: a directory of `/proc` will do, too (`tgid_pidfd_to_pid` in Linux).
fn recipient(call: &Call<'_>, fd: u64) -> Result<Arc<Process>> {
    let file = call.file(fd)?;
    if procfs::is_directory_of(&**file.inode(), call.process.pid) {
        Ok(call.process.clone())
    } else {
        process_of(call, fd)
    }
}

/// pidfd_send_signal(2).
fn pidfd_send_signal(call: &mut Call<'_>) -> Result<u64> {
    let [fd, signal, info, flags, ..] = call.args;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let process = recipient(call, fd)?;
    let signal = calls::optional_signal(signal)?;
    let given = UserPtr::<SigInfo>::nullable(info).map(UserPtr::read).transpose()?;
    if given.is_some_and(|info| info.signo != signal.map_or(0, |signal| signal.number().into())) {
        return Err(Errno::EINVAL);
    }
    if let Some(signal) = signal {
        send_to_process(&process, signal, given.unwrap_or_else(|| calls::from_caller(call, signal)))?;
    }
    Ok(0)
}

/// pidfd_getfd(2).
fn pidfd_getfd(call: &mut Call<'_>) -> Result<u64> {
    let [pidfd, fd, flags, ..] = call.args;
    if flags as u32 != 0 {
        return Err(Errno::EINVAL);
    }
    let file = process_of(call, pidfd)?.files.get(fd as i32)?;
    call.process.files.insert(file, true).map(|fd| fd as u64)
}
