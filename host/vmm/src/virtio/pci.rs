//! A virtio device on the PCI bus (section 4.1): configuration space, registers, doorbells, interrupts.
//!
//! Two BARs. BAR 0 holds everything a driver reads, and the guest reads it from memory without leaving
//! (see [`crate::shadow`]). BAR 1 holds the doorbells, which are only written. A third, 64-bit one is the DAX window,
//! announced by a shared-memory capability.
//!
//! Left out: `VIRTIO_PCI_CAP_PCI_CFG`, a back door for firmware that cannot reach BARs; and INTx, so the ISR byte is
//! always zero (section 4.1.4.5 lets a driver with MSI-X ignore it).

use super::common::{self, CommonConfig, Effect, QueueSetup};
use super::interrupt::{Interrupter, PENDING, Platform, TABLE};
use super::ring::Ring;
use super::{Activation, Device, F_EVENT_IDX};
use crate::layout::{DOORBELLS, DOORBELLS_EACH, REGISTERS, REGISTERS_EACH, WindowPlace};
use crate::memory::Ram;
use crate::pci::msix::{ENTRY, MAX_VECTORS};
use crate::pci::{Bar, ConfigSpace, Identity, PciDevice};
use crate::shadow::Shadow;
use crate::worker::{clear, eventfd};
use std::io;
use std::ops::Range;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

const REGISTERS_BAR: u8 = 0;
const DOORBELLS_BAR: u8 = 1;
const WINDOW_BAR: u8 = 2;

/// Offset of the ISR byte in the registers.
const ISR: u64 = 0x80;
/// Offset of the device's own configuration.
const DEVICE: u64 = 0x100;
const DEVICE_MAX: usize = 0x400;
/// Distance of two queues' doorbells.
const NOTIFY_MULTIPLIER: u32 = 4;

const CAP_VENDOR: u8 = 0x09;
const CAP_MSIX: u8 = 0x11;
const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_SHARED_MEMORY: u8 = 8;

/// After so many rings by exit a queue's doorbell becomes an ioeventfd. An exit costs some 25 us more; but the first
/// ioeventfd of a machine makes its end wait for an RCU grace period, some 10 ms, which a short run had better not pay.
const RINGS_BY_EXIT: u32 = 256;

/// The id of the DAX window among shared-memory regions (section 5.11.4).
const WINDOW_ID: u8 = 0;

/// What a device is attached to.
#[derive(Clone)]
pub struct Attachment {
    /// Slot number on bus 0.
    pub slot: usize,
    /// The guest's RAM.
    pub ram: Arc<Ram>,
    /// The registers' memory.
    pub shadow: Arc<Shadow>,
    /// The virtual machine.
    pub platform: Arc<dyn Platform>,
    /// The DAX window, if the device has one.
    pub window: Option<WindowPlace>,
}

/// A virtio device and its transport.
pub struct VirtioPci {
    config: ConfigSpace,
    msix: usize,
    registers: u64,
    chip: CommonConfig,
    device: Box<dyn Device>,
    interrupter: Arc<Interrupter>,
    shadow: Arc<Shadow>,
    ram: Arc<Ram>,
    platform: Arc<dyn Platform>,
    doorbells: Vec<Doorbell>,
}

/// How the driver rings for one queue.
struct Doorbell {
    address: u64,
    kick: Arc<EventFd>,
    rings_by_exit: u32,
}

impl Doorbell {
    fn ring(&mut self, platform: &dyn Platform) {
        // It can only fail when the counter is full, and then the device is being woken anyway.
        let _ = self.kick.write(1);
        self.rings_by_exit = self.rings_by_exit.saturating_add(1);
        if self.rings_by_exit == RINGS_BY_EXIT
            && let Err(error) = platform.doorbell(self.address, &self.kick)
        {
            tracing::debug!("doorbell {:#x} stays an exit: {error}", self.address);
        }
    }
}

