//! Advisory locks as a file system sees them, when others outside this machine see its files too.
//!
//! Who holds what inside the machine is the system call layer's business; a file system only passes a lock on to where the
//! others are.

/// The two families of locks, which do not see each other (flock(2), NOTES).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFamily {
    /// Record locks of fcntl(2), a process' or an open file description's.
    Record,
    /// Locks of flock(2), on a whole file.
    Flock,
}

/// What is wanted of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Nobody else may exclude others.
    Shared,
    /// Nobody else may hold any.
    Exclusive,
    /// None any more.
    Unlocked,
}

/// A lock to be placed, changed or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockRequest {
    /// Of which family.
    pub family: LockFamily,
    /// Whose: a number that no other owner in this machine has meanwhile.
    pub owner: u64,
    /// First byte.
    pub first: u64,
    /// Last byte, included; [`LockRequest::TO_END`] reaches to the end of the file wherever it is.
    pub last: u64,
    /// What is wanted.
    pub mode: LockMode,
}

impl LockRequest {
    /// The [`LockRequest::last`] of a range without an end: the largest offset there is.
    pub const TO_END: u64 = i64::MAX as u64;
}

/// A lock of somebody outside this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignLock {
    /// First byte.
    pub first: u64,
    /// Last byte, as in [`LockRequest`].
    pub last: u64,
    /// Whether it excludes readers too.
    pub exclusive: bool,
}
