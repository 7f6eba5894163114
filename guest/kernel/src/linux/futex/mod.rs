//! Fast user-space locks, the kernel's half: sleeping on a word of memory, and waking who sleeps there (futex(2)).
//!
//! A waiter first queues itself and then looks at the word. A waker has changed the word before it calls. So either
//! the waiter sees the change, or the waker sees the waiter. The word is read with no lock held, since that may fault.
//!
//! A word in a file that is mapped shared is known by its place in the file, so that every mapping of it is the same word; any
//! other by address space and address ([`Key`]). Locks with priority inheritance are in [`pi`].
//!
//! The program's threads change words on other processors meanwhile, so those the kernel changes (`FUTEX_WAKE_OP`, robust
//! locks, locks with priority inheritance) it changes by compare-and-exchange.

mod key;
pub mod pi;

use super::clock::{self, read_timespec};
use super::process::{Process, UserThread};
use super::table::Calls;
use super::{Call, signal};
use crate::abi::futex_op::WakeOp;
use crate::mm::user::UserPtr;
use crate::task::WaitQueue;
use crate::time;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, Result};
use key::{Key, Sharing};
use linux_raw_sys::general as raw;
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[(Sysno::futex, futex)];

struct Waiter {
    /// Where it waits now; a requeue changes it.
    key: Mutex<Key>,
    bitset: u32,
    woken: AtomicBool,
    bell: WaitQueue,
}

static WAITERS: Mutex<BTreeMap<Key, VecDeque<Arc<Waiter>>>> = Mutex::new(BTreeMap::new());

/// Robust locks that are released for a dying thread (`ROBUST_LIST_LIMIT`): the list may be circular.
const ROBUST_LIMIT: u32 = 2048;

fn forget(waiter: &Arc<Waiter>) {
    let mut table = WAITERS.lock();
    let key = *waiter.key.lock();
    if let Some(queue) = table.get_mut(&key) {
        queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if queue.is_empty() {
            table.remove(&key);
        }
    }
}

/// Wakes up to `n` waiters at `key` whose set meets `bitset`.
fn wake(key: Key, n: usize, bitset: u32) -> u64 {
    let mut woken = Vec::new();
    {
        let mut table = WAITERS.lock();
        let Some(queue) = table.get_mut(&key) else { return 0 };
        queue.retain(|waiter| {
            let chosen = woken.len() < n && waiter.bitset & bitset != 0;
            if chosen {
                woken.push(waiter.clone());
            }
            !chosen
        });
        if queue.is_empty() {
            table.remove(&key);
        }
    }
    for waiter in &woken {
        waiter.woken.store(true, Ordering::SeqCst);
        waiter.bell.wake_all();
    }
    woken.len() as u64
}

/// Wakes one waiter at `address`, which may be anything.
pub fn wake_one(process: &Process, address: u64) {
    if let Ok(key) = Key::new(process, address, Sharing::Shared) {
        wake(key, 1, u32::MAX);
    }
}

/// futex(2).
fn futex(call: &mut Call<'_>) -> Result<u64> {
    let [address, op, value, fourth, second, last] = call.args;
    let realtime = op as u32 & raw::FUTEX_CLOCK_REALTIME != 0;
    let sharing = if op as u32 & raw::FUTEX_PRIVATE_FLAG != 0 { Sharing::Private } else { Sharing::Shared };
    let value = value as u32;
    let key = |address| Key::new(call.process, address, sharing);
    // Counts are ints; Linux wakes one even for zero and negative ones.
    let count = |n: u64| (n as i32).max(1) as usize;
    match op as u32 & raw::FUTEX_CMD_MASK as u32 {
        raw::FUTEX_WAIT => {
            let deadline = deadline(fourth, false, false)?;
            wait(call, key(address)?, address, value, u32::MAX, deadline)
        }
        raw::FUTEX_WAIT_BITSET => {
            let deadline = deadline(fourth, true, realtime)?;
            wait(call, key(address)?, address, value, last as u32, deadline)
        }
        raw::FUTEX_LOCK_PI2 => pi::lock(call, key(address)?, address, deadline(fourth, true, realtime)?),
        _ if realtime => Err(Errno::ENOSYS),
        raw::FUTEX_LOCK_PI => pi::lock(call, key(address)?, address, deadline(fourth, true, true)?),
        raw::FUTEX_TRYLOCK_PI => pi::try_lock(call, key(address)?, address),
        raw::FUTEX_UNLOCK_PI => pi::unlock(call, key(address)?, address),
        raw::FUTEX_WAKE => Ok(wake(key(address)?, count(value.into()), u32::MAX)),
        raw::FUTEX_WAKE_BITSET if last as u32 == 0 => Err(Errno::EINVAL),
        raw::FUTEX_WAKE_BITSET => Ok(wake(key(address)?, count(value.into()), last as u32)),
        raw::FUTEX_REQUEUE => requeue(address, [key(address)?, key(second)?], value, fourth as u32, None),
        raw::FUTEX_CMP_REQUEUE => {
            requeue(address, [key(address)?, key(second)?], value, fourth as u32, Some(last as u32))
        }
        raw::FUTEX_WAKE_OP => {
            let op = WakeOp::decode(last as u32).ok_or(Errno::ENOSYS)?;
            let (first, other) = (key(address)?, key(second)?);
            let old = UserPtr::<u32>::new(second).update(|old| op.apply(old))?;
            let mut woken = wake(first, count(value.into()), u32::MAX);
            if op.matches(old) {
                woken += wake(other, count(fourth), u32::MAX);
            }
            Ok(woken)
        }
        // FUTEX_WAIT_REQUEUE_PI and FUTEX_CMP_REQUEUE_PI among them: C libraries of today do without.
        _ => Err(Errno::ENOSYS),
    }
}

