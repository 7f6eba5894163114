//! What is remembered about signals: for the process the actions, for the thread the mask and the alternate stack.

use crate::abi::signal_frame::AltStack;
use crate::abi::signal_queue::SignalQueue;
use crate::abi::signal_set::{Signal, SignalSet};
use crate::mm::user::{Plain, plain};
use bitflags::bitflags;
use linux_raw_sys::general as raw;

bitflags! {
    /// Flags of an action (sigaction(2)). Others are kept and given back, and mean nothing.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct ActionFlags: u64 {
        /// No SIGCHLD when a child stops.
        const NOCLDSTOP = raw::SA_NOCLDSTOP as u64;
        /// Children leave no zombies.
        const NOCLDWAIT = raw::SA_NOCLDWAIT as u64;
        /// The handler takes three arguments. We always pass them.
        const SIGINFO = raw::SA_SIGINFO as u64;
        /// `restorer` is set. Without it nothing can be delivered on x86-64.
        const RESTORER = raw::SA_RESTORER as u64;
        /// Run on the alternate stack.
        const ONSTACK = raw::SA_ONSTACK as u64;
        /// Restart interrupted calls.
        const RESTART = raw::SA_RESTART as u64;
        /// Do not block the signal itself meanwhile.
        const NODEFER = raw::SA_NODEFER as u64;
        /// Back to the default on entry.
        const RESETHAND = raw::SA_RESETHAND as u64;
        const _ = !0;
    }
}

/// What a program asked to happen about a signal, as the kernel's `struct sigaction` holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Action {
    /// Address of the handler, [`SIG_DFL`] or [`SIG_IGN`].
    pub handler: u64,
    /// See [`ActionFlags`].
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Blocked meanwhile.
    pub mask: u64,
}
plain!(Action);

/// Default action.
pub const SIG_DFL: u64 = 0;
/// Ignored.
pub const SIG_IGN: u64 = 1;

/// The three kinds of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// As the signal's default says.
    Default,
    /// Nothing happens.
    Ignore,
    /// The program's handler runs.
    Handler,
}

impl Action {
    /// The kind.
    pub fn disposition(&self) -> Disposition {
        match self.handler {
            SIG_DFL => Disposition::Default,
            SIG_IGN => Disposition::Ignore,
            _ => Disposition::Handler,
        }
    }

    /// The flags.
    pub fn flags(&self) -> ActionFlags {
        ActionFlags::from_bits_retain(self.flags)
    }
}

/// A process' signal state.
pub struct ProcessSignals {
    actions: [Action; 64],
    /// Sent to the process as a whole.
    pub pending: SignalQueue,
}

impl Default for ProcessSignals {
    fn default() -> Self {
        Self { actions: [Action::default(); 64], pending: SignalQueue::default() }
    }
}

impl ProcessSignals {
    /// The action for a signal.
    pub fn action(&self, signal: Signal) -> &Action {
        &self.actions[signal.number() as usize - 1]
    }

    /// Sets it and returns the old one.
    pub fn set_action(&mut self, signal: Signal, action: Action) -> Action {
        core::mem::replace(&mut self.actions[signal.number() as usize - 1], action)
    }

    /// Back to the default.
    pub fn reset(&mut self, signal: Signal) {
        self.set_action(signal, Action::default());
    }

    /// What exec does: handlers are gone, ignored signals stay ignored (execve(2)).
    pub fn reset_handlers(&mut self) {
        for action in &mut self.actions {
            let handler = if action.handler == SIG_IGN { SIG_IGN } else { SIG_DFL };
            *action = Action { handler, ..Action::default() };
        }
    }
}

/// An interrupted call, which may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    /// Its number.
    pub number: u64,
    /// When it is.
    pub rule: Restart,
}

/// When an interrupted call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whatever handler ran.
    Always,
    /// After a handler with `SA_RESTART`, or when no handler ran.
    Flag,
    /// Only when no handler ran.
    NoHandler,
}

/// A thread's signal state.
#[derive(Debug, Default)]
pub struct ThreadSignals {
    /// Blocked.
    pub mask: SignalSet,
    /// The mask to return to after the next handler, if it is not [`ThreadSignals::mask`].
    pub saved_mask: Option<SignalSet>,
    /// Sent to this thread alone.
    pub pending: SignalQueue,
    /// The alternate stack.
    pub alternate: AltStack,
    /// Signals sigtimedwait(2) waits for right now.
    pub waiting_for: SignalSet,
    /// The call a signal has just interrupted.
    pub interrupted: Option<Interrupted>,
}

const _: () = {
    const fn is_plain<T: Plain>() {}
    is_plain::<Action>();
    assert!(size_of::<Action>() == 32);
};
