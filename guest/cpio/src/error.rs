//! Why an archive cannot be used.

use alloc::string::String;
use core::fmt;
use diolkos_vfs::Errno;

/// What is wrong with an archive, or with what is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// It does not begin as an archive does.
    NotAnArchive,
    /// It is compressed in a way that we cannot read.
    Compression(&'static str),
    /// What is compressed cannot be had back.
    Damaged(&'static str),
    /// It ends in the middle of an entry, or of compressed data.
    Short,
    /// An entry makes no sense.
    Entry {
        /// Its name, or what there is of it.
        name: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A file cannot be made of an entry.
    Make {
        /// Its name.
        name: String,
        /// Why.
        errno: Errno,
    },
    /// The archive cannot be read.
    Read(Errno),
}

/// The result of everything here.
pub type Result<T> = core::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnArchive => f.write_str("it is not a cpio archive in the newc format (cpio -H newc)"),
            Self::Compression(name) => {
                write!(f, "the archive is compressed by {name}, which is not supported: gzip and zstd are")
            }
            Self::Damaged(name) => write!(f, "the archive's {name} data is damaged"),
            Self::Short => f.write_str("the archive is cut short"),
            Self::Entry { name, what } => write!(f, "the archive's entry '{name}' is damaged: {what}"),
            Self::Make { name, errno } => write!(f, "'{name}' of the archive cannot be made: {errno}"),
            Self::Read(errno) => write!(f, "the archive cannot be read: {errno}"),
        }
    }
}

impl core::error::Error for Error {}
