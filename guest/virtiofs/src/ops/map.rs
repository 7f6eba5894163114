//! The window's messages: SETUPMAPPING and REMOVEMAPPING.

use super::{Call, Message, NodeId, Opcode, Tail};
use fuse_abi::linux::{self as abi, fuse_removemapping_in, fuse_removemapping_one, fuse_setupmapping_in};
use zerocopy::IntoBytes;

/// FUSE_SETUPMAPPING: file bytes from `file_offset` appear at `window_offset`, over whatever was there.
pub(crate) struct SetupMapping {
    pub(crate) node: NodeId,
    pub(crate) file_offset: u64,
    pub(crate) window_offset: u64,
    pub(crate) len: u64,
    pub(crate) writable: bool,
}

impl Message for SetupMapping {
    const OPCODE: Opcode = Opcode::FUSE_SETUPMAPPING;
    type Request = fuse_setupmapping_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_setupmapping_in {
        let write = if self.writable { abi::FUSE_SETUPMAPPING_FLAG_WRITE } else { 0 };
        fuse_setupmapping_in {
            // Linux sends no handle either: the mapping belongs to the inode.
            fh: u64::MAX,
            foffset: self.file_offset,
            len: self.len,
            flags: u64::from(abi::FUSE_SETUPMAPPING_FLAG_READ | write),
            moffset: self.window_offset,
        }
    }
}

impl Call for SetupMapping {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_REMOVEMAPPING of several ranges. About the root: the ranges may be of many files.
pub(crate) struct RemoveMapping<'a>(pub(crate) &'a [fuse_removemapping_one]);

impl Message for RemoveMapping<'_> {
    const OPCODE: Opcode = Opcode::FUSE_REMOVEMAPPING;
    type Request = fuse_removemapping_in;

    fn node(&self) -> NodeId {
        NodeId::ROOT
    }

    fn request(&self) -> fuse_removemapping_in {
        fuse_removemapping_in { count: self.0.len() as u32 }
    }

    fn tail(&self) -> Tail<'_> {
        [self.0.as_bytes(), &[], &[], &[]]
    }
}

impl Call for RemoveMapping<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}
