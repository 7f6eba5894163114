//! Extended attributes (xattr(7)): their names, their limits, and the operations on a place.
//!
//! As in Linux, a file system is asked for a length by giving it an empty buffer, and says `ERANGE` when a buffer is too
//! short. Which name spaces there are is the file system's to say.

use crate::dentry::Location;
use crate::names::writable;
use crate::notify::Events;
use crate::permission::{READ, WRITE, permit_xattr};
use crate::{Errno, Result};
use bitflags::bitflags;

/// The name of an extended attribute: 1 to 255 bytes without a NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct XattrName<'a>(&'a [u8]);

impl<'a> XattrName<'a> {
    /// Longest name in bytes (`XATTR_NAME_MAX`).
    pub const MAX: usize = 255;

    /// Checks `bytes`.
    ///
    /// # Errors
    /// `ERANGE` when empty or too long, `EINVAL` with a NUL.
    pub fn new(bytes: &'a [u8]) -> Result<Self> {
        match bytes {
            [] => Err(Errno::ERANGE),
            _ if bytes.len() > Self::MAX => Err(Errno::ERANGE),
            _ if bytes.contains(&0) => Err(Errno::EINVAL),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Longest value of an attribute in bytes (`XATTR_SIZE_MAX`).
pub const XATTR_SIZE_MAX: usize = 65536;

/// Longest list of names in bytes (`XATTR_LIST_MAX`).
pub const XATTR_LIST_MAX: usize = 65536;

bitflags! {
    /// The flags of setxattr(2). Neither: make the attribute or replace its value.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct XattrFlags: u32 {
        /// Only make it: `EEXIST` when it is there.
        const CREATE = 1;
        /// Only replace its value: `ENODATA` when it is not there.
        const REPLACE = 2;
    }
}

impl Location {
    /// getxattr(2): fills `value` and returns the length; with an empty buffer only the length.
    ///
    /// # Errors
    /// `ENODATA`, `ERANGE`, `EOPNOTSUPP`, `EACCES`, and what the file system says.
    pub fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        permit_xattr(self.inode(), name, READ)?;
        self.inode().xattr(name, value)
    }

    /// listxattr(2): names, each ended by a NUL; with an empty buffer only their length.
    ///
    /// # Errors
    /// `ERANGE`, and what the file system says.
    pub fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        self.inode().list_xattrs(list)
    }

    /// setxattr(2).
    ///
    /// # Errors
    /// `EROFS`, `EEXIST`, `ENODATA`, `EOPNOTSUPP`, `EPERM`, and what the file system says.
    pub fn set_xattr(&self, name: XattrName<'_>, value: &[u8], flags: XattrFlags) -> Result<()> {
        writable(self)?;
        permit_xattr(self.inode(), name, WRITE)?;
        self.inode().set_xattr(name, value, flags)?;
        self.tell(Events::ATTRIB);
        Ok(())
    }

    /// removexattr(2).
    ///
    /// # Errors
    /// `EROFS`, `ENODATA`, `EOPNOTSUPP`, `EPERM`, and what the file system says.
    pub fn remove_xattr(&self, name: XattrName<'_>) -> Result<()> {
        writable(self)?;
        permit_xattr(self.inode(), name, WRITE)?;
        self.inode().remove_xattr(name)?;
        self.tell(Events::ATTRIB);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_what_they_promise() {
        assert_eq!(XattrName::new(b"user.a/b").unwrap().as_bytes(), b"user.a/b");
        assert_eq!(XattrName::new(b""), Err(Errno::ERANGE));
        assert!(XattrName::new(&[b'x'; 255]).is_ok());
        assert_eq!(XattrName::new(&[b'x'; 256]), Err(Errno::ERANGE));
        assert_eq!(XattrName::new(b"user.a\0b"), Err(Errno::EINVAL));
    }
}
