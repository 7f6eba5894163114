//! Ctrl-C and its relatives: the first stops the machine, whatever state it is in.
//!
//! The signal may come at any moment. Before there is a machine it ends the process, as if nobody watched but for the
//! status; once [`Signals::stops`] has named one, a thread waits for the signal and stops it. The thread is not started
//! before, because a process that confines itself must have no other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::{flag, iterator};

/// How long a stopped machine may take to clear up before the process leaves without it. Nothing stays behind then
/// either: children die with us, and nothing of ours has a name in a file system.
pub const GRACE: Duration = Duration::from_secs(3);

/// The watch over the signals that end a run.
pub struct Signals {
    pending: iterator::Signals,
    /// There is no machine yet.
    early: Arc<AtomicBool>,
}

/// The signal that came, once one has.
#[derive(Clone, Default)]
pub struct Caught(Arc<Mutex<Option<i32>>>);

impl Signals {
    /// Starts the watch. Signals that were ignored when the process started (`nohup`, a shell's `&`) stay ignored.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn watch() -> std::io::Result<Self> {
        let early = Arc::new(AtomicBool::new(true));
        let watched: Vec<i32> = watched().collect();
        let pending = iterator::Signals::new(&watched)?;
        for signal in watched {
            flag::register_conditional_shutdown(signal, 128 + signal, early.clone())?;
        }
        Ok(Self { pending, early })
    }

    /// From now on a signal calls `stop`.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn stops(mut self, stop: impl FnOnce() + Send + 'static) -> std::io::Result<Caught> {
        // One that comes between the two lines ends us, and one after them is kept for the thread.
        self.early.store(false, Ordering::SeqCst);
        let caught = Caught::default();
        let ours = caught.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            if let Some(signal) = self.pending.forever().next() {
                ours.set(signal);
                stop();
                thread::sleep(GRACE);
                std::process::exit(128 + signal);
            }
        })?;
        Ok(caught)
    }
}

impl Caught {
    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        // A panic elsewhere must not make Ctrl-C useless; the value is valid at every step.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, signal: i32) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(signal);
    }
}

/// The signals that end a run, but for those that were ignored when the process started (`nohup`, a shell's `&`).
pub fn watched() -> impl Iterator<Item = i32> {
    [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| !ignored(*signal))
}

fn ignored(signal: i32) -> bool {
    // SAFETY: all-zero bytes are a valid sigaction (no handler, no flags, an empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null new action sigaction(2) only writes to `action`, which is ours.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}
