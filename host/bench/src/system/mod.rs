//! Who is measured: the host itself, Diolkos in its variants, and its peers.
//!
//! A system turns a task into a command ([`System::invocation`]) and knows how the task's output comes back. Whether it is
//! here is asked once, before anything is measured ([`find`]); what is missing is told with what to install.

mod archive;
mod diolkos;
mod finder;
mod guest;
mod gvisor;
mod host;
mod image;
mod linux;
mod tree;
mod uml;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::data::Place;
use crate::figures::Figures;
use crate::fio;
use crate::job::{Job, Work};
use crate::runner::{Failure, Invocation, Output, Runner, last_words};
use crate::settings::{Amounts, Peers};
use crate::worker;

pub use finder::Finder;

/// All systems there are, here or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The host's own kernel.
    Host,
    /// Diolkos on KVM, as it is by default.
    Dax,
    /// Diolkos on KVM without a window.
    Nodax,
    /// Diolkos on KVM, with the files in an image on a disk.
    Rofs,
    /// Diolkos on KVM, with the files in the machine's memory.
    Ramfs,
    /// Diolkos in QEMU, with a virtiofsd.
    Qemu,
    /// A Linux guest in QEMU, with the same virtiofsd.
    QemuLinux,
    /// gVisor.
    Gvisor,
    /// User-mode Linux.
    Uml,
}

impl Kind {
    /// In the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Host,
        Self::Dax,
        Self::Nodax,
        Self::Rofs,
        Self::Ramfs,
        Self::Qemu,
        Self::QemuLinux,
        Self::Gvisor,
        Self::Uml,
    ];

    /// As in the report and for `--only`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Dax => "dax",
            Self::Nodax => "nodax",
            Self::Rofs => "rofs",
            Self::Ramfs => "ramfs",
            Self::Qemu => "qemu",
            Self::QemuLinux => "qemu-linux",
            Self::Gvisor => "gvisor",
            Self::Uml => "uml",
        }
    }

    /// What it is.
    pub fn title(self) -> &'static str {
        match self {
            Self::Host => "the host itself",
            Self::Dax => "Diolkos on KVM, with a DAX window",
            Self::Nodax => "Diolkos on KVM, without a window",
            Self::Rofs => "Diolkos on KVM, files in an EROFS image",
            Self::Ramfs => "Diolkos on KVM, files in its memory",
            Self::Qemu => "Diolkos in QEMU, with virtiofsd",
            Self::QemuLinux => "a Linux guest in QEMU, with virtiofsd",
            Self::Gvisor => "gVisor",
            Self::Uml => "user-mode Linux, hostfs",
        }
    }

    /// Seconds that a run takes beside the time that counts and the ramp: a guess for the first estimate.
    pub fn overhead(self) -> f64 {
        match self {
            Self::Host => 0.5,
            Self::Dax | Self::Nodax | Self::Rofs => 1.5,
            Self::Ramfs => 2.5,
            Self::Qemu | Self::Gvisor | Self::Uml => 4.0,
            Self::QemuLinux => 8.0,
        }
    }
}

/// A system that is here.
pub trait System {
    /// Which one.
    fn kind(&self) -> Kind;

    /// What exactly was found, with its version.
    fn version(&self) -> &str;

    /// Whether `work` means something on it.
    fn applies(&self, _work: &Work) -> bool {
        true
    }

    /// Whether it copies the files into its own memory first.
    fn stages(&self) -> bool {
        false
    }

    /// Makes what it needs for `task`, once; the clock does not run yet.
    ///
    /// # Errors
    /// It cannot be made.
    fn prepare(&self, _task: &Task, _runner: &mut dyn Runner) -> Result<(), Failure> {
        Ok(())
    }

    /// The command that does `task`.
    ///
    /// # Errors
    /// Something that it needs cannot be made.
    fn invocation(&self, task: &Task) -> Result<Invocation, String>;

    /// The part of its output that the program itself printed.
    ///
    /// # Errors
    /// The program did not succeed: why, on one line.
    fn printed(&self, output: &Output) -> Result<String, String> {
        match output.status {
            0 => Ok(output.stdout.clone()),
            status => Err(format!("status {status}: {}", last_words(&output.stderr))),
        }
    }
}

/// Why a system takes no part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What is not there.
    pub why: String,
    /// What to do about it.
    pub remedy: String,
}

/// What is needed to look for systems and to run them.
pub struct Context<'a> {
    /// The executable that is measured.
    pub diolkos: &'a Path,
    /// Its version.
    pub version: &'a str,
    /// Where peers were said to be.
    pub peers: &'a Peers,
    /// Where programs are.
    pub finder: &'a Finder,
}

/// Looks for `kind`.
///
/// # Errors
/// It is not here, or does not work.
pub fn find(kind: Kind, context: &Context, runner: &mut dyn Runner) -> Result<Box<dyn System>, Missing> {
    match kind {
        Kind::Host => Ok(Box::new(host::Host)),
        Kind::Dax | Kind::Nodax | Kind::Rofs | Kind::Ramfs | Kind::Qemu => {
            Ok(Box::new(diolkos::find(kind, context, runner)?))
        }
        Kind::QemuLinux => Ok(Box::new(linux::find(context, runner)?)),
        Kind::Gvisor => Ok(Box::new(gvisor::find(context, runner)?)),
        Kind::Uml => Ok(Box::new(uml::find(context, runner)?)),
    }
}

