//! User-mode Linux: a Linux kernel as an ordinary process, with the host's files by its hostfs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::{Context, Kind, Missing, System, Task, guest, version_of, words};
use crate::runner::{Invocation, Output, Runner};

/// A kernel, and a shell for its first program.
pub struct Uml {
    kernel: PathBuf,
    busybox: PathBuf,
    version: String,
}

/// Looks for it.
///
/// # Errors
/// It is not installed.
pub fn find(context: &Context, runner: &mut dyn Runner) -> Result<Uml, Missing> {
    let kernel = context.finder.needed("linux.uml", "user-mode-linux")?;
    let busybox = context.finder.needed("busybox", "busybox-static")?;
    let version = version_of(&kernel, runner, "apt install user-mode-linux")?;
    Ok(Uml { kernel, busybox, version: format!("Linux {version}") })
}

impl System for Uml {
    fn kind(&self) -> Kind {
        Kind::Uml
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        let script = task.scratch.join("init");
        let failed = |error| format!("{}: {error}", script.display());
        fs::write(&script, self.script(task)).map_err(failed)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let mut command = words([&self.kernel]);
        command.extend(words([format!("mem={}M", task.amounts.memory() >> 20), format!("init={}", script.display())]));
        // Its own files go where ours do, and the program's output to our pipe.
        command.extend(words([format!("uml_dir={}", task.scratch.display())]));
        command.extend(words(["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null"]));
        command.extend(words(["con0=fd:0,fd:1", "ssl=null"]));
        Ok(Invocation { command, helpers: Vec::new(), patience: task.patience(Kind::Uml) })
    }

    fn printed(&self, output: &Output) -> Result<String, String> {
        // The kernel's own status says little: halting counts as an abort.
        guest::printed(output)
    }
}

impl Uml {
    fn script(&self, task: &Task) -> String {
        let busybox = self.busybox.display();
        let files = task.place.folder().display().to_string();
        let mut before = format!("{busybox} mount -t proc proc /proc\n{busybox} mount -t tmpfs tmp /tmp\n");
        // Another view of them, which may be written.
        let options = guest::quoted(["-t", "hostfs", "-o", &files, "none", &files]);
        before.push_str(&format!("{busybox} mount {options}\n"));
        let program = task.program(task.place);
        guest::script(&self.busybox, &before, &guest::quoted(program.iter().map(String::as_str)))
    }
}
