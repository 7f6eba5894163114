//! The seam between the evaluation and the processes that it measures.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use thiserror::Error;

/// A command, and what has to run beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Daemons that are started before and end with it.
    pub helpers: Vec<Helper>,
    /// How long it may take before it counts as hung.
    pub patience: Duration,
}

/// A daemon that a command needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// The socket at which it listens once it is ready.
    pub socket: PathBuf,
}

/// What a command left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// As a shell has it: 128 + n for a death by signal n.
    pub status: i32,
    /// From before its process was made until it had ended; the helpers' time is not in it.
    pub elapsed: Duration,
}

/// Why there is no [`Output`].
#[derive(Debug, Error)]
pub enum Failure {
    /// The user wants to stop.
    #[error("stopped")]
    Stopped,
    /// A program cannot be started.
    #[error("cannot start {program}: {error}")]
    Start {
        /// Its name.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// The host does not let us wait for it.
    #[error("cannot wait for {program}: {error}")]
    Wait {
        /// Its name.
        program: String,
        /// Why not.
        error: io::Error,
    },
    /// It hung, and was killed.
    #[error("{program} did not end within {patience:?}; its last words: {words}")]
    Hung {
        /// Its name.
        program: String,
        /// How long we waited.
        patience: Duration,
        /// The end of what it wrote to stderr.
        words: String,
    },
    /// What it needs could not be made.
    #[error("{0}")]
    Preparation(String),
    /// A daemon was not ready in time.
    #[error("{program} does not listen at {}; its last words: {words}", socket.display())]
    NotReady {
        /// Its name.
        program: String,
        /// Where it should.
        socket: PathBuf,
        /// The end of what it wrote to stderr.
        words: String,
    },
}

/// Runs commands to their end.
pub trait Runner {
    /// Runs one, with its helpers.
    ///
    /// # Errors
    /// It did not come to an end of its own. An end with another status than 0 is none of these.
    fn run(&mut self, invocation: &Invocation) -> Result<Output, Failure>;
}

/// A daemon has this long to be ready.
const READY: Duration = Duration::from_secs(10);
/// Who is asked to end has this long to do so.
const GRACE: Duration = Duration::from_secs(3);
/// No more than this is kept of each stream.
const MOST_OUTPUT: u64 = 16 << 20;

/// Real processes. Each is the leader of a process group of its own, so that nothing it started survives it.
pub struct Processes<'a> {
    stopped: &'a dyn Fn() -> bool,
}

impl<'a> Processes<'a> {
    /// `stopped` says whether the user wants to stop; it is asked several times a second.
    pub fn new(stopped: &'a dyn Fn() -> bool) -> Self {
        Self { stopped }
    }
}

impl Runner for Processes<'_> {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, Failure> {
        let mut helpers = Vec::new();
        for helper in &invocation.helpers {
            let mut process = Process::start(&helper.command)?;
            let ready = || helper.socket.exists();
            process.wait(READY, &|| (self.stopped)() || ready())?;
            if !ready() {
                if (self.stopped)() {
                    return Err(Failure::Stopped);
                }
                let Process { program, .. } = &process;
                return Err(Failure::NotReady {
                    program: program.clone(),
                    socket: helper.socket.clone(),
                    words: process.last_words(),
                });
            }
            helpers.push(process);
        }
        let began = Instant::now();
        let mut process = Process::start(&invocation.command)?;
        let Some(status) = process.wait(invocation.patience, self.stopped)? else {
            if (self.stopped)() {
                return Err(Failure::Stopped);
            }
            let program = process.program.clone();
            return Err(Failure::Hung { program, patience: invocation.patience, words: process.last_words() });
        };
        let elapsed = began.elapsed();
        let (stdout, stderr) = process.output();
        // They end when their front-end does.
        for mut helper in helpers {
            helper.wait(GRACE, self.stopped)?;
        }
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Ok(Output { stdout, stderr, status, elapsed })
    }
}

/// A process group that ends when this is dropped.
struct Process {
    program: String,
    child: Child,
    streams: Option<[JoinHandle<String>; 2]>,
}

impl Process {
    fn start(words: &[OsString]) -> Result<Self, Failure> {
        let (name, arguments) = words.split_first().expect("a command begins with its program");
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let program = name.display().to_string();
        let mut child = command.spawn().map_err(|error| Failure::Start { program: program.clone(), error })?;
        let streams = Some([collect(child.stdout.take()), collect(child.stderr.take())]);
        Ok(Self { program, child, streams })
    }

