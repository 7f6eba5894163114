//! The entropy device (section 5.4): fills the driver's buffers from the host's generator.

use super::ring::{Chain, Ring};
use super::{Activation, Device, Kind};
use crate::worker::{Mode, Worker};
use rustix::event::PollFlags;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use vm_memory::{Bytes, GuestMemoryMmap};

/// Most bytes one request gets. A driver that wants more asks again; the host does not work longer on one request.
const MAX_REQUEST: usize = 64 * 1024;

/// The device.
#[derive(Default)]
pub struct Rng {
    worker: Option<Worker>,
}

impl Device for Rng {
    fn kind(&self) -> Kind {
        Kind { id: 4, class: 0xff_0000 }
    }

    fn queues(&self) -> &[u16] {
        &[64]
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let Some(mut ring) = activation.ring(0) else { return Ok(()) };
        self.worker = Some(Worker::spawn("virtio-rng", move |control| {
            while control.mode() == Mode::Run {
                ring.clear_kick();
                if let Err(error) = serve(&mut ring) {
                    ring.fail(&error);
                    return;
                }
                control.wait([(ring.kicked(), PollFlags::IN)]);
            }
        })?);
        Ok(())
    }

    fn reset(&mut self) {
        self.worker = None;
    }
}

fn serve(ring: &mut Ring) -> Result<(), virtio_queue::Error> {
    let ram = ring.ram();
    ring.serve(|chain| fill(ram.memory(), chain))
}

fn fill(memory: &GuestMemoryMmap, chain: &Chain<'_>) -> u32 {
    let mut written = 0;
    let mut buffer = [0; 256];
    for descriptor in chain.clone().writable() {
        let mut at = descriptor.addr();
        let mut left = (descriptor.len() as usize).min(MAX_REQUEST - written);
        while left > 0 {
            let want = left.min(buffer.len());
            // Up to 256 bytes getrandom(2) neither blocks nor stops short once the host has booted.
            let Ok(got @ 1..) = getrandom(&mut buffer[..want], GetRandomFlags::empty()) else { return written as u32 };
            if memory.write_slice(&buffer[..got], at).is_err() {
                return written as u32;
            }
            written += got;
            left -= got;
            at.0 += got as u64;
        }
    }
    written as u32
}
