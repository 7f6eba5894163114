//! `/proc/self/fd` and `/proc/self/fdinfo`.

use super::subject::{Place, Subject};
use crate::linux::open_file::OpenFile;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Display;
use diolkos_vfs::generated::{Listed, NodeBuilder, Tree};
use diolkos_vfs::{Errno, FileType, Inode, Name, Result};

fn file_of(subject: Subject, fd: i32) -> Result<Arc<OpenFile>> {
    subject.process()?.files.get(fd).map_err(|_| Errno::ENOENT)
}

/// A number as the names of `/proc` have it: no sign, no leading zero.
pub fn number<T: core::str::FromStr + Display>(name: Name<'_>) -> Result<T> {
    let text = core::str::from_utf8(name.as_bytes()).map_err(|_| Errno::ENOENT)?;
    let number: T = text.parse().map_err(|_| Errno::ENOENT)?;
    if format!("{number}") == text { Ok(number) } else { Err(Errno::ENOENT) }
}

fn list(subject: Subject, file_type: FileType, place: fn(i32) -> Place) -> Result<Vec<Listed>> {
    let numbers = subject.process()?.files.numbers();
    Ok(numbers
        .into_iter()
        .map(|fd| Listed { key: fd as u64, name: format!("{fd}"), file_type, ino: place(fd).ino(0) })
        .collect())
}

/// The directory of links to what is open.
pub fn fd(tree: &Arc<Tree>, node: NodeBuilder, subject: Subject) -> Arc<dyn Inode> {
    let tree = tree.clone();
    node.computed_dir(
        move || list(subject, FileType::Symlink, Place::Descriptor),
        move |name| {
            let fd = number(name)?;
            let file = file_of(subject, fd)?;
            // What the link lets through is what the descriptor does (proc_pid_fd(5)).
            let read = if file.flags().reads() { 0o400 } else { 0 };
            let write = if file.flags().writes() { 0o200 } else { 0 };
            let node = tree.node(read | write | 0o100).ino(Place::Descriptor(fd).ino(0));
            Ok(node.magic_link(move || Ok(file_of(subject, fd)?.location().clone())))
        },
    )
}

/// The directory of positions and flags.
pub fn fdinfo(tree: &Arc<Tree>, node: NodeBuilder, subject: Subject) -> Arc<dyn Inode> {
    let tree = tree.clone();
    node.computed_dir(
        move || list(subject, FileType::Regular, Place::DescriptorInfo),
        move |name| {
            let fd = number(name)?;
            file_of(subject, fd)?;
            let node = tree.node(0o444).ino(Place::DescriptorInfo(fd).ino(0));
            Ok(node.file(move || describe(subject, fd)))
        },
    )
}

fn describe(subject: Subject, fd: i32) -> Result<Vec<u8>> {
    const O_CLOEXEC: u32 = 0o2000000;
    let file = file_of(subject, fd)?;
    let close_on_exec = subject.process()?.files.close_on_exec(fd).unwrap_or(false);
    let flags = file.flags().bits() | if close_on_exec { O_CLOEXEC } else { 0 };
    let mount = file.location().mount().id();
    let ino = file.inode().metadata()?.ino;
    Ok(format!("pos:\t{}\nflags:\t0{flags:o}\nmnt_id:\t{mount}\nino:\t{ino}\n", file.position()).into_bytes())
}
