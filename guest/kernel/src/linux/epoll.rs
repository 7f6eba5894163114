//! epoll(7): a set of files to wait for, as a file.
//!
//! Waiting asks every file of the set again whenever the bell of [`readiness`] rings, so its cost grows with the
//! set; for the few files of most programs that is cheap. Level-triggered is exact. Edge-triggered reports a
//! ready file again whenever anything at all became ready since its last report: sometimes once too often, which
//! programs must bear (epoll(7), "spurious"), never once too little.
//!
//! `EPOLLEXCLUSIVE`: all waiters are on the one bell, so all of them look; who looks first after a ring takes the files that are
//! ready and exclusive for its set, and the other sets do not report those until the bell rings again.

use super::open_file::OpenFile;
use super::poll::{poll_bits, with_mask};
use super::timeout::Timeout;
use super::{Call, table::Calls};
use crate::fs::anon::AnonInode;
use crate::fs::readiness;
use crate::mm::user::{UserPtr, plain};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::ptr;
use diolkos_vfs::{Errno, File, Inode, OpenFlags, Poll, Result};
use linux_raw_sys::general as raw;
use spin::Mutex;
use syscalls::Sysno;

/// The calls of this family.
pub const CALLS: Calls = &[
    (Sysno::epoll_create, epoll_create),
    (Sysno::epoll_create1, epoll_create1),
    (Sysno::epoll_ctl, epoll_ctl),
    (Sysno::epoll_wait, epoll_wait),
    (Sysno::epoll_pwait, epoll_pwait),
    (Sysno::epoll_pwait2, epoll_pwait2),
];

plain!(raw::epoll_event);

/// Told whether asked for or not.
const ALWAYS: u32 = raw::POLLERR | raw::POLLHUP;
/// What an entry says about how, not about what.
const HOW: u32 = EPOLLET | EPOLLONESHOT | EPOLLWAKEUP | EPOLLEXCLUSIVE;
const EPOLLEXCLUSIVE: u32 = 1 << 28;
const EPOLLWAKEUP: u32 = 1 << 29;
const EPOLLONESHOT: u32 = 1 << 30;
const EPOLLET: u32 = 1 << 31;
/// What may be asked for together with `EPOLLEXCLUSIVE` (`EPOLLEXCLUSIVE_OK_BITS` in Linux' fs/eventpoll.c).
const WITH_EXCLUSIVE: u32 = raw::POLLIN | raw::POLLOUT | ALWAYS | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

/// What the set is keyed by: the descriptor and the open file it stood for when it was added (epoll(7), Q1).
type Key = (i32, usize);

struct Interest {
    file: Weak<OpenFile>,
    events: u32,
    data: u64,
    /// The bell's count when it was last reported; edge-triggered entries wait for another.
    reported_at: Option<u64>,
}

/// Which set has taken which file since the bell rang last, by the address of both.
struct Claims {
    bell: u64,
    taken: BTreeMap<usize, usize>,
}

static CLAIMS: Mutex<Claims> = Mutex::new(Claims { bell: 0, taken: BTreeMap::new() });

impl Claims {
    /// Takes `file` for `set`, unless another set has it since the `bell`th ring.
    fn take(&mut self, bell: u64, file: usize, set: usize) -> bool {
        if self.bell != bell {
            *self = Self { bell, taken: BTreeMap::new() };
        }
        *self.taken.entry(file).or_insert(set) == set
    }
}

/// The set as a file.
pub struct Epoll {
    inode: Arc<dyn Inode>,
    interests: Mutex<BTreeMap<Key, Interest>>,
}

/// An entry of the set, taken out of the lock to be asked.
struct Asked {
    key: Key,
    file: Arc<OpenFile>,
    events: u32,
    data: u64,
    reported_at: Option<u64>,
}

impl Epoll {
    fn new() -> Self {
        Self { inode: AnonInode::new(0o600, 0), interests: Mutex::new(BTreeMap::new()) }
    }

    /// The living entries. Files are asked outside the lock: one may be a set itself, and letting go of a file that
    /// was closed meanwhile may wait for the host.
    fn entries(&self) -> Vec<Asked> {
        let mut interests = self.interests.lock();
        interests.retain(|_, interest| interest.file.strong_count() > 0);
        interests
            .iter()
            .filter_map(|(key, interest)| {
                let Interest { events, data, reported_at, .. } = *interest;
                Some(Asked { key: *key, file: interest.file.upgrade()?, events, data, reported_at })
            })
            .collect()
    }

    /// What is ready now, at most `max` of it.
    fn ready(&self, max: usize) -> Vec<(Asked, u32)> {
        let bell = readiness::count();
        let mut found = Vec::new();
        for asked in self.entries() {
            let wanted = asked.events & !HOW;
            // An entry that fired once is silent until it is changed, errors included.
            if wanted == 0 && asked.events & EPOLLONESHOT != 0 {
                continue;
            }
            let ready = poll_bits(asked.file.inner().poll()) & (wanted | ALWAYS);
            let news = asked.events & EPOLLET == 0 || asked.reported_at != Some(bell);
            if ready != 0 && news && found.len() < max && self.may_tell(&asked, bell) {
                found.push((asked, ready));
            }
        }
        found
    }

    /// Whether no other set was told of the file instead (`EPOLLEXCLUSIVE`).
    fn may_tell(&self, asked: &Asked, bell: u64) -> bool {
        asked.events & EPOLLEXCLUSIVE == 0 || CLAIMS.lock().take(bell, asked.key.1, ptr::from_ref(self).addr())
    }

    /// Whether an entry was added with `EPOLLEXCLUSIVE`: it cannot be changed any more (epoll_ctl(2)).
    fn is_exclusive(&self, key: &Key) -> bool {
        self.interests.lock().get(key).is_some_and(|known| known.events & EPOLLEXCLUSIVE != 0)
    }

