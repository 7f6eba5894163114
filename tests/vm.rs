//! One run in a machine, described step by step; and the same command on the host.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::outcome::Outcome;
use crate::platform::Platform;

/// The command line of diolkos itself.
pub fn diolkos() -> Command {
    Command::new(env!("CARGO_BIN_EXE_diolkos"))
}

/// A run to be.
#[derive(Debug, Clone)]
pub struct Vm<'a> {
    on: Platform,
    options: Vec<OsString>,
    environment: Vec<(&'a str, &'a str)>,
    folder: Option<PathBuf>,
    root: PathBuf,
    command: Vec<&'a str>,
    input: Vec<u8>,
    patience: Duration,
}

impl<'a> Vm<'a> {
    pub fn new(on: Platform, command: &[&'a str]) -> Self {
        Self {
            on,
            options: Vec::new(),
            environment: Vec::new(),
            folder: None,
            root: "/".into(),
            command: command.to_vec(),
            input: Vec::new(),
            patience: on.patience(),
        }
    }

    /// One more option of diolkos and its value.
    pub fn option(mut self, words: &[&str]) -> Self {
        self.options.extend(words.iter().map(OsString::from));
        self
    }

    /// One more environment variable, here and there.
    pub fn env(mut self, key: &'a str, value: &'a str) -> Self {
        self.environment.push((key, value));
        self.option(&["--env", &format!("{key}={value}")])
    }

    /// `folder` is `/data` in the machine, read-only, and the working directory on both sides.
    pub fn data(self, folder: &Path) -> Self {
        self.data_with(folder, ":ro")
    }

    /// The same, writable.
    pub fn writable_data(self, folder: &Path) -> Self {
        self.data_with(folder, "")
    }

    /// The same, under an overlay: what the machine changes stays in it.
    pub fn overlaid_data(self, folder: &Path) -> Self {
        self.data_with(folder, ":overlay")
    }

    fn data_with(mut self, folder: &Path, mode: &str) -> Self {
        self.folder = Some(folder.to_owned());
        self.option(&["--workdir", "/data"]).volume(folder, &format!("/data{mode}"))
    }

    /// One more volume.
    pub fn volume(mut self, folder: &Path, target: &str) -> Self {
        let mut text = folder.as_os_str().to_owned();
        text.push(":");
        text.push(target);
        self.options.extend([OsString::from("--volume"), text]);
        self
    }

    /// Another root directory than the host's.
    pub fn root(mut self, folder: &Path) -> Self {
        self.root = folder.to_owned();
        self
    }

    /// What the program reads; nothing by default.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long it may take before it counts as hung, if that is longer than usual.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The whole command line.
    pub fn command(&self) -> Command {
        // Tests may run where Ctrl-C is ignored, and that is inherited; env(1) undoes it.
        let mut command = Command::new("/usr/bin/env");
        command.args(["--default-signal=INT,HUP", env!("CARGO_BIN_EXE_diolkos")]);
        command.args(["run", "--platform", self.on.option()]).args(&self.options);
        // The whole suite should hold on any number of processors: `DIOLKOS_TEST_CPUS` says how many where a test does not.
        let many = env::var_os("DIOLKOS_TEST_CPUS").filter(|_| !self.options.iter().any(|word| word == "--cpus"));
        command.args(many.into_iter().flat_map(|count| ["--cpus".into(), count]));
        command.arg(&self.root).args(&self.command);
        command
    }

    /// Starts it with pipes for all three streams; the test talks to it. A run that hangs is killed, so that a test which
    /// waits for its next word fails instead of waiting for ever.
    pub fn start(&self) -> Child {
        self.watched(self.command())
    }

    /// The same for a command that the test made from [`Vm::command`].
    pub fn watched(&self, command: Command) -> Child {
        let child = start(command);
        let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        let patience = Timespec { tv_sec: self.patience.as_secs() as i64, tv_nsec: 0 };
        thread::spawn(move || {
            let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&patience)).unwrap() != 0;
            if !ended {
                pidfd_send_signal(&process, Signal::KILL).unwrap();
            }
        });
        child
    }

    /// Runs it to its end.
    pub fn outcome(&self) -> Outcome {
        self.finish(self.start())
    }

    /// Feeds what [`Vm::input`] said and waits.
    pub fn finish(&self, mut child: Child) -> Outcome {
        let mut stdin = child.stdin.take().expect("start() makes a pipe");
        let input = self.input.clone();
        // A program that does not read to the end is no fault.
        let feeder = thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let outcome = Outcome::of(child, self.patience);
        feeder.join().unwrap();
        outcome
    }

    /// Runs the command on the host, in the environment that diolkos gives.
    pub fn on_host(&self) -> Outcome {
        let mut command = Command::new(self.command[0]);
        command.args(&self.command[1..]).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home());
        for key in ["TERM", "TZ"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command.envs(self.environment.iter().copied());
        command.current_dir(self.folder.as_deref().unwrap_or(Path::new("/")));
        self.finish(start(command))
    }

    /// Runs it in the machine and on the host at the same time.
    pub fn on_both(&self) -> (Outcome, Outcome) {
        thread::scope(|scope| {
            let host = scope.spawn(|| self.on_host());
            (self.outcome(), host.join().unwrap())
        })
    }

    /// The same; panics if anything differs.
    pub fn same_as_host(&self) -> Outcome {
        let (guest, host) = self.on_both();
        guest.expect_same(&host);
        guest
    }
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let program = command.get_program().to_owned();
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", Path::new(OsStr::new(&program)).display()))
}

fn home() -> &'static str {
    if rustix::process::geteuid().is_root() { "/root" } else { "/" }
}