/// Whether an operation takes a lock, which a signal never keeps it from doing in the end.
pub fn takes_lock(op: u64) -> bool {
    matches!(op as u32 & raw::FUTEX_CMD_MASK as u32, raw::FUTEX_LOCK_PI | raw::FUTEX_LOCK_PI2)
}

/// The monotonic time at which a wait ends.
fn deadline(address: u64, absolute: bool, realtime: bool) -> Result<Option<u64>> {
    if address == 0 {
        return Ok(None);
    }
    let given = read_timespec(address)?;
    Ok(Some(match (absolute, realtime) {
        (false, _) => time::monotonic_ns().saturating_add(given),
        (true, false) => given,
        (true, true) => clock::wall_to_monotonic(given),
    }))
}

fn wait(call: &Call<'_>, key: Key, address: u64, expected: u32, bitset: u32, deadline: Option<u64>) -> Result<u64> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let waiter =
        Arc::new(Waiter { key: Mutex::new(key), bitset, woken: AtomicBool::new(false), bell: WaitQueue::new() });
    WAITERS.lock().entry(key).or_default().push_back(waiter.clone());
    let slept = match UserPtr::<u32>::new(address).read() {
        Err(errno) => Err(errno),
        Ok(now) if now != expected => Err(Errno::EAGAIN),
        Ok(_) => {
            let woken = &mut || waiter.woken.load(Ordering::SeqCst);
            signal::wait::sleep(call.thread, &waiter.bell, woken, deadline)
        }
    };
    forget(&waiter);
    // A wake-up that counted us must not be lost, whatever else happened.
    if waiter.woken.load(Ordering::SeqCst) {
        return Ok(0);
    }
    match slept {
        Ok(_) => Err(Errno::ETIMEDOUT),
        Err(errno) => Err(errno),
    }
}

fn requeue(from: u64, [from_key, to_key]: [Key; 2], wakes: u32, moves: u32, expected: Option<u32>) -> Result<u64> {
    if (wakes as i32) < 0 || (moves as i32) < 0 {
        return Err(Errno::EINVAL);
    }
    if let Some(expected) = expected
        && UserPtr::<u32>::new(from).read()? != expected
    {
        return Err(Errno::EAGAIN);
    }
    let woken = if wakes > 0 { wake(from_key, wakes as usize, u32::MAX) } else { 0 };
    if from_key == to_key {
        return Ok(woken);
    }
    let mut table = WAITERS.lock();
    let Some(mut queue) = table.remove(&from_key) else { return Ok(woken) };
    let rest = queue.split_off(queue.len().min(moves as usize));
    if !rest.is_empty() {
        table.insert(from_key, rest);
    }
    for waiter in &queue {
        *waiter.key.lock() = to_key;
    }
    let moved = queue.len() as u64;
    if moved > 0 {
        table.entry(to_key).or_default().extend(queue);
    }
    // FUTEX_REQUEUE tells of the woken only in old manuals; Linux counts both for both.
    Ok(woken + moved)
}

/// Marks the robust locks a dying thread holds, and wakes a waiter of each (get_robust_list(2), `exit_robust_list`).
/// The list is the program's memory: nothing in it is believed, and its length is bounded.
pub fn release_robust(thread: &UserThread, head: u64) {
    // head: first entry, offset of the word from an entry, the entry being worked on.
    let Ok(fields) = UserPtr::<u64>::new(head).read_vec(3) else { return };
    let (offset, pending) = (fields[1], fields[2]);
    let mut entry = fields[0];
    for _ in 0..ROBUST_LIMIT {
        if entry & !IS_PI == head & !IS_PI || entry & !IS_PI == 0 {
            break;
        }
        let next = UserPtr::<u64>::new(entry & !IS_PI).read();
        if entry & !IS_PI != pending & !IS_PI {
            release_one(thread, entry, offset, false);
        }
        let Ok(next) = next else { break };
        entry = next;
    }
    if pending & !IS_PI != 0 {
        release_one(thread, pending, offset, true);
    }
}

/// The bit of a link that says "priority inheritance": who waits for such a lock inherits it ([`pi::release_all`]).
const IS_PI: u64 = 1;

/// `handle_futex_death` in Linux' kernel/futex/core.c. `pending` is the lock the thread was just taking or giving back.
fn release_one(thread: &UserThread, entry: u64, offset: u64, pending: bool) {
    let (address, is_pi) = ((entry & !IS_PI).wrapping_add(offset), entry & IS_PI != 0);
    let word = UserPtr::<u32>::new(address);
    let Ok(value) = word.read() else { return };
    if !address.is_multiple_of(4) {
        return;
    }
    if pending && !is_pi && value == 0 {
        // Given back, but who waits was not woken.
        wake_one(&thread.process, address);
    }
    let held = |word: u32| word & raw::FUTEX_TID_MASK == thread.tid;
    let died = |word: u32| if held(word) { word & raw::FUTEX_WAITERS | raw::FUTEX_OWNER_DIED } else { word };
    if held(value)
        && let Ok(old) = word.update(died)
        && held(old)
        && !is_pi
        && old & raw::FUTEX_WAITERS != 0
    {
        wake_one(&thread.process, address);
    }
}
