//! Which programs of this host make up the platform.

use std::env;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

use crate::args::FsDaemon;

/// What serves the shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// `diolkos serve`, this very program.
    Builtin,
    /// The one of the virtio-fs project, in Rust.
    Upstream {
        /// The program.
        path: PathBuf,
        /// Whether it can serve a directory read-only by itself (`--readonly`).
        readonly: bool,
    },
    /// The older one that came with QEMU up to 7.2, in C.
    Qemu(PathBuf),
}

impl Daemon {
    /// Finds out what the program that the user names is.
    ///
    /// # Errors
    /// It cannot be run, or is no virtio-fs daemon.
    pub fn find(choice: &FsDaemon) -> Result<Self, String> {
        let FsDaemon::Program(path) = choice else { return Ok(Self::Builtin) };
        let output = Command::new(path).arg("--help").output();
        let output = output.map_err(|error| format!("--fs-daemon {}: {error}", path.display()))?;
        let help = String::from_utf8_lossy(&output.stdout);
        match () {
            () if help.contains("--shared-dir") => {
                Ok(Self::Upstream { path: path.clone(), readonly: help.contains("--readonly") })
            }
            () if help.contains("source=PATH") => Ok(Self::Qemu(path.clone())),
            () => {
                Err(format!("--fs-daemon {}: this is no virtiofsd; give the path of one, or 'builtin'", path.display()))
            }
        }
    }

    /// Whether it serves more than one queue for requests. QEMU's ends when it is given a second; releases of the other one
    /// differ, and do not say.
    pub fn serves_several_queues(&self) -> bool {
        *self == Self::Builtin
    }

    /// Whether it can be held to reading only.
    ///
    /// # Errors
    /// What to do if not.
    pub fn fits(&self, writable: bool) -> Result<(), String> {
        match self {
            Self::Upstream { path, readonly: false } if !writable => Err(format!(
                "--fs-daemon {}: too old to serve a directory read-only (it has no --readonly); give version 1.11 or later, \
                 or share the directory writable",
                path.display()
            )),
            _ => Ok(()),
        }
    }
}

/// The programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// qemu-system-x86_64.
    pub qemu: PathBuf,
    /// qboot, a firmware that does little more than enter a PVH kernel and so saves half of the way there.
    pub firmware: Option<PathBuf>,
    /// The daemon for each share.
    pub daemon: Daemon,
}

impl Tools {
    /// # Errors
    /// Which program is missing, and the package that has it.
    pub fn find(daemon: &FsDaemon) -> Result<Self, String> {
        let qemu = in_path("qemu-system-x86_64")
            .ok_or("qemu-system-x86_64 is not in PATH; install the package qemu-system-x86 (Debian, Ubuntu)")?;
        Ok(Self { firmware: find_firmware(&qemu), daemon: Daemon::find(daemon)?, qemu })
    }
}

/// QEMU keeps its firmware in `share/qemu` beside the `bin` it lies in.
fn find_firmware(qemu: &Path) -> Option<PathBuf> {
    let prefix = qemu.parent()?.parent()?;
    Some(prefix.join("share/qemu/qboot.rom")).filter(|path| path.is_file())
}

fn in_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(name)).find(|path| executable(path))
}

fn executable(path: &Path) -> bool {
    path.is_file() && access(path, Access::EXEC_OK).is_ok()
}

/// What QEMU runs the guest's instructions on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware, through /dev/kvm.
    Kvm,
    /// QEMU's own translator.
    Tcg,
}

impl Accelerator {
    /// KVM if it can be opened and stands on the CPU's own virtualisation. A KVM without that emulates ring 0, and QEMU's
    /// firmware, which is nothing but ring 0, would take longer there than the whole run takes with TCG.
    pub fn choose() -> Self {
        let openable = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        if openable && has_hardware_virtualisation(&cpus) { Self::Kvm } else { Self::Tcg }
    }

    /// QEMU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

/// Whether the text of /proc/cpuinfo shows Intel's VMX or AMD's SVM.
fn has_hardware_virtualisation(cpuinfo: &str) -> bool {
    let mut flags = cpuinfo.lines().filter(|line| line.starts_with("flags"));
    flags.any(|line| line.split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_virtualisation_is_a_flag_not_a_substring() {
        assert!(has_hardware_virtualisation("processor: 0\nflags\t\t: fpu svm sse\n"));
        assert!(has_hardware_virtualisation("flags: vmx\n"));
        assert!(!has_hardware_virtualisation("flags: fpu svm_lock hypervisor\nvmx flags: x\n"));
        assert!(!has_hardware_virtualisation(""));
    }

    #[test]
    fn a_read_only_share_needs_a_daemon_that_can_be_held_to_it() {
        let old = Daemon::Upstream { path: "/a".into(), readonly: false };
        assert_eq!(old.fits(true), Ok(()));
        assert!(old.fits(false).unwrap_err().contains("--readonly"));
        assert_eq!((Daemon::Builtin.fits(false), Daemon::Qemu("/b".into()).fits(false)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_daemon_is_known_by_its_help() {
        let folder = tempfile::tempdir().unwrap();
        let program = |name: &str, help: &str| {
            let path = folder.path().join(name);
            fs::write(&path, format!("#!/bin/sh\necho '{help}'\n")).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            Daemon::find(&FsDaemon::Program(path.clone())).map(|daemon| (daemon, path))
        };
        let (daemon, path) = program("new", "--shared-dir --readonly").unwrap();
        assert_eq!(daemon, Daemon::Upstream { path, readonly: true });
        let (daemon, path) = program("c", "-o source=PATH").unwrap();
        assert_eq!(daemon, Daemon::Qemu(path));
        assert!(program("ls", "list files").unwrap_err().contains("--fs-daemon"));
        assert!(Daemon::find(&FsDaemon::Program("/no/such".into())).unwrap_err().contains("/no/such"));
        assert_eq!(Daemon::find(&FsDaemon::Builtin), Ok(Daemon::Builtin));
    }
}
