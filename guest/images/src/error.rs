//! Why an image cannot be used.

use core::fmt;
use diolkos_vfs::Errno;

/// What is wrong with an image, or with the device it lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no superblock of the file system.
    Absent,
    /// The checksum of this part of the image does not fit it.
    Checksum(&'static str),
    /// The image needs something that is not there.
    Unsupported(Feature),
    /// Something in the image contradicts the format.
    Corrupt(&'static str),
    /// The device cannot be read.
    Device(Errno),
}

/// What images may need and is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// By name, with how to do without where there is a way.
    Named(&'static str),
    /// Bits of the superblock's `feature_incompat` that have no name here.
    Bits(u32),
}

/// The result of everything here.
pub type Result<T> = core::result::Result<T, Error>;

/// The name of the file system is for the caller to put before it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("there is no such file system"),
            Self::Checksum(what) => write!(f, "the image is damaged: the checksum of {what} does not fit"),
            Self::Unsupported(Feature::Named(name)) => write!(f, "the image uses {name}, which is not supported"),
            Self::Unsupported(Feature::Bits(bits)) => {
                write!(f, "the image needs features that are not supported (feature_incompat {bits:#x})")
            }
            Self::Corrupt(what) => write!(f, "the image is damaged: {what}"),
            Self::Device(errno) => write!(f, "the image cannot be read: {errno}"),
        }
    }
}

impl core::error::Error for Error {}

/// What a program is told, as by Linux: `EUCLEAN` for damage.
impl From<Error> for Errno {
    fn from(error: Error) -> Self {
        match error {
            Error::Absent => Self::EINVAL,
            Error::Checksum(_) | Error::Corrupt(_) => Self::EUCLEAN,
            Error::Unsupported(_) => Self::EOPNOTSUPP,
            Error::Device(errno) => errno,
        }
    }
}
