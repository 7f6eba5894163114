//! The file system device (section 5.11): a queue for urgent requests, some for the others, and the DAX window.
//!
//! Each queue for requests has a thread; the first one's serves the urgent ones, too, and those first. The server behind
//! them is in this process ([`server`]). Requests in different queues are served in any order: a driver that wants one waits
//! for the reply to the first.

pub mod descriptors;
mod guard;
mod listing;
mod locks;
mod passthrough;
mod range;
mod readonly;
pub mod requests;
mod runs;
pub mod server;
pub mod share;
mod unnamed;
pub mod window;

use super::ring::Ring;
use super::{Activation, Device, Kind};
use crate::polling::Polling;
use crate::worker::{Control, Mode, Worker};
use rustix::event::PollFlags;
use server::FileServer;
use share::MAX_TAG;
use std::io;
use std::sync::Arc;
use std::time::Instant;

const HIPRIO_SIZE: u16 = 128;
const REQUEST_SIZE: u16 = 256;
/// Most queues for requests, and so threads, of a device.
pub const MAX_REQUEST_QUEUES: u16 = 4;

/// The device.
pub struct Fs {
    config: [u8; MAX_TAG + 4],
    queues: Vec<u16>,
    server: Arc<FileServer>,
    workers: Vec<Worker>,
}

impl Fs {
    /// A device of this tag (at most 36 bytes, which [`share::check_tags`] has checked) and so many queues for requests (1 to
    /// [`MAX_REQUEST_QUEUES`]) before `server`.
    pub fn new(tag: &str, server: FileServer, request_queues: u16) -> Self {
        let request_queues = request_queues.clamp(1, MAX_REQUEST_QUEUES);
        // struct virtio_fs_config: the tag, padded with zeros, and the number of request queues.
        let mut config = [0; MAX_TAG + 4];
        let len = tag.len().min(MAX_TAG);
        config[..len].copy_from_slice(&tag.as_bytes()[..len]);
        config[MAX_TAG..].copy_from_slice(&u32::from(request_queues).to_le_bytes());
        let mut queues = vec![HIPRIO_SIZE];
        queues.resize(1 + usize::from(request_queues), REQUEST_SIZE);
        Self { config, queues, server: Arc::new(server), workers: Vec::new() }
    }
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind { id: 26, class: 0x01_8000 }
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let mut urgent = activation.ring(0);
        for queue in 1..self.queues.len() {
            let rings: Vec<Ring> = urgent.take().into_iter().chain(activation.ring(queue)).collect();
            if rings.is_empty() {
                continue;
            }
            let server = self.server.clone();
            self.workers.push(Worker::spawn("virtio-fs", move |control| run(control, rings, &server))?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
        self.server.reset();
    }

    fn drain(&mut self) {
        self.workers.iter().for_each(Worker::drain);
    }

    fn drained(&mut self) -> bool {
        self.workers.iter().all(Worker::is_finished)
    }
}

fn run(control: &Control, mut rings: Vec<Ring>, server: &FileServer) {
    server.prepare();
    let mut last = false;
    let mut polling = Polling::default();
    loop {
        rings.iter().for_each(Ring::clear_kick);
        if let Err((ring, error)) = serve(&mut rings, server, &mut polling) {
            rings[ring].fail(&error);
            return;
        }
        if last {
            return;
        }
        let began = Instant::now();
        match &rings[..] {
            [] => control.wait([]).len(),
            [one] => control.wait([(one.kicked(), PollFlags::IN)]).len(),
            [one, two, ..] => control.wait([one, two].map(|ring| (ring.kicked(), PollFlags::IN))).len(),
        };
        polling.slept(began.elapsed());
        match control.mode() {
            Mode::Run => {}
            // Once more, for what came before the guest stopped.
            Mode::Drain => last = true,
            Mode::Stop => return,
        }
    }
}

/// Serves what is in the rings, in their order, and what comes while it is worth looking for. Afterwards the driver rings
/// for more.
///
/// # Errors
/// Which ring makes no sense, and why.
fn serve(rings: &mut [Ring], server: &FileServer, polling: &mut Polling) -> Result<(), (usize, virtio_queue::Error)> {
    loop {
        for (number, ring) in rings.iter_mut().enumerate() {
            let ram = ring.ram();
            ring.serve_ready(|chain| server.serve(ram.memory(), chain)).map_err(|error| (number, error))?;
        }
        if polling.spin(|| rings.iter().any(Ring::is_ready)) {
            continue;
        }
        let mut more = false;
        for (number, ring) in rings.iter_mut().enumerate() {
            more |= ring.rearm().map_err(|error| (number, error))?;
        }
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
