//! A function's registers (section 4.1.4): status, features, queues, configuration, shared memory.
//!
//! Every access may be an exit to the hypervisor, and every write that a device acts on is one, so the sequence of section
//! 3.1 is written out with nothing read back that need not be, and nothing written that is so already: a device whose status is
//! 0 has just been reset, and a selector that nobody has touched since says 0. What the section demands stays: the reset
//! waited for, features and vectors verified.

#[cfg(test)]
mod tests;

use crate::features::{Status, TRANSPORT};
use crate::pci::{Capabilities, Function, Structure, program};
use crate::queue::{Doorbell, QueuePlan, VirtQueue};
use crate::{Error, Features, Hal, PhysRange, Registers};
use alloc::vec::Vec;
use pci_types::ConfigRegionAccess;

/// Where an interrupt goes: the write that the device makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiMessage {
    /// The address written to; on x86 0xfee0_0000 and up, naming the processor.
    pub address: u64,
    /// The word written; on x86 the vector.
    pub data: u32,
}

/// `struct virtio_pci_common_cfg` (section 4.1.4.3): byte offsets.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: usize = 0;
    pub(super) const DEVICE_FEATURE: usize = 4;
    pub(super) const DRIVER_FEATURE_SELECT: usize = 8;
    pub(super) const DRIVER_FEATURE: usize = 12;
    pub(super) const STATUS: usize = 20;
    pub(super) const QUEUE_SELECT: usize = 22;
    pub(super) const QUEUE_SIZE: usize = 24;
    pub(super) const QUEUE_VECTOR: usize = 26;
    pub(super) const QUEUE_ENABLE: usize = 28;
    pub(super) const QUEUE_NOTIFY_OFF: usize = 30;
    /// Descriptor table, available ring and used ring, each a low and a high word.
    pub(super) const QUEUE_ADDRESSES: usize = 32;
    pub(super) const SIZE: u64 = 56;
}

/// How often the status is read before a reset counts as hung. A device in software is done at the first.
const RESET_POLLS: u32 = 100_000;

/// A range of registers and its length.
#[derive(Debug)]
struct Mapped<R> {
    registers: R,
    len: u64,
}

/// A virtio device whose registers are mapped: what the typed drivers are made from.
#[derive(Debug)]
pub struct Device<H: Hal> {
    pub(crate) hal: H,
    device_type: u16,
    common: H::Registers,
    notify: Mapped<H::Registers>,
    notify_multiplier: u32,
    config: Option<Mapped<H::Registers>>,
    shared: Vec<(u8, PhysRange)>,
    vectors: u16,
    status: Status,
}

fn map<H: Hal>(
    hal: &H,
    function: &Function,
    structure: Structure,
    align: u64,
    least: u64,
    what: &'static str,
) -> Result<Mapped<H::Registers>, Error> {
    let range = function.resolve(structure, what)?;
    if range.len() < least || !range.start().0.is_multiple_of(align) {
        return Err(Error::BadCapability(what));
    }
    let registers = hal.map_mmio(range).ok_or(Error::Unmappable(range))?;
    Ok(Mapped { registers, len: range.len() })
}

impl<H: Hal> Device<H> {
    /// Maps a function's registers and programs its interrupts.
    ///
    /// The queues that the driver sets up, in its order, get a message each; the last message serves all
    /// that are left, so one message is enough. Without messages the device is polled, and MSI-X not touched.
    ///
    /// # Errors
    /// Says which capability, BAR or vector does not serve.
    pub fn open(
        hal: H,
        config: &impl ConfigRegionAccess,
        function: &Function,
        messages: &[MsiMessage],
    ) -> Result<Self, Error> {
        let capabilities: &Capabilities = function.capabilities.as_ref().map_err(Clone::clone)?;
        let missing = Error::MissingCapability;
        let common = capabilities.common.ok_or(missing("common configuration"))?;
        let (notify, notify_multiplier) = capabilities.notify.ok_or(missing("notification"))?;
        let mut shared = Vec::new();
        for (id, structure) in &capabilities.shared {
            shared.push((*id, function.resolve(*structure, "shared memory")?));
        }
        function.enable(config);
        let common = map(&hal, function, common, 4, common::SIZE, "common configuration")?;
        let notify = map(&hal, function, notify, 2, 2, "notification")?;
        let device = capabilities.device.map(|s| map(&hal, function, s, 4, 1, "device configuration")).transpose()?;
        if !messages.is_empty() {
            let msix = capabilities.msix.ok_or(missing("MSI-X"))?;
            program(&hal, config, function, msix, messages)?;
        }
        Ok(Self {
            hal,
            device_type: function.device_type,
            common: common.registers,
            notify,
            notify_multiplier,
            config: device,
            shared,
            vectors: messages.len() as u16, // at most 2048
            status: Status::empty(),
        })
    }

    /// Its virtio device type: see [`crate::pci::device_type`].
    pub fn device_type(&self) -> u16 {
        self.device_type
    }

    /// The shared memory region with this id.
    pub fn shared_memory(&self, id: u8) -> Option<PhysRange> {
        self.shared.iter().find(|(found, _)| *found == id).map(|(_, range)| *range)
    }