    /// Waits until it ends, `enough` says so or `patience` is over; says how it ended if it did.
    fn wait(&mut self, patience: Duration, enough: &dyn Fn() -> bool) -> Result<Option<ExitStatus>, Failure> {
        let failed = |error| Failure::Wait { program: self.program.clone(), error };
        let pidfd =
            pidfd_open(Pid::from_child(&self.child), PidfdFlags::empty()).map_err(|error| failed(error.into()))?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                return Ok(Some(status));
            }
            if enough() || Instant::now() >= deadline {
                return Ok(None);
            }
            // Long enough to cost nothing while something is measured. A signal interrupts it, which is what we want.
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 }));
        }
    }

    fn kill(&mut self, signal: Signal) {
        // The group may have nobody left in it.
        let _ = kill_process_group(Pid::from_child(&self.child), signal);
    }

    /// Ends the group and tells what it wrote.
    fn output(&mut self) -> (String, String) {
        // Whoever it left behind holds the other end of our pipes.
        self.kill(Signal::KILL);
        let Some(streams) = self.streams.take() else { return Default::default() };
        let [stdout, stderr] = streams.map(|stream| stream.join().unwrap_or_default());
        (stdout, stderr)
    }

    fn last_words(&mut self) -> String {
        last_words(&self.output().1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.child.try_wait() {
            return self.kill(Signal::KILL);
        }
        // Asked first: a sandbox has to clear up after itself.
        self.kill(Signal::TERM);
        let _ = self.wait(GRACE, &|| false);
        self.kill(Signal::KILL);
        let _ = self.child.wait();
    }
}

/// The end of what a program wrote, on one line.
pub fn last_words(stderr: &str) -> String {
    let lines: Vec<_> = stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(3)..];
    if last.is_empty() { "none".to_owned() } else { last.join("; ").chars().take(400).collect() }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            // What was read before an error is all there is.
            let _ = pipe.take(MOST_OUTPUT).read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn shell(text: &str, patience: Duration) -> Invocation {
        Invocation { command: ["/bin/sh", "-c", text].map(OsString::from).into(), helpers: Vec::new(), patience }
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn output_and_status_are_told() {
        let output = Processes::new(&|| false).run(&shell("echo out; echo err >&2; exit 3", LONG)).unwrap();
        assert!(output.elapsed > Duration::ZERO);
        let elapsed = output.elapsed;
        assert_eq!(output, Output { stdout: "out\n".into(), stderr: "err\n".into(), status: 3, elapsed });
        let output = Processes::new(&|| false).run(&shell("kill -9 $$", LONG)).unwrap();
        assert_eq!(output.status, 137);
    }

    #[test]
    fn who_is_left_behind_ends_with_the_leader() {
        let began = Instant::now();
        let output = Processes::new(&|| false).run(&shell("sleep 60 & echo $!", LONG)).unwrap();
        assert!(began.elapsed() < LONG);
        let stat = format!("/proc/{}/stat", output.stdout.trim());
        // Gone, or dead and waiting for its new parent; a process takes a moment to die.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(began.elapsed() < LONG, "it lives");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_hangs_is_killed_and_quoted() {
        let error =
            Processes::new(&|| false).run(&shell("echo why >&2; sleep 60", Duration::from_millis(200))).unwrap_err();
        assert!(matches!(&error, Failure::Hung { words, .. } if words == "why"), "{error}");
    }

    #[test]
    fn the_user_may_stop_it() {
        let asked = Cell::new(0);
        let stopped = || {
            asked.set(asked.get() + 1);
            asked.get() > 2
        };
        let began = Instant::now();
        assert!(matches!(Processes::new(&stopped).run(&shell("sleep 60", LONG)), Err(Failure::Stopped)));
        assert!(began.elapsed() < LONG);
    }

    #[test]
    fn helpers_come_first_and_do_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let daemon = format!("sleep 0.2; echo > {}; exec sleep 60", socket.display());
        let helper = Helper { command: ["/bin/sh", "-c", &daemon].map(OsString::from).into(), socket: socket.clone() };
        let mut invocation = shell(&format!("test -e {}", socket.display()), LONG);
        invocation.helpers.push(helper.clone());
        let began = Instant::now();
        assert_eq!(Processes::new(&|| false).run(&invocation).unwrap().status, 0);
        assert!(began.elapsed() < LONG);
        invocation.helpers[0].socket = folder.path().join("none");
        invocation.helpers[0].command = ["/bin/sh", "-c", "echo no >&2"].map(OsString::from).into();
        let error = Processes::new(&|| false).run(&invocation).unwrap_err();
        assert!(matches!(&error, Failure::NotReady { words, .. } if words == "no"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let invocation = Invocation { command: vec!["/nonexistent/x".into()], helpers: Vec::new(), patience: LONG };
        let error = Processes::new(&|| false).run(&invocation).unwrap_err();
        assert!(error.to_string().starts_with("cannot start /nonexistent/x: "), "{error}");
    }
}
