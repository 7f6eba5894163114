//! Signals: who is sent what, and what happens then.
//!
//! Sending puts a record into a queue, the thread's or the process', and makes a thread that does not block the signal
//! look. Delivery happens in one place only, [`deliver::before_user`], on the way back to the program: there is always a
//! whole register frame there, and no lock. Stopping and continuing are ignored: nobody could continue the machine.
//!
//! # Locking
//! A process' signal state is locked before a thread's. Neither is held while user memory is touched.

pub mod calls;
pub mod deliver;
pub mod fd;
pub mod host;
pub mod state;
pub mod wait;

use super::process::{Process, UserThread};
use crate::abi::siginfo::{SI_USER, SigInfo};
use crate::abi::signal_set::{DefaultAction, Signal, SignalSet};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;
use diolkos_common::report::End;
use diolkos_vfs::{Errno, Result};
use state::{Disposition, ProcessSignals};

/// Sends the calling thread a signal as if it had sent it itself: `SIGPIPE` of a write, for one.
pub fn raise(thread: &Arc<UserThread>, signo: u32) {
    if let Some(signal) = Signal::new(signo.into()) {
        let uid = thread.process.credentials.lock().uid.real;
        // Only real-time signals can fail to be queued, and the kernel raises none.
        let _ = send_to_thread(thread, signal, SigInfo::from_process(signal, SI_USER, thread.process.pid, uid));
    }
}

/// Whether a signal need not even be queued: it is ignored, and not blocked (a blocked one may get a handler
/// before it is unblocked).
fn is_ignored(signals: &ProcessSignals, signal: Signal, blocked: SignalSet) -> bool {
    if blocked.contains(signal) {
        return false;
    }
    match signals.action(signal).disposition() {
        Disposition::Ignore => true,
        Disposition::Default => signal.default_action() == DefaultAction::Ignore,
        Disposition::Handler => false,
    }
}

/// Sends a signal to one thread.
///
/// # Errors
/// `EAGAIN` when too many real-time signals are queued.
pub fn send_to_thread(thread: &UserThread, signal: Signal, info: SigInfo) -> Result<()> {
    if signal == Signal::KILL {
        kill_now(signal);
    }
    {
        let process = thread.process.signals.lock();
        let mut own = thread.signals.lock();
        if is_ignored(&process, signal, own.mask | own.waiting_for) {
            return Ok(());
        }
        own.pending.push(signal, info).map_err(|_| Errno::EAGAIN)?;
    }
    fd::queued();
    thread.notify();
    Ok(())
}

/// Sends a signal to whichever thread of a process takes it first.
///
/// # Errors
/// `EAGAIN` when too many real-time signals are queued.
pub fn send_to_process(process: &Process, signal: Signal, info: SigInfo) -> Result<()> {
    if signal == Signal::KILL {
        kill_now(signal);
    }
    let threads = process.threads();
    let taker = {
        let mut signals = process.signals.lock();
        let takes = |thread: &&Arc<UserThread>| {
            let own = thread.signals.lock();
            !own.mask.contains(signal) || own.waiting_for.contains(signal)
        };
        let taker = threads.iter().find(takes);
        let blocked = match taker {
            Some(thread) => thread.signals.lock().waiting_for,
            None => SignalSet::only(signal),
        };
        if is_ignored(&signals, signal, blocked) {
            return Ok(());
        }
        signals.pending.push(signal, info).map_err(|_| Errno::EAGAIN)?;
        taker
    };
    fd::queued();
    if let Some(thread) = taker {
        thread.notify();
    }
    Ok(())
}

/// Makes a thread take a signal that its own instruction caused: where it is blocked or ignored there is no way to
/// go on, and the process ends (`force_sig_info` in Linux).
pub fn force(thread: &UserThread, signal: Signal, info: SigInfo) {
    {
        let mut process = thread.process.signals.lock();
        let mut own = thread.signals.lock();
        if own.mask.contains(signal) || process.action(signal).disposition() == Disposition::Ignore {
            process.reset(signal);
            own.mask = own.mask & !SignalSet::only(signal);
        }
        // Only real-time signals can be refused.
        let _ = own.pending.push(signal, info);
    }
    thread.attention.store(true, Ordering::SeqCst);
}

/// Ends the machine's process by a signal.
fn kill_now(signal: Signal) -> ! {
    crate::boot::finish(End::Killed(signal.number()))
}

/// Runs `wait` with another signal mask, as ppoll(2) and its like ask. If it ends by a signal the mask stays until the
/// handler has been entered, which then returns to the old one; so no signal is lost in between.
///
/// # Errors
/// Those of `wait`.
pub fn with_mask<T>(thread: &Arc<UserThread>, mask: u64, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    let old = {
        let mut own = thread.signals.lock();
        core::mem::replace(&mut own.mask, SignalSet(mask).blockable())
    };
    if thread.has_signal() {
        thread.notify();
    }
    let result = wait();
    if matches!(result, Err(Errno::EINTR)) {
        thread.signals.lock().saved_mask = Some(old);
    } else {
        thread.signals.lock().mask = old;
    }
    thread.attention.store(true, Ordering::SeqCst);
    result
}

impl UserThread {
    /// Whether a signal is pending that it does not block.
    pub fn has_signal(&self) -> bool {
        let process = self.process.signals.lock();
        let own = self.signals.lock();
        !((process.pending.set() | own.pending.set()) & !own.mask).is_empty()
    }
}
