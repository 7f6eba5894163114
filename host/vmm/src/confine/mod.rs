//! The cage of a process that serves a guest: what it may still do once the guest runs.
//!
//! A guest that finds a hole in this crate has the process. So the process gives up, before the first guest instruction,
//! all that the rest of the run does not need: new privileges for good, the capabilities of root that serving files does
//! not use (`capabilities`), every file outside the shared directories (`files`), and every system call that no part of
//! the machine makes (`calls`). None of it can be taken back.
//!
//! All of this belongs to a *thread*, and to those it starts later. So it must be done while there is only one.

mod calls;
mod capabilities;
mod files;

pub(crate) use calls::keeper_rules;
use rustix::thread::set_no_new_privs;
use std::io;
use std::os::fd::BorrowedFd;
use thiserror::Error;

/// Why the process cannot be confined. It must not run a guest then.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// The kernel refuses a step.
    #[error("cannot confine the process ({step}): {source}")]
    Kernel {
        /// The step.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// Other threads are there already, and would stay free.
    #[error("cannot confine the process: {0} threads are there already, and only the first would be confined")]
    Threads(usize),
}

fn failed<E: std::error::Error + Send + Sync + 'static>(step: &'static str) -> impl Fn(E) -> ConfineError {
    move |error| ConfineError::Kernel { step, source: io::Error::other(error) }
}

/// A directory that stays within reach.
#[derive(Debug, Clone, Copy)]
pub struct Directory<'a> {
    /// The directory; `O_PATH` will do.
    pub fd: BorrowedFd<'a>,
    /// Whether files below it may be changed.
    pub writable: bool,
}

/// How requests of guests come into this process: a part of it needs calls that the other does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// From a machine in it.
    Machine,
    /// From a virtual machine monitor at the other end of a socket.
    Socket,
}

/// What confinement came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confined {
    /// How far the kernel's Landlock confines files; the other steps are all or nothing.
    pub files: Files,
}

/// How far files are confined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// As far as we know how to ask.
    Fully,
    /// To the shared directories; this kernel's Landlock is older and lacks some kinds of access.
    Partly,
    /// Not: this kernel has no Landlock, or it is turned off.
    NotAtAll,
}

/// Confines the calling thread, which must be the only one, to `directories`.
///
/// # Errors
/// [`ConfineError`]. A kernel without Landlock is no error: the result says so.
pub fn confine(directories: &[Directory<'_>], front: Front) -> Result<Confined, ConfineError> {
    match std::fs::read_dir("/proc/self/task").map_err(failed("counting threads"))?.count() {
        1 => confine_thread(directories, front),
        more => Err(ConfineError::Threads(more)),
    }
}

/// [`confine`] for one thread among others.
fn confine_thread(directories: &[Directory<'_>], front: Front) -> Result<Confined, ConfineError> {
    let writable = directories.iter().any(|directory| directory.writable);
    set_no_new_privs(true).map_err(failed("no new privileges"))?;
    let files = files::restrict(directories)?;
    capabilities::reduce(writable)?;
    // Last: it forbids the calls that the others make.
    calls::restrict(writable, front)?;
    Ok(Confined { files })
}

#[cfg(test)]
mod tests;