    /// Notes that entries have been told to the program.
    fn mark(&self, reported: &[(Asked, u32)], bell: u64) {
        let mut interests = self.interests.lock();
        for (asked, _) in reported {
            let Some(interest) = interests.get_mut(&asked.key) else { continue };
            interest.reported_at = Some(bell);
            if interest.events & EPOLLONESHOT != 0 {
                interest.events &= HOW;
            }
        }
    }

    /// Whether a set is among the files of this one.
    fn contains_set(&self) -> bool {
        self.entries().iter().any(|asked| as_epoll(&asked.file).is_some())
    }
}

impl File for Epoll {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        if self.ready(1).is_empty() { Poll::empty() } else { Poll::IN }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn as_epoll(file: &OpenFile) -> Option<&Epoll> {
    file.inner().as_any().downcast_ref()
}

/// epoll_create(2): the size is a hint of old, but must be positive.
fn epoll_create(call: &mut Call<'_>) -> Result<u64> {
    if (call.args[0] as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    create(call, false)
}

/// epoll_create1(2).
fn epoll_create1(call: &mut Call<'_>) -> Result<u64> {
    match call.args[0] as u32 {
        0 => create(call, false),
        raw::EPOLL_CLOEXEC => create(call, true),
        _ => Err(Errno::EINVAL),
    }
}

fn create(call: &Call<'_>, close_on_exec: bool) -> Result<u64> {
    let file = OpenFile::unnamed(Arc::new(Epoll::new()), "anon_inode:[eventpoll]", OpenFlags::RDWR);
    call.install(file, close_on_exec)
}

/// epoll_ctl(2).
fn epoll_ctl(call: &mut Call<'_>) -> Result<u64> {
    let [set, operation, fd, event, ..] = call.args;
    let operation = operation as u32;
    let event = match operation {
        raw::EPOLL_CTL_DEL => raw::epoll_event { events: 0, data: 0 },
        _ => UserPtr::<raw::epoll_event>::new(event).read()?,
    };
    let (set, file) = (call.file(set)?, call.file(fd)?);
    // What is always ready cannot be waited for.
    if !file.inner().is_stream() {
        return Err(Errno::EPERM);
    }
    let epoll = as_epoll(&set).filter(|_| !Arc::ptr_eq(&set, &file)).ok_or(Errno::EINVAL)?;
    // Sets of sets end after two levels here (five in Linux): no set can come to contain itself.
    if operation == raw::EPOLL_CTL_ADD && as_epoll(&file).is_some_and(|inner| inner.contains_set()) {
        return Err(Errno::ELOOP);
    }
    let key = (fd as i32, Arc::as_ptr(&file).addr());
    let exclusive = event.events & EPOLLEXCLUSIVE != 0;
    match operation {
        raw::EPOLL_CTL_ADD if exclusive && (event.events & !WITH_EXCLUSIVE != 0 || as_epoll(&file).is_some()) => {
            return Err(Errno::EINVAL);
        }
        raw::EPOLL_CTL_MOD if exclusive || epoll.is_exclusive(&key) => return Err(Errno::EINVAL),
        _ => {}
    }
    let interest = Interest { file: Arc::downgrade(&file), events: event.events, data: event.data, reported_at: None };
    let mut interests = epoll.interests.lock();
    let known = interests.get(&key).is_some_and(|known| known.file.strong_count() > 0);
    match operation {
        raw::EPOLL_CTL_ADD if known => return Err(Errno::EEXIST),
        raw::EPOLL_CTL_MOD | raw::EPOLL_CTL_DEL if !known => return Err(Errno::ENOENT),
        raw::EPOLL_CTL_ADD | raw::EPOLL_CTL_MOD => {
            interests.insert(key, interest);
        }
        raw::EPOLL_CTL_DEL => {
            interests.remove(&key);
        }
        _ => return Err(Errno::EINVAL),
    }
    drop(interests);
    // Somebody may be waiting on the set already.
    readiness::changed();
    Ok(0)
}

/// epoll_wait(2).
fn epoll_wait(call: &mut Call<'_>) -> Result<u64> {
    let timeout = Timeout::from_millis(call.args[3] as i32);
    wait(call, timeout)
}

/// epoll_pwait(2).
fn epoll_pwait(call: &mut Call<'_>) -> Result<u64> {
    let timeout = Timeout::from_millis(call.args[3] as i32);
    with_mask(call, call.args[4], call.args[5], || wait(call, timeout))
}

/// epoll_pwait2(2): the time as a `struct timespec`.
fn epoll_pwait2(call: &mut Call<'_>) -> Result<u64> {
    let timeout = Timeout::from_timespec(call.args[3])?;
    with_mask(call, call.args[4], call.args[5], || wait(call, timeout))
}

fn wait(call: &Call<'_>, timeout: Timeout) -> Result<u64> {
    let [set, to, max, ..] = call.args;
    let max = usize::try_from(max as i32).ok().filter(|max| *max > 0).ok_or(Errno::EINVAL)?;
    let set = call.file(set)?;
    let epoll = as_epoll(&set).ok_or(Errno::EINVAL)?;
    let (mut found, mut bell) = (Vec::new(), 0);
    readiness::wait(
        &mut || {
            bell = readiness::count();
            found = epoll.ready(max);
            !found.is_empty()
        },
        timeout.deadline(),
    )?;
    let events: Vec<_> =
        found.iter().map(|(asked, ready)| raw::epoll_event { events: *ready, data: asked.data }).collect();
    UserPtr::new(to).write_slice(&events)?;
    epoll.mark(&found, bell);
    Ok(events.len() as u64)
}
