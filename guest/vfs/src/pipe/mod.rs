//! Pipes: a stream of bytes with a bounded store between its ends (pipe(7)).
//!
//! The hard idea: bytes are copied to and from the program with no lock held, since that may fault or wait. A
//! reader therefore copies *before* it consumes, and while it does is the only reader; so a fault loses
//! nothing and two readers cannot get their bytes mixed. A write of up to [`PIPE_BUF`] bytes is gathered
//! first and stored in one step.

mod end;
mod fifo;
#[cfg(test)]
mod tests;

pub use end::{PipeEnd, pipe};
pub use fifo::Fifos;

use crate::{Errno, Poll, Result, Sink, Source, WaitQueue};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use spin::Mutex;

/// What a pipe holds, in bytes.
pub const CAPACITY: usize = 64 * 1024;

/// A write of up to this many bytes is not mixed with another's.
pub const PIPE_BUF: usize = 4096;

/// The store and who stands at its ends.
pub(crate) struct Channel {
    state: Mutex<State>,
    queue: Arc<dyn WaitQueue>,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Room promised to writers that are copying in.
    reserved: usize,
    readers: usize,
    writers: usize,
    /// Ever opened for reading and for writing: what the open(2) of a FIFO waits for.
    reader_opens: u64,
    writer_opens: u64,
    /// A reader is copying out from the front.
    reading: bool,
}

/// How often the ends have been opened.
struct Openings {
    reader: u64,
    writer: u64,
}

impl State {
    fn room(&self) -> usize {
        CAPACITY - self.bytes.len() - self.reserved
    }

    /// A copy of the first `most` bytes, or of all.
    fn front(&self, most: usize) -> Vec<u8> {
        let (first, second) = self.bytes.as_slices();
        let first = &first[..first.len().min(most)];
        let second = &second[..second.len().min(most - first.len())];
        [first, second].concat()
    }
}

impl Channel {
    pub(crate) fn new(queue: Arc<dyn WaitQueue>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), queue })
    }

    /// Somebody comes to the ends named. Returns how often the ends had been opened before, or `None` when
    /// somebody stands at the other end already. That is judged in this very step: a partner that was
    /// waiting only for us may be gone the moment after.
    fn enter(&self, reads: bool, writes: bool) -> Option<Openings> {
        let mut state = self.state.lock();
        let met = (reads && state.writers > 0) || (writes && state.readers > 0);
        let before = Openings { reader: state.reader_opens, writer: state.writer_opens };
        state.readers += usize::from(reads);
        state.writers += usize::from(writes);
        state.reader_opens += u64::from(reads);
        state.writer_opens += u64::from(writes);
        drop(state);
        self.queue.wake_all();
        (!met).then_some(before)
    }

    fn leave(&self, reads: bool, writes: bool) {
        let mut state = self.state.lock();
        state.readers -= usize::from(reads);
        state.writers -= usize::from(writes);
        drop(state);
        self.queue.wake_all();
    }

    /// Runs `attempt` under the lock until it gives something, asleep in between. With `nonblocking` it gets
    /// one chance.
    fn when<T>(&self, nonblocking: bool, mut attempt: impl FnMut(&mut State) -> Option<Result<T>>) -> Result<T> {
        let mut outcome = attempt(&mut self.state.lock());
        if outcome.is_none() && !nonblocking {
            self.queue.wait_until(&mut || {
                // Called once more after success, it must not try twice.
                if outcome.is_none() {
                    outcome = attempt(&mut self.state.lock());
                }
                outcome.is_some()
            })?;
        }
        outcome.unwrap_or(Err(Errno::EAGAIN))
    }

    pub(crate) fn read(&self, sink: &mut dyn Sink, nonblocking: bool) -> Result<usize> {
        let room = sink.room();
        if room == 0 {
            return Ok(0);
        }
        let copy = self.when(nonblocking, |state| {
            if state.reading {
                return None;
            }
            if state.bytes.is_empty() {
                return (state.writers == 0).then_some(Ok(None));
            }
            state.reading = true;
            Some(Ok(Some(state.front(room))))
        })?;
        let Some(copy) = copy else { return Ok(0) };
        let put = sink.put(copy.as_slice().into());
        let mut state = self.state.lock();
        state.reading = false;
        state.bytes.drain(..put.unwrap_or(0).min(copy.len()));
        drop(state);
        self.queue.wake_all();
        put
    }

    /// A copy of the first `most` bytes, or of all, waiting for the first; empty when nobody writes any more.
    fn peek(&self, most: usize, nonblocking: bool) -> Result<Vec<u8>> {
        self.when(nonblocking, |state| (!state.bytes.is_empty() || state.writers == 0).then(|| Ok(state.front(most))))
    }

    pub(crate) fn write(&self, source: &mut dyn Source, nonblocking: bool) -> Result<usize> {
        let atomic = source.remaining() <= PIPE_BUF;
        let mut done = 0;
        while source.remaining() > 0 {
            match self.write_piece(source, atomic, nonblocking) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    /// Stores what there is room for, or with `atomic` everything.
    fn write_piece(&self, source: &mut dyn Source, atomic: bool, nonblocking: bool) -> Result<usize> {
        let length = source.remaining();
        let least = if atomic { length } else { 1 };
        // The room is taken first: bytes once out of the source must find it.
        let reserved = self.when(nonblocking, |state| match state.room() {
            _ if state.readers == 0 => Some(Err(Errno::EPIPE)),
            room if room >= least => {
                let now = room.min(length);
                state.reserved += now;
                Some(Ok(now))
            }
            _ => None,
        })?;
        let mut buffer = vec![0; reserved];
        let taken = source.take(&mut buffer);
        let mut state = self.state.lock();
        state.reserved -= reserved;
        state.bytes.extend(&buffer[..taken.unwrap_or(0).min(reserved)]);
        drop(state);
        self.queue.wake_all();
        taken
    }

    pub(crate) fn poll(&self, reads: bool, writes: bool) -> Poll {
        let state = self.state.lock();
        let mut ready = Poll::empty();
        if reads {
            ready.set(Poll::IN, !state.bytes.is_empty());
            ready.set(Poll::HUP, state.writers == 0);
        }
        if writes {
            ready.set(Poll::OUT, state.room() >= PIPE_BUF);
            ready.set(Poll::ERR, state.readers == 0);
        }
        ready
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().bytes.len()
    }
}
