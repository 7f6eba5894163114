//! Advisory locks that a guest's programs hold, held on the host: GETLK, SETLK and SETLKW, so that the host's processes and
//! other machines see them, and they theirs.
//!
//! For each file it locks, each owner has an open file description of its own here, and the locks belong to that
//! (`F_OFD_SETLK` in fcntl(2), and flock(2)). They meet those of other owners, of other machines, and the record locks
//! of the host's processes; and they are gone when the description is closed, at the latest when this process ends.
//!
//! Nothing here waits: a share has few threads, and who could unlock may be waiting for one of them. A guest that wants
//! to wait asks again.
//!
//! Beside the library's methods for this, not behind them: it hands a SETLKW to the method for SETLK.

use super::descriptors::{Descriptors, Token};
use super::guard::refuse;
use super::range::Open;
use diolkos_common::range_locks::{RangeLock, RangeLocks};
use rustix::fs::{FlockOperation, flock};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `FUSE_GETLK`.
pub const GETLK: u32 = 31;
/// `FUSE_SETLK`.
pub const SETLK: u32 = 32;
/// `FUSE_SETLKW`.
pub const SETLKW: u32 = 33;
/// `FUSE_RELEASE`.
pub const RELEASE: u32 = 18;
/// `FUSE_FLUSH`.
pub const FLUSH: u32 = 25;

/// Bytes of `struct fuse_lk_in`.
pub const LK_BODY: usize = 48;
/// Bytes of `struct fuse_release_in` and of `struct fuse_flush_in`.
pub const CLOSE_BODY: usize = 24;

/// Most descriptors kept open for locks of one share, one for each owner and file: a guest could use up the process'.
const MAX_OWNERS: usize = 256;
/// Most ranges locked in one share: each is memory of the host's kernel.
const MAX_RANGES: usize = 8192;

/// `FUSE_LK_FLOCK`.
const LK_FLOCK: u32 = 1;
/// `FUSE_RELEASE_FLOCK_UNLOCK`.
const RELEASE_FLOCK_UNLOCK: u32 = 2;
/// The end of a range that reaches to the end of the file (`OFFSET_MAX`).
const OFFSET_MAX: u64 = i64::MAX as u64;

/// Whose locks: of which file, of which owner as the guest names it, and of which of the two families, which do not see each
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    node: u64,
    owner: u64,
    flock: bool,
}

/// What an owner holds of a file.
struct Held {
    fd: OwnedFd,
    ranges: RangeLocks<()>,
    _token: Token,
}

/// What is asked of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Exclusive,
    Unlock,
}

/// A `fuse_lk_in`, checked.
#[derive(Debug, Clone, Copy)]
struct Request {
    key: Key,
    first: u64,
    /// Included; at most [`OFFSET_MAX`], and not below `first`.
    last: u64,
    kind: Kind,
}

/// `count`th 64-bit word of a message's body.
fn word(body: &[u8], count: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&body[count * 8..count * 8 + 8]);
    u64::from_le_bytes(bytes)
}

impl Request {
    fn parse(node: u64, body: &[u8; LK_BODY]) -> io::Result<Self> {
        let (owner, first, last) = (word(body, 1), word(body, 2), word(body, 3));
        let (kind, flags) = (word(body, 4) as u32 as i32, word(body, 5) as u32);
        let kind = match kind {
            libc::F_RDLCK => Kind::Shared,
            libc::F_WRLCK => Kind::Exclusive,
            libc::F_UNLCK => Kind::Unlock,
            _ => return Err(refuse(libc::EINVAL)),
        };
        if first > last || last > OFFSET_MAX || flags & !LK_FLOCK != 0 {
            return Err(refuse(libc::EINVAL));
        }
        Ok(Self { key: Key { node, owner, flock: flags & LK_FLOCK != 0 }, first, last, kind })
    }

    fn is_whole(&self) -> bool {
        self.key.flock || (self.first == 0 && self.last == OFFSET_MAX)
    }