impl VirtioPci {
    /// Puts `device` on the bus, with an MSI-X vector for each queue and one for configuration changes.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new(device: Box<dyn Device>, at: Attachment) -> io::Result<Self> {
        let registers = REGISTERS + at.slot as u64 * REGISTERS_EACH;
        let doorbells = DOORBELLS + at.slot as u64 * DOORBELLS_EACH;
        let queues = device.queues().len();
        let vectors = (queues + 1).min(MAX_VECTORS);
        let mut config = config_space(&*device, registers, doorbells, at.window);
        let msix = config.add_capability(CAP_MSIX, &msix_body(vectors), &[0, 0xc0]);
        let doorbell = |index: usize| {
            let address = doorbells + index as u64 * u64::from(NOTIFY_MULTIPLIER);
            Ok(Doorbell { address, kick: Arc::new(eventfd()?), rings_by_exit: 0 })
        };
        let doorbells = (0..queues).map(doorbell).collect::<io::Result<_>>()?;
        let interrupter = Arc::new(Interrupter::new(vectors, at.shadow.clone(), registers, at.platform.clone()));
        at.shadow.store(registers + DEVICE, &device.config()[..device.config().len().min(DEVICE_MAX)]);
        let chip = CommonConfig::new(device.features(), device.queues(), vectors as u16);
        let this = Self {
            config,
            msix,
            registers,
            chip,
            device,
            interrupter,
            shadow: at.shadow,
            ram: at.ram,
            platform: at.platform,
            doorbells,
        };
        this.publish();
        Ok(this)
    }

    /// The device's interrupts, for their count.
    pub fn interrupter(&self) -> Arc<Interrupter> {
        self.interrupter.clone()
    }

    /// The guest-physical addresses of registers whose writes may wait for the next exit. Those of the MSI-X table are among
    /// them: the kernel fills it once, before it turns MSI-X on in configuration space, which is an exit.
    pub fn posted(&self) -> impl Iterator<Item = Range<u64>> {
        let ranges = common::POSTED.into_iter().chain(std::iter::once(TABLE..PENDING));
        ranges.map(|range| self.registers + range.start..self.registers + range.end)
    }

    fn publish(&self) {
        let mut bytes = self.chip.bytes();
        if self.interrupter.failed() {
            bytes[common::STATUS as usize] |= common::NEEDS_RESET;
        }
        self.shadow.store(self.registers, &bytes);
    }

    fn start(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let mut rings = Vec::with_capacity(self.doorbells.len());
        for (i, (setup, doorbell)) in self.chip.queues().iter().zip(&self.doorbells).enumerate() {
            if !setup.enabled {
                rings.push(None);
                continue;
            }
            let queue = self.queue(setup).map_err(|e| format!("queue {i}: {e}"))?;
            let (ram, kick) = (self.ram.clone(), doorbell.kick.clone());
            rings.push(Some(Ring::new(queue, ram, kick, self.interrupter.clone(), setup.vector)));
        }
        let activation = Activation { features: self.chip.features(), rings };
        Ok(self.device.activate(activation)?)
    }

    fn queue(&self, setup: &QueueSetup) -> Result<Queue, virtio_queue::Error> {
        let [table, driver, device] = setup.areas.map(GuestAddress);
        let mut queue = Queue::new(setup.size)?;
        queue.try_set_desc_table_address(table)?;
        queue.try_set_avail_ring_address(driver)?;
        queue.try_set_used_ring_address(device)?;
        queue.set_event_idx(self.chip.features() & F_EVENT_IDX != 0);
        queue.set_ready(true);
        if queue.is_valid(self.ram.memory()) { Ok(queue) } else { Err(virtio_queue::Error::AddressOverflow) }
    }
}

impl PciDevice for VirtioPci {
    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn write_config(&mut self, offset: usize, data: &[u8]) -> Range<usize> {
        let changed = self.config.write(offset, data);
        if changed.contains(&self.msix) {
            self.interrupter.control(self.config.word(self.msix + 2));
        }
        changed
    }

