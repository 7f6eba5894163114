//! Reads without the kernel lock: read(2) and pread(2) of what is in a DAX window and in use.
//!
//! With several processors each call waits for the kernel lock, and a program whose threads all read gains nothing from a
//! second one. A read that only copies from the window needs what the lock guards for a moment in two or three places,
//! each of which has a spin lock of its own. So such reads are tried without it. Anything that could wait, that asks the
//! host or that changes more than counters and marks of use, is none of them: the call is made again, as usual.
//!
//! What is used here must be right beside another processor that has the kernel lock: the descriptor table, the position of
//! an open file, [`diolkos_vfs::File::read_resident`], and the copy to the program, whose faults take the lock
//! (`task::lock`). No spin lock that they take is ever held across waiting for another processor.

use super::{process::UserThread, tracing};
use crate::arch::Frame;
use crate::mm::user::UserBuffers;
use crate::task::lock;
use crate::{stats, task};
use alloc::sync::Arc;
use diolkos_vfs::{OpenFlags, notify};
use syscalls::Sysno;

/// The longest read that is tried. Longer ones give the lock away while they copy (`mm::user`).
const MOST: u64 = 16 << 10;

/// Whether a call with this number is worth trying.
pub fn may_serve(number: u64) -> bool {
    number == Sysno::read as u64 || number == Sysno::pread64 as u64
}

/// Serves the call that [`may_serve`] is true of, if it can be without the kernel lock; otherwise nothing has happened.
pub fn serve(frame: &mut Frame) -> bool {
    if tracing::is_on() || notify::watched() || frame.rdx > MOST {
        return false;
    }
    let Some(thread) = task::try_current().and_then(|thread| thread.user.as_ref()) else { return false };
    let Some(read) = read(thread, frame) else { return false };
    stats::SYSCALLS.count();
    stats::DIRECT_SYSCALLS.count();
    stats::UNLOCKED_SYSCALLS.count();
    frame.rax = read as u64;
    true
}

/// How many bytes were read.
fn read(thread: &UserThread, frame: &Frame) -> Option<usize> {
    let mut buffer = UserBuffers::new(frame.rsi, frame.rdx as usize).ok()?;
    let file = thread.process.files.get(frame.rdi as i32).ok()?;
    let offset = (frame.rax == Sysno::pread64 as u64).then_some(frame.r10);
    let read = if file.flags().contains(OpenFlags::PATH) { None } else { file.read_resident(offset, &mut buffer) };
    // Somebody may have closed it meanwhile, and closing asks the host.
    if let Some(last) = Arc::into_inner(file) {
        lock::with(|| drop(last));
    }
    read
}