/// One job to be done.
pub struct Task<'a> {
    /// Which.
    pub job: &'a Job,
    /// Where the files are on the host.
    pub place: &'a Place,
    /// A folder of the host's for what else is needed, on the way out of everybody else.
    pub scratch: &'a Path,
    /// Where fio is.
    pub fio: &'a Path,
    /// How much of everything.
    pub amounts: &'a Amounts,
}

impl Task<'_> {
    /// The program that does it and its arguments, for a system that has the files at `files` and the worker at its
    /// place on the host.
    pub fn program(&self, files: &Place) -> Vec<String> {
        let Amounts { time, ramp, names, .. } = *self.amounts;
        match &self.job.work {
            Work::Fio(io) => [vec![self.fio.display().to_string()], fio::arguments(io, files, self.amounts)].concat(),
            Work::OpenFstatClose => self.worker(&worker::Work::OpenFstatClose { file: files.one(), time, ramp }),
            Work::StatFiles => self.worker(&worker::Work::StatFiles { folder: files.names(), count: names }),
            Work::Start(command) => command.clone(),
        }
    }

    /// The command for the worker to do `work`.
    pub fn worker(&self, work: &worker::Work) -> Vec<String> {
        let words = [self.place.worker().display().to_string(), "bench".into(), "worker".into()];
        [words.into(), work.words()].concat()
    }

    /// What it came to.
    ///
    /// # Errors
    /// `printed` is not what the program prints when it succeeds.
    pub fn figures(&self, printed: &str) -> Result<Figures, String> {
        match &self.job.work {
            Work::Fio(_) => fio::parse(printed),
            Work::OpenFstatClose | Work::StatFiles => worker::parse(printed),
            Work::Start(_) => Err("a start is timed from outside".to_owned()),
        }
    }

    /// How long it may take: everything in it, ten times, and a minute.
    pub fn patience(&self, kind: Kind) -> Duration {
        if matches!(self.job.work, Work::Start(_)) {
            return START;
        }
        let least = (self.amounts.time + self.amounts.ramp * 3).as_secs_f64() + kind.overhead();
        Duration::from_secs_f64(least * 10.0 + 60.0) + self.copying()
    }

    /// How long what goes before it may take.
    pub fn preparation(&self) -> Duration {
        START + self.copying()
    }

    /// Bringing files in, and asking for their attributes, at 10 MB/s and 1000 a second.
    fn copying(&self) -> Duration {
        Duration::from_secs_f64(self.amounts.size as f64 / 1e7 + f64::from(self.amounts.names) / 1e3)
    }
}

/// How long a start may take, on a processor that is emulated, and the copy of what a program uses.
const START: Duration = Duration::from_secs(600);

/// What came of a task.
pub struct Done {
    /// The command that did it; nothing if it never came to that.
    pub command: Vec<String>,
    /// What the command left, or why there is none.
    pub output: Result<Output, String>,
}

/// Has `system` do `task`; nothing if the user stopped it.
pub fn perform(system: &dyn System, task: &Task, runner: &mut dyn Runner) -> Option<Done> {
    let failed = |error: String| Done { command: Vec::new(), output: Err(error) };
    match system.prepare(task, runner) {
        Ok(()) => (),
        Err(Failure::Stopped) => return None,
        Err(error) => return Some(failed(error.to_string())),
    }
    let invocation = match system.invocation(task) {
        Ok(invocation) => invocation,
        Err(error) => return Some(failed(error)),
    };
    let command = invocation.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    match runner.run(&invocation) {
        Err(Failure::Stopped) => None,
        output => Some(Done { command, output: output.map_err(|error| error.to_string()) }),
    }
}

/// Words of a command.
pub fn words<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Vec<OsString> {
    words.into_iter().map(Into::into).collect()
}

/// The first line that `program --version` prints.
///
/// # Errors
/// It cannot be run; `remedy` says what to do.
pub fn version_of(program: &Path, runner: &mut dyn Runner, remedy: &str) -> Result<String, Missing> {
    let command = words([program.as_os_str(), "--version".as_ref()]);
    let invocation = Invocation { command, helpers: Vec::new(), patience: Duration::from_secs(20) };
    let failed = |why: String| Missing { why, remedy: remedy.to_owned() };
    let output = runner.run(&invocation).map_err(|error| failed(error.to_string()))?;
    if output.status != 0 {
        return Err(failed(format!(
            "{} --version: status {}: {}",
            program.display(),
            output.status,
            last_words(&output.stderr)
        )));
    }
    Ok(output.stdout.lines().next().unwrap_or("no version").trim().to_owned())
}

/// A program that must be at `asked` if something was asked for, or else in one of the usual places.
///
/// # Errors
/// It is not there.
pub fn program(
    asked: Option<&PathBuf>,
    option: &str,
    usual: Option<PathBuf>,
    name: &str,
    package: &str,
) -> Result<PathBuf, Missing> {
    match asked {
        Some(path) if path.is_file() => Ok(path.clone()),
        Some(path) => {
            Err(Missing { why: format!("{option} {}: no such file", path.display()), remedy: "name another".into() })
        }
        None => usual.ok_or_else(|| Missing {
            why: format!("{name} is not installed"),
            remedy: format!("apt install {package}, or give {option}"),
        }),
    }
}
