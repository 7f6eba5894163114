//! Ctrl-C and its relatives: the first stops the machine, whatever state it is in.
//!
//! The handler may come at any moment, so it must not matter whether the machine exists yet: a signal that arrives early
//! is remembered and stops the machine as soon as [`Signals::stops`] names it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator;

/// How long a stopped machine may take to clear up before the process leaves without it. Nothing stays behind then
/// either: children die with us, and nothing of ours has a name in a file system.
const GRACE: Duration = Duration::from_secs(3);

type Stop = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    caught: Option<i32>,
    stop: Option<Stop>,
}

/// The watch over the signals that end a run.
#[derive(Clone)]
pub struct Signals(Arc<Mutex<State>>);

impl Signals {
    /// Starts the watch. Signals that were ignored when the process started (`nohup`, a shell's `&`) stay ignored.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn watch() -> std::io::Result<Self> {
        let watched = [SIGINT, SIGTERM, SIGHUP, SIGQUIT].into_iter().filter(|signal| !ignored(*signal));
        let mut pending = iterator::Signals::new(watched)?;
        let signals = Self(Arc::default());
        let watcher = signals.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut arrivals = pending.forever();
            if let Some(signal) = arrivals.next() {
                watcher.take(signal);
                thread::sleep(GRACE);
                std::process::exit(128 + signal);
            }
        })?;
        Ok(signals)
    }

    /// From now on a signal calls `stop`; if one has come already, at once.
    pub fn stops(&self, stop: impl Fn() + Send + 'static) {
        let mut state = self.lock();
        if state.caught.is_some() {
            stop();
        }
        state.stop = Some(Box::new(stop));
    }

    /// The signal that came, if one did.
    pub fn caught(&self) -> Option<i32> {
        self.lock().caught
    }

    fn take(&self, signal: i32) {
        let mut state = self.lock();
        state.caught = Some(signal);
        if let Some(stop) = &state.stop {
            stop();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere must not make Ctrl-C useless; the state is valid at every step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ignored(signal: i32) -> bool {
    // SAFETY: all-zero bytes are a valid sigaction (no handler, no flags, an empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null new action sigaction(2) only writes to `action`, which is ours.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}
