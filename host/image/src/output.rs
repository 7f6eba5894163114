//! A file that has no name until it is whole.

use crate::error::at;
use crate::{Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, fchmod, linkat, open};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// The file an image is written to.
pub(crate) struct Output {
    pub(crate) file: File,
    path: PathBuf,
}

impl Output {
    /// A file that will be called `path`.
    ///
    /// # Errors
    /// There can be no such file; or something has the name that is none, such as a device, whose place an image must not take.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let unfit = |what| Error::Unfit { path: path.into(), what };
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(unfit("it is there and not a file, so an image cannot take its place"));
        }
        let path = std::path::absolute(path).map_err(at(path))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        match open(directory, OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
            Ok(file) => Ok(Self { file: file.into(), path }),
            // Both mean that (open(2)).
            Err(Errno::OPNOTSUPP | Errno::ISDIR) => {
                Err(unfit("its file system knows no files without a name (O_TMPFILE): make the image on another"))
            }
            Err(errno) => Err(at(directory)(errno.into())),
        }
    }

    /// A name under which other processes can open it.
    pub(crate) fn alias(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()))
    }

    /// It is whole and gets its name, in place of what may have it.
    pub(crate) fn finish(self) -> Result<()> {
        use rustix::process::umask;
        let named = |error: Errno| at(&self.path)(error.into());
        let mask = umask(Mode::empty());
        umask(mask);
        fchmod(&self.file, Mode::from_raw_mode(0o666) & !mask).map_err(named)?;
        let mut hidden = OsString::from(".");
        hidden.push(self.path.file_name().unwrap_or_default());
        hidden.push(format!(".{}", std::process::id()));
        // A link cannot replace anything, a renaming can.
        let hidden = self.path.with_file_name(hidden);
        linkat(CWD, self.alias(), CWD, &hidden, AtFlags::SYMLINK_FOLLOW).map_err(named)?;
        fs::rename(&hidden, &self.path).map_err(|error| {
            let _ = fs::remove_file(&hidden);
            at(&self.path)(error)
        })
    }
}