    fn as_flock(&self) -> libc::flock {
        let l_type = match self.kind {
            Kind::Shared => libc::F_RDLCK,
            Kind::Exclusive => libc::F_WRLCK,
            Kind::Unlock => libc::F_UNLCK,
        };
        // A length of 0 reaches to the end of the file; others fit, since the first byte is at least 0.
        let len = if self.last == OFFSET_MAX { 0 } else { self.last - self.first + 1 };
        libc::flock {
            l_type: l_type as i16,
            l_whence: libc::SEEK_SET as i16,
            l_start: self.first as i64,
            l_len: len as i64,
            l_pid: 0,
        }
    }

    /// Does it to the description `fd`, without waiting.
    fn apply(&self, fd: &OwnedFd) -> io::Result<()> {
        if self.key.flock {
            let operation = match self.kind {
                Kind::Shared => FlockOperation::NonBlockingLockShared,
                Kind::Exclusive => FlockOperation::NonBlockingLockExclusive,
                Kind::Unlock => FlockOperation::NonBlockingUnlock,
            };
            return Ok(flock(fd, operation)?);
        }
        record_lock(fd, libc::F_OFD_SETLK, &mut self.as_flock())
    }
}

fn record_lock(fd: &OwnedFd, command: i32, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the commands used here take a `struct flock`, which lives during the call.
    match unsafe { libc::fcntl(fd.as_raw_fd(), command, std::ptr::from_mut(lock)) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The locks of one share's guest.
pub struct Locks {
    held: Mutex<BTreeMap<Key, Held>>,
    descriptors: Arc<Descriptors>,
}

impl Locks {
    /// None. Descriptors for them come from `pool`.
    pub fn new(pool: Arc<Descriptors>) -> Self {
        Self { held: Mutex::default(), descriptors: pool }
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Key, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes, changes or gives up a lock as `body`, a `fuse_lk_in` for the file `node`, asks.
    ///
    /// # Errors
    /// `EAGAIN` when somebody else holds one, for a SETLKW (`waits`) `EOPNOTSUPP`; `EROFS` for an exclusive lock in a share
    /// that is not `writable`, where it would keep the host's own programs from their files; `ENOLCK` when there are too
    /// many; `EBADF` when the file cannot be opened as the lock needs; what the host says.
    pub fn set(
        &self,
        files: &dyn Open,
        writable: bool,
        node: u64,
        body: &[u8; LK_BODY],
        waits: bool,
    ) -> io::Result<()> {
        let request = Request::parse(node, body)?;
        if request.kind == Kind::Unlock {
            return self.unlock(&request);
        }
        if request.kind == Kind::Exclusive && !writable {
            return Err(refuse(libc::EROFS));
        }
        self.lock(files, writable, &request).map_err(|error| match error.raw_os_error() {
            Some(libc::EAGAIN) if waits => refuse(libc::EOPNOTSUPP),
            _ => error,
        })
    }

    fn lock(&self, files: &dyn Open, writable: bool, request: &Request) -> io::Result<()> {
        let mut held = self.held();
        let ranges: usize = held.values().map(|held| held.ranges.len()).sum();
        if ranges + 2 > MAX_RANGES {
            return Err(refuse(libc::ENOLCK));
        }
        let Request { key, first, last, kind } = *request;
        let range = RangeLock { owner: (), first, last, exclusive: kind == Kind::Exclusive };
        if let Some(owner) = held.get_mut(&key) {
            if !owner.ranges.has_room() {
                return Err(refuse(libc::ENOLCK));
            }
            let result = request.apply(&owner.fd);
            match &result {
                Ok(()) => drop(owner.ranges.set(range)),
                // flock(2): changing the kind of a lock gives the old one up first.
                Err(_) if key.flock => drop(held.remove(&key)),
                Err(_) => {}
            }
            return result;
        }
        if held.len() >= MAX_OWNERS {
            return Err(refuse(libc::ENOLCK));
        }
        let token = self.descriptors.take().ok_or_else(|| refuse(libc::ENOLCK))?;
        // A record lock may become exclusive later, which needs a description open for writing; flock(2) needs none.
        let fd = match files.open_node(key.node, writable && !key.flock) {
            Err(_) if writable && !key.flock => files.open_node(key.node, false)?,
            opened => opened?,
        };
        request.apply(&fd)?;
        let mut ranges = RangeLocks::default();
        ranges.set(range);
        held.insert(key, Held { fd, ranges, _token: token });
        Ok(())
    }

    fn unlock(&self, request: &Request) -> io::Result<()> {
        let mut held = self.held();
        let Some(owner) = held.get_mut(&request.key) else { return Ok(()) };
        if !request.is_whole() {
            if !owner.ranges.has_room() {
                return Err(refuse(libc::ENOLCK));
            }
            request.apply(&owner.fd)?;
            owner.ranges.clear((), request.first, request.last);
        }
        if request.is_whole() || owner.ranges.is_empty() {
            // With its description an owner's locks are gone.
            held.remove(&request.key);
        }
        Ok(())
    }

    /// Finds a lock that keeps the owner of `body`, a `fuse_lk_in`, from its own. The body of the reply, a `fuse_file_lock`:
    /// of type `F_UNLCK` when there is none. Processes of the host have no number in the guest; all are 0.
    ///
    /// # Errors
    /// What the host says.
    pub fn get(&self, files: &dyn Open, node: u64, body: &[u8; LK_BODY]) -> io::Result<Vec<u8>> {
        let request = Request::parse(node, body)?;
        if request.key.flock || request.kind == Kind::Unlock {
            return Err(refuse(libc::EINVAL));
        }
        let mut lock = request.as_flock();
        let held = self.held();
        match held.get(&request.key) {
            Some(owner) => record_lock(&owner.fd, libc::F_OFD_GETLK, &mut lock)?,
            None => record_lock(&files.open_node(node, false)?, libc::F_OFD_GETLK, &mut lock)?,
        }
        let (first, last) = match lock.l_len {
            _ if i32::from(lock.l_type) == libc::F_UNLCK => (request.first, request.last),
            0 => (lock.l_start as u64, OFFSET_MAX),
            len => (lock.l_start as u64, (lock.l_start as u64).saturating_add(len as u64 - 1)),
        };
        Ok([&first.to_le_bytes()[..], &last.to_le_bytes(), &(lock.l_type as u32).to_le_bytes(), &[0; 4]].concat())
    }

    /// What FLUSH and RELEASE (`opcode`) with this `body` take away: a process' record locks when it closes any descriptor of
    /// the file, an open file's flock(2) when it is closed.
    pub fn close(&self, opcode: u32, node: u64, body: &[u8; CLOSE_BODY]) {
        // struct fuse_flush_in: fh, two unused halves, lock_owner. struct fuse_release_in: fh, flags, release_flags,
        // lock_owner.
        let (owner, release_flags) = (word(body, 2), (word(body, 1) >> 32) as u32);
        let flock = opcode == RELEASE;
        if !flock || release_flags & RELEASE_FLOCK_UNLOCK != 0 {
            self.held().remove(&Key { node, owner, flock });
        }
    }

    /// The guest is gone.
    pub fn clear(&self) {
        self.held().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// Node `n` is the file of this name.
    struct Folder(TempDir);

    impl Folder {
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            (1..4).for_each(|node| std::fs::write(folder.path(node), b"content").unwrap());
            folder
        }

        fn path(&self, node: u64) -> PathBuf {
            self.0.path().join(node.to_string())
        }
    }

    impl Open for Folder {
        fn open_node(&self, node: u64, writable: bool) -> io::Result<OwnedFd> {
            Ok(File::options().read(true).write(writable).open(self.path(node))?.into())
        }

        fn forget_all(&self) {}
    }

    fn body(owner: u64, first: u64, last: u64, kind: i32, flags: u32) -> [u8; LK_BODY] {
        let words = [9, owner, first, last, kind as u64, u64::from(flags)];
        words.map(u64::to_le_bytes).concat().try_into().unwrap()
    }

    const ALL: u64 = OFFSET_MAX;

    /// What a process of the host can do meanwhile.
    fn host_may(folder: &Folder, first: u64, last: u64, kind: i32) -> bool {
        let fd = folder.open_node(1, true).unwrap();
        let host = Request::parse(1, &body(0, first, last, kind, 0)).unwrap();
        host.apply(&fd).is_ok()
    }

    #[test]
    fn the_host_meets_the_guests_record_locks() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        let set =
            |body: &[u8; LK_BODY]| locks.set(&folder, true, 1, body, false).map_err(|e| e.raw_os_error().unwrap());
        set(&body(5, 10, 19, libc::F_WRLCK, 0)).unwrap();
        assert!(!host_may(&folder, 15, 15, libc::F_RDLCK) && host_may(&folder, 20, ALL, libc::F_WRLCK));
        // An owner does not meet itself, whichever way it changes its mind.
        set(&body(5, 0, ALL, libc::F_WRLCK, 0)).unwrap();
        set(&body(5, 0, 99, libc::F_RDLCK, 0)).unwrap();
        assert!(host_may(&folder, 0, 99, libc::F_RDLCK) && !host_may(&folder, 0, 100, libc::F_RDLCK));
        // Another owner of the same guest does.
        assert_eq!(set(&body(6, 0, 0, libc::F_WRLCK, 0)), Err(libc::EAGAIN));
        set(&body(6, 0, 0, libc::F_RDLCK, 0)).unwrap();
        set(&body(5, 50, ALL, libc::F_UNLCK, 0)).unwrap();
        assert!(host_may(&folder, 50, ALL, libc::F_WRLCK) && !host_may(&folder, 49, 49, libc::F_WRLCK));
        set(&body(5, 0, ALL, libc::F_UNLCK, 0)).unwrap();
        assert_eq!(locks.held().len(), 1, "the owner without a lock has no descriptor");
        locks.close(FLUSH, 1, &[9, 0, 6].map(u64::to_le_bytes).concat().try_into().unwrap());
        assert!(host_may(&folder, 0, ALL, libc::F_WRLCK) && locks.held().is_empty());
    }

    #[test]
    fn the_guest_meets_the_hosts() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        let file = folder.open_node(1, true).unwrap();
        Request::parse(1, &body(0, 100, 199, libc::F_WRLCK, 0)).unwrap().apply(&file).unwrap();
        let wanted = body(5, 0, ALL, libc::F_RDLCK, 0);
        let error = |waits| locks.set(&folder, true, 1, &wanted, waits).unwrap_err().raw_os_error();
        assert_eq!((error(false), error(true)), (Some(libc::EAGAIN), Some(libc::EOPNOTSUPP)));
        assert!(locks.held().is_empty(), "what is refused leaves nothing open");
        let reply = locks.get(&folder, 1, &wanted).unwrap();
        assert_eq!((word(&reply, 0), word(&reply, 1), word(&reply, 2)), (100, 199, libc::F_WRLCK as u64));
        let reply = locks.get(&folder, 1, &body(5, 0, 99, libc::F_WRLCK, 0)).unwrap();
        assert_eq!((word(&reply, 0), word(&reply, 1), word(&reply, 2)), (0, 99, libc::F_UNLCK as u64));
        drop(file);
        locks.set(&folder, true, 1, &wanted, false).unwrap();
    }

    #[test]
    fn flock_is_a_family_of_its_own() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        let set = |owner, kind| locks.set(&folder, true, 1, &body(owner, 0, ALL, kind, LK_FLOCK), false);
        let host = folder.open_node(1, false).unwrap();
        set(5, libc::F_WRLCK).unwrap();
        assert!(host_may(&folder, 0, ALL, libc::F_WRLCK), "record locks do not see it");
        assert!(flock(&host, FlockOperation::NonBlockingLockShared).is_err());
        assert_eq!(set(6, libc::F_RDLCK).unwrap_err().raw_os_error(), Some(libc::EAGAIN));
        set(5, libc::F_RDLCK).unwrap();
        set(6, libc::F_RDLCK).unwrap();
        // A change of kind that fails has given the old lock up.
        assert!(set(5, libc::F_WRLCK).is_err());
        let close = |owner: u64, flags: u64| {
            locks.close(RELEASE, 1, &[9, flags << 32, owner].map(u64::to_le_bytes).concat().try_into().unwrap());
        };
        close(6, 0);
        assert!(flock(&host, FlockOperation::NonBlockingLockExclusive).is_err(), "not told to unlock");
        close(6, u64::from(RELEASE_FLOCK_UNLOCK));
        flock(&host, FlockOperation::NonBlockingLockExclusive).unwrap();
    }

    #[test]
    fn a_guest_that_may_only_read_keeps_no_reader_away() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        for flags in [0, LK_FLOCK] {
            let set = |kind| locks.set(&folder, false, 1, &body(5, 0, ALL, kind, flags), false);
            assert_eq!(set(libc::F_WRLCK).unwrap_err().raw_os_error(), Some(libc::EROFS));
            set(libc::F_RDLCK).unwrap();
        }
        assert!(host_may(&folder, 0, ALL, libc::F_RDLCK) && !host_may(&folder, 0, ALL, libc::F_WRLCK));
        locks.clear();
        assert!(host_may(&folder, 0, ALL, libc::F_WRLCK));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        let unlikely = [
            body(1, 5, 4, libc::F_RDLCK, 0),
            body(1, 0, ALL + 1, libc::F_RDLCK, 0),
            body(1, u64::MAX, u64::MAX, libc::F_UNLCK, 0),
            body(1, 0, 1, 3, 0),
            body(1, 0, 1, -1, 0),
            body(1, 0, 1, libc::F_RDLCK, 2),
        ];
        for body in unlikely {
            assert_eq!(locks.set(&folder, true, 1, &body, false).unwrap_err().raw_os_error(), Some(libc::EINVAL));
            assert_eq!(locks.get(&folder, 1, &body).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        }
        assert!(locks.set(&folder, true, 77, &body(1, 0, 1, libc::F_RDLCK, 0), false).is_err());
        locks.set(&folder, true, 77, &body(1, 0, 1, libc::F_UNLCK, 0), false).unwrap();
    }

    #[test]
    fn a_guest_holds_only_so_much() {
        let (folder, locks) = (Folder::new(), Locks::new(Descriptors::new(1000)));
        let taken = |set: &mut dyn FnMut(u64) -> io::Result<()>| (0..).map_while(|i| set(i).ok()).count();
        let shared = |owner| locks.set(&folder, true, 1, &body(owner, 0, 0, libc::F_RDLCK, 0), false);
        assert_eq!(taken(&mut { shared }), MAX_OWNERS);
        assert_eq!(shared(MAX_OWNERS as u64).unwrap_err().raw_os_error(), Some(libc::ENOLCK));
        locks.clear();
        // Every second byte, by enough owners that the share's bound is the one that is met.
        let lock = |i: u64| {
            let (at, owner) = (i % 100 * 2, i / 100);
            locks.set(&folder, true, 1 + owner % 3, &body(owner, at, at, libc::F_RDLCK, 0), false)
        };
        assert_eq!(taken(&mut { lock }), MAX_RANGES - 1);
        assert_eq!(lock(0).unwrap_err().raw_os_error(), Some(libc::ENOLCK));
        locks.set(&folder, true, 1, &body(0, 0, ALL, libc::F_UNLCK, 0), false).unwrap();
        lock(0).unwrap();
    }
}
