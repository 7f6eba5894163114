//! Attributes: GETATTR, SETATTR, ACCESS, STATFS, READLINK, and of the file system as a whole SYNCFS.

use super::{Call, Handle, Message, NodeId, Opcode, Validity};
use diolkos_vfs::{FileType, Metadata, SetMetadata, SetTime, StatFs, Timespec};
use fuse_abi::linux::{self as abi, fuse_access_in, fuse_attr, fuse_attr_out, fuse_getattr_in, fuse_setattr_in};

/// Magic number of FUSE file systems (`FUSE_SUPER_MAGIC`, statfs(2)).
const FUSE_SUPER_MAGIC: u64 = 0x6573_5546;

/// Attributes that have been found possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The type, from the mode.
    pub(crate) kind: FileType,
    /// Everything; `dev` is left 0 for the mount to fill in.
    pub(crate) metadata: Metadata,
}

impl Attributes {
    /// Checks what the host says: a type there is, a size within what `off_t` can say, nanoseconds below 10^9.
    pub(crate) fn parse(attr: &fuse_attr) -> Option<Self> {
        let kind = FileType::from_mode(attr.mode)?;
        i64::try_from(attr.size).ok()?;
        let time = |sec: u64, nsec: u32| (nsec < 1_000_000_000).then_some(Timespec { sec: sec as i64, nsec });
        let metadata = Metadata {
            ino: attr.ino,
            dev: 0,
            mode: attr.mode & 0o177777,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: u64::from(attr.rdev),
            size: attr.size,
            blocks: attr.blocks,
            blksize: if attr.blksize == 0 { 4096 } else { attr.blksize },
            atime: time(attr.atime, attr.atimensec)?,
            mtime: time(attr.mtime, attr.mtimensec)?,
            ctime: time(attr.ctime, attr.ctimensec)?,
        };
        Some(Self { kind, metadata })
    }
}

/// Attributes and how long they hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimedAttributes {
    pub(crate) attributes: Attributes,
    pub(crate) valid: Validity,
}

fn parse_attr_out(out: &fuse_attr_out) -> Option<TimedAttributes> {
    let attributes = Attributes::parse(&out.attr)?;
    Some(TimedAttributes { attributes, valid: Validity::new(out.attr_valid, out.attr_valid_nsec) })
}

/// FUSE_GETATTR, of the inode itself or through an open file.
pub(crate) struct GetAttr {
    pub(crate) node: NodeId,
    pub(crate) handle: Option<Handle>,
}

impl Message for GetAttr {
    const OPCODE: Opcode = Opcode::FUSE_GETATTR;
    type Request = fuse_getattr_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_getattr_in {
        match self.handle {
            Some(Handle(fh)) => fuse_getattr_in { getattr_flags: abi::FUSE_GETATTR_FH, fh, ..Default::default() },
            None => fuse_getattr_in::default(),
        }
    }
}

impl Call for GetAttr {
    type Wire = fuse_attr_out;
    type Reply = TimedAttributes;

    fn parse(&self, out: fuse_attr_out) -> Option<TimedAttributes> {
        parse_attr_out(&out)
    }
}

/// FUSE_SETATTR.
pub(crate) struct SetAttr<'a> {
    pub(crate) node: NodeId,
    pub(crate) handle: Option<Handle>,
    pub(crate) change: &'a SetMetadata,
}

impl Message for SetAttr<'_> {
    const OPCODE: Opcode = Opcode::FUSE_SETATTR;
    type Request = fuse_setattr_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_setattr_in {
        let mut to = fuse_setattr_in::default();
        if let Some(Handle(fh)) = self.handle {
            to.valid |= abi::FATTR_FH;
            to.fh = fh;
        }
        if let Some(mode) = self.change.mode {
            to.valid |= abi::FATTR_MODE;
            to.mode = mode & 0o7777;
        }
        if let Some(uid) = self.change.uid {
            to.valid |= abi::FATTR_UID;
            to.uid = uid;
        }
        if let Some(gid) = self.change.gid {
            to.valid |= abi::FATTR_GID;
            to.gid = gid;
        }
        if let Some(size) = self.change.size {
            to.valid |= abi::FATTR_SIZE;
            to.size = size;
        }
        if let Some(time) = self.change.atime {
            let (flags, secs, nanos) = time_fields(time, abi::FATTR_ATIME, abi::FATTR_ATIME_NOW);
            to.valid |= flags;
            (to.atime, to.atimensec) = (secs, nanos);
        }
        if let Some(time) = self.change.mtime {
            let (flags, secs, nanos) = time_fields(time, abi::FATTR_MTIME, abi::FATTR_MTIME_NOW);
            to.valid |= flags;
            (to.mtime, to.mtimensec) = (secs, nanos);
        }
        to
    }
}

