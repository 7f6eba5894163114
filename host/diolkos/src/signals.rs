//! Signals to `diolkos run`: they are for the program in the machine, and the machine is stopped if it heeds none.
//!
//! A signal may come at any moment. Before there is a machine it ends the process, as if nobody watched but for the
//! status. Once [`Signals::relay`] has a machine, each is sent to the guest, which says when its program has it
//! ([`Event::Taken`]) and when the program dies of it ([`Event::Dying`]); what the program makes of a signal is its own
//! affair, as it is on Linux. Two things end the machine from outside: a guest that does not say a word for
//! [`PATIENCE`], and one that does not come to an end [`LINGER`] after its program did, because nobody reads its output.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, iterator};

/// How long a stopped machine may take to clear up before the process leaves without it. Nothing stays behind then
/// either: children die with us, and nothing of ours has a name in a file system.
pub const GRACE: Duration = Duration::from_secs(3);

/// How long a guest may take to say that its program has a signal. It is long for a kernel, which does it at once, and
/// short for a user: a host that is overloaded must not end a program that would have ended in order.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a machine may take to end once its program dies of a signal.
const LINGER: Duration = Duration::from_secs(1);

/// Events that may wait to be dealt with. A guest that reports more than it was sent loses what is over.
const WAITING: usize = 16;

/// What the thread that relays signals hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A signal came to us.
    Came(i32),
    /// The program has it.
    Taken(u8),
    /// The program dies of one that came.
    Dying,
}

/// The watch over the signals that are for the program.
pub struct Signals {
    pending: iterator::Signals,
    /// There is no machine yet.
    early: Arc<AtomicBool>,
    events: SyncSender<Event>,
    heard: Receiver<Event>,
}

/// What has come of signals so far.
#[derive(Clone, Default)]
pub struct Caught(Arc<Mutex<State>>);

#[derive(Debug, Clone, Copy, Default)]
struct State {
    last: Option<i32>,
    stopped: bool,
}

impl Signals {
    /// Starts the watch. Signals that were ignored when the process started (`nohup`, a shell's `&`) stay ignored.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn watch() -> std::io::Result<Self> {
        let early = Arc::new(AtomicBool::new(true));
        let watched: Vec<i32> = heeded([SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]).collect();
        let pending = iterator::Signals::new(&watched)?;
        for signal in watched {
            flag::register_conditional_shutdown(signal, 128 + signal, early.clone())?;
        }
        let (events, heard) = sync_channel(WAITING);
        Ok(Self { pending, early, events, heard })
    }

    /// Where the guest's word about signals goes.
    pub fn events(&self) -> SyncSender<Event> {
        self.events.clone()
    }

    /// From now on signals go to `guest`, one end of [`channel`]; `stop` stops the machine.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn relay(mut self, guest: UnixStream, stop: impl FnOnce() + Send + 'static) -> std::io::Result<Caught> {
        // One that comes between the two lines ends us, and one after them is kept for the thread.
        self.early.store(false, Ordering::SeqCst);
        let caught = Caught::default();
        let (ours, heard, events) = (caught.clone(), self.heard, self.events);
        // The threads are not started before, because a process that confines itself must have no other.
        thread::Builder::new().name("signal-relay".to_owned()).spawn(move || {
            // What does not go through is not answered either.
            let send = |signal: i32| drop((&guest).write(&[signal as u8]));
            if let Some(signal) = relay(&heard, send, &ours) {
                ours.change(|state| state.stopped = true);
                stop();
                thread::sleep(GRACE);
                std::process::exit(128 + signal);
            }
        })?;
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for signal in self.pending.forever() {
                if events.send(Event::Came(signal)).is_err() {
                    return;
                }
            }
        })?;
        Ok(caught)
    }
}

/// What signals go through, a byte each: our end and the guest's. Made before the process confines itself.
///
/// # Errors
/// No descriptor is left.
pub fn channel() -> std::io::Result<(UnixStream, UnixStream)> {
    let (ours, guests) = UnixStream::pair()?;
    // A guest that takes nothing must not hold up whoever would stop it.
    ours.set_nonblocking(true)?;
    Ok((ours, guests))
}

