//! Advisory locks: GETLK, SETLK. SETLKW is not sent: a server that waits would keep every other request waiting, too.

use super::data::OpenNode;
use super::{Call, Message, NodeId, Opcode};
use diolkos_vfs::{ForeignLock, LockFamily, LockMode, LockRequest};
use fuse_abi::linux::{FUSE_LK_FLOCK, fuse_file_lock, fuse_lk_in, fuse_lk_out};

/// The types of a lock (fcntl(2)).
const F_RDLCK: u32 = 0;
const F_WRLCK: u32 = 1;
const F_UNLCK: u32 = 2;

fn wire(file: OpenNode, lock: &LockRequest) -> fuse_lk_in {
    let type_ = match lock.mode {
        LockMode::Shared => F_RDLCK,
        LockMode::Exclusive => F_WRLCK,
        LockMode::Unlocked => F_UNLCK,
    };
    let lk_flags = match lock.family {
        LockFamily::Record => 0,
        LockFamily::Flock => FUSE_LK_FLOCK,
    };
    // The process' number means nothing to the host.
    let lk = fuse_file_lock { start: lock.first, end: lock.last, type_, pid: 0 };
    fuse_lk_in { fh: file.handle.0, owner: lock.owner, lk, lk_flags, padding: 0 }
}

/// FUSE_SETLK: takes, changes or gives up a lock, without waiting.
pub(crate) struct SetLk<'a> {
    pub(crate) file: OpenNode,
    pub(crate) lock: &'a LockRequest,
}

impl Message for SetLk<'_> {
    const OPCODE: Opcode = Opcode::FUSE_SETLK;
    type Request = fuse_lk_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> fuse_lk_in {
        wire(self.file, self.lock)
    }
}

impl Call for SetLk<'_> {
    type Wire = ();
    type Reply = ();

    fn parse(&self, (): ()) -> Option<()> {
        Some(())
    }
}

/// FUSE_GETLK: who would be in the way.
pub(crate) struct GetLk<'a> {
    pub(crate) file: OpenNode,
    pub(crate) lock: &'a LockRequest,
}

impl Message for GetLk<'_> {
    const OPCODE: Opcode = Opcode::FUSE_GETLK;
    type Request = fuse_lk_in;

    fn node(&self) -> NodeId {
        self.file.node
    }

    fn request(&self) -> fuse_lk_in {
        wire(self.file, self.lock)
    }
}

impl Call for GetLk<'_> {
    type Wire = fuse_lk_out;
    type Reply = Option<ForeignLock>;

    fn parse(&self, fuse_lk_out { lk }: fuse_lk_out) -> Option<Option<ForeignLock>> {
        let lock = |exclusive| ForeignLock { first: lk.start, last: lk.end, exclusive };
        let sensible = lk.start <= lk.end && lk.end <= LockRequest::TO_END;
        match lk.type_ {
            F_UNLCK => Some(None),
            F_RDLCK if sensible => Some(Some(lock(false))),
            F_WRLCK if sensible => Some(Some(lock(true))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Handle;
    use super::*;

    const FILE: OpenNode = OpenNode { node: NodeId(2), handle: Handle(7), flags: 2 };

    fn lock(family: LockFamily, mode: LockMode) -> LockRequest {
        LockRequest { family, owner: 77, first: 10, last: LockRequest::TO_END, mode }
    }

    #[test]
    fn requests_are_linux_structures() {
        let request = lock(LockFamily::Record, LockMode::Exclusive);
        let wire = SetLk { file: FILE, lock: &request }.request();
        assert_eq!((wire.fh, wire.owner, wire.lk_flags), (7, 77, 0));
        assert_eq!((wire.lk.start, wire.lk.end, wire.lk.type_), (10, i64::MAX as u64, 1));
        let request = lock(LockFamily::Flock, LockMode::Unlocked);
        let wire = SetLk { file: FILE, lock: &request }.request();
        assert_eq!((wire.lk_flags, wire.lk.type_), (1, 2));
    }

    #[test]
    fn a_lock_in_the_way_makes_sense_or_the_reply_does_not() {
        let request = lock(LockFamily::Record, LockMode::Shared);
        let parse = |start, end, type_| {
            GetLk { file: FILE, lock: &request }.parse(fuse_lk_out { lk: fuse_file_lock { start, end, type_, pid: 9 } })
        };
        assert_eq!(parse(0, 0, F_UNLCK), Some(None));
        assert_eq!(parse(5, 9, F_WRLCK), Some(Some(ForeignLock { first: 5, last: 9, exclusive: true })));
        assert_eq!((parse(9, 5, F_WRLCK), parse(0, 1 << 63, F_RDLCK), parse(0, 1, 3)), (None, None, None));
    }
}
