//! Extended attributes: GETXATTR, SETXATTR, LISTXATTR, REMOVEXATTR.
//!
//! The first and the third come in two forms: with room for an answer, which is then as long as it is, and without, where
//! the answer is the length there would be.

use super::{Call, Message, NUL, NodeId, Opcode, Tail};
use diolkos_vfs::{XATTR_LIST_MAX, XATTR_SIZE_MAX, XattrFlags, XattrName};
use fuse_abi::linux::{fuse_getxattr_in, fuse_getxattr_out};
use zerocopy::{Immutable, IntoBytes};

/// FUSE_GETXATTR. The reply is the value.
pub(crate) struct GetXattr<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: XattrName<'a>,
    /// Bytes there is room for, not 0.
    pub(crate) room: u32,
}

impl Message for GetXattr<'_> {
    const OPCODE: Opcode = Opcode::FUSE_GETXATTR;
    type Request = fuse_getxattr_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_getxattr_in {
        fuse_getxattr_in { size: self.room, padding: 0 }
    }

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, &[], &[]]
    }
}

/// FUSE_GETXATTR without room.
pub(crate) struct XattrLength<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: XattrName<'a>,
}

impl Message for XattrLength<'_> {
    const OPCODE: Opcode = Opcode::FUSE_GETXATTR;
    type Request = fuse_getxattr_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_getxattr_in {
        fuse_getxattr_in::default()
    }

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, &[], &[]]
    }
}

impl Call for XattrLength<'_> {
    type Wire = fuse_getxattr_out;
    type Reply = usize;

    fn parse(&self, out: fuse_getxattr_out) -> Option<usize> {
        Some(out.size as usize).filter(|size| *size <= XATTR_SIZE_MAX)
    }
}

/// FUSE_LISTXATTR. The reply is the list: see [`is_list`].
pub(crate) struct ListXattr {
    pub(crate) node: NodeId,
    /// Bytes there is room for, not 0.
    pub(crate) room: u32,
}

impl Message for ListXattr {
    const OPCODE: Opcode = Opcode::FUSE_LISTXATTR;
    type Request = fuse_getxattr_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_getxattr_in {
        fuse_getxattr_in { size: self.room, padding: 0 }
    }
}

/// FUSE_LISTXATTR without room.
pub(crate) struct XattrListLength(pub(crate) NodeId);

impl Message for XattrListLength {
    const OPCODE: Opcode = Opcode::FUSE_LISTXATTR;
    type Request = fuse_getxattr_in;

    fn node(&self) -> NodeId {
        self.0
    }

    fn request(&self) -> fuse_getxattr_in {
        fuse_getxattr_in::default()
    }
}

impl Call for XattrListLength {
    type Wire = fuse_getxattr_out;
    type Reply = usize;

    fn parse(&self, out: fuse_getxattr_out) -> Option<usize> {
        Some(out.size as usize).filter(|size| *size <= XATTR_LIST_MAX)
    }
}

/// Whether bytes are names, each ended by a NUL.
pub(crate) fn is_list(bytes: &[u8]) -> bool {
    match bytes.strip_suffix(NUL) {
        Some(names) => names.split(|byte| *byte == 0).all(|name| XattrName::new(name).is_ok()),
        None => bytes.is_empty(),
    }
}

/// FUSE_SETXATTR. The value is no longer than [`XATTR_SIZE_MAX`].
pub(crate) struct SetXattr<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: XattrName<'a>,
    pub(crate) value: &'a [u8],
    pub(crate) flags: XattrFlags,
}

/// The fixed part of SETXATTR as it is without FUSE_SETXATTR_EXT (`FUSE_COMPAT_SETXATTR_IN_SIZE`), which we do not offer.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
pub(crate) struct SetXattrIn {
    size: u32,
    flags: u32,
}

impl Message for SetXattr<'_> {
    const OPCODE: Opcode = Opcode::FUSE_SETXATTR;
    type Request = SetXattrIn;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> SetXattrIn {
        SetXattrIn { size: self.value.len() as u32, flags: self.flags.bits() }
    }

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, self.value, &[]]
    }
}

impl Call for SetXattr<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_REMOVEXATTR.
pub(crate) struct RemoveXattr<'a> {
    pub(crate) node: NodeId,
    pub(crate) name: XattrName<'a>,
}

impl Message for RemoveXattr<'_> {
    const OPCODE: Opcode = Opcode::FUSE_REMOVEXATTR;
    type Request = ();

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) {}

    fn tail(&self) -> Tail<'_> {
        [self.name.as_bytes(), NUL, &[], &[]]
    }
}

impl Call for RemoveXattr<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_names_with_their_ends() {
        let long = [&[b'x'; 256][..], NUL].concat();
        for good in [&b""[..], b"user.a\0", b"user.a\0security.b\0", &long[1..]] {
            assert!(is_list(good), "{good:?}");
        }
        for bad in [&b"user.a"[..], b"\0", b"user.a\0\0", b"a\0b", &long] {
            assert!(!is_list(bad), "{bad:?}");
        }
    }

    #[test]
    fn lengths_past_the_limit_are_refused() {
        let name = XattrName::new(b"user.a").unwrap();
        let reply = |size| fuse_getxattr_out { size, padding: 0 };
        let node = NodeId(5);
        assert_eq!(XattrLength { node, name }.parse(reply(65536)), Some(65536));
        assert_eq!(XattrLength { node, name }.parse(reply(65537)), None);
        assert_eq!(XattrListLength(node).parse(reply(u32::MAX)), None);
    }
}
