//! A shared directory: checked and held open from the start, so that it stays the same directory whatever is
//! renamed on the host afterwards.

use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat, open};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Longest tag (section 5.11.4).
pub const MAX_TAG: usize = 36;

/// Why a share cannot be served.
#[derive(Debug, Error)]
pub enum ShareError {
    /// There is nothing of this name.
    #[error("{}: no such directory", .0.display())]
    Missing(PathBuf),
    /// It is a file.
    #[error("{}: not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// It may not be read or searched.
    #[error("{}: cannot read the directory: {source}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
    /// A tag that is empty, too long, or has a zero byte.
    #[error("share tag '{0}': must have 1 to 36 bytes and none of them zero")]
    Tag(String),
    /// Two shares of one tag.
    #[error("share tag '{0}' is used twice")]
    TagTwice(String),
    /// The file server does not start.
    #[error("{}: cannot serve the directory: {source}", path.display())]
    Server {
        /// The directory.
        path: PathBuf,
        /// The host's reason.
        source: io::Error,
    },
}

/// A directory, held.
#[derive(Debug)]
pub struct Share {
    directory: OwnedFd,
}

impl Share {
    /// Opens `path` and checks that it can be listed and searched.
    ///
    /// # Errors
    /// [`ShareError`] naming the path.
    pub fn open(path: &Path) -> Result<Self, ShareError> {
        let unreadable = |errno: Errno| ShareError::Unreadable { path: path.into(), source: errno.into() };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT => ShareError::Missing(path.into()),
            Errno::NOTDIR => ShareError::NotADirectory(path.into()),
            errno => unreadable(errno),
        })?;
        accessat(&directory, ".", Access::READ_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(unreadable)?;
        Ok(Self { directory })
    }

    /// The directory, once more.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn directory(&self) -> io::Result<OwnedFd> {
        self.directory.try_clone()
    }

    /// The directory itself.
    pub fn into_directory(self) -> OwnedFd {
        self.directory
    }
}

/// Checks the tags of all shares.
///
/// # Errors
/// [`ShareError::Tag`] or [`ShareError::TagTwice`].
pub fn check_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<(), ShareError> {
    let mut seen = std::collections::BTreeSet::new();
    for tag in tags {
        if tag.is_empty() || tag.len() > MAX_TAG || tag.contains('\0') {
            return Err(ShareError::Tag(tag.into()));
        }
        if !seen.insert(tag) {
            return Err(ShareError::TagTwice(tag.into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shared_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(Share::open(directory.path()).is_ok());
        assert!(matches!(Share::open(&file), Err(ShareError::NotADirectory(path)) if path == file));
        let missing = directory.path().join("missing");
        let error = Share::open(&missing).unwrap_err();
        assert!(matches!(&error, ShareError::Missing(path) if *path == missing));
        assert!(error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn tags_are_short_and_unlike() {
        assert!(check_tags(["a", "b", &"x".repeat(MAX_TAG)]).is_ok());
        for tag in ["", "a\0b", &"x".repeat(MAX_TAG + 1)] {
            assert!(matches!(check_tags([tag]), Err(ShareError::Tag(_))));
        }
        assert!(matches!(check_tags(["a", "a"]), Err(ShareError::TagTwice(_))));
    }
}