/// Sends on what comes until the machine has to be stopped; returns the signal that it is stopped for. `None`: nobody
/// is left to send events.
fn relay(events: &Receiver<Event>, send: impl Fn(i32), caught: &Caught) -> Option<i32> {
    let mut last = None;
    // Those that the guest has not spoken of, a bit each.
    let mut untaken = 0u64;
    let mut dying = false;
    let mut deadline: Option<Instant> = None;
    loop {
        let event = match deadline {
            None => events.recv().ok()?,
            Some(at) => match events.recv_timeout(at.saturating_duration_since(Instant::now())) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => return last,
                Err(RecvTimeoutError::Disconnected) => return None,
            },
        };
        match event {
            Event::Came(signal) => {
                last = Some(signal);
                caught.change(|state| state.last = last);
                untaken |= 1 << (signal & 63);
                deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                send(signal);
            }
            Event::Taken(signal) => {
                untaken &= !(1 << (signal & 63));
                if untaken == 0 && !dying {
                    deadline = None;
                }
            }
            // Only what came can have killed it; the guest's word alone must not end anything.
            Event::Dying if last.is_some() && !dying => {
                dying = true;
                deadline = Some(Instant::now() + LINGER);
            }
            Event::Dying => {}
        }
    }
}

impl Caught {
    /// The signal that came last, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.get().last
    }

    /// Whether the machine was stopped because of one.
    pub fn stopped(&self) -> bool {
        self.get().stopped
    }

    fn get(&self) -> State {
        // A panic elsewhere must not make Ctrl-C useless; the value is valid at every step.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, how: impl FnOnce(&mut State)) {
        how(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The signals that end a server, but for those that were ignored when the process started.
pub fn watched() -> impl Iterator<Item = i32> {
    heeded([SIGINT, SIGTERM, SIGHUP, SIGQUIT])
}

/// Those of `signals` that were not ignored when the process started (`nohup`, a shell's `&`).
fn heeded<const N: usize>(signals: [i32; N]) -> impl Iterator<Item = i32> {
    signals.into_iter().filter(|signal| !ignored(*signal))
}

fn ignored(signal: i32) -> bool {
    // SAFETY: all-zero bytes are a valid sigaction (no handler, no flags, an empty mask).
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: with a null new action sigaction(2) only writes to `action`, which is ours.
    let result = unsafe { libc::sigaction(signal, std::ptr::null(), &mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// What becomes of `events` when nothing follows: the signals sent on, and how it ended and when.
    fn outcome(events: &[Event], open: bool) -> (Vec<i32>, Option<i32>, Duration) {
        let (sender, receiver) = sync_channel(WAITING);
        events.iter().for_each(|event| sender.send(*event).unwrap());
        let sender = open.then_some(sender);
        let sent = RefCell::new(Vec::new());
        let start = Instant::now();
        let stopped = relay(&receiver, |signal| sent.borrow_mut().push(signal), &Caught::default());
        drop(sender);
        (sent.into_inner(), stopped, start.elapsed())
    }

    #[test]
    fn a_program_that_has_its_signal_is_left_alone() {
        let events = [Event::Came(SIGTERM), Event::Taken(SIGTERM as u8), Event::Came(SIGHUP), Event::Taken(1)];
        let (sent, stopped, _) = outcome(&events, false);
        assert_eq!((sent, stopped), (vec![SIGTERM, SIGHUP], None));
    }

    #[test]
    fn a_guest_that_is_silent_is_stopped() {
        let (sent, stopped, after) = outcome(&[Event::Came(SIGTERM), Event::Came(SIGINT), Event::Taken(15)], true);
        assert_eq!((sent, stopped), (vec![SIGTERM, SIGINT], Some(SIGINT)));
        assert!(after >= PATIENCE);
    }

    #[test]
    fn a_program_that_dies_has_a_moment_for_its_output() {
        let events = [Event::Came(SIGINT), Event::Dying, Event::Taken(SIGINT as u8), Event::Dying];
        let (_, stopped, after) = outcome(&events, true);
        assert!(stopped == Some(SIGINT) && after >= LINGER && after < PATIENCE);
    }

    #[test]
    fn what_the_guest_says_unasked_stops_nothing() {
        let (_, stopped, _) = outcome(&[Event::Dying, Event::Taken(0), Event::Taken(255), Event::Dying], false);
        assert_eq!(stopped, None);
    }
}
