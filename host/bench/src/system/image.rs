//! Images of what a task needs, for machines that have it from one instead of a share.
//!
//! Each is made by `diolkos image build` before the clock runs, once for all rounds, and goes with the files.

use std::path::{Path, PathBuf};

use super::{Task, tree, words};
use crate::job::Work;
use crate::runner::{Failure, Invocation, Output, Runner, last_words};

/// As `diolkos image build --format` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// On a disk.
    Erofs,
    /// Unpacked into the machine's memory.
    Cpio,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Cpio => "cpio",
        }
    }

    /// Where the image of what `task` needs is, or will be.
    pub fn path(self, task: &Task) -> PathBuf {
        task.place.images().join(format!("{}.{}", subject(task), self.name()))
    }

    /// Makes that image with `diolkos`, unless it is there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(self, task: &Task, diolkos: &Path, runner: &mut dyn Runner) -> Result<(), Failure> {
        let image = self.path(task);
        if image.exists() {
            return Ok(());
        }
        let images = task.place.images();
        let made = std::fs::create_dir_all(&images);
        made.map_err(|error| Failure::Preparation(format!("{}: {error}", images.display())))?;
        let folder = match (&task.job.work, task.job.work.set()) {
            (Work::Start(command), _) => program(command, task, diolkos, runner)?,
            (_, set) => task.place.set(set.expect("every work but a start has its files")),
        };
        let mut command = words([diolkos]);
        command.extend(words(["image", "build", "--format", self.name(), "-o"]));
        command.extend(words([&image, &folder]));
        succeed(command, task, runner).map(drop)
    }
}

/// What the image is of: a program that starts, or files by their set.
fn subject(task: &Task) -> String {
    match task.job.work.set() {
        Some(set) => task.place.set(set).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        None => task.job.name.clone(),
    }
}

/// The tree of files that the program of `command` uses.
///
/// # Errors
/// It does not run, or they cannot be copied.
fn program(command: &[String], task: &Task, diolkos: &Path, runner: &mut dyn Runner) -> Result<PathBuf, Failure> {
    let folder = task.place.images().join(subject(task));
    if folder.exists() {
        return Ok(folder);
    }
    let mut traced = words([diolkos]);
    traced.extend(words(["run", "--trace", "syscalls", "/"]));
    traced.extend(words(command));
    let trace = succeed(traced, task, runner)?.stderr;
    // What is half there does not look like the whole.
    let part = folder.with_extension("part");
    let name = command.first().map_or("", String::as_str);
    tree::copy(&tree::paths(&trace, name), Path::new("/"), &part).map_err(Failure::Preparation)?;
    let named = std::fs::rename(&part, &folder);
    named.map_err(|error| Failure::Preparation(format!("{}: {error}", folder.display())))?;
    Ok(folder)
}

/// Runs what has to be done before the clock runs.
///
/// # Errors
/// It did not succeed.
fn succeed(command: Vec<std::ffi::OsString>, task: &Task, runner: &mut dyn Runner) -> Result<Output, Failure> {
    let text = command.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let output = runner.run(&Invocation { command, helpers: Vec::new(), patience: task.preparation() })?;
    match output.status {
        0 => Ok(output),
        status => Err(Failure::Preparation(format!("{text}: status {status}: {}", last_words(&output.stderr)))),
    }
}
