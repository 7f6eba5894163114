//! The PCI bus, as far as virtio needs it: finding functions, placing BARs, interrupts.
//!
//! Bus 0 only; bridges are not followed. Configuration space is reached through the kernel's
//! [`ConfigRegionAccess`], whose addresses are always on segment 0, bus 0 here, and whose offsets are multiples of 4 below 256.

mod bar;
mod capability;
mod msix;
#[cfg(test)]
mod tests;

pub use bar::MmioSpace;

pub(crate) use bar::Bars;
pub(crate) use capability::{Capabilities, Structure};
pub(crate) use msix::program;

use crate::{Error, PhysRange};
use alloc::vec::Vec;
use pci_types::{CommandRegister, ConfigRegionAccess, PciAddress};

/// Command register, with the status register in the upper half.
pub(crate) const COMMAND: u16 = 0x04;
const HEADER_TYPE: u16 = 0x0c;
const SUBSYSTEM: u16 = 0x2c;

/// The vendor of every virtio function (section 4.1.2).
const VIRTIO_VENDOR: u32 = 0x1af4;

/// Device types (section 5).
pub mod device_type {
    /// Network card.
    pub const NET: u16 = 1;
    /// Block device.
    pub const BLOCK: u16 = 2;
    /// Console.
    pub const CONSOLE: u16 = 3;
    /// Entropy source.
    pub const RNG: u16 = 4;
    /// File system.
    pub const FS: u16 = 26;
}

pub(crate) fn read(config: &impl ConfigRegionAccess, address: PciAddress, offset: u16) -> u32 {
    debug_assert!(offset < 0x100 && offset.is_multiple_of(4));
    // SAFETY: any function of bus 0 may be asked (an absent one reads as ones), and the offset is an aligned
    // one within the 256 bytes that every function has; reading a header or capability has no side effect.
    unsafe { config.read(address, offset) }
}

pub(crate) fn write(config: &impl ConfigRegionAccess, address: PciAddress, offset: u16, value: u32) {
    debug_assert!(offset < 0x100 && offset.is_multiple_of(4));
    // SAFETY: as in `read`; the crate writes only the command register, BARs of a function whose memory
    // decoding is off, and the MSI-X control word. DMA that follows obeys the rings we set up.
    unsafe { config.write(address, offset, value) }
}

/// A virtio function of the bus.
#[derive(Debug, Clone)]
pub struct Function {
    /// Where it is.
    pub address: PciAddress,
    /// Its virtio device type: see [`device_type`].
    pub device_type: u16,
    pub(crate) bars: Bars,
    pub(crate) capabilities: Result<Capabilities, Error>,
}

impl Function {
    /// Makes the function answer to its BARs and reach memory. INTx stays off.
    pub(crate) fn enable(&self, config: &impl ConfigRegionAccess) {
        let command = read(config, self.address, COMMAND) & 0xffff;
        let wanted =
            CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE | CommandRegister::INTERRUPT_DISABLE;
        let new = command | u32::from(wanted.bits());
        if new != command {
            write(config, self.address, COMMAND, new);
        }
    }

    /// Where a structure is; `what` names it in errors.
    pub(crate) fn resolve(&self, structure: Structure, what: &'static str) -> Result<PhysRange, Error> {
        self.bars.resolve(structure, what)
    }
}

/// Lists the virtio functions of bus 0, after placing in `space` those of their BARs that nobody placed.
///
/// A function that is broken is listed all the same: [`crate::Device::open`] says what is wrong with it.
pub fn scan(config: &impl ConfigRegionAccess, space: &mut MmioSpace) -> Vec<Function> {
    let mut found: Vec<Function> = (0..32).flat_map(|device| probe_device(config, device)).collect();
    for function in &found {
        for (bar, range) in function.bars.placed() {
            space.reserve(function.extent(bar, range));
        }
    }
    for function in &mut found {
        let Ok(capabilities) = &function.capabilities else { continue };
        let wanted = capabilities.bars_used();
        if let Err(error) = function.bars.place(config, function.address, wanted, space) {
            function.capabilities = Err(error);
        }
    }
    found
}

impl Function {
    /// What to keep clear of for a BAR whose exact size is not known: everything its capabilities speak of,
    /// and a page at least.
    fn extent(&self, bar: u8, bound: PhysRange) -> PhysRange {
        let parts = self.capabilities.as_ref().map(Capabilities::structures).unwrap_or_default();
        let ends = parts.iter().filter(|s| s.bar == bar).filter_map(|s| s.offset.checked_add(s.len));
        let len = ends.max().unwrap_or(0).max(0x1000).checked_next_power_of_two().unwrap_or(u64::MAX);
        bound.slice(0, len.min(bound.len())).unwrap_or(bound)
    }
}

fn probe_device(config: &impl ConfigRegionAccess, device: u8) -> Vec<Function> {
    let id = |function| read(config, PciAddress::new(0, 0, device, function), 0);
    let first = id(0);
    if first & 0xffff == 0xffff {
        return Vec::new();
    }
    let multifunction = read(config, PciAddress::new(0, 0, device, 0), HEADER_TYPE) & 1 << 23 != 0;
    let mut found = Vec::new();
    for function in 0..if multifunction { 8 } else { 1 } {
        let id = if function == 0 { first } else { id(function) };
        found.extend(probe_function(config, PciAddress::new(0, 0, device, function), id));
    }
    found
}

fn probe_function(config: &impl ConfigRegionAccess, address: PciAddress, id: u32) -> Option<Function> {
    if id & 0xffff != VIRTIO_VENDOR {
        return None;
    }
    let device_type = match (id >> 16) as u16 {
        // A transitional device: drivable if it has the modern capabilities too. Its type is the subsystem id.
        0x1000..0x1040 => (read(config, address, SUBSYSTEM) >> 16) as u16,
        modern @ 0x1040..0x1080 => modern - 0x1040,
        _ => return None,
    };
    let bars = Bars::read(config, address);
    let capabilities = Capabilities::read(config, address, |bar| bars.is_memory(bar));
    Some(Function { address, device_type, bars, capabilities })
}
