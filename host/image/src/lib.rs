//! Images of directories for Diolkos to boot from: making them, checking what was made, and listing them.
//!
//! EROFS images are made by the standard `mkfs.erofs`, cpio archives by ourselves ([`Format`]). Either is read back with the
//! code that the guest reads it with and compared with the directory ([`build`]): an image that boots differently from the
//! directory it was made of is worse than none.
//!
//! An image appears under its name when it is whole: until then it is a file without a name, which goes with the process
//! however that ends.

mod archive;
mod build;
mod check;
mod contents;
mod error;
mod output;
mod tree;

pub use build::{Compression, Format, Order, build};
pub use contents::{Node, Reader, visit};
pub use error::{Error, Result};

/// Told now and then how far the work is.
pub type Progress<'a> = dyn FnMut(&str) + 'a;
