//! What has been sent to a socket and not yet received.
//!
//! A letter is what one send brought. A stream reads across letters and leaves the rest of one; a datagram is read whole
//! or cut. The hard idea is the pipe's: bytes are copied to the reader with no lock held and *before* they are consumed,
//! and while that lasts there is no other reader; so a fault loses nothing and two readers cannot mix theirs.

use crate::{Address, Bell};
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::time::Duration;
use diolkos_vfs::{Errno, Poll, Result, Sink, Source};
use spin::Mutex;

/// Something that travels with a letter: an open file (`SCM_RIGHTS`).
pub type Right = Arc<dyn Any + Send + Sync>;

/// What an inbox holds unless its owner or the sender says otherwise, in bytes with each letter's [`OVERHEAD`]: Linux'
/// `net.core.rmem_default`.
pub const CAPACITY: usize = 212_992;
/// What a letter counts for beside its bytes, so that empty ones fill an inbox too.
const OVERHEAD: usize = 128;
/// The longest letter; a stream cuts longer sends into several.
pub const LETTER_MAX: usize = 128 * 1024;

/// What one send brought.
pub(crate) struct Letter {
    bytes: Arc<[u8]>,
    /// Bytes of it that have been read (streams only).
    read: usize,
    rights: Vec<Right>,
    from: Address,
}

impl Letter {
    fn left(&self) -> usize {
        self.bytes.len() - self.read
    }

    fn weight(&self) -> usize {
        self.bytes.len() + OVERHEAD
    }
}

/// How the sending side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing more will come.
    Orderly,
    /// The other end was closed with letters unread: said once as `ECONNRESET`, then as an end.
    Reset,
}

#[derive(Default)]
struct State {
    letters: VecDeque<Letter>,
    /// Weight of the letters, and room promised to senders that are copying in.
    weight: usize,
    ended: Option<Ending>,
    /// The owner receives no more (`SHUT_RD`, or closed).
    shut: Option<Errno>,
    /// A reader is copying out from the front.
    reading: bool,
    /// The owner's sends have found nobody at the other end.
    told: bool,
    /// What it holds, if the owner has said so.
    capacity: Option<usize>,
}

/// The letters for one socket.
pub struct Inbox {
    state: Mutex<State>,
    bell: Arc<dyn Bell>,
}

/// How to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// Not at all.
    pub(crate) none: bool,
    /// This long at most; without end by default.
    pub(crate) most: Option<Duration>,
}

/// What was taken from the front.
pub(crate) struct Taken {
    /// Bytes copied.
    pub(crate) copied: usize,
    /// Bytes the letter had; for a stream those copied.
    pub(crate) whole: usize,
    pub(crate) rights: Vec<Right>,
    pub(crate) from: Address,
}

impl Taken {
    fn nothing() -> Self {
        Self { copied: 0, whole: 0, rights: Vec::new(), from: Address::Unnamed }
    }
}

/// What a reader found at the front, before it is consumed.
struct Front {
    pieces: Vec<(Arc<[u8]>, usize)>,
    rights: Vec<Right>,
    from: Address,
}

