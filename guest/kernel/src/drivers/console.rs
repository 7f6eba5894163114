//! The console: the program's standard streams, and the signals that the host sends it.
//!
//! What goes to one output stream is in the host's hands before anything goes to the other, so that two streams that
//! end at one terminal or file keep their order.

use super::hal::KernelHal;
use crate::fs::readiness;
use crate::fs::tty::ConsoleStream;
use crate::linux::signal::host;
use crate::task::WaitQueue;
use alloc::sync::Arc;
use alloc::vec;
use diolkos_vfs::{Errno, Poll, Result, Sink, Source};
use diolkos_virtio::console::{Events, Received, Sent, Stream, VirtioConsole};
use diolkos_virtio::{Device, Error};
use spin::Mutex;

static CONSOLE: Mutex<Option<VirtioConsole<KernelHal>>> = Mutex::new(None);
/// Everybody who waits for anything of the console; news are rare enough to wake all.
static NEWS: WaitQueue = WaitQueue::new();

/// Most bytes moved at once.
const PIECE: usize = 64 << 10;

pub(super) fn init(device: Device<KernelHal>) -> core::result::Result<(), Error> {
    *CONSOLE.lock() = Some(VirtioConsole::new(device)?);
    Ok(())
}

pub(super) fn interrupt() {
    let news = process();
    if news {
        NEWS.wake_all();
        readiness::changed();
    }
}

/// Deals with what the device brought; returns whether there was anything for those who wait.
fn process() -> bool {
    let events = match with_device(VirtioConsole::process) {
        None => return false,
        Some(Ok(events)) => events,
        Some(Err(error)) => {
            crate::report::warning(format_args!("the console is broken: {error}"));
            *CONSOLE.lock() = None;
            return true;
        }
    };
    if events.contains(Events::SIGNALS) {
        // A queue that breaks here is found broken, and told of, the next time.
        while let Some(Ok(Some(number))) = with_device(VirtioConsole::take_signal) {
            host::arrived(number);
        }
    }
    !events.difference(Events::SIGNALS).is_empty()
}

/// The lock is not held after `act`: who gets a signal may have something to write.
fn with_device<T>(act: impl FnOnce(&mut VirtioConsole<KernelHal>) -> T) -> Option<T> {
    CONSOLE.lock().as_mut().map(act)
}

/// Runs `act` on the console; without one, or when it breaks, `EIO`.
fn with<T>(act: impl FnOnce(&mut VirtioConsole<KernelHal>) -> core::result::Result<T, Error>) -> Result<T> {
    with_device(act).ok_or(Errno::EIO)?.map_err(|_| Errno::EIO)
}

/// Waits until `ready` gives something.
fn wait<T>(interruptible: bool, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let mut found = None;
    let mut check = || {
        process();
        found = ready();
        found.is_some()
    };
    NEWS.wait_until(&mut check, None, interruptible)?;
    found.ok_or(Errno::EINTR)
}

/// One of the streams.
struct HostStream(Stream);

/// A standard stream of the program.
pub fn stream(stream: Stream) -> Arc<dyn ConsoleStream> {
    Arc::new(HostStream(stream))
}

/// Waits until the streams have found their ports.
///
/// # Errors
/// `EIO` when there is no console, or it broke.
pub fn wait_ready() -> Result<()> {
    wait(false, || match with(|console| Ok(console.ready())) {
        Ok(false) => None,
        Ok(true) => Some(Ok(())),
        Err(errno) => Some(Err(errno)),
    })?
}

/// Waits until everything written is in the host's hands.
pub fn flush() {
    for stream in [Stream::Stdout, Stream::Stderr] {
        let _ = drain(stream, false);
    }
}

fn drain(stream: Stream, interruptible: bool) -> Result<()> {
    wait(interruptible, || match with(|console| console.tx_in_flight(stream)) {
        Ok(0) | Err(_) => Some(()),
        Ok(_) => None,
    })
}

impl HostStream {
    fn other_output(&self) -> Option<Stream> {
        match self.0 {
            Stream::Stdin => None,
            Stream::Stdout => Some(Stream::Stderr),
            Stream::Stderr => Some(Stream::Stdout),
        }
    }

    /// Hands over `bytes`; returns how many, which is fewer only if not `wait`ing or when the reader goes away.
    fn send(&self, bytes: &[u8], may_wait: bool) -> Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            let attempt = || with(|console| console.transmit(self.0, &bytes[sent..]));
            let outcome = match attempt()? {
                Sent::Bytes(0) if may_wait => wait(true, || match attempt() {
                    Ok(Sent::Bytes(0)) => None,
                    other => Some(other),
                })
                .and_then(|outcome| outcome),
                other => Ok(other),
            };
            match outcome {
                Ok(Sent::Bytes(0)) => break,
                Ok(Sent::Bytes(n)) => sent += n,
                Ok(Sent::Closed) if sent == 0 => return Err(Errno::EPIPE),
                Ok(Sent::Closed) => break,
                Err(errno) if sent == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        if sent == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(sent) }
    }
}

impl ConsoleStream for HostStream {
    fn read(&self, sink: &mut dyn Sink, may_wait: bool) -> Result<usize> {
        let mut buffer = vec![0; sink.room().min(PIECE)];
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut attempt = || match with(|console| console.receive(&mut buffer)) {
            Ok(Received::Bytes(n)) => Some(Ok(n)),
            Ok(Received::End) => Some(Ok(0)),
            Ok(Received::Empty) => None,
            Err(errno) => Some(Err(errno)),
        };
        let n = match attempt() {
            Some(result) => result?,
            None if !may_wait => return Err(Errno::EAGAIN),
            None => wait(true, attempt)??,
        };
        sink.put(buffer[..n].into())
    }

    fn write(&self, source: &mut dyn Source, may_wait: bool) -> Result<usize> {
        if let Some(other) = self.other_output() {
            drain(other, true)?;
        }
        let mut buffer = vec![0; source.remaining().min(PIECE)];
        let mut written = 0;
        while source.remaining() > 0 {
            let n = match source.take(&mut buffer) {
                Ok(n) => n,
                Err(_) if written > 0 => break,
                Err(errno) => return Err(errno),
            };
            match self.send(&buffer[..n], may_wait) {
                Ok(sent) if sent == n => written += sent,
                Ok(sent) => return Ok(written + sent),
                Err(errno) if written == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(written)
    }

    fn drain(&self) -> Result<()> {
        drain(self.0, true)
    }

    fn poll(&self) -> Poll {
        match self.0 {
            Stream::Stdin => match with(VirtioConsole::input_pending) {
                Ok(false) => Poll::empty(),
                _ => Poll::IN,
            },
            _ => Poll::OUT,
        }
    }

    fn available(&self) -> usize {
        usize::from(self.poll().contains(Poll::IN))
    }
}
