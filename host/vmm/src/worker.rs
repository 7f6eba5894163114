//! Threads that can be told to stop even while they are blocked in a system call.
//!
//! A worker waits in `poll` on an eventfd of ours beside its own descriptors, so it normally hears at once. But a
//! write to a full pipe blocks without asking `poll`; for that case [`Worker::stop`] sends the thread a signal
//! whose handler does nothing, again and again until it is gone: the system call fails with `EINTR`, and the
//! worker looks at its [`Control`]. Repeating closes the gap between that look and the next system call.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};

/// What a worker has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Go on.
    Run,
    /// Finish what has been handed over already, then end.
    Drain,
    /// End now.
    Stop,
}

/// The worker's end of the leash.
#[derive(Debug)]
pub struct Control {
    mode: AtomicU8,
    wake: EventFd,
    done: EventFd,
}

impl Control {
    fn new() -> io::Result<Self> {
        Ok(Self { mode: AtomicU8::new(Mode::Run as u8), wake: eventfd()?, done: eventfd()? })
    }

    /// What it has been told.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Run,
            1 => Mode::Drain,
            _ => Mode::Stop,
        }
    }

    /// Waits until one of `fds` has one of its events, or there is news from [`Control::mode`].
    /// Tells which descriptors have events; all false means: look at the mode.
    pub fn wait<const N: usize>(&self, fds: [(BorrowedFd<'_>, PollFlags); N]) -> [bool; N] {
        let mut entries = Vec::with_capacity(N + 1);
        entries.push(PollFd::from_borrowed_fd(borrow(&self.wake), PollFlags::IN));
        entries.extend(fds.iter().map(|(fd, events)| PollFd::from_borrowed_fd(*fd, *events)));
        if poll(&mut entries, None).is_err() {
            return [false; N];
        }
        std::array::from_fn(|i| !entries[i + 1].revents().is_empty())
    }

    fn tell(&self, mode: Mode) {
        self.mode.fetch_max(mode as u8, Ordering::AcqRel);
        // The counter is never read, so one write keeps `wake` readable; a second cannot overflow it.
        let _ = self.wake.write(1);
    }
}

/// An eventfd that never blocks.
///
/// # Errors
/// When the process has no descriptor left.
pub fn eventfd() -> io::Result<EventFd> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)
}

/// `fd` for `poll`.
pub fn borrow(fd: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `fd` is borrowed, which is as long as the result lives.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

/// Takes the events out of `fd`.
pub fn clear(fd: &EventFd) {
    // An error can only be that there are none.
    let _ = fd.read();
}

/// A thread on a leash. Dropping it stops it.
#[derive(Debug)]
pub struct Worker {
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
}

struct TellDone(Arc<Control>);

impl Drop for TellDone {
    fn drop(&mut self) {
        let _ = self.0.done.write(1);
    }
}

impl Worker {
    /// Starts `body` on a thread of its own, where a write to a closed pipe is an error and not a signal.
    ///
    /// # Errors
    /// When the host gives no thread or descriptor.
    pub fn spawn(name: &str, body: impl FnOnce(&Control) + Send + 'static) -> io::Result<Self> {
        install_handler();
        let control = Arc::new(Control::new()?);
        let theirs = TellDone(control.clone());
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            block_sigpipe();
            body(&theirs.0);
        })?;
        Ok(Self { control, thread: Some(thread) })
    }

    /// Asks it to finish what it has and end. Returns at once.
    pub fn drain(&self) {
        self.control.tell(Mode::Drain);
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until it has ended, at most `limit`; false when it has not.
    pub fn finishes_within(&self, limit: Duration) -> bool {
        self.is_finished() || wait_readable(borrow(&self.control.done), limit)
    }

    /// Makes a system call fail with `EINTR` if it blocks in one now.
    pub fn interrupt(&self) {
        self.thread.iter().for_each(interrupt);
    }

    /// Ends it, whatever it is doing, and waits until it is gone.
    pub fn stop(&mut self) {
        self.control.tell(Mode::Stop);
        let Some(thread) = self.thread.take() else { return };
        while !thread.is_finished() {
            if !wait_readable(borrow(&self.control.done), Duration::from_millis(2)) {
                interrupt(&thread);
            } else {
                break;
            }
        }
        if thread.join().is_err() {
            tracing::error!("a device thread panicked");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Makes a blocking system call of `thread` fail with `EINTR`.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // It can only fail for a thread that is gone, which is what the caller wants.
    let _ = thread.kill(SIGRTMIN());
}

/// Waits until `fd` is readable, at most `limit`.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: limit.subsec_nanos().into() };
    matches!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&limit)), Ok(1..))
}

/// Makes the signal of [`interrupt`] harmless: a handler that does nothing, and that makes no call restart.
pub fn install_handler() {
    extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        register_signal_handler(SIGRTMIN(), nothing).expect("a real-time signal can have a handler");
    });
}

fn block_sigpipe() {
    // SAFETY: the set is a local that the calls fill, and only this thread's own mask changes.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_worker_blocked_in_a_write_is_stopped() {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut worker = Worker::spawn("test", move |control| {
            let data = [0; 1 << 20];
            while control.mode() != Mode::Stop {
                if rustix::io::write(&writer, &data) == Err(rustix::io::Errno::PIPE) {
                    panic!("the reader is still there");
                }
            }
        })
        .unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let start = Instant::now();
        worker.stop();
        assert!(start.elapsed() < Duration::from_secs(2));
        drop(reader);
    }

    #[test]
    fn a_drained_worker_ends_by_itself() {
        let worker = Worker::spawn("test", |control| {
            while control.mode() == Mode::Run {
                control.wait([]);
            }
        })
        .unwrap();
        assert!(!worker.is_finished());
        worker.drain();
        assert!(worker.finishes_within(Duration::from_secs(5)));
    }

    #[test]
    fn a_closed_pipe_is_an_error_in_a_worker() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (tx, rx) = std::sync::mpsc::channel();
        let _worker = Worker::spawn("test", move |_| tx.send(rustix::io::write(&writer, b"x")).unwrap()).unwrap();
        assert_eq!(rx.recv().unwrap(), Err(rustix::io::Errno::PIPE));
    }
}
