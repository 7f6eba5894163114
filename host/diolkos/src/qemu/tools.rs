//! Which programs of this host make up the platform.

use std::env;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Access, access};

/// Where distributions put virtio-fs daemons that are not in PATH.
const UPSTREAM_PLACES: [&str; 2] = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"];
const QEMU_PLACES: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd"];

/// A virtio-fs daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
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

/// The programs.
#[derive(Debug, Clone)]
pub struct Tools {
    /// qemu-system-x86_64.
    pub qemu: PathBuf,
    /// qboot, a firmware that does little more than enter a PVH kernel and so saves half of the way there.
    pub firmware: Option<PathBuf>,
    /// The daemons present, the preferred one first; never empty.
    pub daemons: Vec<Daemon>,
}

impl Tools {
    /// # Errors
    /// Which program is missing, and the package that has it.
    pub fn find() -> Result<Self, String> {
        let qemu = in_path("qemu-system-x86_64")
            .ok_or("qemu-system-x86_64 is not in PATH; install the package qemu-system-x86 (Debian, Ubuntu)")?;
        let daemons = find_daemons();
        if daemons.is_empty() {
            return Err(
                "no virtiofsd found; install the package virtiofsd, or qemu-system-common of Debian 12".to_owned()
            );
        }
        Ok(Self { firmware: find_firmware(&qemu), qemu, daemons })
    }

    /// The daemon to serve a share with.
    ///
    /// # Errors
    /// A read-only share, and no daemon here that can be held to it.
    pub fn daemon_for(&self, writable: bool) -> Result<&Daemon, String> {
        let fits = |daemon: &&Daemon| writable || !matches!(daemon, Daemon::Upstream { readonly: false, .. });
        self.daemons.iter().find(fits).ok_or_else(|| {
            "this virtiofsd is too old to serve a directory read-only (it has no --readonly); install version 1.11 or \
             later, or share the directory writable"
                .to_owned()
        })
    }
}

/// QEMU keeps its firmware in `share/qemu` beside the `bin` it lies in.
fn find_firmware(qemu: &Path) -> Option<PathBuf> {
    let prefix = qemu.parent()?.parent()?;
    Some(prefix.join("share/qemu/qboot.rom")).filter(|path| path.is_file())
}

fn find_daemons() -> Vec<Daemon> {
    let upstream = in_path("virtiofsd").into_iter().chain(UPSTREAM_PLACES.map(PathBuf::from));
    let mut daemons: Vec<Daemon> = upstream.filter_map(|path| upstream_daemon(&path)).take(1).collect();
    daemons
        .extend(QEMU_PLACES.map(PathBuf::from).into_iter().filter(|path| executable(path)).map(Daemon::Qemu).take(1));
    daemons
}

/// Asks the program what it is: in PATH there may be either kind.
fn upstream_daemon(path: &Path) -> Option<Daemon> {
    if !executable(path) {
        return None;
    }
    let output = Command::new(path).arg("--help").output().ok()?;
    let help = String::from_utf8_lossy(&output.stdout);
    if !help.contains("--shared-dir") {
        return Some(Daemon::Qemu(path.to_owned()));
    }
    Some(Daemon::Upstream { path: path.to_owned(), readonly: help.contains("--readonly") })
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
        let c = Daemon::Qemu("/b".into());
        let tools = |daemons| Tools { qemu: "/q".into(), firmware: None, daemons };
        assert_eq!(tools(vec![old.clone(), c.clone()]).daemon_for(false), Ok(&c));
        assert_eq!(tools(vec![old.clone(), c]).daemon_for(true), Ok(&old));
        assert!(tools(vec![old]).daemon_for(false).unwrap_err().contains("--readonly"));
    }
}
