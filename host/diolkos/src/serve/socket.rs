//! The socket on which the front-end comes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::umask;

/// A listening socket; its name, if it has one, goes with it.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: Option<PathBuf>,
}

impl Door {
    /// A new socket at `path`, for this user only. A socket there that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Somebody listens there, there is something else, or the host refuses.
    pub fn at(path: &Path) -> io::Result<Self> {
        let stale = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if stale {
            fs::remove_file(path)?;
        }
        // No other thread of ours makes files.
        let before = umask(Mode::RWXG | Mode::RWXO);
        let listener = UnixListener::bind(path);
        umask(before);
        Ok(Self { listener: listener?, path: Some(path.to_owned()) })
    }

    /// The inherited socket `number`.
    ///
    /// # Errors
    /// It is not a listening socket.
    pub fn inherited(number: RawFd) -> io::Result<Self> {
        if number < 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: nothing in this process has made or owns a descriptor that the command line names; whether it is open at all is
        // checked by the first call.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if !rustix::net::sockopt::socket_acceptconn(borrowed)? {
            return Err(io::Error::other("it is a socket on which nobody listens"));
        }
        rustix::io::fcntl_setfd(borrowed, rustix::io::FdFlags::CLOEXEC)?;
        // SAFETY: as above, and it is open: this is its only owner.
        Ok(Self { listener: unsafe { UnixListener::from_raw_fd(number) }, path: None })
    }

    /// Waits for a front-end. None when `stop` could be read first.
    ///
    /// # Errors
    /// What the host says.
    pub fn accept(&self, stop: BorrowedFd<'_>) -> io::Result<Option<UnixStream>> {
        loop {
            let mut fds = [self.listener.as_fd(), stop].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                result => result?,
            };
            if !fds[1].revents().is_empty() {
                return Ok(None);
            }
            match self.listener.accept() {
                Ok((connection, _)) => return Ok(Some(connection)),
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes the name: nobody else is to come.
    pub fn close(&mut self) {
        if let Some(path) = self.path.take() {
            // It may have been removed, or be out of our reach by now.
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, IntoRawFd};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_ours_alone_and_goes_with_us() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let door = Door::at(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(Door::at(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse, "somebody listens");
        drop(door);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "left behind");
        Door::at(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert_eq!(Door::at(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse, "a file");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn what_is_inherited_must_listen() {
        let listener = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(listener.path().join("x")).unwrap();
        assert!(Door::inherited(listener.into_raw_fd()).is_ok());
        let file = tempfile::tempfile().unwrap();
        let (one, _other) = UnixStream::pair().unwrap();
        for number in [-1, 1_000_000, file.as_raw_fd(), one.as_raw_fd()] {
            assert!(Door::inherited(number).is_err(), "{number}");
        }
    }

    #[test]
    fn the_waiting_can_be_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let door = Door::at(&path).unwrap();
        let (tell, hear) = UnixStream::pair().unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let connection = door.accept(hear.as_fd()).unwrap().unwrap();
        assert_eq!(connection.peer_addr().is_ok(), client.peer_addr().is_ok());
        drop(tell);
        assert!(door.accept(hear.as_fd()).unwrap().is_none());
    }
}
