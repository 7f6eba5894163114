//! The file system device (section 5.11): a queue for urgent requests, one for the others, and the DAX window.
//!
//! One thread serves both queues, urgent ones first; the server behind it is in this process ([`server`]).

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

/// The device.
pub struct Fs {
    config: [u8; MAX_TAG + 4],
    server: Arc<FileServer>,
    worker: Option<Worker>,
}

impl Fs {
    /// A device of this tag (at most 36 bytes, which [`share::check_tags`] has checked) before `server`.
    pub fn new(tag: &str, server: FileServer) -> Self {
        // struct virtio_fs_config: the tag, padded with zeros, and the number of request queues.
        let mut config = [0; MAX_TAG + 4];
        let len = tag.len().min(MAX_TAG);
        config[..len].copy_from_slice(&tag.as_bytes()[..len]);
        config[MAX_TAG..].copy_from_slice(&1u32.to_le_bytes());
        Self { config, server: Arc::new(server), worker: None }
    }
}

impl Device for Fs {
    fn kind(&self) -> Kind {
        Kind { id: 26, class: 0x01_8000 }
    }

    fn queues(&self) -> &[u16] {
        &[HIPRIO_SIZE, REQUEST_SIZE]
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let rings: Vec<Ring> = (0..2).filter_map(|i| activation.ring(i)).collect();
        let server = self.server.clone();
        self.worker = Some(Worker::spawn("virtio-fs", move |control| run(control, rings, &server))?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
        self.server.reset();
    }

    fn drain(&mut self) {
        if let Some(worker) = &self.worker {
            worker.drain();
        }
    }

    fn drained(&mut self) -> bool {
        self.worker.as_ref().is_none_or(Worker::is_finished)
    }
}

fn run(control: &Control, mut rings: Vec<Ring>, server: &FileServer) {
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
