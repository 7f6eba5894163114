//! Open files: OPEN, OPENDIR, READ, WRITE, FLUSH, FSYNC, RELEASE and their directory forms.

use super::{Call, Handle, Message, NodeId, Opcode};
use diolkos_vfs::{MemBytes, OpenFlags};
use fuse_abi::linux as abi;

/// What OPEN, OPENDIR and CREATE give.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) handle: Handle,
    /// The server has nothing to do at close(2): FLUSH need not be sent.
    pub(crate) no_flush: bool,
    /// The server wants every read and write for itself.
    pub(crate) direct: bool,
    /// What is cached of the file stays good across this open.
    pub(crate) keeps_cache: bool,
}

impl Opened {
    pub(crate) fn parse(out: &abi::fuse_open_out) -> Self {
        let flag = |bit| out.open_flags & bit != 0;
        Self {
            handle: Handle(out.fh),
            no_flush: flag(abi::FOPEN_NOFLUSH),
            direct: flag(abi::FOPEN_DIRECT_IO),
            keeps_cache: flag(abi::FOPEN_KEEP_CACHE),
        }
    }
}

/// For the messages that come in two forms: of a directory, and of anything else.
pub(crate) const DIRECTORY: bool = true;
/// See [`DIRECTORY`].
pub(crate) const REGULAR: bool = false;

/// FUSE_OPEN or FUSE_OPENDIR with open(2)'s flags.
pub(crate) struct Open<const DIR: bool> {
    pub(crate) node: NodeId,
    pub(crate) flags: u32,
}

impl<const DIR: bool> Message for Open<DIR> {
    const OPCODE: Opcode = if DIR { Opcode::FUSE_OPENDIR } else { Opcode::FUSE_OPEN };
    type Request = abi::fuse_open_in;

    fn node(&self) -> NodeId {
        self.node
    }

    fn request(&self) -> abi::fuse_open_in {
        abi::fuse_open_in { flags: self.flags, open_flags: 0 }
    }
}

impl<const DIR: bool> Call for Open<DIR> {
    type Wire = abi::fuse_open_out;
    type Reply = Opened;

    fn parse(&self, out: abi::fuse_open_out) -> Option<Opened> {
        Some(Opened::parse(&out))
    }
}

/// An open file as its messages name it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenNode {
    pub(crate) node: NodeId,
    pub(crate) handle: Handle,
    /// The flags it was opened with. Some servers compare them with what they remember.
    pub(crate) flags: u32,
}

/// FUSE_RELEASE or FUSE_RELEASEDIR.
pub(crate) struct Release<const DIR: bool> {
    pub(crate) file: OpenNode,
}

impl<const DIR: bool> Message for Release<DIR> {
    const OPCODE: Opcode = if DIR { Opcode::FUSE_RELEASEDIR } else { Opcode::FUSE_RELEASE };
    type Request = abi::fuse_release_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> abi::fuse_release_in {
        abi::fuse_release_in { fh: self.file.handle.0, flags: self.file.flags, ..Default::default() }
    }
}

impl<const DIR: bool> Call for Release<DIR> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_FSYNC or FUSE_FSYNCDIR.
pub(crate) struct FSync<const DIR: bool> {
    pub(crate) file: OpenNode,
    pub(crate) data_only: bool,
}

impl<const DIR: bool> Message for FSync<DIR> {
    const OPCODE: Opcode = if DIR { Opcode::FUSE_FSYNCDIR } else { Opcode::FUSE_FSYNC };
    type Request = abi::fuse_fsync_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> abi::fuse_fsync_in {
        let fsync_flags = if self.data_only { abi::FUSE_FSYNC_FDATASYNC } else { 0 };
        abi::fuse_fsync_in { fh: self.file.handle.0, fsync_flags, ..Default::default() }
    }
}

impl<const DIR: bool> Call for FSync<DIR> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_FLUSH: a descriptor is closed.
pub(crate) struct Flush(pub(crate) OpenNode);

impl Message for Flush {
    const OPCODE: Opcode = Opcode::FUSE_FLUSH;
    type Request = abi::fuse_flush_in;

    fn node(&self) -> NodeId {
        self.0.node
    }

    fn request(&self) -> abi::fuse_flush_in {
        abi::fuse_flush_in { fh: self.0.handle.0, ..Default::default() }
    }
}

impl Call for Flush {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_READ of `size` bytes from `offset`. The reply is as long as what was read.
pub(crate) struct Read {
    pub(crate) file: OpenNode,
    pub(crate) offset: u64,
    pub(crate) size: u32,
}

impl Message for Read {
    const OPCODE: Opcode = Opcode::FUSE_READ;
    type Request = abi::fuse_read_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> abi::fuse_read_in {
        abi::fuse_read_in {
            fh: self.file.handle.0,
            offset: self.offset,
            size: self.size,
            flags: self.file.flags,
            ..Default::default()
        }
    }
}

/// FUSE_WRITE of `data` at `offset`. The reply says how much of it was written.
pub(crate) struct Write<'a> {
    pub(crate) file: OpenNode,
    pub(crate) offset: u64,
    pub(crate) data: &'a [MemBytes<'a>],
    /// At the end instead. It need not be as the file was opened: fcntl(2) may have changed that, and pwritev2(2) may ask for it.
    pub(crate) append: bool,
}

impl Write<'_> {
    fn len(&self) -> usize {
        self.data.iter().map(|piece| piece.len()).sum()
    }
}

impl Message for Write<'_> {
    const OPCODE: Opcode = Opcode::FUSE_WRITE;
    type Request = abi::fuse_write_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> abi::fuse_write_in {
        let mut flags = OpenFlags::from_bits_retain(self.file.flags);
        flags.set(OpenFlags::APPEND, self.append);
        abi::fuse_write_in {
            fh: self.file.handle.0,
            offset: self.offset,
            size: self.len() as u32,
            flags: flags.bits(),
            ..Default::default()
        }
    }

    fn content(&self) -> &[MemBytes<'_>] {
        self.data
    }
}

impl Call for Write<'_> {
    type Wire = abi::fuse_write_out;
    type Reply = usize;

    fn parse(&self, out: abi::fuse_write_out) -> Option<usize> {
        let written = out.size as usize;
        (written <= self.len()).then_some(written)
    }
}
