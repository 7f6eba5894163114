//! Signals from outside of the machine: what is sent to `diolkos` on the host is sent on to the program.
//!
//! They come as bytes on a port of the console, from the moment there is a console. What comes before the program
//! has its first thread is kept for it. The host hears of each when the program has it, and once more when the program
//! is about to die of it, because a machine that heeds neither has to be stopped from outside.

use super::send_to_process;
use crate::abi::siginfo::{SI_USER, SigInfo};
use crate::abi::signal_set::{Signal, SignalSet};
use crate::linux::process::Process;
use crate::report;
use alloc::sync::{Arc, Weak};
use diolkos_common::report::{End, Record};
use spin::Mutex;

struct State {
    /// Whom the signals are for, once it can take them.
    process: Weak<Process>,
    /// What came before.
    early: SignalSet,
    /// All that ever came.
    came: SignalSet,
}

static STATE: Mutex<State> =
    Mutex::new(State { process: Weak::new(), early: SignalSet::EMPTY, came: SignalSet::EMPTY });

/// A signal's number has come from the host. One that the host has no business to send does nothing: SIGKILL and
/// SIGSTOP are for the machine as a whole.
pub fn arrived(number: u8) {
    let Some(signal) = Signal::new(number.into()) else { return };
    if SignalSet::UNBLOCKABLE.contains(signal) {
        return;
    }
    let process = {
        let mut state = STATE.lock();
        state.came |= SignalSet::only(signal);
        let process = state.process.upgrade();
        if process.is_none() {
            state.early |= SignalSet::only(signal);
        }
        process
    };
    if let Some(process) = process {
        deliver(&process, signal);
    }
}

/// From now on signals are for `process`, which has its first thread.
pub fn attend(process: &Arc<Process>) {
    let mut early = {
        let mut state = STATE.lock();
        state.process = Arc::downgrade(process);
        core::mem::take(&mut state.early)
    };
    while let Some(signal) = early.first() {
        early = early & !SignalSet::only(signal);
        deliver(process, signal);
    }
}

/// The sender has no number here, as the parent of a container's first process has none in the container.
fn deliver(process: &Process, signal: Signal) {
    // A real-time signal can find its queue full; the host hears nothing of it then, as a sender would hear EAGAIN.
    if send_to_process(process, signal, SigInfo::from_process(signal, SI_USER, 0, 0)).is_ok() {
        report::send(&Record::SignalTaken(signal.number()));
    }
}

/// Tells the host if a program ends as one of its signals asked for. Output that nobody reads may hold up the rest.
pub fn ending(end: &End) {
    let &End::Killed(number) = end else { return };
    let asked = Signal::new(number.into()).is_some_and(|signal| STATE.lock().came.contains(signal));
    if asked {
        report::send(&Record::SignalKills(number));
    }
}
