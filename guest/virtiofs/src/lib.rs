//! The virtio-fs file system of the guest: a FUSE client, its caches, and the manager of its DAX window.
//!
//! It turns the host's directory into [`diolkos_vfs::Inode`]s and [`diolkos_vfs::File`]s. It knows no PCI, no rings
//! and no page tables: messages go through a [`Transport`], page tables are reached through a [`Platform`], the
//! window is [`WindowMemory`] that somebody else has found. So all of it runs in an ordinary test, against a real
//! server.
//!
//! ```text
//!   Inode, File ─► inode, file, dir ─► fs: node table, dentries ─► session ─► Transport
//!                        │                                            ▲
//!                        └─► window: manager, policy ─► backing ──────┘
//! ```
//!
//! The host is not trusted: every reply is checked where it arrives (`session` for the frame, `ops` for the content),
//! and what makes no sense is `EIO`. It can still lie about content, which is its own.
//!
//! # Locking
//! All locks are spin locks over a few memory accesses. None is held while the host is waited for, while bytes are
//! copied, or while something of ours is dropped.
//!
//! Dropping the last reference to an inode or an open file of a share sends messages and may wait for their
//! replies (RELEASE, REMOVEMAPPING): not under a spin lock. Dropping the pin of a [`diolkos_vfs::MappedRun`] never
//! waits.
//!
//! Making room in the window, shrinking a file and that last drop call [`Platform::revoke`]: whatever lock it takes on
//! page tables may not be held by who calls [`diolkos_vfs::File::map`], reads, or drops a file.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod attrs;
mod bare;
mod bounce;
mod counters;
mod dentry;
mod dir;
mod file;
mod fs;
mod inode;
mod limits;
mod mount;
mod neighbours;
mod node;
mod ops;
mod pages;
mod posted;
mod seam;
mod session;
mod window;
mod xattr;

pub use counters::{Counters, Tally};
pub use diolkos_pages::{Frames, PAGE};
pub use limits::INODES;
pub use mount::{Mount, MountOptions, NoDax, mount};
pub use seam::{Errand, Lent, Parcel, Platform, Transport, WindowMemory};
pub use session::TraceLine;
