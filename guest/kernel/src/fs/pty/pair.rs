//! The two ends of a pseudo-terminal: the master, made by opening `/dev/ptmx`, and the slave, `/dev/pts/N` as long as the
//! master is open.
//!
//! Bytes are copied to and from the program with no lock held: they are looked at first and taken away after. Two threads that
//! read one end at the same moment could both get them; a turn for each end keeps them apart.

use super::discipline::Discipline;
use super::ordinary;
use crate::fs::anon::{now, owner};
use crate::fs::devices::TERMINALS;
use crate::fs::readiness;
use crate::fs::stat::join_device;
use crate::task::Turn;
use crate::time;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, Ordering};
use diolkos_vfs::{
    Errno, File, FileType, Inode, InodeId, Metadata, OpenFlags, Poll, Result, Sink, Source, StatFs, Timespec,
};
use linux_raw_sys::general as raw;
use spin::Mutex;

/// Most pairs (`/proc/sys/kernel/pty/max`).
pub const MOST: usize = 4096;
/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: u64 = 0x1cd1;
/// The inode number of `/dev/pts/0`; the others count on (Linux' fs/devpts).
pub const FIRST_INO: u64 = 3;
/// Bytes moved at a time.
const PIECE: usize = 4096;

static PAIRS: Mutex<BTreeMap<u32, Weak<Pair>>> = Mutex::new(BTreeMap::new());

/// What statfs(2) says of `/dev/pts`, where terminals are.
pub fn file_system() -> StatFs {
    StatFs { magic: DEVPTS_MAGIC, bsize: 4096, frsize: 4096, namelen: 255, ..StatFs::default() }
}

/// A pseudo-terminal.
pub struct Pair {
    number: u32,
    state: Mutex<State>,
    master_turn: Turn,
    slave_turn: Turn,
    born: Timespec,
}

struct State {
    line: Discipline,
    window: raw::winsize,
    /// The slave cannot be opened (`TIOCSPTLCK`).
    locked: bool,
    master_is_open: bool,
    slaves: usize,
    /// The last slave was closed; nobody has come since.
    hung_up: bool,
}

/// Which end a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Where the terminal's user sits.
    Master,
    /// Where the program runs.
    Slave,
}

/// One end as an open file.
pub struct End {
    pair: Arc<Pair>,
    side: Side,
    inode: Arc<dyn Inode>,
    nonblocking: AtomicBool,
}

/// Opens `/dev/ptmx`, whose inode it is, and so makes a pair. The user's own terminal is number 0 if there is one.
///
/// # Errors
/// `ENOSPC` when there are too many.
pub fn open_master(inode: Arc<dyn Inode>, first_number: u32) -> Result<Arc<dyn File>> {
    let state = State {
        line: Discipline::new(ordinary()),
        window: raw::winsize { ws_col: 0, ws_row: 0, ws_xpixel: 0, ws_ypixel: 0 },
        locked: true,
        master_is_open: true,
        slaves: 0,
        hung_up: false,
    };
    let mut pairs = PAIRS.lock();
    if pairs.len() >= MOST {
        return Err(Errno::ENOSPC);
    }
    let number = (first_number..).find(|number| !pairs.contains_key(number)).ok_or(Errno::ENOSPC)?;
    let pair = Arc::new(Pair {
        number,
        state: Mutex::new(state),
        master_turn: Turn::new(),
        slave_turn: Turn::new(),
        born: now(),
    });
    pairs.insert(number, Arc::downgrade(&pair));
    Ok(Arc::new(End { pair, side: Side::Master, inode, nonblocking: AtomicBool::new(false) }))
}

/// The numbers of all pairs.
pub fn numbers() -> Vec<u32> {
    PAIRS.lock().keys().copied().collect()
}

/// The slave with a number.
///
/// # Errors
/// `ENOENT`.
pub fn slave(number: u32) -> Result<Arc<dyn Inode>> {
    let pair = PAIRS.lock().get(&number).and_then(Weak::upgrade).ok_or(Errno::ENOENT)?;
    Ok(Arc::new(Slave(pair)))
}

/// The slave's inode.
struct Slave(Arc<Pair>);

