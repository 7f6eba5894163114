//! Names, inodes, open files and mounts: what every file system of the guest has in common.
//!
//! A file system implements [`Inode`] and [`File`]; the system call layer above sees nothing else. The crate
//! knows no FUSE, no PCI and no address space: bytes reach the program through [`Sink`] and leave it
//! through [`Source`], so that user memory is copied in one place, by whoever can take the fault.
//!
//! # Locking
//! Everything may sleep in a file system's methods. No spin lock is ever held across a call of a method of
//! [`Inode`], [`File`], [`Sink`] or [`Source`]: the first two may wait for the host, the last two may fault.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod file;
mod inode;
mod io;
mod types;

pub use file::{Access, DirSink, File, MappedRun, Poll};
pub use inode::{Inode, InodeId, SetMetadata, SetTime};
pub use io::{MemBytes, Sink, SliceSink, SliceSource, Source, put_slice_at};
pub use syscalls::Errno;
pub use types::{DirEntry, FileType, Metadata, Name, OpenFlags, RenameFlags, StatFs, Timespec};

/// The result of everything in this crate.
pub type Result<T> = core::result::Result<T, Errno>;
