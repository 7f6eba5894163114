//! `cargo xtask tools`: the programs of others that tests meet and that no Debian package installs for them, kept below
//! `target/tools` so that they are fetched once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cargo::{cargo, target};

/// Fetches what is not there yet.
///
/// # Errors
/// What could not be fetched, and what it needs.
pub fn run() -> Result<(), String> {
    let folder = target().join("tools");
    virtiofsd(&folder)?;
    linux(&folder.join("linux"))
}

/// The daemon of the virtio-fs project, at `folder/bin/virtiofsd`.
fn virtiofsd(folder: &Path) -> Result<(), String> {
    if folder.join("bin/virtiofsd").exists() {
        return Ok(());
    }
    let root = folder.to_str().ok_or("the target directory's path is not UTF-8")?;
    cargo(&["install", "virtiofsd", "--version", "^1.13", "--locked", "--root", root], &[])
        .map_err(|error| format!("{error} (it needs the packages libseccomp-dev and libcap-ng-dev)"))
}

/// Debian's kernel for virtual machines at `folder/boot/vmlinuz-…`, and its modules for virtio and FUSE; nothing is installed.
fn linux(folder: &Path) -> Result<(), String> {
    if folder.exists() {
        return Ok(());
    }
    // The package of this name has nothing but a dependency on the one with the kernel.
    let depends = output(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    let package = package.ok_or("apt-cache knows no linux-image-cloud-amd64; run apt-get update, if this is Debian")?;
    // What is half done does not look like the whole.
    let part = folder.with_extension("part");
    let failed = |error: std::io::Error| format!("{}: {error}", part.display());
    let _ = fs::remove_dir_all(&part);
    fs::create_dir_all(&part).map_err(failed)?;
    output(Command::new("apt-get").args(["download", package]).current_dir(&part))?;
    let archive = fs::read_dir(&part).map_err(failed)?.next().ok_or("apt-get left no package")?.map_err(failed)?.path();
    unpack(&archive, &part, &["./boot/vmlinuz-*", "*/kernel/fs/fuse/*", "*/kernel/drivers/virtio/*"])?;
    fs::remove_file(&archive).and_then(|()| fs::rename(&part, folder)).map_err(failed)
}

/// Unpacks the files that `patterns` name from a Debian package into `folder`.
fn unpack(package: &Path, folder: &Path, patterns: &[&str]) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("dpkg-deb {}: {error}", package.display());
    let mut reader = Command::new("dpkg-deb");
    let mut reader = reader.arg("--fsys-tarfile").arg(package).stdout(Stdio::piped()).spawn().map_err(failed)?;
    let archive = reader.stdout.take().expect("it was asked for");
    let unpacked =
        output(Command::new("tar").args(["-x", "--wildcards"]).args(patterns).stdin(archive).current_dir(folder));
    let status = reader.wait().map_err(failed)?;
    unpacked?;
    if status.success() { Ok(()) } else { Err(format!("dpkg-deb {}: {status}", package.display())) }
}

/// What `command` prints.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}", output.status))
    }
}