impl Inode for Slave {
    fn id(&self) -> InodeId {
        InodeId { dev: TERMINALS, node: FIRST_INO + u64::from(self.0.number), generation: 0 }
    }

    fn file_type(&self) -> FileType {
        FileType::CharDevice
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(Metadata {
            ino: FIRST_INO + u64::from(self.0.number),
            dev: TERMINALS,
            mode: FileType::CharDevice.mode_bits() | 0o620,
            nlink: 1,
            uid: owner().0,
            // Linux' group `tty`.
            gid: 5,
            rdev: join_device(136, self.0.number),
            size: 0,
            blocks: 0,
            blksize: 1024,
            atime: self.0.born,
            mtime: self.0.born,
            ctime: self.0.born,
        })
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>> {
        let pair = self.0.clone();
        let mut state = pair.state.lock();
        if state.locked || !state.master_is_open {
            return Err(Errno::EIO);
        }
        state.slaves += 1;
        state.hung_up = false;
        drop(state);
        Ok(Arc::new(End { pair, side: Side::Slave, inode: self, nonblocking: AtomicBool::new(false) }))
    }

    fn access(&self, mask: u32) -> Result<()> {
        if mask & 1 != 0 { Err(Errno::EACCES) } else { Ok(()) }
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(file_system())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl End {
    /// Which end it is.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The pair's number.
    pub fn number(&self) -> u32 {
        self.pair.number
    }

    /// Changes the terminal, or looks at it. The slave of a master that is gone answers nothing.
    ///
    /// # Errors
    /// `EIO`.
    pub fn with_line<T>(&self, act: impl FnOnce(&mut Discipline) -> T) -> Result<T> {
        let result = {
            let mut state = self.pair.state.lock();
            if !state.master_is_open {
                return Err(Errno::EIO);
            }
            act(&mut state.line)
        };
        readiness::changed();
        Ok(result)
    }

    /// The window size, which nobody but the two ends knows.
    pub fn window(&self) -> raw::winsize {
        self.pair.state.lock().window
    }

    /// Sets the window size.
    pub fn set_window(&self, window: raw::winsize) {
        self.pair.state.lock().window = window;
    }

    /// Whether the slave can be opened.
    pub fn is_locked(&self) -> bool {
        self.pair.state.lock().locked
    }

    /// Locks the slave or unlocks it.
    pub fn set_locked(&self, locked: bool) {
        self.pair.state.lock().locked = locked;
    }

    /// Bytes that can be read at once.
    pub fn available(&self) -> usize {
        let state = self.pair.state.lock();
        match self.side {
            Side::Master => state.line.printed(),
            Side::Slave => state.line.typed(),
        }
    }

    /// Waits until `ready` gives something, or looks once if the file does not wait. `None` at the deadline.
    fn wait<T>(
        &self,
        deadline: Option<u64>,
        mut ready: impl FnMut(&mut State) -> Option<Result<T>>,
    ) -> Result<Option<T>> {
        let mut outcome = ready(&mut self.pair.state.lock());
        if outcome.is_none() {
            if self.nonblocking.load(Ordering::Relaxed) {
                return Err(Errno::EAGAIN);
            }
            let mut look = || {
                // Asked once more after success, it must not act twice.
                if outcome.is_none() {
                    outcome = ready(&mut self.pair.state.lock());
                }
                outcome.is_some()
            };
            readiness::wait(&mut look, deadline)?;
        }
        outcome.transpose()
    }

    fn read_printed(&self, sink: &mut dyn Sink) -> Result<usize> {
        let _turn = self.pair.master_turn.take();
        let room = sink.room().min(PIECE);
        let bytes = self.wait(None, |state| match state.line.printed() {
            0 if state.hung_up => Some(Err(Errno::EIO)),
            0 => None,
            _ => Some(Ok(state.line.next_printed(room))),
        })?;
        let read = sink.put(bytes.unwrap_or_default().as_slice().into())?;
        self.pair.state.lock().line.was_printed(read);
        Ok(read)
    }

    /// Without lines: waits for as many bytes as `VMIN` says, or for `VTIME`; with neither it takes what there is.
    fn read_typed(&self, sink: &mut dyn Sink) -> Result<usize> {
        const TENTH: u64 = 100_000_000;
        let _turn = self.pair.slave_turn.take();
        let room = sink.room().min(PIECE);
        let patience = self.pair.state.lock().line.patience();
        let ready = |least: usize| {
            move |state: &mut State| match state.line.to_read() {
                _ if !state.master_is_open => Some(Ok(Vec::new())),
                Some(len) if state.line.patience().is_none() || len >= least.min(room) => {
                    Some(Ok(state.line.next_read(room)))
                }
                _ => None,
            }
        };
        let bytes = match patience {
            None => self.wait(None, ready(1))?,
            Some((0, 0)) => Some(self.pair.state.lock().line.next_read(room)),
            Some((0, tenths)) => self.wait(Some(time::monotonic_ns() + tenths * TENTH), ready(1))?,
            Some((least, 0)) => self.wait(None, ready(least))?,
            Some((least, tenths)) => {
                self.wait(None, ready(1))?;
                // Each byte gives the next one as long.
                loop {
                    let seen = self.available();
                    let until = Some(time::monotonic_ns() + tenths * TENTH);
                    if seen >= least.min(room) || self.wait(until, ready(seen + 1))?.is_none() {
                        break Some(self.pair.state.lock().line.next_read(room));
                    }
                }
            }
        };
        let bytes = bytes.unwrap_or_default();
        let read = sink.put(bytes.as_slice().into())?;
        let mut state = self.pair.state.lock();
        if state.master_is_open {
            state.line.was_read(read);
        }
        Ok(read)
    }

    fn room(&self, state: &State) -> usize {
        match self.side {
            Side::Master => state.line.room_to_type(),
            Side::Slave => state.line.room_to_print(),
        }
    }
}

impl File for End {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if sink.room() == 0 {
            return Ok(0);
        }
        let read = match self.side {
            Side::Master => self.read_printed(sink),
            Side::Slave => self.read_typed(sink),
        };
        readiness::changed();
        read
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        let mut done = 0;
        while source.remaining() > 0 {
            let room = self.wait(None, |state| match self.room(state) {
                _ if self.side == Side::Slave && !state.master_is_open => Some(Err(Errno::EIO)),
                0 => None,
                room => Some(Ok(room)),
            });
            let room = match room {
                Err(_) if done > 0 => break,
                room => room?.unwrap_or(1),
            };
            let mut bytes = vec![0; source.remaining().min(room).min(PIECE)];
            let taken = match source.take(&mut bytes) {
                Err(_) if done > 0 => break,
                taken => taken?,
            };
            let mut state = self.pair.state.lock();
            for byte in &bytes[..taken] {
                match self.side {
                    Side::Master => state.line.type_in(*byte),
                    Side::Slave => state.line.print(*byte),
                }
            }
            drop(state);
            readiness::changed();
            done += taken;
            if taken == 0 {
                break;
            }
        }
        Ok(done)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        // Terminals cannot be synchronised (fsync(2)).
        Err(Errno::EINVAL)
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        let state = self.pair.state.lock();
        let mut ready = Poll::empty();
        match self.side {
            Side::Master => {
                ready.set(Poll::IN, state.line.printed() > 0);
                ready.set(Poll::HUP, state.hung_up);
            }
            Side::Slave if !state.master_is_open => return Poll::IN | Poll::OUT | Poll::HUP | Poll::ERR,
            Side::Slave => {
                let least =
                    state.line.patience().map_or(1, |(least, tenths)| if tenths > 0 { 1 } else { least.max(1) });
                let lines = state.line.patience().is_none();
                ready.set(Poll::IN, state.line.to_read().is_some_and(|len| lines || len >= least));
            }
        }
        ready.set(Poll::OUT, self.room(&state) > 0);
        ready
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.pair.state.lock();
        match self.side {
            Side::Master => state.master_is_open = false,
            Side::Slave => {
                state.slaves -= 1;
                state.hung_up = state.slaves == 0;
            }
        }
        drop(state);
        if self.side == Side::Master {
            PAIRS.lock().remove(&self.pair.number);
        }
        readiness::changed();
    }
}
