//! Sleeping until a signal comes, and sleeps that signals end.

use crate::abi::siginfo::SigInfo;
use crate::abi::signal_set::{Signal, SignalSet};
use crate::linux::process::UserThread;
use crate::task::WaitQueue;
use diolkos_vfs::{Errno, Result};

/// Waits like [`WaitQueue::wait_until`], but for a signal only if there is one to act upon: what another thread has
/// taken meanwhile does not end the wait. With that, a wait with a deadline never has to be made again.
///
/// # Errors
/// `EINTR`.
pub fn sleep(
    thread: &UserThread,
    queue: &WaitQueue,
    ready: &mut dyn FnMut() -> bool,
    deadline: Option<u64>,
) -> Result<bool> {
    loop {
        match queue.wait_until(ready, deadline, true) {
            Err(Errno::EINTR) if !thread.has_signal() && !thread.exiting.load(core::sync::atomic::Ordering::SeqCst) => {
            }
            result => return result,
        }
    }
}

/// Waits until a signal comes that has a handler, or ends the process.
///
/// # Errors
/// Always: `EINTR`.
pub fn pause(thread: &UserThread) -> Result<u64> {
    sleep(thread, &thread.signal_bell, &mut || false, None).map(|_| 0)
}

/// Takes one of `wanted`, waiting for it until `deadline` (monotonic nanoseconds; `None`: without end).
///
/// # Errors
/// `EAGAIN` at the deadline, `EINTR` when another signal comes.
pub fn take(thread: &UserThread, wanted: SignalSet, deadline: Option<u64>) -> Result<(Signal, SigInfo)> {
    let mut taken = None;
    thread.signals.lock().waiting_for = wanted;
    let result = sleep(
        thread,
        &thread.signal_bell,
        &mut || {
            let mut process = thread.process.signals.lock();
            let mut own = thread.signals.lock();
            taken = own.pending.take(wanted).or_else(|| process.pending.take(wanted));
            taken.is_some()
        },
        deadline,
    );
    thread.signals.lock().waiting_for = SignalSet::EMPTY;
    match (result, taken) {
        (_, Some(taken)) => {
            thread.process.timers.delivered(&taken.1);
            Ok(taken)
        }
        (Err(errno), None) => Err(errno),
        (Ok(_), None) => Err(Errno::EAGAIN),
    }
}
