//! Who holds which advisory locks, here and, on files that others see too, outside this machine.
//!
//! The hard idea is the order of the two. A lock is taken outside before it is noted here, and given up here only after it
//! was given up outside, one operation at a time: so what is noted here is what is held, and when it is given up whoever
//! waits here finds it free outside, too.
//!
//! Nothing outside ever tells us that a lock is free, and a server that waited for one would keep everybody else waiting.
//! So who waits for an outsider's lock asks again, at growing intervals; who waits for one held in this machine is woken.

use crate::linux::open_file::OpenFile;
use crate::task::{Turn, WaitQueue};
use crate::time;
use alloc::collections::BTreeMap;
use diolkos_common::range_locks::{RangeLock, RangeLocks};
use diolkos_vfs::{Errno, ForeignLock, InodeId, LockFamily, LockMode, LockRequest, Result};
use spin::Mutex;

/// How long to wait before an outsider's lock is asked for again: at first, and at most. Nanoseconds.
const FIRST_PAUSE: u64 = 1_000_000;
const LONGEST_PAUSE: u64 = 50_000_000;

/// Who holds a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A process, by its number (POSIX locks).
    Process(u32),
    /// An open file, by its identity (flock and open file description locks).
    OpenFile(usize),
}

impl Owner {
    /// The number the host knows it by. Open files lie far above all process numbers.
    fn number(self) -> u64 {
        match self {
            Self::Process(pid) => pid.into(),
            Self::OpenFile(address) => address as u64,
        }
    }
}

/// A lock of this machine.
pub type Lock = RangeLock<Owner>;

/// A family of locks with all that are held. The two families do not see each other (flock(2), NOTES).
pub struct Table {
    family: LockFamily,
    files: Mutex<BTreeMap<InodeId, RangeLocks<Owner>>>,
    /// Rung when a lock was given up.
    released: WaitQueue,
    /// Whose turn it is to change locks, here and outside.
    turn: Turn,
}

/// Why a lock was not taken.
enum Refused {
    /// Somebody in this machine holds one in the way.
    Here,
    /// Somebody outside does.
    Outside,
    Failed(Errno),
}

impl Table {
    /// No locks.
    pub const fn new(family: LockFamily) -> Self {
        Self { family, files: Mutex::new(BTreeMap::new()), released: WaitQueue::new(), turn: Turn::new() }
    }

    fn request(&self, lock: &Lock, mode: LockMode) -> LockRequest {
        let last = lock.last.min(LockRequest::TO_END);
        LockRequest { family: self.family, owner: lock.owner.number(), first: lock.first, last, mode }
    }

    fn conflict(&self, file: InodeId, lock: &Lock) -> Option<Lock> {
        self.files.lock().get(&file)?.conflict(lock)
    }

    /// Whether `owner` holds anything between two bytes, and if so whether all of that is of one kind.
    pub fn holds(&self, file: InodeId, owner: Owner, first: u64, last: u64) -> Option<bool> {
        let files = self.files.lock();
        let mut held = files.get(&file)?.held_by(owner, first, last).map(|lock| lock.exclusive);
        held.next()
    }

    fn try_take(&self, file: &OpenFile, lock: Lock) -> core::result::Result<(), Refused> {
        let id = file.inode().id();
        let _turn = self.turn.take();
        if self.conflict(id, &lock).is_some() {
            return Err(Refused::Here);
        }
        if self.files.lock().get(&id).is_some_and(|locks| !locks.has_room()) {
            return Err(Refused::Failed(Errno::ENOLCK));
        }
        let mode = if lock.exclusive { LockMode::Exclusive } else { LockMode::Shared };
        match file.inner().set_lock(&self.request(&lock, mode)) {
            // Whoever had it before may have made, replaced or removed the files that lie beside this one, too: SQLite's
            // journal is there or not by the lock on the database.
            Ok(()) => drop(file.location().parent().map(|parent| parent.inode().distrust_names())),
            // Nobody outside sees the file.
            Err(Errno::EOPNOTSUPP) => {}
            Err(Errno::EAGAIN) => return Err(Refused::Outside),
            Err(errno) => return Err(Refused::Failed(errno)),
        }
        self.files.lock().entry(id).or_default().set(lock);
        Ok(())
    }

    /// Takes a lock, with `wait` as soon as nobody else holds one in its way.
    ///
    /// # Errors
    /// `EAGAIN` without `wait`, `EINTR` with it; `ENOLCK`, or what the host says.
    pub fn take(&self, file: &OpenFile, lock: Lock, wait: bool) -> Result<()> {
        let id = file.inode().id();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_take(file, lock) {
                Ok(()) => return Ok(()),
                Err(Refused::Failed(errno)) => return Err(errno),
                Err(_) if !wait => return Err(Errno::EAGAIN),
                Err(Refused::Here) => {
                    self.released.wait_until(&mut || self.conflict(id, &lock).is_none(), None, true)?;
                }
                Err(Refused::Outside) => {
                    let again = time::monotonic_ns().saturating_add(pause);
                    WaitQueue::new().wait_until(&mut || false, Some(again), true)?;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Gives up what `owner` holds between two bytes.
    ///
    /// # Errors
    /// What the host says; here it is given up all the same.
    pub fn give_up(&self, file: &OpenFile, owner: Owner, first: u64, last: u64) -> Result<()> {
        let id = file.inode().id();
        if self.holds(id, owner, first, last).is_none() {
            return Ok(());
        }
        let turn = self.turn.take();
        let lock = RangeLock { owner, first, last, exclusive: false };
        let result = file.inner().set_lock(&self.request(&lock, LockMode::Unlocked));
        let mut files = self.files.lock();
        if let Some(locks) = files.get_mut(&id) {
            locks.clear(owner, first, last);
            if locks.is_empty() {
                files.remove(&id);
            }
        }
        drop(files);
        drop(turn);
        self.released.wake_all();
        if result == Err(Errno::EOPNOTSUPP) { Ok(()) } else { result }
    }

    /// A lock that is in the way of this one, in the machine or outside.
    ///
    /// # Errors
    /// What the host says.
    pub fn find(&self, file: &OpenFile, lock: &Lock) -> Result<Option<InTheWay>> {
        if let Some(held) = self.conflict(file.inode().id(), lock) {
            return Ok(Some(InTheWay::Here(held)));
        }
        let mode = if lock.exclusive { LockMode::Exclusive } else { LockMode::Shared };
        Ok(file.inner().find_lock(&self.request(lock, mode))?.map(InTheWay::Outside))
    }
}

/// Whose lock is in the way.
pub enum InTheWay {
    /// A lock of this machine.
    Here(Lock),
    /// Somebody's outside.
    Outside(ForeignLock),
}
