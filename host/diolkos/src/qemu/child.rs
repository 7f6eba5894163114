//! A program of ours that must not outlive us: how it is started, heard and ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How much of a child's stderr is kept, from the end; in bytes.
const KEPT: usize = 16 * 1024;

/// A running child.
#[derive(Debug)]
pub struct Child {
    process: Process,
    handle: Arc<OwnedFd>,
    said: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// A way to end a child from another thread. It names the process, not its number, so it cannot hit a stranger.
#[derive(Debug, Clone)]
pub struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Ends the child now. One that is gone already is no error.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl Child {
    /// Starts `command` with `inherited` open under their own numbers, no stdin or stdout, and stderr kept. The terminal's
    /// Ctrl-C does not reach it; the death of the calling thread kills it.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(mut command: Command, inherited: &[BorrowedFd]) -> io::Result<Self> {
        let numbers: Vec<RawFd> = inherited.iter().map(AsRawFd::as_raw_fd).collect();
        let parent = rustix::process::getpid();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        // SAFETY: the closure runs between fork and exec; it makes system calls only and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                die_with_parent(parent)?;
                numbers.iter().try_for_each(|number| keep_over_exec(*number))
            });
        }
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        let handle = Arc::new(pidfd_open(pid, PidfdFlags::empty()).inspect_err(|_| {
            let _ = process.kill();
        })?);
        let said = Arc::<Mutex<Vec<u8>>>::default();
        let reader = process.stderr.take().map(|stderr| {
            let said = said.clone();
            thread::spawn(move || keep_tail(stderr, &said))
        });
        Ok(Self { process, handle, said, reader })
    }

    /// A way to end it from another thread.
    pub fn killer(&self) -> Killer {
        Killer(self.handle.clone())
    }

    /// Waits until it is gone, at most for `patience`, and ends it then.
    pub fn wait_within(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let timeout = Timespec { tv_sec: patience.as_secs().min(3600) as i64, tv_nsec: patience.subsec_nanos().into() };
        let mut fds = [PollFd::from_borrowed_fd(self.handle.as_fd(), PollFlags::IN)];
        if !matches!(poll(&mut fds, Some(&timeout)), Ok(1..)) {
            self.killer().kill();
        }
        self.process.wait()
    }

    /// The lines it wrote to stderr, as far as they are kept. Complete once it was waited for.
    pub fn complaints(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).lines().map(str::to_owned).collect()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // After wait() the handle names a process that is gone, and this does nothing.
        self.killer().kill();
        let _ = self.process.wait();
    }
}

/// Has the kernel kill this process when the thread that started it ends (PR_SET_PDEATHSIG, prctl(2)).
fn die_with_parent(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the call.
    if rustix::process::getppid() != Some(parent) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(())
}

fn keep_over_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD changes a flag of a descriptor number; the caller of start() keeps the descriptor open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn keep_tail(mut from: impl Read, said: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&buffer[..count]);
        let excess = said.len().saturating_sub(KEPT);
        said.drain(..excess);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn shell(script: &str, inherited: &[BorrowedFd]) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::start(command, inherited).unwrap()
    }

    #[test]
    fn its_complaints_are_kept() {
        let mut child = shell("echo one >&2; echo two >&2; exit 3", &[]);
        assert_eq!(child.wait_within(Duration::from_secs(20)).unwrap().code(), Some(3));
        assert_eq!(child.complaints(), ["one", "two"]);
    }

    #[test]
    fn patience_ends() {
        let start = Instant::now();
        let status = shell("exec sleep 60", &[]).wait_within(Duration::from_millis(50)).unwrap();
        assert!(!status.success() && start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn only_what_is_named_is_inherited() {
        let (kept, hidden) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let script =
            format!("test -e /proc/self/fd/{} && ! test -e /proc/self/fd/{}", kept.as_raw_fd(), hidden.as_raw_fd());
        let status = shell(&script, &[kept.as_fd()]).wait_within(Duration::from_secs(20)).unwrap();
        assert!(status.success());
    }
}
