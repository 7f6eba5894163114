//! The bus: finds the device a configuration or register access is for, and keeps the guest's read-only view of
//! configuration space up to date.

use super::config::{ConfigSpace, Identity, SIZE};
use crate::layout::{DOORBELLS, DOORBELLS_EACH, ECAM, ECAM_SIZE, MAX_SLOTS, REGISTERS, REGISTERS_EACH};
use crate::shadow::Shadow;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// First port of the old configuration mechanism: the address, then four data ports.
pub const CONFIG_ADDRESS: u16 = 0xcf8;
/// First data port.
pub const CONFIG_DATA: u16 = 0xcfc;
/// Last data port.
pub const CONFIG_DATA_END: u16 = 0xcff;

/// A device on the bus, as the bus sees it.
pub trait PciDevice: Send {
    /// Its configuration space.
    fn config(&self) -> &ConfigSpace;
    /// A guest writes configuration space; returns the bytes that may have changed.
    fn write_config(&mut self, offset: usize, data: &[u8]) -> Range<usize>;
    /// A guest writes the registers, which it reads from the [`Shadow`]: whoever handles it updates that.
    fn write_registers(&mut self, offset: u64, data: &[u8]);
    /// A guest reads the doorbells.
    fn read_doorbell(&mut self, offset: u64, data: &mut [u8]);
    /// A guest writes the doorbells and no ioeventfd took it.
    fn write_doorbell(&mut self, offset: u64, data: &[u8]);
    /// The guest will not run again: hand over what it has sent and stop. Returns at once.
    fn drain(&mut self);
    /// Whether what [`PciDevice::drain`] began is over.
    fn drained(&mut self) -> bool;
    /// Stop now; what was not handed over is lost. Returns when no thread of the device runs any more.
    fn stop(&mut self);
}

type Slot = Mutex<Box<dyn PciDevice>>;

/// Bus 0.
pub struct PciRoot {
    slots: Vec<Slot>,
    shadow: Arc<Shadow>,
    address: AtomicU32,
}

impl PciRoot {
    /// A bus with `devices` in the slots from 1 on, behind a host bridge in slot 0.
    ///
    /// # Panics
    /// With more devices than slots; the layout has checked that.
    pub fn new(shadow: Arc<Shadow>, devices: Vec<Box<dyn PciDevice>>) -> Self {
        assert!(devices.len() < MAX_SLOTS);
        let mut slots: Vec<Slot> = vec![Mutex::new(Box::new(HostBridge::new()))];
        slots.extend(devices.into_iter().map(Mutex::new));
        for function in 0..MAX_SLOTS as u64 * 8 {
            // Where there is nothing, a vendor id of all ones says so.
            shadow.store(ECAM + function * 4096, &[0xff; 4]);
        }
        let root = Self { slots, shadow, address: AtomicU32::new(0) };
        for (index, slot) in root.slots.iter().enumerate() {
            root.publish(index, lock(slot).config(), 0..SIZE);
        }
        root
    }

    /// The devices, for the machine's own purposes.
    pub fn slots(&self) -> impl Iterator<Item = MutexGuard<'_, Box<dyn PciDevice>>> {
        self.slots.iter().map(lock)
    }

    fn publish(&self, index: usize, config: &ConfigSpace, range: Range<usize>) {
        self.shadow.store(ECAM + (index as u64) * 8 * 4096 + range.start as u64, &config.bytes()[range]);
    }

    fn write_config(&self, function: usize, offset: usize, data: &[u8]) {
        // Each device has function 0 only.
        if !function.is_multiple_of(8) {
            return;
        }
        let index = function / 8;
        let Some(slot) = self.slots.get(index) else { return };
        let mut device = lock(slot);
        let changed = device.write_config(offset, data);
        self.publish(index, device.config(), changed);
    }

    /// A guest writes memory at `address`. False when no device is there.
    pub fn write_memory(&self, address: u64, data: &[u8]) -> bool {
        if let Some(offset) = within(address, ECAM, ECAM_SIZE) {
            self.write_config((offset / 4096) as usize, (offset % 4096) as usize, data);
            return true;
        }
        if let Some((slot, offset)) = self.slot_at(address, REGISTERS, REGISTERS_EACH) {
            lock(slot).write_registers(offset, data);
            return true;
        }
        if let Some((slot, offset)) = self.slot_at(address, DOORBELLS, DOORBELLS_EACH) {
            lock(slot).write_doorbell(offset, data);
            return true;
        }
        false
    }

    /// A guest reads memory at `address`. False when no device is there.
    pub fn read_memory(&self, address: u64, data: &mut [u8]) -> bool {
        if let Some((slot, offset)) = self.slot_at(address, DOORBELLS, DOORBELLS_EACH) {
            lock(slot).read_doorbell(offset, data);
            return true;
        }
        // Only when the read-only slot could not be had: otherwise the guest reads this without us.
        let known =
            within(address, ECAM, ECAM_SIZE).is_some() || self.slot_at(address, REGISTERS, REGISTERS_EACH).is_some();
        if known {
            self.shadow.load(address, data);
        }
        known
    }

    fn slot_at(&self, address: u64, base: u64, each: u64) -> Option<(&Slot, u64)> {
        let offset = within(address, base, each * MAX_SLOTS as u64)?;
        Some((self.slots.get((offset / each) as usize)?, offset % each))
    }

    /// A guest writes a port. False when it is not one of ours.
    pub fn write_port(&self, port: u16, data: &[u8]) -> bool {
        match port {
            CONFIG_ADDRESS => {
                if let Ok(bytes) = data.try_into() {
                    self.address.store(u32::from_le_bytes(bytes), Ordering::Relaxed);
                }
                true
            }
            CONFIG_DATA..=CONFIG_DATA_END => {
                if let Some((function, offset)) = self.selected(port)
                    && offset % 4 + data.len() <= 4
                {
                    self.write_config(function, offset, data);
                }
                true
            }
            _ => false,
        }
    }

    /// A guest reads a port. False when it is not one of ours.
    pub fn read_port(&self, port: u16, data: &mut [u8]) -> bool {
        match port {
            CONFIG_ADDRESS if data.len() == 4 => {
                data.copy_from_slice(&self.address.load(Ordering::Relaxed).to_le_bytes());
                true
            }
            CONFIG_DATA..=CONFIG_DATA_END => {
                match self.selected(port) {
                    Some((function, offset)) if offset % 4 + data.len() <= 4 && function / 8 < self.slots.len() => {
                        self.shadow.load(ECAM + (function * 4096 + offset) as u64, data);
                        if function % 8 != 0 {
                            data.fill(0xff);
                        }
                    }
                    _ => data.fill(0xff),
                }
                true
            }
            _ => false,
        }
    }

    /// Function and offset that the address port selects, for an access to `port`.
    fn selected(&self, port: u16) -> Option<(usize, usize)> {
        let address = self.address.load(Ordering::Relaxed);
        let enabled = address & 1 << 31 != 0;
        let bus = address >> 16 & 0xff;
        let offset = (address & 0xfc) as usize + usize::from(port - CONFIG_DATA);
        (enabled && bus == 0).then_some(((address >> 8 & 0xff) as usize, offset))
    }
}

