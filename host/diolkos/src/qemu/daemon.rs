//! One virtio-fs daemon, serving one share.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use diolkos_common::cmdline::CacheMode;

use super::child::Child;
use super::confine::Confinement;
use super::sockets::listener_with_client;
use super::tools;
use crate::descriptors;
use crate::plan::Share;

/// A running daemon.
pub struct Daemon {
    /// Its process.
    pub child: Child,
    /// QEMU's end of the connection.
    pub client: UnixStream,
}

impl Daemon {
    /// Starts a daemon for `share`. It accepts its one client when it is ready; nobody needs to wait for that.
    ///
    /// # Errors
    /// This daemon cannot serve the share, or it cannot be started or confined.
    pub fn start(daemon: &tools::Daemon, share: &Share) -> Result<Self, String> {
        let shown = share.source.display();
        daemon.fits(share.writable)?;
        let (listener, client) = listener_with_client().map_err(|error| format!("cannot make a socket: {error}"))?;
        let socket = listener.as_raw_fd();
        let directory = File::open(&share.source).map_err(|error| format!("cannot open {shown}: {error}"))?;
        let command = match daemon {
            tools::Daemon::Builtin => builtin(socket, share),
            tools::Daemon::Upstream { path, .. } => upstream(path, socket, share),
            tools::Daemon::Qemu(path) => {
                qemus(path, socket, directory.as_fd(), share).map_err(|error| error.to_string())?
            }
        };
        let name = command.get_program().to_owned();
        let child = Child::start(command, &[listener.as_fd(), directory.as_fd()]).map_err(|error| {
            let cannot = format!("cannot start {}", name.display());
            match daemon {
                tools::Daemon::Qemu(_) if !share.writable => {
                    format!("{cannot} so that it cannot change {shown}: {error}; run as root, or share it writable")
                }
                _ => format!("{cannot}: {error}"),
            }
        })?;
        Ok(Self { child, client })
    }
}

/// This very program, even if its file has been replaced meanwhile.
fn builtin(socket: i32, share: &Share) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // QEMU would not keep a window.
    command.arg("serve").arg("--fd").arg(socket.to_string()).args(["--dax-window", "0", "--cache"]);
    command.arg(match share.cache {
        CacheMode::None => "none",
        CacheMode::Auto => "auto",
        CacheMode::Always => "always",
    });
    if share.writable {
        command.arg("--rw");
    }
    command.arg("--").arg(&share.source);
    command
}

fn upstream(path: &Path, socket: i32, share: &Share) -> Command {
    let mut command = Command::new(path);
    command.current_dir("/");
    command.arg("--fd").arg(socket.to_string()).arg("--shared-dir").arg(&share.source);
    command.args(["--log-level", "error", "--cache"]).arg(match share.cache {
        CacheMode::None => "never",
        CacheMode::Auto => "auto",
        CacheMode::Always => "always",
    });
    // Root in a container may change its root directory but often may not make namespaces.
    if rustix::process::geteuid().is_root() {
        command.args(["--sandbox", "chroot"]);
    }
    command.arg(format!("--rlimit-nofile={}", descriptors::limit())).arg("--xattr");
    if !share.writable {
        command.arg("--readonly");
    }
    command
}

fn qemus(path: &Path, socket: i32, directory: BorrowedFd, share: &Share) -> io::Result<Command> {
    // To be root in a user namespace is not enough for this daemon: it insists on dropping them.
    let user = !rustix::process::geteuid().is_root();
    if user && rustix::process::getgroups().is_ok_and(|groups| !groups.is_empty()) {
        let why = "serves root, or users without supplementary groups; run as root, or install the package virtiofsd";
        return Err(io::Error::other(format!("{} only {why}", path.display())));
    }
    let confinement = Confinement::new(directory, &share.source, share.writable)?;
    let mut command = Command::new(path);
    // The source is named by its descriptor: a comma in its path would end the option, confinement may have put another
    // directory in its place, and the daemon changes its working directory to / before it looks. The last dot makes it
    // a directory for the daemon, which follows no link.
    let source = format!("source=/proc/self/fd/{}/.", directory.as_raw_fd());
    command.arg("-f").arg(format!("--fd={socket}"));
    // Left to itself it takes a million, whatever its user set.
    command.arg(format!("--rlimit-nofile={}", descriptors::limit()));
    command.args(["-o", &source, "-o", "sandbox=chroot", "-o", "log_level=err", "-o", "xattr"]);
    command.arg("-o").arg(match share.cache {
        CacheMode::None => "cache=none",
        CacheMode::Auto => "cache=auto",
        CacheMode::Always => "cache=always",
    });
    // SAFETY: apply() is made for the time between fork and exec: it neither allocates nor locks.
    unsafe { command.pre_exec(move || confinement.apply()) };
    Ok(command)
}
