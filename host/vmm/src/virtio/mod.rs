//! Virtio 1.2 devices over PCI: what a device is, apart from the bus it sits on.
//!
//! [`common`] is the chip every device has in front (negotiation, queue set-up), [`pci`] puts it on the bus,
//! [`ring`] is a queue in use, [`interrupt`] the way back to the guest. The devices are [`fs`], [`blk`], [`console`] and [`rng`].

pub mod blk;
pub mod common;
pub mod console;
pub mod fs;
pub mod interrupt;
pub mod pci;
pub mod ring;
pub mod rng;
#[cfg(test)]
pub mod testing;

use ring::Ring;
use std::io;

/// `VIRTIO_F_RING_INDIRECT_DESC`.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_RING_EVENT_IDX`.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// `VIRTIO_F_VERSION_1`.
pub const F_VERSION_1: u64 = 1 << 32;

/// What a device is called on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// Virtio device id (section 5).
    pub id: u16,
    /// PCI class, 24 bits.
    pub class: u32,
}

/// What a device gets when the driver sets `DRIVER_OK`.
pub struct Activation {
    /// The device's own feature bits that the driver accepted.
    pub features: u64,
    /// One for each queue of [`Device::queues`]; `None` for those the driver left disabled.
    pub rings: Vec<Option<Ring>>,
}

impl Activation {
    /// Takes ring `index` out; `None` when the driver left it disabled.
    pub fn ring(&mut self, index: usize) -> Option<Ring> {
        self.rings.get_mut(index)?.take()
    }
}

/// A virtio device behind its transport.
///
/// The transport calls, in this order and as often as the driver goes round: [`Device::activate`], then
/// [`Device::reset`]. When the machine ends, [`Device::drain`] may come between them.
pub trait Device: Send {
    /// What it is.
    fn kind(&self) -> Kind;
    /// Its own feature bits (0 to 23 and from 50 on); those of the transport are added.
    fn features(&self) -> u64 {
        0
    }
    /// Largest size of each of its queues, powers of two.
    fn queues(&self) -> &[u16];
    /// Its configuration, at most 1 KiB; it does not change.
    fn config(&self) -> &[u8] {
        &[]
    }
    /// The driver is ready: start work.
    ///
    /// # Errors
    /// When the host gives no thread; the driver then sees `DEVICE_NEEDS_RESET`.
    fn activate(&mut self, activation: Activation) -> io::Result<()>;
    /// Stop work and forget the queues. After it no thread touches guest memory. May come when not active.
    fn reset(&mut self);
    /// The guest will not run again: finish what it has handed over. Returns at once.
    fn drain(&mut self) {}
    /// Whether that is done.
    fn drained(&mut self) -> bool {
        true
    }
}
