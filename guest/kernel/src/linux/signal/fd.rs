//! Signals read from a descriptor: signalfd(2).
//!
//! The descriptor holds a set, not signals: a read takes what is pending for the thread that reads or for its process, so
//! the signals should be blocked, or a handler may take them first.

use crate::abi::siginfo::{FD_SIGINFO_LEN, SigInfo};
use crate::abi::signal_set::{Signal, SignalSet};
use crate::fs::anon::AnonInode;
use crate::fs::readiness;
use crate::linux::open_file::OpenFile;
use crate::linux::process::UserThread;
use crate::linux::{Call, table::Calls};
use crate::mm::user::UserPtr;
use crate::task;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use diolkos_vfs::{Errno, File, Inode, OpenFlags, Poll, Result, Sink};
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::signalfd, signalfd), (Sysno::signalfd4, signalfd4)];

/// How many such descriptors there are: signals need not ring the bell for none.
static OPEN: AtomicUsize = AtomicUsize::new(0);

/// A set of signals to be read.
pub struct SignalFd {
    inode: Arc<dyn Inode>,
    wanted: Mutex<SignalSet>,
    nonblocking: AtomicBool,
}

/// Says that a signal has been queued.
pub fn queued() {
    if OPEN.load(Ordering::Relaxed) > 0 {
        readiness::changed();
    }
}

impl SignalFd {
    fn new(wanted: SignalSet) -> Self {
        OPEN.fetch_add(1, Ordering::Relaxed);
        let inode = AnonInode::new(0o600, 0);
        Self { inode, wanted: Mutex::new(wanted), nonblocking: AtomicBool::new(false) }
    }

    fn take(&self) -> Option<(Signal, SigInfo)> {
        let wanted = *self.wanted.lock();
        with_reader(|thread| {
            let mut process = thread.process.signals.lock();
            let mut own = thread.signals.lock();
            let taken = own.pending.take(wanted).or_else(|| process.pending.take(wanted));
            taken.inspect(|(_, info)| thread.process.timers.delivered(info))
        })
    }
}

/// Runs `look` on the thread that reads or waits; `None` for one of the kernel's own.
fn with_reader<T>(look: impl FnOnce(&UserThread) -> Option<T>) -> Option<T> {
    task::try_current()?.user.as_ref().and_then(|thread| look(thread))
}

impl Drop for SignalFd {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Ordering::Relaxed);
    }
}

impl File for SignalFd {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// As many records as fit, waiting for the first.
    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if sink.room() < FD_SIGINFO_LEN {
            return Err(Errno::EINVAL);
        }
        let mut next = self.take();
        if next.is_none() {
            if self.nonblocking.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            let mut ready = || {
                // Called once more after success, it must not take twice.
                if next.is_none() {
                    next = self.take();
                }
                next.is_some()
            };
            readiness::wait(&mut ready, None)?;
        }
        let mut read = 0;
        while let Some((_, info)) = next {
            read += sink.put(info.for_descriptor()[..].into())?;
            next = if sink.room() < FD_SIGINFO_LEN { None } else { self.take() };
        }
        Ok(read)
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        let wanted = *self.wanted.lock();
        let pending = with_reader(|thread| {
            let process = thread.process.signals.lock();
            let own = thread.signals.lock();
            let pending = process.pending.set() | own.pending.set();
            (!(pending & wanted).is_empty()).then_some(())
        });
        if pending.is_some() { Poll::IN } else { Poll::empty() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// signalfd(2) as it was before it had flags.
fn signalfd(call: &mut Call<'_>) -> Result<u64> {
    watch(call, 0)
}

/// signalfd(2).
fn signalfd4(call: &mut Call<'_>) -> Result<u64> {
    watch(call, call.args[3] as u32)
}

fn watch(call: &Call<'_>, flags: u32) -> Result<u64> {
    let [fd, set, size, ..] = call.args;
    // `SFD_CLOEXEC` and `SFD_NONBLOCK` have open(2)'s values.
    let flags = OpenFlags::from_bits_retain(flags);
    if size != 8 || !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let wanted = SignalSet(UserPtr::<u64>::new(set).read()?).blockable();
    if fd as i32 != -1 {
        let file = call.file(fd)?;
        let known = file.inner().as_any().downcast_ref::<SignalFd>().ok_or(Errno::EINVAL)?;
        *known.wanted.lock() = wanted;
        readiness::changed();
        return Ok(fd as u32 as u64);
    }
    let status = OpenFlags::RDWR | (flags & OpenFlags::NONBLOCK);
    let file = OpenFile::unnamed(Arc::new(SignalFd::new(wanted)), "anon_inode:[signalfd]", status);
    call.install(file, flags.contains(OpenFlags::CLOEXEC))
}
