//! gVisor: a kernel in Go between the program and the host, by its own `runsc`.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::{Context, Kind, Missing, System, Task, version_of, words};
use crate::runner::{Invocation, Runner};

/// `runsc` with the platform it chooses by itself.
pub struct Gvisor {
    runsc: PathBuf,
    version: String,
}

/// Looks for it.
///
/// # Errors
/// It is not installed.
pub fn find(context: &Context, runner: &mut dyn Runner) -> Result<Gvisor, Missing> {
    let runsc = context.finder.needed("runsc", "runsc")?;
    let version = version_of(&runsc, runner, "apt install runsc")?;
    Ok(Gvisor { runsc, version: format!("{version}, its default platform") })
}

impl System for Gvisor {
    fn kind(&self) -> Kind {
        Kind::Gvisor
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn invocation(&self, task: &Task) -> Result<Invocation, String> {
        let (bundle, state) = (task.scratch.join("bundle"), task.scratch.join("state"));
        let write = || {
            fs::create_dir_all(&bundle)?;
            fs::create_dir_all(&state)?;
            fs::write(bundle.join("config.json"), serde_json::to_vec_pretty(&config(task))?)
        };
        write().map_err(|error: std::io::Error| format!("{}: {error}", bundle.display()))?;
        let mut command = words([&self.runsc]);
        command.extend(words(["--root".as_ref(), state.as_os_str()]));
        command.extend(words(["--network", "none", "--ignore-cgroups", "run", "--bundle"]));
        command.extend(words([bundle.as_os_str(), "diolkos-bench".as_ref()]));
        Ok(Invocation { command, helpers: Vec::new(), patience: task.patience(Kind::Gvisor) })
    }
}

/// The bundle's description, as the OCI runtime specification has it: the host's root, read-only, and the files.
fn config(task: &Task) -> serde_json::Value {
    let files = task.place.folder().display().to_string();
    let access = if task.job.work.writes() { "rw" } else { "ro" };
    json!({
        "ociVersion": "1.0.0",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": task.program(task.place),
            "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
            "cwd": "/",
            "noNewPrivileges": true
        },
        "root": {"path": "/", "readonly": true},
        "hostname": "bench",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            {"destination": &files, "type": "bind", "source": &files, "options": ["rbind", access]}
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "mount"}, {"type": "uts"}]}
    })
}
