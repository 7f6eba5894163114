//! Names: LOOKUP and everything that makes, moves or removes an entry of a directory; FORGET.

use super::{Call, Message, NUL, NodeId, Opcode, Tail, Validity};
use crate::ops::attr::{Attributes, TimedAttributes};
use crate::ops::data::Opened;
use diolkos_vfs::{Name, RenameFlags};
use fuse_abi::linux as abi;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An entry the host knows: each one received counts one lookup of its node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) node: NodeId,
    pub(crate) generation: u64,
    pub(crate) attributes: TimedAttributes,
    /// How long the name leads there.
    pub(crate) valid: Validity,
}

impl Entry {
    /// `None` when the host may not say that: node 0 is no node, and 1 is the root, which no name leads to.
    pub(crate) fn parse(out: &abi::fuse_entry_out) -> Option<Self> {
        if out.nodeid == 0 || out.nodeid == NodeId::ROOT.0 {
            return None;
        }
        Some(Self {
            node: NodeId(out.nodeid),
            generation: out.generation,
            attributes: TimedAttributes {
                attributes: Attributes::parse(&out.attr)?,
                valid: Validity::new(out.attr_valid, out.attr_valid_nsec),
            },
            valid: Validity::new(out.entry_valid, out.entry_valid_nsec),
        })
    }
}

/// What LOOKUP found.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found {
    /// An entry.
    Entry(Entry),
    /// Nothing, and that holds for so long. (`ENOENT` is nothing that holds for no time.)
    Nothing(Validity),
}

/// FUSE_LOOKUP of one name in a directory.
pub(crate) struct Lookup<'a> {
    pub(crate) dir: NodeId,
    pub(crate) name: Name<'a>,
}

impl Message for Lookup<'_> {
    const OPCODE: Opcode = Opcode::FUSE_LOOKUP;
    type Request = ();

    fn node(&self) -> NodeId {
        self.dir
    }

    fn request(&self) {}

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, &[], &[]]
    }
}

impl Call for Lookup<'_> {
    type Wire = abi::fuse_entry_out;
    type Reply = Found;

    fn parse(&self, out: abi::fuse_entry_out) -> Option<Found> {
        if out.nodeid == 0 {
            return Some(Found::Nothing(Validity::new(out.entry_valid, out.entry_valid_nsec)));
        }
        Entry::parse(&out).map(Found::Entry)
    }
}

/// FUSE_CREATE: makes a regular file and opens it.
pub(crate) struct Create<'a> {
    pub(crate) dir: NodeId,
    pub(crate) name: Name<'a>,
    pub(crate) mode: u32,
    pub(crate) flags: u32,
}

/// The reply to CREATE.
#[repr(C)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub(crate) struct CreateOut {
    entry: abi::fuse_entry_out,
    open: abi::fuse_open_out,
}

impl Message for Create<'_> {
    const OPCODE: Opcode = Opcode::FUSE_CREATE;
    type Request = abi::fuse_create_in;

    fn node(&self) -> NodeId {
        self.dir
    }

    fn request(&self) -> abi::fuse_create_in {
        abi::fuse_create_in { flags: self.flags, mode: self.mode, ..Default::default() }
    }

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, &[], &[]]
    }
}

impl Call for Create<'_> {
    type Wire = CreateOut;
    type Reply = (Entry, Opened);

    fn parse(&self, out: CreateOut) -> Option<Self::Reply> {
        Some((Entry::parse(&out.entry)?, Opened::parse(&out.open)))
    }
}

/// FUSE_TMPFILE: makes a regular file without a name and opens it. Linux sends a name all the same, and that is `/`.
pub(crate) struct TmpFile {
    pub(crate) dir: NodeId,
    pub(crate) mode: u32,
    pub(crate) flags: u32,
}

impl Message for TmpFile {
    const OPCODE: Opcode = Opcode::FUSE_TMPFILE;
    type Request = abi::fuse_create_in;

    fn node(&self) -> NodeId {
        self.dir
    }

    fn request(&self) -> abi::fuse_create_in {
        abi::fuse_create_in { flags: self.flags, mode: self.mode, ..Default::default() }
    }

    fn tail(&self) -> Tail<'_> {
        [b"/", NUL, &[], &[]]
    }
}

impl Call for TmpFile {
    type Wire = CreateOut;
    type Reply = (Entry, Opened);

    fn parse(&self, out: CreateOut) -> Option<Self::Reply> {
        Some((Entry::parse(&out.entry)?, Opened::parse(&out.open)))
    }
}

macro_rules! makes_entry {
    ($(#[$doc:meta])* $op:ident, $opcode:ident, { $($field:ident : $type:ty),* }, $wire:ty, |$self:ident| $request:expr, $tail:expr) => {
        $(#[$doc])*
        pub(crate) struct $op<'a> {
            pub(crate) dir: NodeId,
            pub(crate) name: Name<'a>,
            $(pub(crate) $field: $type,)*
        }

        impl Message for $op<'_> {
            const OPCODE: Opcode = Opcode::$opcode;
            type Request = $wire;

            fn node(&self) -> NodeId {
                self.dir
            }

            fn request(&$self) -> $wire {
                $request
            }

            fn tail(&$self) -> Tail<'_> {
                $tail
            }
        }

        impl Call for $op<'_> {
            type Wire = abi::fuse_entry_out;
            type Reply = Entry;

            fn parse(&self, out: abi::fuse_entry_out) -> Option<Entry> {
                Entry::parse(&out)
            }
        }
    };
}