impl Inbox {
    pub(crate) fn new(bell: Arc<dyn Bell>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), bell })
    }

    pub(crate) fn bell(&self) -> &Arc<dyn Bell> {
        &self.bell
    }

    /// What it holds.
    pub(crate) fn capacity(&self) -> usize {
        self.state.lock().capacity.unwrap_or(CAPACITY)
    }

    /// Lets it hold so much from now on; what is in it already stays.
    pub(crate) fn set_capacity(&self, bytes: usize) {
        self.state.lock().capacity = Some(bytes);
        self.bell.ring();
    }

    /// Waits for `attempt` to give something.
    pub(crate) fn when<T>(&self, patience: Patience, mut attempt: impl FnMut() -> Option<Result<T>>) -> Result<T> {
        let mut outcome = attempt();
        if outcome.is_none() && !patience.none {
            self.bell.wait_until(
                &mut || {
                    // Called once more after success, it must not try twice.
                    if outcome.is_none() {
                        outcome = attempt();
                    }
                    outcome.is_some()
                },
                patience.most,
            )?;
        }
        outcome.unwrap_or(Err(Errno::EAGAIN))
    }

    /// Puts up to [`LETTER_MAX`] bytes of `source` in as one letter: all of them with `whole`, else what there is room for
    /// within `capacity`.
    ///
    /// # Errors
    /// `EPIPE` and the like when the owner receives no more, `EAGAIN`, `EINTR`, `EFAULT`.
    pub(crate) fn send(
        &self,
        source: &mut dyn Source,
        whole: bool,
        capacity: usize,
        from: &Address,
        rights: Vec<Right>,
        patience: Patience,
    ) -> Result<usize> {
        let length = source.remaining().min(LETTER_MAX);
        let least = if whole { length } else { length.min(1) } + OVERHEAD;
        // The room is taken first: bytes once out of the source must find it.
        let reserved = self.when(patience, || {
            let mut state = self.state.lock();
            if let Some(errno) = state.shut {
                return Some(Err(errno));
            }
            let room = capacity.saturating_sub(state.weight);
            (room >= least).then(|| {
                let now = room.min(length + OVERHEAD);
                state.weight += now;
                Ok(now)
            })
        })?;
        let mut bytes = vec![0; reserved - OVERHEAD];
        let taken = source.take(&mut bytes);
        bytes.truncate(taken.unwrap_or(0));
        let letter = Letter { bytes: bytes.into(), read: 0, rights, from: from.clone() };
        let mut state = self.state.lock();
        state.weight -= reserved;
        let refused = match (taken, state.shut) {
            (Ok(_), None) => {
                state.weight += letter.weight();
                state.letters.push_back(letter);
                None
            }
            _ => Some(letter),
        };
        drop(state);
        drop(refused);
        self.bell.ring();
        taken
    }

    /// Takes from the front into `sink`: one letter with `whole`, else bytes across letters up to the next that brings rights.
    /// With `peek` everything stays. `None` at the end.
    ///
    /// # Errors
    /// `ECONNRESET`, `EAGAIN`, `EINTR`, `EFAULT`.
    pub(crate) fn receive(
        &self,
        sink: &mut dyn Sink,
        whole: bool,
        peek: bool,
        patience: Patience,
    ) -> Result<Option<Taken>> {
        let room = sink.room();
        if room == 0 && !whole {
            return Ok(Some(Taken::nothing()));
        }
        let front = self.when(patience, || self.state.lock().front(room, whole))?;
        let Some(front) = front else { return Ok(None) };
        let mut copied = 0;
        let mut failure = None;
        for (bytes, start) in &front.pieces {
            let bytes = &bytes[*start..];
            let wanted = bytes.len().min(sink.room());
            match sink.put(bytes[..wanted].into()) {
                Ok(n) => copied += n,
                Err(errno) => failure = Some(errno),
            }
            if failure.is_some() || wanted < bytes.len() {
                break;
            }
        }
        let failed = failure.filter(|_| copied == 0);
        let offered = front.pieces.iter().map(|(bytes, start)| bytes.len() - start).sum();
        let mut state = self.state.lock();
        state.reading = false;
        let read = match (peek, failed, whole) {
            (true, ..) | (_, Some(_), false) => Vec::new(),
            (_, _, true) => state.drop_letter(),
            (_, _, false) => state.consume(copied),
        };
        drop(state);
        drop(read);
        self.bell.ring();
        match failed {
            Some(errno) => Err(errno),
            None => {
                let whole = if whole { offered } else { copied };
                Ok(Some(Taken { copied, whole, rights: front.rights, from: front.from }))
            }
        }
    }

    /// Nothing more will be sent to it.
    pub(crate) fn end(&self, ending: Ending) {
        self.state.lock().ended.get_or_insert(ending);
        self.bell.ring();
    }

    /// The owner receives no more: what is there is thrown away with `discard`, and senders get `errno`. Returns whether
    /// something was left unread.
    pub(crate) fn shut(&self, errno: Errno, discard: bool) -> bool {
        let mut state = self.state.lock();
        let unread = !state.letters.is_empty();
        state.shut.get_or_insert(errno);
        state.ended.get_or_insert(Ending::Orderly);
        let letters = if discard { core::mem::take(&mut state.letters) } else { VecDeque::new() };
        state.weight -= letters.iter().map(Letter::weight).sum::<usize>();
        drop(state);
        drop(letters);
        self.bell.ring();
        unread
    }

    /// Notes that the other end of a connection is closed, as a sender found out. Returns the error to tell: none to the first
    /// send after an orderly end, whose bytes are on their way as far as it knows.
    pub(crate) fn learn_of_reset(&self) -> Option<Errno> {
        let mut state = self.state.lock();
        match state.ended {
            Some(Ending::Reset) => {
                state.ended = Some(Ending::Orderly);
                state.told = true;
                Some(Errno::ECONNRESET)
            }
            _ if state.told => Some(Errno::EPIPE),
            _ => {
                state.told = true;
                None
            }
        }
    }

    /// What the owner can do (`IN`, `RDHUP`, `ERR` after a reset).
    pub(crate) fn poll_owner(&self) -> Poll {
        let state = self.state.lock();
        let mut ready = Poll::empty();
        ready.set(Poll::IN, !state.letters.is_empty() || state.ended.is_some());
        ready.set(Poll::RDHUP, state.ended.is_some());
        ready.set(Poll::ERR, state.ended == Some(Ending::Reset));
        ready
    }

    /// Whether a send of one who fills it up to `capacity` would not wait.
    pub(crate) fn has_room(&self, capacity: usize) -> bool {
        let state = self.state.lock();
        state.shut.is_some() || state.weight <= capacity / 2
    }

    /// Whether the owner receives no more.
    pub(crate) fn is_shut(&self) -> bool {
        self.state.lock().shut.is_some()
    }

    /// Bytes a receive could bring (`FIONREAD`): of a packet socket those of the first letter.
    pub(crate) fn available(&self, whole: bool) -> usize {
        let state = self.state.lock();
        let count = if whole { 1 } else { usize::MAX };
        state.letters.iter().take(count).map(Letter::left).sum()
    }
}

