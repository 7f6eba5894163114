//! Locks with priority inheritance: `FUTEX_LOCK_PI` and its kin.
//!
//! What the lock's word says is decided in [`crate::abi::pi_word`]; here is who waits. A lock is handed over: who gives it
//! back writes the next owner's number into the word, so nobody else can take it in between, and whoever has waited longest
//! gets it. There is one scheduling policy and every thread has the same priority, so there is none to inherit.
//!
//! # Locking
//! The word is read and written with no spin lock held, since that may fault. One [`Turn`] for all such locks keeps the
//! word and the list of waiters together.

use super::Key;
use crate::abi::pi_word::{self, Attempt};
use crate::linux::{Call, signal};
use crate::mm::user::UserPtr;
use crate::task::{Turn, WaitQueue};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

struct Waiter {
    tid: u32,
    /// Set when the lock is its own.
    granted: AtomicBool,
    bell: WaitQueue,
}

/// A lock that somebody waits for.
struct Contended {
    address: u64,
    owner: u32,
    waiters: VecDeque<Arc<Waiter>>,
}

static TURN: Turn = Turn::new();
static LOCKS: Mutex<BTreeMap<Key, Contended>> = Mutex::new(BTreeMap::new());

/// Whether waiting for `owner` would never end, since `owner` waits, perhaps by way of others, for `tid`.
fn is_ring(locks: &BTreeMap<Key, Contended>, tid: u32, owner: u32) -> bool {
    let mut at = owner;
    // A ring that `tid` is not in would be as long as there are locks.
    for _ in 0..=locks.len() {
        let waits_for = locks.values().find(|lock| lock.waiters.iter().any(|waiter| waiter.tid == at));
        match waits_for {
            Some(lock) if lock.owner == tid => return true,
            Some(lock) => at = lock.owner,
            None => return false,
        }
    }
    false
}

/// Tries to take the lock; `Some` is the owner it has.
fn attempt(call: &Call<'_>, key: Key, address: u64) -> Result<Option<u32>> {
    let tid = call.thread.tid;
    let contended = LOCKS.lock().contains_key(&key);
    let new = |word| match pi_word::lock(word, tid, contended) {
        Attempt::Taken(word) | Attempt::Held { word, .. } => word,
        Attempt::Own => word,
    };
    match pi_word::lock(UserPtr::<u32>::new(address).update(new)?, tid, contended) {
        Attempt::Taken(_) => {
            if let Some(lock) = LOCKS.lock().get_mut(&key) {
                lock.owner = tid;
            }
            Ok(None)
        }
        Attempt::Own => Err(Errno::EDEADLK),
        Attempt::Held { owner, .. } if call.process.thread(owner).is_none() => Err(Errno::ESRCH),
        Attempt::Held { owner, .. } => Ok(Some(owner)),
    }
}

/// `FUTEX_TRYLOCK_PI`.
///
/// # Errors
/// `EAGAIN` when another thread has it, `EDEADLK` when the caller has, `ESRCH` when the owner is no thread, `EFAULT`.
pub fn try_lock(call: &Call<'_>, key: Key, address: u64) -> Result<u64> {
    let _turn = TURN.take();
    match attempt(call, key, address)? {
        None => Ok(0),
        Some(_) => Err(Errno::EAGAIN),
    }
}

/// `FUTEX_LOCK_PI` and `FUTEX_LOCK_PI2`, until a monotonic time.
///
/// # Errors
/// `ETIMEDOUT`, `EINTR`; `EDEADLK` when the caller has it, or the owner waits for the caller; `ESRCH`, `EFAULT`.
pub fn lock(call: &Call<'_>, key: Key, address: u64, deadline: Option<u64>) -> Result<u64> {
    let tid = call.thread.tid;
    let waiter = {
        let _turn = TURN.take();
        let Some(owner) = attempt(call, key, address)? else { return Ok(0) };
        let mut locks = LOCKS.lock();
        if is_ring(&locks, tid, owner) {
            return Err(Errno::EDEADLK);
        }
        let waiter = Arc::new(Waiter { tid, granted: AtomicBool::new(false), bell: WaitQueue::new() });
        let lock = locks.entry(key).or_insert(Contended { address, owner, waiters: VecDeque::new() });
        lock.owner = owner;
        lock.waiters.push_back(waiter.clone());
        waiter
    };
    let granted = &mut || waiter.granted.load(Ordering::SeqCst);
    let slept = signal::wait::sleep(call.thread, &waiter.bell, granted, deadline);
    let _turn = TURN.take();
    if waiter.granted.load(Ordering::SeqCst) {
        return Ok(0);
    }
    let mut locks = LOCKS.lock();
    if let Some(lock) = locks.get_mut(&key) {
        lock.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        if lock.waiters.is_empty() {
            locks.remove(&key);
        }
    }
    match slept {
        Ok(_) => Err(Errno::ETIMEDOUT),
        Err(errno) => Err(errno),
    }
}

/// Who has waited longest for the lock.
fn next(key: &Key) -> Option<u32> {
    LOCKS.lock().get(key)?.waiters.front().map(|waiter| waiter.tid)
}

/// Gives the lock to who has waited longest, whose number the word has by now.
fn hand_over(key: &Key) {
    let mut locks = LOCKS.lock();
    let Some(lock) = locks.get_mut(key) else { return };
    let Some(waiter) = lock.waiters.pop_front() else { return };
    lock.owner = waiter.tid;
    if lock.waiters.is_empty() {
        locks.remove(key);
    }
    waiter.granted.store(true, Ordering::SeqCst);
    waiter.bell.wake_all();
}

/// `FUTEX_UNLOCK_PI`.
///
/// # Errors
/// `EPERM` when the caller does not have the lock, `EFAULT`.
pub fn unlock(call: &Call<'_>, key: Key, address: u64) -> Result<u64> {
    let tid = call.thread.tid;
    let _turn = TURN.take();
    let next = next(&key);
    let new = |word| if pi_word::is_held_by(word, tid) { pi_word::given_back(next) } else { word };
    if !pi_word::is_held_by(UserPtr::<u32>::new(address).update(new)?, tid) {
        return Err(Errno::EPERM);
    }
    hand_over(&key);
    Ok(0)
}

/// Hands over what a thread has that is no thread of its process any more (`exit_pi_state_list` in Linux'
/// kernel/futex/core.c).
pub fn release_all(tid: u32) {
    if LOCKS.lock().is_empty() {
        return;
    }
    let _turn = TURN.take();
    let owned = || LOCKS.lock().iter().find(|(_, lock)| lock.owner == tid).map(|(key, lock)| (*key, lock.address));
    while let Some((key, address)) = owned() {
        let Some(next) = next(&key) else { return };
        // Where the program has unmapped it the waiters are told all the same.
        let _ = UserPtr::<u32>::new(address).update(|_| pi_word::inherited(next));
        hand_over(&key);
    }
}
