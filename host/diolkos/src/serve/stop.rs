//! Ctrl-C and its relatives, for a daemon: they end the waiting for a front-end, and hang up on one that is served.
//!
//! A signal writes to a socket that whoever waits polls. While a front-end is served a thread polls it; that is started
//! as late as possible, because a process that confines itself must have no other.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::flag;
use signal_hook::low_level::pipe;

use crate::signals::{GRACE, watched};

#[derive(Debug)]
struct Inner {
    hear: UnixStream,
    /// The signal, or 0.
    caught: Arc<AtomicUsize>,
    connection: Mutex<Option<UnixStream>>,
}

/// The watch over the signals that end a daemon.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Inner>);

impl Stop {
    /// Starts the watch. Signals that were ignored when the process started stay ignored.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    pub fn watch() -> io::Result<Self> {
        let (hear, tell) = UnixStream::pair()?;
        let caught = Arc::new(AtomicUsize::new(0));
        for signal in watched() {
            // In this order: who hears of a signal finds out which.
            flag::register_usize(signal, caught.clone(), signal as usize)?;
            pipe::register(signal, tell.try_clone()?)?;
        }
        Ok(Self(Arc::new(Inner { hear, caught, connection: Mutex::default() })))
    }

    /// Readable once a signal has come.
    pub fn heard(&self) -> BorrowedFd<'_> {
        self.0.hear.as_fd()
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        match self.0.caught.load(Ordering::SeqCst) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// From now on signals hang up on the connection that [`Stop::covers`] named last.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn attend(&self) -> io::Result<()> {
        let stop = self.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while poll(&mut [PollFd::from_borrowed_fd(stop.heard(), PollFlags::IN)], None) == Err(Errno::INTR) {}
            stop.hang_up();
            // Whoever serves may be waiting for a host that does not answer.
            thread::sleep(GRACE);
            std::process::exit(128 + stop.signal().unwrap_or(0));
        })?;
        Ok(())
    }

    /// `connection` is the one to hang up on.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn covers(&self, connection: &UnixStream) -> io::Result<()> {
        *self.connection() = Some(connection.try_clone()?);
        if self.signal().is_some() {
            self.hang_up();
        }
        Ok(())
    }

    fn hang_up(&self) {
        if let Some(connection) = &*self.connection() {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    fn connection(&self) -> MutexGuard<'_, Option<UnixStream>> {
        self.0.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
