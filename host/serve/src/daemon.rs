//! The daemon: a directory, and front-ends that come and go.

use crate::backend::Backend;
use crate::shmem::ShmemWindow;
use diolkos_common::cmdline::CacheMode;
use diolkos_vmm::confine::{Directory, Front, confine};
use diolkos_vmm::fs::{DaxWindow, FileServer, Share, ShareError, check_tags};
use diolkos_vmm::{ConfineError, Confined};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;
use vhost::vhost_user::{BackendReqHandler, Error as Protocol};

/// What to serve, and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// The directory.
    pub source: PathBuf,
    /// Whether guests may change it.
    pub writable: bool,
    /// How long a guest may believe names and attributes.
    pub cache: CacheMode,
    /// Size of the DAX window offered to front-ends that can keep one, in bytes, a multiple of 2 MiB; 0 for none.
    pub window: u64,
    /// The virtio-fs tag, told to front-ends that ask for one; most have it from their own command line.
    pub tag: Option<String>,
    /// Called, from any thread, with a line for the user.
    pub say: fn(&str),
}

/// Why a daemon cannot serve, or stopped to.
#[derive(Debug, Error)]
pub enum Error {
    /// The directory or the tag.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The front-end broke the protocol.
    #[error("the vhost-user front-end broke the protocol: {0}")]
    Protocol(Protocol),
    /// It asked for an end and did not answer the request that was under way; a thread still waits for it, so the process
    /// should end.
    #[error("the vhost-user front-end does not answer a request for its DAX window, and wants an answer first")]
    Deadlock,
}

/// The daemon.
pub struct Daemon {
    config: Config,
    directory: OwnedFd,
    server: Arc<FileServer>,
    window: Option<Arc<ShmemWindow>>,
}

impl Daemon {
    /// Opens the directory, so that it stays the same whatever is renamed afterwards.
    ///
    /// # Errors
    /// [`Error::Share`].
    pub fn new(config: Config) -> Result<Self, Error> {
        check_tags(config.tag.as_deref())?;
        let share = Share::open(&config.source)?;
        let failed = |source| ShareError::Server { path: config.source.clone(), source };
        let directory = share.directory().map_err(failed)?;
        let window = (config.window > 0).then(|| Arc::new(ShmemWindow::new(config.window, config.writable)));
        let behind = window.clone().map(|window| window as Arc<dyn DaxWindow>);
        let server = FileServer::new(share, config.writable, config.cache, behind).map_err(failed)?;
        Ok(Self { config, directory, server: Arc::new(server), window })
    }

    /// Confines the process to what serving takes: the directory, its open files, and the system calls it makes. Nothing of
    /// it can be undone, and the calling thread must be the process' only one.
    ///
    /// # Errors
    /// [`ConfineError`].
    pub fn confine(&self) -> Result<Confined, ConfineError> {
        let directory = Directory { fd: self.directory.as_fd(), writable: self.config.writable };
        confine(&[directory], Front::Socket)
    }

    /// Serves the front-end at the other end of `connection` until it hangs up. Shutting the connection down from another
    /// thread is hanging up, too.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn serve(&self, connection: UnixStream) -> Result<(), Error> {
        let backend = Arc::new(Mutex::new(Backend::new(
            self.server.clone(),
            self.window.clone(),
            self.config.tag.clone(),
            self.config.say,
        )));
        let mut front_end = BackendReqHandler::from_stream(connection, backend.clone());
        let ended = loop {
            match front_end.handle_request() {
                Ok(()) => {}
                Err(Protocol::Disconnected | Protocol::SocketBroken(_)) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // Its end of the channel for requests of ours may still be open: a queue that waits there must not hold us.
        let mut backend = backend.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = backend.stop();
        if backend.deadlocked() {
            return Err(Error::Deadlock);
        }
        // Closed first: nobody is there who would want each mapping's end said.
        self.window.iter().for_each(|window| window.close());
        self.server.reset();
        ended.and(stopped).map_err(Error::Protocol)
    }
}
