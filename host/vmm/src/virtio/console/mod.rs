//! The console device (section 5.3), multiport: stdin, stdout and stderr as three byte-exact streams, and a fourth for
//! signals, a byte each, which the kernel passes to the program.
//!
//! A thread each for the control queues and the streams: a stream that blocks holds up nobody else, as
//! between pipes. Bytes are read from stdin only when the driver has given memory for them, so none are lost
//! when the machine ends. The thread of the control queues starts the others, each when the driver first rings for its
//! stream: the driver, which waits until the device has taken over its queues, waits for one thread and not for five, and a
//! program that neither reads nor writes has no others.
//!
//! Queues are laid out as in the specification (and as in QEMU's virtio-serial with `nr=1` to `4`): 0 and 1 belong to
//! port 0, which is not used; 2 and 3 are for control; port n has 2n+2 and 2n+3.

mod control;
mod protocol;
mod streams;

use super::{Activation, Device, Kind};
use crate::virtio::ring::Ring;
use crate::worker::{Control, Mode, Worker, eventfd};
use protocol::{FIRST_PORT, NAMES, Protocol};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

const F_MULTIPORT: u64 = 1 << 1;

const QUEUE_SIZE: u16 = 128;
const CONTROL_RX: usize = 2;
const CONTROL_TX: usize = 3;

/// `struct virtio_console_config`: columns and rows 0 (no `F_SIZE`), five ports, no emergency write.
const CONFIG: [u8; 12] = [0, 0, 0, 0, NAMES.len() as u8 + FIRST_PORT as u8, 0, 0, 0, 0, 0, 0, 0];

/// The files behind the ports.
#[derive(Debug)]
pub struct Stdio {
    /// Read until its end.
    pub stdin: OwnedFd,
    /// Written to.
    pub stdout: OwnedFd,
    /// Written to.
    pub stderr: OwnedFd,
    /// Signal numbers are read from it, a byte each.
    pub signals: OwnedFd,
}

/// What the threads share.
struct Shared {
    protocol: Mutex<Protocol>,
    news: EventFd,
    /// The threads of the streams.
    workers: Mutex<Vec<Worker>>,
}

/// A port with its file and its queue.
struct Joined {
    name: &'static str,
    port: u32,
    file: Arc<OwnedFd>,
    ring: Ring,
}

impl Shared {
    fn protocol(&self) -> MutexGuard<'_, Protocol> {
        // Plain data, whole after every step.
        self.protocol.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, port: u32) {
        self.protocol().close(port);
        let _ = self.news.write(1);
    }
}

/// The device.
pub struct Console {
    files: [Arc<OwnedFd>; NAMES.len()],
    shared: Arc<Shared>,
    control: Option<Worker>,
}

impl Console {
    /// A console on these files.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new(stdio: Stdio) -> io::Result<Self> {
        Ok(Self {
            files: [stdio.stdin, stdio.stdout, stdio.stderr, stdio.signals].map(Arc::new),
            shared: Arc::new(Shared { protocol: Mutex::default(), news: eventfd()?, workers: Mutex::default() }),
            control: None,
        })
    }
}

fn is_input(name: &str) -> bool {
    matches!(name, "stdin" | "signals")
}

/// Starts a thread for each stream that the driver has use for, and takes it out of those that wait for that.
///
/// # Errors
/// When the host gives no thread or descriptor.
fn start_streams(leash: &Control, waiting: &mut Vec<Joined>, shared: &Arc<Shared>) -> io::Result<()> {
    for Joined { name, port, file, ring } in waiting.extract_if(.., |stream| stream.ring.is_ready()) {
        let mut workers = shared.workers();
        let theirs = shared.clone();
        let worker = Worker::spawn(&format!("console-{name}"), move |control| {
            let stream = streams::Stream { control, file: &file, ring, port, shared: &theirs };
            if is_input(name) { stream.read() } else { stream.write() }
        })?;
        // Who drains tells us first, and then those that are there already.
        if leash.mode() != Mode::Run {
            worker.drain();
        }
        workers.push(worker);
    }
    Ok(())
}

impl Device for Console {
    fn kind(&self) -> Kind {
        Kind { id: 3, class: 0x07_8000 }
    }

    fn features(&self) -> u64 {
        F_MULTIPORT
    }

    fn queues(&self) -> &[u16] {
        &[QUEUE_SIZE; 2 * (NAMES.len() + FIRST_PORT as usize) + 2]
    }

    fn config(&self) -> &[u8] {
        &CONFIG
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        // Without multiport a driver would talk to port 0, where nobody is.
        if activation.features & F_MULTIPORT == 0 {
            return Ok(());
        }
        let control = activation.ring(CONTROL_RX).zip(activation.ring(CONTROL_TX));
        let mut streams = Vec::with_capacity(NAMES.len());
        for (index, (name, file)) in NAMES.into_iter().zip(&self.files).enumerate() {
            let port = FIRST_PORT + index as u32;
            let (rx, tx) = (activation.ring(2 * port as usize + 2), activation.ring(2 * port as usize + 3));
            let ring = if is_input(name) { rx } else { tx };
            streams.extend(ring.map(|ring| Joined { name, port, file: file.clone(), ring }));
        }
        let shared = self.shared.clone();
        let body = move |leash: &Control| control.map_or((), |(rx, tx)| control::run(leash, rx, tx, streams, &shared));
        self.control = Some(Worker::spawn("console-control", body)?);
        Ok(())
    }

    fn reset(&mut self) {
        // It may still be starting the others.
        self.control = None;
        let workers = std::mem::take(&mut *self.shared.workers());
        drop(workers);
        self.shared.protocol().reset();
    }

    fn drain(&mut self) {
        self.control.iter().for_each(Worker::drain);
        self.shared.workers().iter().for_each(Worker::drain);
    }

    fn drained(&mut self) -> bool {
        self.control.as_ref().is_none_or(Worker::is_finished) && self.shared.workers().iter().all(Worker::is_finished)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // The threads of the streams hold what holds them.
        self.reset();
    }
}

#[cfg(test)]
mod tests;