    fn write_registers(&mut self, offset: u64, data: &[u8]) {
        if (TABLE..PENDING).contains(&offset) {
            self.interrupter.write_table(offset - TABLE, data);
            return;
        }
        if offset >= common::LEN as u64 {
            return;
        }
        match self.chip.write(offset, data) {
            Effect::None => {}
            Effect::ConfigVector => self.interrupter.set_config_vector(self.chip.config_vector()),
            Effect::Reset => {
                self.device.reset();
                self.interrupter.reset();
                self.doorbells.iter().for_each(|doorbell| clear(&doorbell.kick));
            }
            Effect::Start => {
                if let Err(error) = self.start() {
                    self.interrupter.fail(&error);
                }
            }
        }
        self.publish();
    }

    fn read_doorbell(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn write_doorbell(&mut self, offset: u64, _data: &[u8]) {
        if let Some(doorbell) = self.doorbells.get_mut((offset / u64::from(NOTIFY_MULTIPLIER)) as usize) {
            doorbell.ring(&*self.platform);
        }
    }

    fn drain(&mut self) {
        self.device.drain();
    }

    fn drained(&mut self) -> bool {
        self.device.drained()
    }

    fn stop(&mut self) {
        self.device.reset();
    }
}

fn config_space(device: &dyn Device, registers: u64, doorbells: u64, window: Option<WindowPlace>) -> ConfigSpace {
    let kind = device.kind();
    let mut config = ConfigSpace::new(Identity {
        vendor: 0x1af4,
        device: 0x1040 + kind.id,
        revision: 1,
        class: kind.class,
        subsystem: (0x1af4, 0x1100),
    });
    config.set_bar(REGISTERS_BAR.into(), Bar::Memory32 { base: registers as u32, size: REGISTERS_EACH as u32 });
    config.set_bar(DOORBELLS_BAR.into(), Bar::Memory32 { base: doorbells as u32, size: DOORBELLS_EACH as u32 });
    let queues = device.queues().len() as u32;
    config.add_capability(CAP_VENDOR, &cap(CFG_COMMON, REGISTERS_BAR, 0, 0, common::LEN as u32), &[]);
    let mut notify = cap(CFG_NOTIFY, DOORBELLS_BAR, 0, 0, queues * NOTIFY_MULTIPLIER);
    notify.extend(NOTIFY_MULTIPLIER.to_le_bytes());
    notify[0] += 4;
    config.add_capability(CAP_VENDOR, &notify, &[]);
    config.add_capability(CAP_VENDOR, &cap(CFG_ISR, REGISTERS_BAR, 0, ISR as u32, 1), &[]);
    if !device.config().is_empty() {
        let len = device.config().len().min(DEVICE_MAX) as u32;
        config.add_capability(CAP_VENDOR, &cap(CFG_DEVICE, REGISTERS_BAR, 0, DEVICE as u32, len), &[]);
    }
    if let Some(window) = window {
        config.set_bar(WINDOW_BAR.into(), Bar::Memory64 { base: window.base, size: window.bar });
        // struct virtio_pci_cap64: the high halves of offset and length follow.
        let mut shared = cap(CFG_SHARED_MEMORY, WINDOW_BAR, WINDOW_ID, 0, window.len as u32);
        shared.extend(0u32.to_le_bytes());
        shared.extend(((window.len >> 32) as u32).to_le_bytes());
        shared[0] += 8;
        config.add_capability(CAP_VENDOR, &shared, &[]);
    }
    config
}

/// `struct virtio_pci_cap` without its first two bytes.
fn cap(kind: u8, bar: u8, id: u8, offset: u32, length: u32) -> Vec<u8> {
    let mut body = vec![16, kind, bar, id, 0, 0];
    body.extend(offset.to_le_bytes());
    body.extend(length.to_le_bytes());
    body
}

fn msix_body(vectors: usize) -> Vec<u8> {
    debug_assert!(TABLE + (vectors * ENTRY) as u64 <= PENDING);
    let mut body = (vectors as u16 - 1).to_le_bytes().to_vec();
    body.extend((TABLE as u32 | u32::from(REGISTERS_BAR)).to_le_bytes());
    body.extend((PENDING as u32 | u32::from(REGISTERS_BAR)).to_le_bytes());
    body
}

#[cfg(test)]
mod tests;
