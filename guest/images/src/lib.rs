//! What the read-only file systems of images have in common.
//!
//! A file system implements [`Format`]: it finds inodes, names and content on a [`Device`]. [`Mount`] makes inodes and open
//! files of the guest of that, whose content goes through a page cache. Formats know nothing of the guest's files, and the
//! guest's files nothing of formats.
//!
//! An image is the word of a stranger. [`Device`] refuses addresses outside of it, a format checks everything else before it
//! uses it, and what is wrong is an [`Error`], never a panic.
#![no_std]

extern crate alloc;

pub mod bytes;
mod cache;
mod checksum;
mod error;
mod format;
mod mount;

pub use cache::{Device, DirectMapped, zeros};
pub use checksum::crc32c;
pub use error::{Error, Feature, Result};
pub use format::{Entry, Format, XATTR_PREFIXES, Xattr, device_number, file_type};
pub use mount::{Mount, Teller};