    /// The vector of the driver's `n`th queue.
    pub(crate) fn vector(&self, n: usize) -> Option<u16> {
        let last = self.vectors.checked_sub(1)?;
        Some(u16::try_from(n).map_or(last, |n| n.min(last)))
    }

    /// Resets the device, unless nobody has touched it since it was, and waits until it is done (section 4.1.4.3.2):
    /// afterwards it touches no memory.
    ///
    /// # Errors
    /// [`Error::ResetTimeout`]: it must be assumed to be at work still.
    pub(crate) fn reset(&mut self) -> Result<(), Error> {
        self.status = Status::empty();
        if self.common.read8(common::STATUS) == 0 {
            return Ok(());
        }
        self.common.write8(common::STATUS, 0);
        for _ in 0..RESET_POLLS {
            if self.common.read8(common::STATUS) == 0 {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        Err(Error::ResetTimeout)
    }

    /// Sets status bits, beside those that are set.
    pub(crate) fn set_status(&mut self, bits: Status) {
        self.status |= bits;
        self.common.write8(common::STATUS, self.status.bits());
    }

    /// Steps 1 to 6 of section 3.1.1: reset to features accepted. Of what is offered we take what the rings
    /// understand and what is in `wanted`.
    pub(crate) fn negotiate(&mut self, wanted: Features) -> Result<Features, Error> {
        self.reset()?;
        // Two steps of the sequence, and there is nothing between them.
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER);
        let half = |select| {
            if self.common.read32(common::DEVICE_FEATURE_SELECT) != select {
                self.common.write32(common::DEVICE_FEATURE_SELECT, select);
            }
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        let offered = Features::from_bits_retain(half(0) | half(1) << 32);
        if !offered.contains(Features::VERSION_1) {
            return Err(Error::MissingFeature("VERSION_1"));
        }
        let accepted = offered & (wanted | TRANSPORT);
        for (select, half) in [(0, accepted.bits() as u32), (1, (accepted.bits() >> 32) as u32)] {
            self.common.write32(common::DRIVER_FEATURE_SELECT, select);
            self.common.write32(common::DRIVER_FEATURE, half);
        }
        self.set_status(Status::FEATURES_OK);
        let status = Status::from_bits_retain(self.common.read8(common::STATUS));
        if !status.contains(Status::FEATURES_OK) {
            return Err(Error::FeaturesRefused { offered, accepted });
        }
        Ok(accepted)
    }

    /// Makes a queue and tells the device where it is (section 4.1.5.1.3).
    pub(crate) fn set_up_queue<T>(&mut self, plan: QueuePlan, features: Features) -> Result<VirtQueue<H, T>, Error> {
        let registers = &self.common;
        if registers.read16(common::QUEUE_SELECT) != plan.index {
            registers.write16(common::QUEUE_SELECT, plan.index);
        }
        let most = registers.read16(common::QUEUE_SIZE);
        // Sizes are powers of two, at most 2^15 (section 2.7); whatever the device says, ours is.
        let size = match most.min(plan.max_size).min(1 << 15) {
            0 => return Err(Error::NoQueue(plan.index)),
            limit => 1 << limit.ilog2(),
        };
        if size != most {
            registers.write16(common::QUEUE_SIZE, size);
        }
        if let Some(vector) = plan.vector {
            registers.write16(common::QUEUE_VECTOR, vector);
            if registers.read16(common::QUEUE_VECTOR) != vector {
                return Err(Error::VectorRefused { queue: plan.index });
            }
        }
        let doorbell = self.doorbell()?;
        let queue = VirtQueue::new(&self.hal, plan, size, features, doorbell).ok_or(Error::NoMemory)?;
        for (i, address) in queue.ring().addresses().into_iter().enumerate() {
            let at = common::QUEUE_ADDRESSES + 8 * i;
            registers.write32(at, address.0 as u32);
            registers.write32(at + 4, (address.0 >> 32) as u32);
        }
        registers.write16(common::QUEUE_ENABLE, 1);
        Ok(queue)
    }

    /// The doorbell of the queue that is selected. Without a multiplier all queues share one, and the
    /// device need not be asked.
    fn doorbell(&self) -> Result<Doorbell<H::Registers>, Error> {
        let offset = match self.notify_multiplier {
            0 => 0,
            multiplier => u64::from(self.common.read16(common::QUEUE_NOTIFY_OFF)) * u64::from(multiplier),
        };
        let offset = usize::try_from(offset)
            .ok()
            .filter(|offset| *offset as u64 + 2 <= self.notify.len && offset.is_multiple_of(2))
            .ok_or(Error::BadCapability("notification"))?;
        Ok(Doorbell { registers: self.notify.registers.clone(), offset })
    }

    fn config(&self, offset: usize, len: u64) -> Result<&H::Registers, Error> {
        let config = self.config.as_ref().filter(|config| offset as u64 + len <= config.len);
        Ok(&config.ok_or(Error::ShortConfig)?.registers)
    }

    /// Reads a 32-bit configuration field.
    pub(crate) fn config32(&self, offset: usize) -> Result<u32, Error> {
        Ok(self.config(offset, 4)?.read32(offset))
    }
}