impl State {
    fn front(&mut self, room: usize, whole: bool) -> Option<Result<Option<Front>>> {
        if self.reading {
            return None;
        }
        if self.letters.is_empty() {
            return self.ended.map(|ending| match ending {
                Ending::Orderly => Ok(None),
                Ending::Reset => {
                    self.ended = Some(Ending::Orderly);
                    Err(Errno::ECONNRESET)
                }
            });
        }
        let mut found = Front { pieces: Vec::new(), rights: Vec::new(), from: self.letters[0].from.clone() };
        let mut gathered = 0;
        for letter in &self.letters {
            let first = found.pieces.is_empty();
            if !first && (whole || gathered >= room || !letter.rights.is_empty()) {
                break;
            }
            if first {
                found.rights = letter.rights.clone();
            }
            gathered += letter.left();
            found.pieces.push((letter.bytes.clone(), letter.read));
        }
        self.reading = true;
        Some(Ok(Some(found)))
    }

    /// Takes `n` bytes from the front as read; returns the letters that are through, to be dropped without the lock.
    fn consume(&mut self, mut n: usize) -> Vec<Letter> {
        let mut through = Vec::new();
        while let Some(letter) = self.letters.front_mut() {
            // The rights went with the first bytes.
            letter.rights.clear();
            let now = n.min(letter.left());
            letter.read += now;
            n -= now;
            if letter.left() > 0 {
                break;
            }
            through.extend(self.drop_letter());
            if n == 0 {
                break;
            }
        }
        through
    }

    fn drop_letter(&mut self) -> Vec<Letter> {
        let letter = self.letters.pop_front();
        self.weight -= letter.as_ref().map_or(0, Letter::weight);
        letter.into_iter().collect()
    }
}
