//! The block device (section 5.2): a raw file or a block device of the host, with one thread for each queue.
//!
//! Requests are read and checked in [`request`], and done on the file in [`disk`]: from there bytes move between the file and
//! the guest's RAM with no copy of ours. Any number of requests may be under way at once, one a queue, and nobody orders
//! them but the guest, as with any disk.
//!
//! What the host makes safe is what the guest flushes. A driver that does not know of flushing gets every write made safe
//! before it is told of it (section 5.2.6.2).

pub mod disk;
mod request;
mod segments;
#[cfg(test)]
mod tests;

use super::ring::Ring;
use super::{Activation, Device, Kind};
use crate::polling::Polling;
use crate::worker::{Control, Mode, Worker};
use disk::Disk;
use request::Request;
use rustix::event::PollFlags;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use vm_memory::GuestMemoryMmap;

/// The unit of everything in the protocol, whatever the block size is.
pub const SECTOR: u64 = 512;

/// Feature bits (section 5.2.3).
mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const RO: u64 = 1 << 5;
    pub const FLUSH: u64 = 1 << 9;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Entries of each queue.
const QUEUE_SIZE: u16 = 128;
/// Most queues of a device.
pub const MAX_QUEUES: u16 = 8;
/// Most pieces of memory in a request, and most bytes in each: what one request can keep a thread busy with is their product.
const SEG_MAX: u32 = 126;
const SIZE_MAX: u32 = 1 << 20;
/// Most ranges in a discard or write-zeroes request.
const RANGES_MAX: u32 = 16;
/// Most sectors in such a range: 1 GiB of discarding, which only changes the host's metadata; 64 MiB of zeroes, which may
/// have to be written.
const DISCARD_MAX: u32 = 1 << 21;
const ZEROES_MAX: u32 = 1 << 17;
/// Bytes of `struct virtio_blk_config` up to and with `write_zeroes_may_unmap`.
const CONFIG_LEN: usize = 60;

/// The device.
pub struct Blk {
    disk: Arc<Disk>,
    queues: Vec<u16>,
    config: [u8; CONFIG_LEN],
    workers: Vec<Worker>,
}

impl Blk {
    /// A device of so many queues (1 to [`MAX_QUEUES`]) before `disk`.
    pub fn new(disk: Arc<Disk>, queues: u16) -> Self {
        let queues = queues.clamp(1, MAX_QUEUES);
        let config = config(disk.sectors(), queues);
        Self { disk, queues: vec![QUEUE_SIZE; queues.into()], config, workers: Vec::new() }
    }
}

/// `struct virtio_blk_config` (section 5.2.4).
fn config(sectors: u64, queues: u16) -> [u8; CONFIG_LEN] {
    let mut config = [0; CONFIG_LEN];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &sectors.to_le_bytes());
    put(8, &SIZE_MAX.to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(34, &queues.to_le_bytes());
    put(36, &DISCARD_MAX.to_le_bytes());
    put(40, &RANGES_MAX.to_le_bytes());
    // Ranges may begin anywhere; what does not fill a block of the host's is written.
    put(44, &1u32.to_le_bytes());
    put(48, &ZEROES_MAX.to_le_bytes());
    put(52, &RANGES_MAX.to_le_bytes());
    put(56, &[1]);
    config
}

impl Device for Blk {
    fn kind(&self) -> Kind {
        Kind { id: 2, class: 0x01_0000 }
    }

    fn features(&self) -> u64 {
        let always = feature::SIZE_MAX | feature::SEG_MAX | feature::MQ;
        let by_access = match self.disk.is_writable() {
            true => feature::FLUSH | feature::DISCARD | feature::WRITE_ZEROES,
            false => feature::RO,
        };
        always | by_access
    }

    fn queues(&self) -> &[u16] {
        &self.queues
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn activate(&mut self, mut activation: Activation) -> io::Result<()> {
        let write_through = activation.features & feature::FLUSH == 0;
        let rings: Vec<Ring> = (0..self.queues.len()).filter_map(|i| activation.ring(i)).collect();
        for ring in rings {
            let disk = self.disk.clone();
            let body = move |control: &Control| run(control, ring, &disk, write_through);
            self.workers.push(Worker::spawn("virtio-blk", body)?);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.workers.clear();
    }

    fn drain(&mut self) {
        self.workers.iter().for_each(Worker::drain);
    }

    fn drained(&mut self) -> bool {
        self.workers.iter().all(Worker::is_finished)
    }
}

fn run(control: &Control, mut ring: Ring, disk: &Disk, write_through: bool) {
    let mut last = false;
    let mut polling = Polling::default();
    loop {
        ring.clear_kick();
        if let Err(error) = serve(control, &mut ring, disk, write_through, &mut polling) {
            ring.fail(&error);
            return;
        }
        if last {
            return;
        }
        let began = Instant::now();
        control.wait([(ring.kicked(), PollFlags::IN)]);
        polling.slept(began.elapsed());
        match control.mode() {
            Mode::Run => {}
            // Once more, for what came before the guest stopped.
            Mode::Drain => last = true,
            Mode::Stop => return,
        }
    }
}

/// Serves what is in the ring, and what comes while it is worth looking for. Afterwards the driver rings for more.
///
/// # Errors
/// The ring makes no sense.
fn serve(
    control: &Control,
    ring: &mut Ring,
    disk: &Disk,
    write_through: bool,
    polling: &mut Polling,
) -> Result<(), virtio_queue::Error> {
    let ram = ring.ram();
    loop {
        while let Some(chain) = ring.pop(ram.memory())? {
            // A machine that is to end at once does not wait for a queue full of large requests.
            if control.mode() == Mode::Stop {
                return Ok(());
            }
            let written = serve_chain(ram.memory(), chain.clone(), disk, write_through);
            ring.push(chain.head_index(), written)?;
        }
        if !polling.spin(|| ring.is_ready()) && !ring.rearm()? {
            return Ok(());
        }
    }
}

/// Does one request and returns how many bytes of the chain were written. A chain without room for a status gets none.
fn serve_chain(memory: &GuestMemoryMmap, chain: super::ring::Chain<'_>, disk: &Disk, write_through: bool) -> u32 {
    match Request::parse(memory, chain) {
        Ok(request) => request.serve(disk, write_through),
        Err(error) => {
            tracing::debug!("disk '{}': {error}", disk.name());
            0
        }
    }
}
