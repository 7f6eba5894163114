//! An inotify instance: its watches and its queue, as a file.

use super::queue::{Event, Queue};
use super::registry::{self, Told};
use super::{ALL, Events};
use crate::{Errno, File, Inode, InodeId, Poll, Result, Sink, WaitQueue};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use spin::Mutex;

/// Most instances (`/proc/sys/fs/inotify/max_user_instances`).
pub const MAX_INSTANCES: usize = 128;

/// Most watches of all instances together (`/proc/sys/fs/inotify/max_user_watches`). Each keeps its inode, on a share a descriptor of
/// the host with it.
pub const MAX_WATCHES: usize = 8192;

static INSTANCES: AtomicUsize = AtomicUsize::new(0);

/// How an inode is to be watched: inotify_add_watch(2)'s mask, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchRequest {
    /// What to tell.
    pub events: Events,
    /// Once only (`IN_ONESHOT`).
    pub once: bool,
    /// Nothing of files whose name has been taken away (`IN_EXCL_UNLINK`).
    pub linked_only: bool,
    /// In addition to what is watched already (`IN_MASK_ADD`).
    pub add: bool,
    /// Fail if it is watched already (`IN_MASK_CREATE`).
    pub create: bool,
}

/// What a watch is about; changed by a second inotify_add_watch(2) of the same inode.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    events: Events,
    once: bool,
    linked_only: bool,
}

/// A watch of one inode by one instance.
pub(super) struct Watch {
    wd: i32,
    instance: Weak<Inotify>,
    wanted: Mutex<Wanted>,
    /// Kept, so that its identity is nobody else's meanwhile.
    inode: Arc<dyn Inode>,
}

impl Watch {
    pub(super) fn tell(self: &Arc<Self>, told: &Told<'_>) {
        let wanted = *self.wanted.lock();
        if !wanted.events.intersects(told.what & ALL) || (wanted.linked_only && told.unlinked) {
            return;
        }
        let Some(instance) = self.instance.upgrade() else { return };
        // Linux never says so of an inode's own end or move (`inotify_handle_inode_event`).
        let own = Events::DELETE_SELF | Events::MOVE_SELF;
        let what = if told.what.intersects(own) { told.what - Events::ISDIR } else { told.what };
        instance.push(Event { wd: self.wd, what, cookie: told.cookie, name: told.name.map(Into::into) });
        if wanted.once {
            self.end();
        }
    }

    /// Takes it out of its instance, which is told.
    pub(super) fn end(self: &Arc<Self>) {
        if let Some(instance) = self.instance.upgrade() {
            let _ = instance.remove(self.wd);
        }
    }
}

#[derive(Default)]
struct State {
    queue: Queue,
    watches: BTreeMap<i32, Arc<Watch>>,
    by_inode: BTreeMap<InodeId, i32>,
    last_wd: i32,
}

/// The instance.
pub struct Inotify {
    myself: Weak<Self>,
    inode: Arc<dyn Inode>,
    state: Mutex<State>,
    waiters: Arc<dyn WaitQueue>,
    nonblocking: AtomicBool,
}

impl Inotify {
    /// One without watches. `inode` is what the descriptor shows; `waiters` is for its readers and who polls it.
    ///
    /// # Errors
    /// `EMFILE` when there are too many.
    pub fn new(inode: Arc<dyn Inode>, waiters: Arc<dyn WaitQueue>) -> Result<Arc<Self>> {
        let new = Arc::new_cyclic(|myself| Self {
            myself: myself.clone(),
            inode,
            state: Mutex::default(),
            waiters,
            nonblocking: AtomicBool::new(false),
        });
        // Its end takes it back.
        let others = INSTANCES.fetch_add(1, Ordering::Relaxed);
        if others < MAX_INSTANCES { Ok(new) } else { Err(Errno::EMFILE) }
    }

    /// Watches an inode, or changes how it is watched, and returns the watch's number.
    ///
    /// # Errors
    /// `EEXIST` as the request demands, `ENOSPC` for too many.
    pub fn watch(&self, inode: &Arc<dyn Inode>, request: &WatchRequest) -> Result<i32> {
        let WatchRequest { events, once, linked_only, .. } = *request;
        let wanted = Wanted { events, once, linked_only };
        let id = inode.id();
        let mut state = self.state.lock();
        if let Some(known) = state.by_inode.get(&id).and_then(|wd| state.watches.get(wd)) {
            if request.create {
                return Err(Errno::EEXIST);
            }
            let mut now = known.wanted.lock();
            *now = match request.add {
                true => Wanted {
                    events: now.events | events,
                    once: now.once | once,
                    linked_only: now.linked_only | linked_only,
                },
                false => wanted,
            };
            return Ok(known.wd);
        }
        if registry::count() >= MAX_WATCHES {
            return Err(Errno::ENOSPC);
        }
        // Numbers are not used again before they run out, so that late events are not taken for another watch's.
        let wd = state.last_wd.checked_add(1).ok_or(Errno::ENOSPC)?;
        let watch =
            Arc::new(Watch { wd, instance: self.myself.clone(), wanted: Mutex::new(wanted), inode: inode.clone() });
        state.last_wd = wd;
        state.by_inode.insert(id, wd);
        state.watches.insert(wd, watch.clone());
        drop(state);
        registry::add(id, watch);
        Ok(wd)
    }

    /// Ends a watch, which is told by an event of its own.
    ///
    /// # Errors
    /// `EINVAL` when there is none of this number.
    pub fn remove(&self, wd: i32) -> Result<()> {
        let mut state = self.state.lock();
        let watch = state.watches.remove(&wd).ok_or(Errno::EINVAL)?;
        let id = watch.inode.id();
        state.by_inode.remove(&id);
        drop(state);
        registry::remove(id, &watch);
        self.push(Event { wd, what: Events::IGNORED, cookie: 0, name: None });
        Ok(())
    }

    fn push(&self, event: Event) {
        self.state.lock().queue.push(event);
        self.waiters.wake_all();
    }

    /// Bytes that wait to be read (`FIONREAD`).
    pub fn available(&self) -> usize {
        self.state.lock().queue.bytes()
    }

    /// Takes events into `room` bytes; `None` while there are none.
    fn take(&self, room: usize) -> Option<Result<Vec<u8>>> {
        match self.state.lock().queue.take(room) {
            None => Some(Err(Errno::EINVAL)),
            Some(bytes) => (!bytes.is_empty()).then_some(Ok(bytes)),
        }
    }
}

impl File for Inotify {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let room = sink.room();
        let mut taken = self.take(room);
        if taken.is_none() {
            if self.nonblocking.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            self.waiters.wait_until(&mut || {
                // Called once more after success, it must not take twice.
                if taken.is_none() {
                    taken = self.take(room);
                }
                taken.is_some()
            })?;
        }
        let bytes = taken.unwrap_or(Err(Errno::EAGAIN))?;
        sink.put(bytes.as_slice().into())
    }

    /// Opened for reading only.
    fn write_at(&self, _offset: u64, _source: &mut dyn crate::Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn poll(&self) -> Poll {
        if self.available() > 0 { Poll::IN } else { Poll::empty() }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        let watches = core::mem::take(&mut self.state.get_mut().watches);
        for watch in watches.into_values() {
            registry::remove(watch.inode.id(), &watch);
        }
        INSTANCES.fetch_sub(1, Ordering::Relaxed);
    }
}
