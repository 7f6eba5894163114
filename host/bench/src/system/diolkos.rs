//! Diolkos itself, by its own command line.
//!
//! The machine's root is the host's, read-only, so that fio and its libraries are there; the files to measure are a
//! volume, so that `--stats` counts them apart from the program's own, or an image. A program that only starts has its files
//! in the root; where the variant is about images (`rofs`, `ramfs`) that is an image of what the program needs.

use std::path::{Path, PathBuf};

use super::image::Format;
use super::{Context, Kind, Missing, System, Task, program, version_of, words};
use crate::data::Place;
use crate::job::Work;
use crate::runner::{Failure, Invocation, Runner};
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
        if kind == Kind::Rofs {
            context.finder.needed("mkfs.erofs", "erofs-utils")?;
        }
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
        match self.kind {
            // Files that were just written to memory are not cold.
            Kind::Ramfs => !work.is_cold() || matches!(work, Work::StatFiles),
            Kind::Rofs => !work.writes(),
            _ => true,
        }
    }

    fn stages(&self) -> bool {
        self.kind == Kind::Ramfs
    }

    fn prepare(&self, task: &Task, runner: &mut dyn Runner) -> Result<(), Failure> {
        self.image(&task.job.work).map_or(Ok(()), |format| format.make(task, &self.executable, runner))
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
        let image = self.image(&task.job.work).map(|format| format.path(task));
        let Some(set) = task.job.work.set() else {
            // What only starts has its files in the root, and the memory that a machine has.
            command.extend(words([image.unwrap_or_else(|| "/".into())]));
            command.extend(words(task.program(task.place)));
            return Ok(Invocation { command, helpers: Vec::new(), patience: task.patience(self.kind) });
        };
        command.extend(words(["--memory", &task.amounts.memory().to_string()]));
        let writable = task.job.work.writes() && !self.stages();
        command.extend(words(["--volume".to_owned(), volume(task.place.folder(), writable)]));
        if let Some(image) = image {
            let target = task.place.set(set);
            command.extend(words(["--disk".to_owned(), format!("{}:ro", image.display())]));
            command.extend(words(["--mount".to_owned(), format!("erofs:/dev/vda:{}", target.display())]));
        }
        command.extend(words(["/"]));
        let program = if self.stages() {
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

impl Diolkos {
    /// The image that it has the files of `work` from.
    fn image(&self, work: &Work) -> Option<Format> {
        match (self.kind, work) {
            (Kind::Rofs, _) => Some(Format::Erofs),
            (Kind::Ramfs, Work::Start(_)) => Some(Format::Cpio),
            _ => None,
        }
    }
}

/// The folder of the files at its own place, though the machine may have memory there (`/tmp`).
fn volume(folder: &Path, writable: bool) -> String {
    let path = folder.display();
    format!("{path}:{path}{}", if writable { "" } else { ":ro" })
}