fn time_fields(time: SetTime, set: u32, now: u32) -> (u32, u64, u32) {
    match time {
        SetTime::Now => (set | now, 0, 0),
        SetTime::To(Timespec { sec, nsec }) => (set, sec as u64, nsec),
    }
}

impl Call for SetAttr<'_> {
    type Wire = fuse_attr_out;
    type Reply = TimedAttributes;

    fn parse(&self, out: fuse_attr_out) -> Option<TimedAttributes> {
        parse_attr_out(&out)
    }
}

/// FUSE_ACCESS with access(2)'s mask.
pub(crate) struct Access {
    pub(crate) node: NodeId,
    pub(crate) mask: u32,
}

impl Message for Access {
    const OPCODE: Opcode = Opcode::FUSE_ACCESS;
    type Request = fuse_access_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> fuse_access_in {
        fuse_access_in { mask: self.mask, ..Default::default() }
    }
}

impl Call for Access {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_STATFS.
pub(crate) struct StatFsOf(pub(crate) NodeId);

impl Message for StatFsOf {
    const OPCODE: Opcode = Opcode::FUSE_STATFS;
    type Request = ();

    fn node(&self) -> NodeId {
        self.0
    }

    fn request(&self) {}
}

impl Call for StatFsOf {
    type Wire = abi::fuse_statfs_out;
    type Reply = StatFs;

    fn parse(&self, out: abi::fuse_statfs_out) -> Option<StatFs> {
        let st = out.st;
        Some(StatFs {
            magic: FUSE_SUPER_MAGIC,
            bsize: st.bsize,
            // Before it existed, servers left it out; statfs(2) then means the block size.
            frsize: if st.frsize == 0 { st.bsize } else { st.frsize },
            blocks: st.blocks,
            bfree: st.bfree,
            bavail: st.bavail,
            files: st.files,
            ffree: st.ffree,
            namelen: st.namelen,
        })
    }
}

/// FUSE_SYNCFS, of the file system that a node lies in.
pub(crate) struct SyncFs(pub(crate) NodeId);

impl Message for SyncFs {
    const OPCODE: Opcode = Opcode::FUSE_SYNCFS;
    type Request = abi::fuse_syncfs_in;

    fn node(&self) -> NodeId {
        self.0
    }

    fn request(&self) -> abi::fuse_syncfs_in {
        abi::fuse_syncfs_in { padding: 0 }
    }
}

impl Call for SyncFs {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_READLINK. The reply is the target, as long as the reply says and without a NUL.
pub(crate) struct ReadLink(pub(crate) NodeId);

impl Message for ReadLink {
    const OPCODE: Opcode = Opcode::FUSE_READLINK;
    type Request = ();

    fn node(&self) -> NodeId {
        self.0
    }

    fn request(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_attributes_are_refused() {
        let good = fuse_attr { mode: 0o100644, size: i64::MAX as u64, ..Default::default() };
        assert!(Attributes::parse(&good).is_some());
        for bad in [
            fuse_attr { mode: 0o644, ..good },
            fuse_attr { size: 1 << 63, ..good },
            fuse_attr { mtimensec: 1_000_000_000, ..good },
            fuse_attr { atimensec: u32::MAX, ..good },
        ] {
            assert!(Attributes::parse(&bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn changes_name_exactly_the_fields_given() {
        let change = SetMetadata {
            size: Some(7),
            atime: Some(SetTime::Now),
            mtime: Some(SetTime::To(Timespec { sec: -1, nsec: 5 })),
            ..Default::default()
        };
        let wire = SetAttr { node: NodeId(9), handle: None, change: &change }.request();
        assert_eq!(wire.valid, abi::FATTR_SIZE | abi::FATTR_ATIME | abi::FATTR_ATIME_NOW | abi::FATTR_MTIME);
        assert_eq!((wire.size, wire.mtime, wire.mtimensec), (7, u64::MAX, 5));
    }
}