fn within(address: u64, base: u64, size: u64) -> Option<u64> {
    address.checked_sub(base).filter(|offset| *offset < size)
}

/// A device that panicked under its lock is served further as it is: its state is plain data, and the guest is the
/// only one it can lie to.
fn lock(slot: &Slot) -> MutexGuard<'_, Box<dyn PciDevice>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The host bridge: nothing but an identity (QEMU's generic PCIe host bridge).
struct HostBridge(ConfigSpace);

impl HostBridge {
    fn new() -> Self {
        Self(ConfigSpace::new(Identity {
            vendor: 0x1b36,
            device: 0x0008,
            revision: 0,
            class: 0x06_0000,
            subsystem: (0, 0),
        }))
    }
}

impl PciDevice for HostBridge {
    fn config(&self) -> &ConfigSpace {
        &self.0
    }
    fn write_config(&mut self, offset: usize, data: &[u8]) -> Range<usize> {
        self.0.write(offset, data)
    }
    fn write_registers(&mut self, _offset: u64, _data: &[u8]) {}
    fn read_doorbell(&mut self, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }
    fn write_doorbell(&mut self, _offset: u64, _data: &[u8]) {}
    fn drain(&mut self) {}
    fn drained(&mut self) -> bool {
        true
    }
    fn stop(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PciRoot {
        PciRoot::new(Shadow::new().unwrap(), vec![Box::new(HostBridge::new())])
    }

    fn port_read(root: &PciRoot, device: u32, offset: u32) -> u32 {
        assert!(root.write_port(CONFIG_ADDRESS, &(1 << 31 | device << 11 | offset).to_le_bytes()));
        let mut data = [0; 4];
        assert!(root.read_port(CONFIG_DATA, &mut data));
        u32::from_le_bytes(data)
    }

    fn memory_read(root: &PciRoot, device: u64, function: u64, offset: u64) -> u32 {
        let mut data = [0; 4];
        assert!(root.read_memory(ECAM + device * 8 * 4096 + function * 4096 + offset, &mut data));
        u32::from_le_bytes(data)
    }

    #[test]
    fn ports_and_memory_show_the_same_space() {
        let root = root();
        for device in [0, 1] {
            assert_eq!(port_read(&root, device, 0), 0x0008_1b36);
            assert_eq!(memory_read(&root, device.into(), 0, 0), 0x0008_1b36);
        }
        port_read(&root, 1, 4);
        root.write_port(CONFIG_DATA, &0x0006u16.to_le_bytes());
        assert_eq!(memory_read(&root, 1, 0, 4), 6);
        root.write_memory(ECAM + 8 * 4096 + 4, &[0]);
        assert_eq!(port_read(&root, 1, 4), 0);
    }

    #[test]
    fn where_nothing_is_there_are_ones() {
        let root = root();
        assert_eq!(memory_read(&root, 2, 0, 0), u32::MAX);
        assert_eq!(memory_read(&root, 1, 3, 0), u32::MAX);
        assert_eq!(port_read(&root, 31, 0), u32::MAX);
        root.write_port(CONFIG_ADDRESS, &(1u32 << 31 | 1 << 16).to_le_bytes());
        let mut data = [0; 4];
        root.read_port(CONFIG_DATA, &mut data);
        assert_eq!(data, [0xff; 4], "another bus");
        assert!(!root.read_memory(0xd000_0000, &mut data) && !root.write_memory(u64::MAX, &data));
        assert!(!root.read_port(0x60, &mut data));
    }

    #[test]
    fn hostile_accesses_are_harmless() {
        let root = root();
        for address in [ECAM + ECAM_SIZE - 1, ECAM + 4095, ECAM + 255, REGISTERS + 4095, DOORBELLS - 1, u64::MAX] {
            let mut data = [0; 8];
            root.read_memory(address, &mut data);
            root.write_memory(address, &data);
        }
        port_read(&root, 0, 0xfc);
        root.write_port(0xcff, &[1; 4]);
        let mut data = [0; 4];
        root.read_port(0xcff, &mut data);
        assert_eq!(data, [0xff; 4]);
    }
}
