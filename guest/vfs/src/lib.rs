//! Names, inodes, open files and mounts: what every file system of the guest has in common.
//!
//! A file system implements [`Inode`] and [`File`]. The system call layer above goes by paths: a [`Namespace`] is
//! the tree of mounts, a [`Location`] a place in it. File systems in memory are here too ([`ramfs`],
//! [`generated`]), and the one kind of file that is the same on all of them ([`pipe`]). The crate
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

mod attributes;
pub mod block;
mod clock;
mod dentry;
mod dirstream;
mod file;
pub mod generated;
mod inode;
mod io;
mod lock;
mod mount;
mod names;
mod namespace;
pub mod notify;
mod open;
pub mod overlay;
mod permission;
pub mod pipe;
pub mod ramfs;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod types;
mod wait;
mod walk;
mod write_access;
mod xattr;

pub use clock::Clock;
pub use dentry::{Dentry, Location};
pub use dirstream::DirStream;
pub use file::{Access, Allocation, DirSink, File, MappedRun, Poll, Sought};
pub use inode::{Inode, InodeId, SetMetadata, SetTime};
pub use io::{Filled, MemBytes, MemBytesMut, Sink, SliceSink, SliceSource, Source, Taken, put_slice_at};
pub use lock::{ForeignLock, LockFamily, LockMode, LockRequest};
pub use mount::{Mount, MountSpec};
pub use namespace::{Lookup, Namespace, NamespaceConfig};
pub use open::{Opened, PathFile};
pub use permission::{Caller, caller, remove_privileges, set_callers};
pub use syscalls::Errno;
pub use types::{DirEntry, FileType, Metadata, Name, OpenFlags, RenameFlags, StatFs, Timespec};
pub use wait::{WaitQueue, WaitQueues};
pub use walk::PATH_MAX;
pub use write_access::{WriteAccess, WriteDenial};
pub use xattr::{XATTR_LIST_MAX, XATTR_SIZE_MAX, XattrFlags, XattrName};

/// The result of everything in this crate.
pub type Result<T> = core::result::Result<T, Errno>;
