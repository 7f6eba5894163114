//! Diolkos itself, by its own command line.
//!
//! The machine's root is the host's, read-only, so that fio and its libraries are there; the files to measure are a
//! volume, so that `--stats` counts them apart from the program's own.

use std::path::{Path, PathBuf};

use super::{Context, Kind, Missing, System, Task, program, version_of, words};
use crate::data::Place;
use crate::job::Work;
use crate::runner::{Invocation, Runner};
use crate::worker;

/// `diolkos run` with the options of a variant.
pub struct Diolkos {
    kind: Kind,
    executable: PathBuf,
    /// What is said of it in the report.
    version: String,
    /// What serves the files, if not the machine itself.
    virtiofsd: Option<PathBuf>,
}

/// Processors of a machine in which several threads work at once.
const PROCESSORS: u32 = 2;

/// In the machine, where `/tmp` is its memory.
const MEMORY: &str = "/tmp/diolkos-bench";

const VIRTIOFSD: [&str; 3] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];

/// Looks for what a variant needs.
///
/// # Errors
/// What is not there.
pub fn find(kind: Kind, context: &Context, runner: &mut dyn Runner) -> Result<Diolkos, Missing> {
    let mut version = format!("diolkos {}", context.version);
    let mut daemon = None;
    if kind == Kind::Qemu {
        let remedy = "apt install qemu-system-x86";
        let qemu = context.finder.needed("qemu-system-x86_64", "qemu-system-x86")?;
        let found = virtiofsd(context)?;
        version = format!(
            "{version}; {}; {}",
            version_of(&qemu, runner, remedy)?,
            version_of(&found, runner, "name another with --virtiofsd")?
        );
        daemon = Some(found);
    } else {
        context.finder.usable("/dev/kvm").map_err(|why| Missing {
            why,
            remedy: "use a host with KVM, and be allowed to open /dev/kvm".to_owned(),
        })?;
    }
    Ok(Diolkos { kind, executable: context.diolkos.to_owned(), version, virtiofsd: daemon })
}

/// The daemon that serves both guests of QEMU.
///
/// # Errors
/// There is none.
pub fn virtiofsd(context: &Context) -> Result<PathBuf, Missing> {
    let usual = context.finder.first(&VIRTIOFSD).or_else(|| context.finder.program("virtiofsd"));
    program(context.peers.virtiofsd.as_ref(), "--virtiofsd", usual, "virtiofsd", "qemu-system-common (or virtiofsd)")
}

impl System for Diolkos {
    fn kind(&self) -> Kind {
        self.kind
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn applies(&self, work: &Work) -> bool {
        // Files that were just written to memory are not cold, and what only starts has none among them.
        let staged = work.set().is_some() && (!work.is_cold() || matches!(work, Work::StatFiles));
        !self.stages() || staged
    }

    fn stages(&self) -> bool {
        self.kind == Kind::Ramfs
    }

    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        let mut command = words([self.executable.as_os_str()]);
        command.extend(words(["run", "--stats"]));
        let platform = if self.kind == Kind::Qemu { "qemu" } else { "kvm" };
        command.extend(words(["--platform", platform]));
        if matches!(task.job.work, Work::Fio(io) if io.threads > 1) {
            command.extend(words(["--cpus", &PROCESSORS.to_string()]));
        }
        if self.kind == Kind::Nodax {
            command.extend(words(["--dax-window", "0"]));
        }
        if let Some(daemon) = &self.virtiofsd {
            command.extend([words(["--fs-daemon"]), words([daemon])].concat());
        }
        // What only starts has its files in the root, and the memory that a machine has.
        if task.job.work.set().is_some() {
            let writable = task.job.work.writes() && !self.stages();
            command.extend(words(["--memory", &task.amounts.memory().to_string()]));
            command.extend(words(["--volume".to_owned(), volume(task.place.folder(), writable)]));
        }
        command.extend(words(["/"]));
        let program = if let Some(set) = task.job.work.set().filter(|_| self.stages()) {
            let files = Place::new(Path::new(MEMORY));
            let from = task.place.set(set);
            task.worker(&worker::Work::Stage { from, to: files.set(set), command: task.program(&files) })
        } else {
            task.program(task.place)
        };
        command.extend(words(program));
        Ok(Invocation { command, helpers: Vec::new(), patience: task.patience(self.kind) })
    }
}

/// The folder of the files at its own place, though the machine may have memory there (`/tmp`).
fn volume(folder: &Path, writable: bool) -> String {
    let path = folder.display();
    format!("{path}:{path}{}", if writable { "" } else { ":ro" })
}
