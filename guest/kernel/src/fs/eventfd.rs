//! The event counter of eventfd(2).

use super::anon::AnonInode;
use super::readiness;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{Errno, File, Inode, Poll, Result, Sink, Source};
use spin::Mutex;

/// The counter's largest value; one more would wrap, and so blocks.
const MAX: u64 = u64::MAX - 1;

/// An event counter as a file.
pub struct EventFd {
    inode: Arc<dyn Inode>,
    count: Mutex<u64>,
    /// `EFD_SEMAPHORE`: a read takes one instead of all.
    semaphore: bool,
    nonblocking: AtomicBool,
}

impl EventFd {
    /// A counter at `count`.
    pub fn new(count: u64, semaphore: bool) -> Self {
        let inode = AnonInode::new(0o600, 0);
        Self { inode, count: Mutex::new(count), semaphore, nonblocking: AtomicBool::new(false) }
    }

    /// Tries until it succeeds, or once if the file does not wait.
    fn attempt<T>(&self, mut step: impl FnMut(&mut u64) -> Option<T>) -> Result<T> {
        let mut done = step(&mut self.count.lock());
        if done.is_none() {
            if self.nonblocking.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            let mut ready = || {
                // Asked once more after success, it must not count twice.
                if done.is_none() {
                    done = step(&mut self.count.lock());
                }
                done.is_some()
            };
            readiness::wait(&mut ready, None)?;
        }
        readiness::changed();
        done.ok_or(Errno::EAGAIN)
    }
}

impl File for EventFd {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if sink.room() < 8 {
            return Err(Errno::EINVAL);
        }
        let taken = self.attempt(|count| {
            let take = if self.semaphore { 1.min(*count) } else { *count };
            *count -= take;
            (take > 0).then_some(take)
        })?;
        sink.put(taken.to_ne_bytes()[..].into())
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        let mut bytes = [0; 8];
        if source.remaining() < 8 || source.take(&mut bytes)? < 8 {
            return Err(Errno::EINVAL);
        }
        let add = u64::from_ne_bytes(bytes);
        if add == u64::MAX {
            return Err(Errno::EINVAL);
        }
        self.attempt(|count| {
            let sum = count.checked_add(add).filter(|sum| *sum <= MAX)?;
            *count = sum;
            Some(())
        })?;
        Ok(8)
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        let count = *self.count.lock();
        let mut ready = Poll::empty();
        ready.set(Poll::IN, count > 0);
        ready.set(Poll::OUT, count < MAX);
        ready
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
