//! The FUSE messages, each a type: its opcode, what it asks, and what its reply means.
//!
//! A [`Message`] knows how it is written; a [`Call`] also knows the one length its reply must have and how
//! to read it. Parsed replies cannot hold nonsense: what the host may not say is an error here, and nothing behind
//! this module checks it again. The layouts are the `fuse_*` structures of Linux' `include/uapi/linux/fuse.h`.
//! Messages whose reply has no fixed length (READ, READLINK, READDIR) are only `Message`s.

pub(crate) mod attr;
pub(crate) mod data;
pub(crate) mod dir;
pub(crate) mod init;
pub(crate) mod lock;
pub(crate) mod map;
pub(crate) mod name;
pub(crate) mod range;
pub(crate) mod xattr;

use diolkos_vfs::{Errno, MemBytes, Result};
pub(crate) use fuse_abi::linux::fuse_opcode as Opcode;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The server's name for an inode. 1 is the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) u64);

impl NodeId {
    /// `FUSE_ROOT_ID`.
    pub(crate) const ROOT: Self = Self(1);
}

/// The server's name for an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(pub(crate) u64);

/// What follows the fixed part of a request: names, NULs, data.
pub(crate) type Tail<'a> = [&'a [u8]; 4];

/// Nothing follows.
pub(crate) const NO_TAIL: Tail<'static> = [&[]; 4];

/// The byte that ends a name on the wire.
pub(crate) const NUL: &[u8] = &[0];

/// A request.
pub(crate) trait Message {
    /// Which one.
    const OPCODE: Opcode;
    /// The fixed part after the header.
    type Request: IntoBytes + Immutable;

    /// The inode it is about.
    fn node(&self) -> NodeId;

    /// The fixed part.
    fn request(&self) -> Self::Request;

    /// The rest.
    fn tail(&self) -> Tail<'_> {
        NO_TAIL
    }

    /// Content of a file, at the very end.
    fn content(&self) -> &[MemBytes<'_>] {
        &[]
    }
}

/// A request whose reply has a fixed length.
pub(crate) trait Call: Message {
    /// The reply on the wire, without the header.
    type Wire: FromBytes + IntoBytes;
    /// What it means.
    type Reply;

    /// Reads the reply; `None` when the host may not say that.
    fn parse(&self, wire: Self::Wire) -> Option<Self::Reply>;
}

/// A point in time or a span as the wire has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    secs: u64,
    nanos: u32,
}

impl Validity {
    /// Seconds and nanoseconds; too many nanoseconds count as the most there can be.
    pub(crate) fn new(secs: u64, nanos: u32) -> Self {
        Self { secs, nanos: nanos.min(999_999_999) }
    }

    /// The span in nanoseconds, `u64::MAX` when that does not fit.
    pub(crate) fn as_nanos(self) -> u64 {
        self.secs.saturating_mul(1_000_000_000).saturating_add(u64::from(self.nanos))
    }
}

/// An errno from a reply header: 0, or -1 to -4095.
pub(crate) fn parse_error(error: i32) -> Option<Result<()>> {
    match error {
        0 => Some(Ok(())),
        -4095..=-1 => Some(Err(Errno::new(-error))),
        _ => None,
    }
}

/// The opcodes this client sends and the names of their counters: as in the FUSE header, without `FUSE_`.
pub(crate) const SENT: &[(Opcode, &str)] = &[
    (Opcode::FUSE_LOOKUP, "fuse.LOOKUP"),
    (Opcode::FUSE_FORGET, "fuse.FORGET"),
    (Opcode::FUSE_GETATTR, "fuse.GETATTR"),
    (Opcode::FUSE_SETATTR, "fuse.SETATTR"),
    (Opcode::FUSE_READLINK, "fuse.READLINK"),
    (Opcode::FUSE_SYMLINK, "fuse.SYMLINK"),
    (Opcode::FUSE_MKNOD, "fuse.MKNOD"),
    (Opcode::FUSE_MKDIR, "fuse.MKDIR"),
    (Opcode::FUSE_UNLINK, "fuse.UNLINK"),
    (Opcode::FUSE_RMDIR, "fuse.RMDIR"),
    (Opcode::FUSE_RENAME, "fuse.RENAME"),
    (Opcode::FUSE_LINK, "fuse.LINK"),
    (Opcode::FUSE_OPEN, "fuse.OPEN"),
    (Opcode::FUSE_READ, "fuse.READ"),
    (Opcode::FUSE_WRITE, "fuse.WRITE"),
    (Opcode::FUSE_STATFS, "fuse.STATFS"),
    (Opcode::FUSE_RELEASE, "fuse.RELEASE"),
    (Opcode::FUSE_FSYNC, "fuse.FSYNC"),
    (Opcode::FUSE_SETXATTR, "fuse.SETXATTR"),
    (Opcode::FUSE_GETXATTR, "fuse.GETXATTR"),
    (Opcode::FUSE_LISTXATTR, "fuse.LISTXATTR"),
    (Opcode::FUSE_REMOVEXATTR, "fuse.REMOVEXATTR"),
    (Opcode::FUSE_FLUSH, "fuse.FLUSH"),
    (Opcode::FUSE_INIT, "fuse.INIT"),
    (Opcode::FUSE_OPENDIR, "fuse.OPENDIR"),
    (Opcode::FUSE_READDIR, "fuse.READDIR"),
    (Opcode::FUSE_RELEASEDIR, "fuse.RELEASEDIR"),
    (Opcode::FUSE_FSYNCDIR, "fuse.FSYNCDIR"),
    (Opcode::FUSE_GETLK, "fuse.GETLK"),
    (Opcode::FUSE_SETLK, "fuse.SETLK"),
    (Opcode::FUSE_ACCESS, "fuse.ACCESS"),
    (Opcode::FUSE_CREATE, "fuse.CREATE"),
    (Opcode::FUSE_DESTROY, "fuse.DESTROY"),
    (Opcode::FUSE_BATCH_FORGET, "fuse.BATCH_FORGET"),
    (Opcode::FUSE_FALLOCATE, "fuse.FALLOCATE"),
    (Opcode::FUSE_READDIRPLUS, "fuse.READDIRPLUS"),
    (Opcode::FUSE_RENAME2, "fuse.RENAME2"),
    (Opcode::FUSE_LSEEK, "fuse.LSEEK"),
    (Opcode::FUSE_COPY_FILE_RANGE, "fuse.COPY_FILE_RANGE"),
    (Opcode::FUSE_SETUPMAPPING, "fuse.SETUPMAPPING"),
    (Opcode::FUSE_REMOVEMAPPING, "fuse.REMOVEMAPPING"),
    (Opcode::FUSE_SYNCFS, "fuse.SYNCFS"),
    (Opcode::FUSE_TMPFILE, "fuse.TMPFILE"),
];
