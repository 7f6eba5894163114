//! Ranges of open files: FALLOCATE, LSEEK, COPY_FILE_RANGE.

use super::data::OpenNode;
use super::{Call, Message, NodeId, Opcode};
use diolkos_vfs::{Allocation, Sought};
use fuse_abi::linux::{fuse_copy_file_range_in, fuse_fallocate_in, fuse_lseek_in, fuse_lseek_out, fuse_write_out};

/// The mode bits of fallocate(2).
const KEEP_SIZE: u32 = 0x01;
const PUNCH_HOLE: u32 = 0x02;
const COLLAPSE_RANGE: u32 = 0x08;
const ZERO_RANGE: u32 = 0x10;
const INSERT_RANGE: u32 = 0x20;
const UNSHARE_RANGE: u32 = 0x40;

/// `SEEK_DATA` and `SEEK_HOLE` of lseek(2).
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;

/// FUSE_FALLOCATE.
pub(crate) struct FAllocate {
    pub(crate) file: OpenNode,
    pub(crate) what: Allocation,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Message for FAllocate {
    const OPCODE: Opcode = Opcode::FUSE_FALLOCATE;
    type Request = fuse_fallocate_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> fuse_fallocate_in {
        let what = match self.what {
            Allocation::Reserve { .. } => 0,
            Allocation::Punch => PUNCH_HOLE,
            Allocation::Zero { .. } => ZERO_RANGE,
            Allocation::Unshare { .. } => UNSHARE_RANGE,
            Allocation::Collapse => COLLAPSE_RANGE,
            Allocation::Insert => INSERT_RANGE,
        };
        let keep = if self.what.grows() || self.what.moves() { 0 } else { KEEP_SIZE };
        let (offset, length) = (self.offset, self.len);
        fuse_fallocate_in { fh: self.file.handle.0, offset, length, mode: what | keep, padding: 0 }
    }
}

impl Call for FAllocate {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_LSEEK, which exists for what only the server knows: data and holes.
pub(crate) struct LSeek {
    pub(crate) file: OpenNode,
    pub(crate) what: Sought,
    pub(crate) offset: u64,
}

impl Message for LSeek {
    const OPCODE: Opcode = Opcode::FUSE_LSEEK;
    type Request = fuse_lseek_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> fuse_lseek_in {
        let whence = match self.what {
            Sought::Data => SEEK_DATA,
            Sought::Hole => SEEK_HOLE,
        };
        fuse_lseek_in { fh: self.file.handle.0, offset: self.offset, whence, padding: 0 }
    }
}

impl Call for LSeek {
    type Wire = fuse_lseek_out;
    type Reply = u64;

    fn parse(&self, out: fuse_lseek_out) -> Option<u64> {
        let found = (self.offset..=i64::MAX as u64).contains(&out.offset);
        found.then_some(out.offset)
    }
}

/// FUSE_COPY_FILE_RANGE.
pub(crate) struct CopyRange {
    pub(crate) from: OpenNode,
    pub(crate) offset: u64,
    pub(crate) to: OpenNode,
    pub(crate) to_offset: u64,
    /// At most what the 32 bits of the reply can say.
    pub(crate) len: u32,
}

impl Message for CopyRange {
    const OPCODE: Opcode = Opcode::FUSE_COPY_FILE_RANGE;
    type Request = fuse_copy_file_range_in;

    fn node(&self) -> NodeId {
        self.from.node
    }

    fn request(&self) -> fuse_copy_file_range_in {
        fuse_copy_file_range_in {
            fh_in: self.from.handle.0,
            off_in: self.offset,
            nodeid_out: self.to.node.0,
            fh_out: self.to.handle.0,
            off_out: self.to_offset,
            len: self.len.into(),
            flags: 0,
        }
    }
}

impl Call for CopyRange {
    type Wire = fuse_write_out;
    type Reply = usize;

    fn parse(&self, out: fuse_write_out) -> Option<usize> {
        (out.size <= self.len).then_some(out.size as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Handle;
    use super::*;

    const FILE: OpenNode = OpenNode { node: NodeId(2), handle: Handle(7), flags: 2 };

    #[test]
    fn modes_are_linux_values() {
        let mode = |what| FAllocate { file: FILE, what, offset: 1, len: 2 }.request().mode;
        assert_eq!(mode(Allocation::Reserve { keep_size: false }), 0);
        assert_eq!(mode(Allocation::Reserve { keep_size: true }), 1);
        assert_eq!(mode(Allocation::Punch), 3);
        assert_eq!(mode(Allocation::Zero { keep_size: false }), 0x10);
        assert_eq!(mode(Allocation::Zero { keep_size: true }), 0x11);
        assert_eq!(mode(Allocation::Unshare { keep_size: false }), 0x40);
        assert_eq!(mode(Allocation::Unshare { keep_size: true }), 0x41);
        assert_eq!((mode(Allocation::Collapse), mode(Allocation::Insert)), (8, 0x20));
    }

    #[test]
    fn what_is_found_lies_ahead() {
        let parse = |offset| LSeek { file: FILE, what: Sought::Hole, offset: 100 }.parse(fuse_lseek_out { offset });
        assert_eq!((parse(100), parse(i64::MAX as u64)), (Some(100), Some(i64::MAX as u64)));
        assert_eq!((parse(99), parse(1 << 63)), (None, None));
    }

    #[test]
    fn no_more_is_copied_than_was_asked_for() {
        let call = CopyRange { from: FILE, offset: 0, to: FILE, to_offset: 9, len: 5 };
        let reply = |size| fuse_write_out { size, padding: 0 };
        assert_eq!((call.parse(reply(5)), call.parse(reply(6))), (Some(5), None));
    }
}
