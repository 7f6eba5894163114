//! The DAX window, kept by the front-end: every mapping is a message to it.
//!
//! The messages are those of the vhost-user specification's `VHOST_USER_PROTOCOL_F_SHMEM`: we send SHMEM_MAP with a file
//! descriptor and the front-end maps the file into the guest; SHMEM_UNMAP takes it away. Their rules are narrower than
//! FUSE's: a mapping must go to a free place, and only whole mappings can be taken away. So we keep the book: a guest that maps
//! over old mappings has these taken away first; what it maps at once goes in pieces of [`PIECE`], of which it can take
//! each away later; and one that names a part of a piece is refused.
//!
//! What the front-end refuses to take away stays in the book, and its place is not used again. When the channel
//! breaks in the middle of an exchange nobody knows what is mapped: the window is closed for good.

use diolkos_vmm::fs::{DaxWindow, MAX_RUNS, WindowRange, check_source};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use vhost::vhost_user::message::{VhostUserMMap, VhostUserMMapFlags};
use vhost::vhost_user::{Backend, Error, HandlerResult, VhostUserFrontendReqHandler};

/// The shared-memory region that is a file system's DAX window (virtio 1.2, section 5.11.5).
const REGION: u8 = 0;

/// Guests map several pieces of this size at once and take them away one by one: 2 MiB, as Linux has it (`FUSE_DAX_SZ`), and
/// our own guest.
const PIECE: u64 = 2 << 20;

/// Runs mapped, start to length, and the way to the front-end once it has given one.
#[derive(Default)]
struct State {
    channel: Option<Backend>,
    runs: BTreeMap<u64, u64>,
}

/// The window.
pub struct ShmemWindow {
    size: u64,
    writable: bool,
    state: Mutex<State>,
    waiting: AtomicBool,
}

/// An exchange with the front-end that failed.
enum Failure {
    /// It said no.
    Refused,
    /// It said nothing that makes sense.
    Broken,
}

fn outcome(answer: HandlerResult<u64>) -> Result<(), Failure> {
    match answer {
        Ok(_) => Ok(()),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::FrontendInternalError) => Err(Failure::Refused),
            _ => Err(Failure::Broken),
        },
    }
}

impl ShmemWindow {
    /// A window of `size` bytes that is not there yet.
    pub fn new(size: u64, writable: bool) -> Self {
        Self { size, writable, state: Mutex::default(), waiting: AtomicBool::new(false) }
    }

    /// The front-end gave a way to it. Mappings are believed only if it answers, so `channel` must be one on which it does.
    pub fn open(&self, channel: Backend) {
        self.state().channel = Some(channel);
    }

    /// The front-end is gone, and the window with it.
    pub fn close(&self) {
        *self.state() = State::default();
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.size
    }

    /// Whether an answer of the front-end is waited for.
    pub fn waits(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain data, and each step leaves it true.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the front-end something and hears whether it agrees.
    fn tell(&self, state: &mut State, say: impl FnOnce(&Backend) -> HandlerResult<u64>) -> Result<(), Errno> {
        let channel = state.channel.as_ref().ok_or(Errno::OPNOTSUPP)?;
        self.waiting.store(true, Ordering::Release);
        let answer = outcome(say(channel));
        self.waiting.store(false, Ordering::Release);
        match answer {
            Ok(()) => Ok(()),
            Err(Failure::Refused) => Err(Errno::IO),
            Err(Failure::Broken) => {
                state.channel = None;
                Err(Errno::IO)
            }
        }
    }

    /// Takes away the runs in `range`.
    fn empty(&self, state: &mut State, range: WindowRange) -> Result<(), Errno> {
        let touched = touched(&state.runs, range);
        let whole = |(start, len): &(u64, u64)| *start >= range.offset() && start + len <= range.end();
        if !touched.iter().all(whole) {
            return Err(Errno::INVAL);
        }
        touched.into_iter().try_for_each(|run| self.remove(state, run))
    }

    fn remove(&self, state: &mut State, (start, len): (u64, u64)) -> Result<(), Errno> {
        self.tell(state, |channel| channel.shmem_unmap(&message(start, len, 0, false)))?;
        state.runs.remove(&start);
        Ok(())
    }
}

/// The runs that have a byte in `range`.
fn touched(runs: &BTreeMap<u64, u64>, range: WindowRange) -> Vec<(u64, u64)> {
    let before_end = runs.range(..range.end()).rev();
    before_end.take_while(|(start, len)| *start + *len > range.offset()).map(|(start, len)| (*start, *len)).collect()
}

/// `range`, cut at every multiple of [`PIECE`]: offsets and lengths.
fn pieces(range: WindowRange) -> impl Iterator<Item = (u64, u64)> {
    let after = move |start: u64| (start < range.end()).then_some(start);
    std::iter::successors(after(range.offset()), move |start| after((start / PIECE + 1) * PIECE))
        .map(move |start| (start, ((start / PIECE + 1) * PIECE).min(range.end()) - start))
}

fn message(offset: u64, len: u64, file_offset: u64, write: bool) -> VhostUserMMap {
    let flags = if write { VhostUserMMapFlags::WRITABLE } else { VhostUserMMapFlags::empty() };
    VhostUserMMap {
        shmid: REGION,
        fd_offset: file_offset,
        shm_offset: offset,
        len,
        flags: flags.bits(),
        ..Default::default()
    }
}

impl DaxWindow for ShmemWindow {
    fn size(&self) -> u64 {
        self.size
    }

    fn map(&self, range: WindowRange, file: BorrowedFd<'_>, file_offset: u64, write: bool) -> Result<(), Errno> {
        check_source(range, file, file_offset, write, self.writable)?;
        let mut state = self.state();
        self.empty(&mut state, range)?;
        for (offset, len) in pieces(range) {
            let map = message(offset, len, file_offset + (offset - range.offset()), write);
            let mapped = if state.runs.len() < MAX_RUNS {
                self.tell(&mut state, |channel| channel.shmem_map(&map, &file.as_fd()))
            } else {
                Err(Errno::NOMEM)
            };
            if let Err(error) = mapped {
                // All or nothing, as far as the front-end lets us.
                let _ = self.empty(&mut state, range);
                return Err(error);
            }
            state.runs.insert(offset, len);
        }
        Ok(())
    }

    fn unmap(&self, range: WindowRange) -> Result<(), Errno> {
        self.empty(&mut self.state(), range)
    }

    /// A front-end takes everything away by itself when its device is reset, and may then refuse what is asked here: either way
    /// nothing is left.
    fn clear(&self) {
        let mut state = self.state();
        for run in std::mem::take(&mut state.runs) {
            let _ = self.remove(&mut state, run);
        }
    }
}
