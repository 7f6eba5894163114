//! Why an image cannot be made or read.

use std::io;
use std::path::PathBuf;

/// What went wrong, and with which file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the directory, or the image, cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that the format has no place for.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// Why.
        what: &'static str,
    },
    /// A program that we need is not there.
    #[error("{program} is not installed: it is in Debian's package {package}")]
    Missing {
        /// Which.
        program: &'static str,
        /// Where to have it from.
        package: &'static str,
    },
    /// A program that we need failed.
    #[error("{program} failed: {said}")]
    Tool {
        /// Which.
        program: &'static str,
        /// What it said last.
        said: String,
    },
    /// The format has no such compression.
    #[error("{0}")]
    Compression(&'static str),
    /// The image cannot be read.
    #[error("{}: {why}", path.display())]
    Image {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What was made is not what it was made of.
    #[error("the image is not like the directory: '{path}': {what}. Did it change meanwhile?")]
    Differs {
        /// Where.
        path: String,
        /// In which way.
        what: String,
    },
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// For what goes wrong with a file.
pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { path: path.into(), source }
}
