//! The threads of the streams.

use super::Shared;
use crate::virtio::ring::{Chain, Ring};
use crate::worker::{Control, Mode};
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use vm_memory::{GuestMemory, GuestMemoryMmap, ReadVolatile, VolatileMemoryError, VolatileSlice, WriteVolatile};

/// Most bytes read at once.
const MAX_READ: usize = 1 << 20;

/// One stream: a file and the queue it is joined to.
pub struct Stream<'a> {
    pub control: &'a Control,
    pub file: &'a OwnedFd,
    pub ring: Ring,
    pub port: u32,
    pub shared: &'a Shared,
}

/// Why a stream ends early.
enum Stop {
    /// The ring makes no sense.
    Ring(virtio_queue::Error),
    /// We were told to.
    Told,
}

impl From<virtio_queue::Error> for Stop {
    fn from(error: virtio_queue::Error) -> Self {
        Self::Ring(error)
    }
}

impl Stream<'_> {
    /// From the file to the guest, until the end of the file.
    pub fn read(mut self) {
        let result = self.read_on();
        self.end(result);
    }

    /// From the guest to the file. Once the file takes no more, the rest is discarded and the port closed.
    pub fn write(mut self) {
        let result = self.write_on();
        self.end(result);
    }

    fn end(&self, result: Result<(), Stop>) {
        if let Err(Stop::Ring(error)) = result {
            self.ring.fail(&error);
        }
    }

    fn read_on(&mut self) -> Result<(), Stop> {
        let ram = self.ring.ram();
        while self.control.mode() == Mode::Run {
            self.ring.clear_kick();
            let Some(chain) = self.ring.pop(ram.memory())? else {
                if !self.ring.rearm()? {
                    self.control.wait([(self.ring.kicked(), PollFlags::IN)]);
                }
                continue;
            };
            let n = match self.fill(ram.memory(), &chain)? {
                Some(n) => n,
                None => {
                    self.ring.put_back();
                    self.shared.close(self.port);
                    return Ok(());
                }
            };
            self.ring.push(chain.head_index(), n)?;
        }
        Ok(())
    }

    /// Waits for bytes and reads what there is into the chain. `None` at the end of the file.
    fn fill(&self, memory: &GuestMemoryMmap, chain: &Chain<'_>) -> Result<Option<u32>, Stop> {
        // One descriptor is enough: what does not fit is read for the next buffer.
        let Some(descriptor) = chain.clone().writable().find(|d| d.len() > 0) else { return Ok(Some(0)) };
        let len = (descriptor.len() as usize).min(MAX_READ);
        let Ok(slice) = memory.get_slice(descriptor.addr(), len) else { return Ok(Some(0)) };
        loop {
            let [ready] = self.control.wait([(self.file.as_fd(), PollFlags::IN)]);
            if self.control.mode() != Mode::Run {
                return Err(Stop::Told);
            }
            if !ready {
                continue;
            }
            let mut slice = slice;
            match self.file.as_fd().read_volatile(&mut slice).map_err(io_error) {
                Ok(0) => return Ok(None),
                Ok(n) => return Ok(Some(n as u32)),
                Err(error) if again(&error) => {}
                Err(error) => {
                    tracing::warn!("cannot read for port {}: {error}", self.port);
                    return Ok(None);
                }
            }
        }
    }

    fn write_on(&mut self) -> Result<(), Stop> {
        let ram = self.ring.ram();
        let mut open = true;
        loop {
            self.ring.clear_kick();
            while let Some(chain) = self.ring.pop(ram.memory())? {
                if open && !self.empty(ram.memory(), &chain)? {
                    open = false;
                    self.shared.close(self.port);
                }
                self.ring.push(chain.head_index(), 0)?;
            }
            if self.ring.rearm()? {
                continue;
            }
            if self.control.mode() != Mode::Run {
                return Ok(());
            }
            self.control.wait([(self.ring.kicked(), PollFlags::IN)]);
        }
    }

    /// Writes all of the chain to the file. False when the file takes no more.
    fn empty(&self, memory: &GuestMemoryMmap, chain: &Chain<'_>) -> Result<bool, Stop> {
        for descriptor in chain.clone().readable() {
            let Ok(mut slice) = memory.get_slice(descriptor.addr(), descriptor.len() as usize) else { continue };
            while !slice.is_empty() {
                match self.write_some(&slice)? {
                    Some(n) => slice = slice.offset(n).expect("no more is written than there is"),
                    None => return Ok(false),
                }
            }
        }
        Ok(true)
    }

    fn write_some(&self, slice: &VolatileSlice<'_>) -> Result<Option<usize>, Stop> {
        loop {
            if self.control.mode() == Mode::Stop {
                return Err(Stop::Told);
            }
            match self.file.as_fd().write_volatile(slice).map_err(io_error) {
                Ok(n) => return Ok(Some(n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.control.wait([(self.file.as_fd(), PollFlags::OUT)]);
                    if self.control.mode() == Mode::Drain {
                        // The wake-up stays readable, so the wait above no longer waits: do not spin on it.
                        std::thread::sleep(std::time::Duration::from_millis(1));
                    }
                }
                Err(error) if again(&error) => {}
                Err(error) => {
                    if error.raw_os_error() != Some(Errno::PIPE.raw_os_error()) {
                        tracing::warn!("cannot write to port {}: {error}", self.port);
                    }
                    return Ok(None);
                }
            }
        }
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

fn io_error(error: VolatileMemoryError) -> io::Error {
    match error {
        VolatileMemoryError::IOError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}
