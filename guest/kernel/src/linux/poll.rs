//! Waiting for files: poll(2), ppoll(2), select(2) and pselect6(2).

use super::open_file::OpenFile;
use super::timeout::Timeout;
use super::{Call, signal, table::Calls};
use crate::fs::readiness;
use crate::mm::user::{UserPtr, plain};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Poll, Result};
use linux_raw_sys::general as raw;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls =
    &[(Sysno::poll, poll), (Sysno::ppoll, ppoll), (Sysno::select, select), (Sysno::pselect6, pselect6)];

plain!(raw::pollfd);

/// What a file is ready for, in poll(2)'s bits: the normal-priority aliases included.
pub fn poll_bits(ready: Poll) -> u32 {
    let mut bits = u32::from(ready.bits());
    if ready.contains(Poll::IN) {
        bits |= raw::POLLRDNORM;
    }
    if ready.contains(Poll::OUT) {
        bits |= raw::POLLWRNORM;
    }
    bits
}

/// What is told whether it was asked for or not.
const ALWAYS: u32 = raw::POLLERR | raw::POLLHUP;

/// Runs a wait with the signal mask a call names, if it names one.
pub fn with_mask<T>(call: &Call<'_>, mask: u64, size: u64, wait: impl FnOnce() -> Result<T>) -> Result<T> {
    match UserPtr::<u64>::nullable(mask) {
        None => wait(),
        Some(_) if size != 8 => Err(Errno::EINVAL),
        Some(mask) => signal::with_mask(call.thread, mask.read()?, wait),
    }
}

/// poll(2).
fn poll(call: &mut Call<'_>) -> Result<u64> {
    let timeout = Timeout::from_millis(call.args[2] as i32);
    wait_for_list(call, call.args[0], call.args[1], timeout)
}

/// ppoll(2).
fn ppoll(call: &mut Call<'_>) -> Result<u64> {
    let [list, count, time, mask, size, _] = call.args;
    let timeout = Timeout::from_timespec(time)?;
    let result = with_mask(call, mask, size, || wait_for_list(call, list, count, timeout));
    timeout.write_timespec(time);
    result
}

fn wait_for_list(call: &Call<'_>, address: u64, count: u64, timeout: Timeout) -> Result<u64> {
    // The number is an unsigned int for poll(2); Linux bounds it by the descriptor limit.
    if count > u64::from(call.process.files.limit()) {
        return Err(Errno::EINVAL);
    }
    let user = UserPtr::<raw::pollfd>::new(address);
    let mut list = user.read_vec(count as usize)?;
    let files: Vec<_> =
        list.iter().map(|entry| if entry.fd < 0 { None } else { Some(call.file(entry.fd as u64).ok()) }).collect();
    let mut found = 0;
    readiness::wait(
        &mut || {
            found = 0;
            for (entry, file) in list.iter_mut().zip(&files) {
                entry.revents = match file {
                    None => 0,
                    Some(None) => raw::POLLNVAL as i16,
                    Some(Some(file)) => {
                        let asked = u32::from(entry.events as u16) | ALWAYS;
                        (poll_bits(file.inner().poll()) & asked) as i16
                    }
                };
                found += u64::from(entry.revents != 0);
            }
            found > 0
        },
        timeout.deadline(),
    )?;
    user.write_slice(&list)?;
    Ok(found)
}

/// One of select's three sets: which descriptors, and what makes them ready.
struct Set {
    address: u64,
    words: Vec<u64>,
    bits: u32,
}

/// Bits in a word of an `fd_set`.
const WORD: usize = 64;

impl Set {
    fn read(address: u64, words: usize, bits: u32) -> Result<Self> {
        let words = match UserPtr::<u64>::nullable(address) {
            Some(user) => user.read_vec(words)?,
            None => Vec::new(),
        };
        Ok(Self { address, words, bits })
    }

    fn contains(&self, fd: usize) -> bool {
        self.words.get(fd / WORD).is_some_and(|word| word >> (fd % WORD) & 1 != 0)
    }
}

/// select(2).
fn select(call: &mut Call<'_>) -> Result<u64> {
    let [count, read, write, except, time, _] = call.args;
    let timeout = Timeout::from_timeval(time)?;
    let result = wait_for_sets(call, count, [read, write, except], timeout);
    timeout.write_timeval(time);
    result
}

/// pselect6(2): the mask comes as a pointer to its address and size.
fn pselect6(call: &mut Call<'_>) -> Result<u64> {
    let [count, read, write, except, time, packed] = call.args;
    let timeout = Timeout::from_timespec(time)?;
    let [mask, size] = match UserPtr::<[u64; 2]>::nullable(packed) {
        Some(packed) => packed.read()?,
        None => [0, 0],
    };
    let result = with_mask(call, mask, size, || wait_for_sets(call, count, [read, write, except], timeout));
    timeout.write_timespec(time);
    result
}

fn wait_for_sets(call: &Call<'_>, count: u64, addresses: [u64; 3], timeout: Timeout) -> Result<u64> {
    let count = usize::try_from(count as i32).map_err(|_| Errno::EINVAL)?;
    // Numbers past the table's end cannot be open; Linux cuts there too.
    let count = count.min(call.process.files.limit() as usize);
    let words = count.div_ceil(WORD);
    let mut sets = [
        Set::read(addresses[0], words, raw::POLLIN | raw::POLLHUP | raw::POLLERR)?,
        Set::read(addresses[1], words, raw::POLLOUT | raw::POLLERR)?,
        Set::read(addresses[2], words, raw::POLLPRI)?,
    ];
    let mut files: Vec<(usize, Arc<OpenFile>)> = Vec::new();
    for fd in 0..count {
        if sets.iter().any(|set| set.contains(fd)) {
            files.push((fd, call.file(fd as u64)?));
        }
    }
    let mut found = Vec::new();
    readiness::wait(
        &mut || {
            found.clear();
            for (fd, file) in &files {
                let ready = poll_bits(file.inner().poll());
                found.extend((0..3).filter(|i| sets[*i].contains(*fd) && ready & sets[*i].bits != 0).map(|i| (i, *fd)));
            }
            !found.is_empty()
        },
        timeout.deadline(),
    )?;
    for set in &mut sets {
        set.words.fill(0);
    }
    for (i, fd) in &found {
        sets[*i].words[fd / WORD] |= 1 << (fd % WORD);
    }
    for set in &sets {
        UserPtr::new(set.address).write_slice(&set.words)?;
    }
    Ok(found.len() as u64)
}