makes_entry! {
    /// FUSE_MKDIR.
    MkDir, FUSE_MKDIR, { mode: u32 }, abi::fuse_mkdir_in,
    |self| abi::fuse_mkdir_in { mode: self.mode, umask: 0 },
    [self.name.as_bytes(), NUL, &[], &[]]
}
makes_entry! {
    /// FUSE_MKNOD.
    MkNod, FUSE_MKNOD, { mode: u32, rdev: u32 }, abi::fuse_mknod_in,
    |self| abi::fuse_mknod_in { mode: self.mode, rdev: self.rdev, ..Default::default() },
    [self.name.as_bytes(), NUL, &[], &[]]
}
makes_entry! {
    /// FUSE_SYMLINK. The target holds no NUL.
    Symlink, FUSE_SYMLINK, { target: &'a [u8] }, (),
    |self| (),
    [self.name.as_bytes(), NUL, self.target, NUL]
}
makes_entry! {
    /// FUSE_LINK. Its reply counts one lookup of the target.
    Link, FUSE_LINK, { target: NodeId }, abi::fuse_link_in,
    |self| abi::fuse_link_in { oldnodeid: self.target.0 },
    [self.name.as_bytes(), NUL, &[], &[]]
}

macro_rules! removes_entry {
    ($(#[$doc:meta])* $op:ident, $opcode:ident) => {
        $(#[$doc])*
        pub(crate) struct $op<'a> {
            pub(crate) dir: NodeId,
            pub(crate) name: Name<'a>,
        }

        impl Message for $op<'_> {
            const OPCODE: Opcode = Opcode::$opcode;
            type Request = ();

            fn node(&self) -> NodeId {
                self.dir
            }

            fn request(&self) {}

            fn tail(&self) -> Tail<'_> {
                [self.name.as_bytes(), NUL, &[], &[]]
            }
        }

        impl Call for $op<'_> {
            type Wire = ();
            type Reply = ();

            fn parse(&self, (): ()) -> Option<()> {
                Some(())
            }
        }
    };
}

removes_entry! {
    /// FUSE_UNLINK.
    Unlink, FUSE_UNLINK
}
removes_entry! {
    /// FUSE_RMDIR.
    RmDir, FUSE_RMDIR
}

/// FUSE_RENAME: without flags.
pub(crate) struct Rename<'a> {
    pub(crate) dir: NodeId,
    pub(crate) name: Name<'a>,
    pub(crate) to_dir: NodeId,
    pub(crate) to: Name<'a>,
}

impl Message for Rename<'_> {
    const OPCODE: Opcode = Opcode::FUSE_RENAME;
    type Request = abi::fuse_rename_in;

    fn node(&self) -> NodeId {
        self.dir
    }

    fn request(&self) -> abi::fuse_rename_in {
        abi::fuse_rename_in { newdir: self.to_dir.0 }
    }

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, self.to.as_bytes(), NUL]
    }
}

impl Call for Rename<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_RENAME2: with the flags of renameat2(2).
pub(crate) struct Rename2<'a> {
    pub(crate) rename: Rename<'a>,
    pub(crate) flags: RenameFlags,
}

impl Message for Rename2<'_> {
    const OPCODE: Opcode = Opcode::FUSE_RENAME2;
    type Request = abi::fuse_rename2_in;

    fn node(&self) -> NodeId {
        self.rename.dir
    }

    fn request(&self) -> abi::fuse_rename2_in {
        abi::fuse_rename2_in { newdir: self.rename.to_dir.0, flags: self.flags.bits(), ..Default::default() }
    }

    fn tail(&self) -> Tail<'_> {
        self.rename.tail()
    }
}

impl Call for Rename2<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// So many lookups of a node that are to be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forgotten {
    pub(crate) node: NodeId,
    pub(crate) lookups: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(nodeid: u64) -> abi::fuse_entry_out {
        let attr = abi::fuse_attr { mode: 0o100644, ..Default::default() };
        abi::fuse_entry_out { nodeid, entry_valid: 2, attr, ..Default::default() }
    }

    #[test]
    fn the_root_and_nothing_are_no_entries() {
        assert!(Entry::parse(&out(0)).is_none());
        assert!(Entry::parse(&out(1)).is_none());
        assert_eq!(Entry::parse(&out(u64::MAX)).unwrap().node, NodeId(u64::MAX));
    }

    #[test]
    fn a_negative_entry_has_a_time() {
        let lookup = Lookup { dir: NodeId::ROOT, name: Name::new(b"x").unwrap() };
        match lookup.parse(out(0)) {
            Some(Found::Nothing(valid)) => assert_eq!(valid.as_nanos(), 2_000_000_000),
            other => panic!("{other:?}"),
        }
        assert!(lookup.parse(out(1)).is_none());
    }
}
