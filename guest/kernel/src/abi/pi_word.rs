//! The word of a lock with priority inheritance, as program and kernel share it (futex(2), "Priority-inheritance futexes"): the
//! owner's thread number, 0 for none, and two bits. The program takes a free lock and gives back one nobody waits for by
//! itself; all else is decided here.

use linux_raw_sys::general::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// What becomes of an attempt to take the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It was free: this is the word now.
    Taken(u32),
    /// The caller has it already.
    Own,
    /// Somebody has it; the word then says that somebody waits, so that the owner gives it back through the kernel.
    Held {
        /// Who.
        owner: u32,
        /// The word now.
        word: u32,
    },
}

/// An attempt of thread `tid`; `contended` says whether others wait already.
pub fn lock(word: u32, tid: u32, contended: bool) -> Attempt {
    let waiters = if contended { FUTEX_WAITERS } else { 0 };
    match word & FUTEX_TID_MASK {
        // Whoever takes a dead owner's lock is told by the bit.
        0 => Attempt::Taken(word & FUTEX_OWNER_DIED | waiters | tid),
        owner if owner == tid => Attempt::Own,
        owner => Attempt::Held { owner, word: word | FUTEX_WAITERS },
    }
}

/// Whether thread `tid` has the lock.
pub fn is_held_by(word: u32, tid: u32) -> bool {
    word & FUTEX_TID_MASK == tid
}

/// The word when its owner gives the lock back, to `next` if somebody waits. As in Linux the new owner must come to the
/// kernel to give it back, whether somebody still waits or not.
pub fn given_back(next: Option<u32>) -> u32 {
    next.map_or(0, |next| next | FUTEX_WAITERS)
}

/// The word when its owner has ended and `next` gets the lock.
pub fn inherited(next: u32) -> u32 {
    next | FUTEX_WAITERS | FUTEX_OWNER_DIED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_lock_is_taken_and_a_held_one_marked() {
        assert_eq!(lock(0, 7, false), Attempt::Taken(7));
        assert_eq!(lock(0, 7, true), Attempt::Taken(7 | FUTEX_WAITERS));
        assert_eq!(lock(FUTEX_OWNER_DIED, 7, false), Attempt::Taken(7 | FUTEX_OWNER_DIED));
        assert_eq!(lock(7 | FUTEX_WAITERS, 7, true), Attempt::Own);
        assert_eq!(lock(5, 7, false), Attempt::Held { owner: 5, word: 5 | FUTEX_WAITERS });
    }

    #[test]
    fn it_goes_to_who_waits() {
        assert_eq!(given_back(None), 0);
        assert!(is_held_by(given_back(Some(9)), 9) && is_held_by(inherited(9), 9));
        assert_ne!(inherited(9) & FUTEX_OWNER_DIED, 0);
    }
}
