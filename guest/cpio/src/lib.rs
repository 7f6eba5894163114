//! cpio archives in the newc format, the one that Linux takes as an initrd.
//!
//! [`read`] goes through an archive, which may be compressed by gzip or Zstandard ([`input`]), or be several archives one
//! after the other, compressed or not, as Linux allows; [`unpack`] makes a file tree in memory of it; [`Header`] is one
//! entry's, both ways. Archives are streams: neither an archive nor a file in it is ever in memory as a whole here.
//!
//! The format: cpio(5), and `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux.
//!
//! The archive is the word of a stranger: no length in it makes memory be taken before the bytes are there.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod error;
mod header;
pub mod input;
mod read;
mod unpack;

pub use error::{Error, Result};
pub use header::{HEADER, Header, TRAILER};
pub use input::Input;
pub use read::{Content, Each, NAME_MAX, Summary, read};
pub use unpack::unpack;
