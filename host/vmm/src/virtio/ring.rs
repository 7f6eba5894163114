//! A split virtqueue in use (section 2.7), over `virtio-queue`: everything the driver wrote is checked there, and a
//! ring that makes no sense ends the queue and not the machine.

use super::interrupt::Interrupter;
use crate::memory::Ram;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

/// A chain of descriptors in the guest's RAM.
pub type Chain<'m> = DescriptorChain<&'m GuestMemoryMmap>;

/// A queue, the driver's doorbell for it, and the interrupt back.
pub struct Ring {
    queue: Queue,
    ram: Arc<Ram>,
    kick: Arc<EventFd>,
    interrupter: Arc<Interrupter>,
    vector: u16,
}

impl Ring {
    /// Wraps a queue whose addresses the transport has validated.
    pub fn new(queue: Queue, ram: Arc<Ram>, kick: Arc<EventFd>, interrupter: Arc<Interrupter>, vector: u16) -> Self {
        Self { queue, ram, kick, interrupter, vector }
    }

    /// The RAM it lies in.
    pub fn ram(&self) -> Arc<Ram> {
        self.ram.clone()
    }

    /// Readable after the driver rang.
    pub fn kicked(&self) -> BorrowedFd<'_> {
        crate::worker::borrow(&self.kick)
    }

    /// Takes the doorbell's events out; do it before looking at the ring.
    pub fn clear_kick(&self) {
        crate::worker::clear(&self.kick);
    }

    /// Takes the next chain the driver made available.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn pop<'m>(&mut self, memory: &'m GuestMemoryMmap) -> Result<Option<Chain<'m>>, virtio_queue::Error> {
        Ok(self.queue.iter(memory)?.next())
    }

    /// Puts the chain popped last back, as if it had not been.
    pub fn put_back(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Hands a chain back with `len` bytes written to it, and interrupts if the driver wants that.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn push(&mut self, head: u16, len: u32) -> Result<(), virtio_queue::Error> {
        let ram = self.ram.clone();
        self.queue.add_used(ram.memory(), head, len)?;
        if self.queue.needs_notification(ram.memory())? {
            self.interrupter.trigger(self.vector);
        }
        Ok(())
    }

    /// Asks to be rung for the next chain. True when one arrived meanwhile: look again before waiting.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn rearm(&mut self) -> Result<bool, virtio_queue::Error> {
        let ram = self.ram.clone();
        self.queue.enable_notification(ram.memory())
    }

    /// Serves every chain there is: `serve` returns the number of bytes it wrote to the chain. Whether the driver rings for
    /// the next one is not said: [`Ring::rearm`] asks it to.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn serve_ready(&mut self, mut serve: impl FnMut(&Chain<'_>) -> u32) -> Result<(), virtio_queue::Error> {
        let ram = self.ram.clone();
        while let Some(chain) = self.pop(ram.memory())? {
            let written = serve(&chain);
            self.push(chain.head_index(), written)?;
        }
        Ok(())
    }

    /// Serves as [`Ring::serve_ready`]. Afterwards the driver rings for the next chain.
    ///
    /// # Errors
    /// The ring makes no sense.
    pub fn serve(&mut self, mut serve: impl FnMut(&Chain<'_>) -> u32) -> Result<(), virtio_queue::Error> {
        loop {
            self.serve_ready(&mut serve)?;
            if !self.rearm()? {
                return Ok(());
            }
        }
    }

    /// Whether the driver has made a chain available. A ring that makes no sense has one: to take it will say so.
    pub fn is_ready(&self) -> bool {
        let next = self.queue.next_avail();
        self.queue.avail_idx(self.ram.memory(), Ordering::Acquire).map_or(true, |available| available.0 != next)
    }

    /// Tells the driver that this device is broken.
    pub fn fail(&self, why: &dyn std::fmt::Display) {
        self.interrupter.fail(why);
    }
}
