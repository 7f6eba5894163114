//! What a function's capability list says (section 4.1.4; PCI 3.0, 6.7 and 6.8.2).
//!
//! The list is the device's word: it may run in circles, leave configuration space or promise structures
//! beyond any BAR. The walk is bounded, and where a structure lies is only believed by [`super::bar`].

use crate::Error;
use alloc::vec::Vec;
use pci_types::{ConfigRegionAccess, PciAddress};

/// Part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Structure {
    pub(crate) bar: u8,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The MSI-X capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MsixCapability {
    /// Where its control word is, in configuration space.
    pub(crate) at: u16,
    /// First doubleword: control in the upper half.
    pub(crate) word: u32,
    /// Where its table of `vectors` entries of 16 bytes is.
    pub(crate) table: Structure,
    /// Entries in the table, 1 to 2048.
    pub(crate) vectors: u16,
}

/// Everything the driver uses, the first of each kind that lies in a memory BAR (the device's order is
/// the order of its preference).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) common: Option<Structure>,
    /// With the notify offset multiplier.
    pub(crate) notify: Option<(Structure, u32)>,
    pub(crate) device: Option<Structure>,
    /// Shared memory regions with their ids.
    pub(crate) shared: Vec<(u8, Structure)>,
    pub(crate) msix: Option<MsixCapability>,
}

/// Capabilities are 4-byte aligned in the 192 bytes after the header, so a list without a loop has no more.
const LONGEST_LIST: usize = 48;

const POINTER: u16 = 0x34;
const STATUS_HAS_LIST: u32 = 1 << 20;
const VENDOR: u8 = 0x09;
const MSIX: u8 = 0x11;

/// Values of `cfg_type` (section 4.1.4).
mod kind {
    pub(super) const COMMON: u8 = 1;
    pub(super) const NOTIFY: u8 = 2;
    pub(super) const DEVICE: u8 = 4;
    pub(super) const SHARED_MEMORY: u8 = 8;
}

impl Capabilities {
    /// Walks the list. `usable` says whether a BAR is one of memory.
    ///
    /// # Errors
    /// [`Error::BadCapability`] when the list loops or a capability leaves configuration space.
    pub(crate) fn read(
        config: &impl ConfigRegionAccess,
        address: PciAddress,
        usable: impl Fn(u8) -> bool,
    ) -> Result<Self, Error> {
        let mut found = Self::default();
        if super::read(config, address, super::COMMAND) & STATUS_HAS_LIST == 0 {
            return Ok(found);
        }
        let mut next = super::read(config, address, POINTER) as u8;
        for _ in 0..LONGEST_LIST {
            let at = u16::from(next & !3);
            if at == 0 {
                return Ok(found);
            }
            if at < 0x40 {
                return Err(Error::BadCapability("list of capabilities: a pointer into the header"));
            }
            let word = super::read(config, address, at);
            let [id, after, ..] = word.to_le_bytes();
            match id {
                VENDOR => found.take_virtio(config, address, at, word, &usable)?,
                MSIX if found.msix.is_none() => found.take_msix(config, address, at, word)?,
                _ => {}
            }
            next = after;
        }
        Err(Error::BadCapability("list of capabilities: a loop"))
    }

    /// `struct virtio_pci_cap` and its longer kin.
    fn take_virtio(
        &mut self,
        config: &impl ConfigRegionAccess,
        address: PciAddress,
        at: u16,
        word: u32,
        usable: &impl Fn(u8) -> bool,
    ) -> Result<(), Error> {
        let [_, _, len, cfg_type] = word.to_le_bytes();
        let needed = match cfg_type {
            kind::COMMON | kind::DEVICE => 16,
            kind::NOTIFY => 20,
            kind::SHARED_MEMORY => 24,
            _ => return Ok(()),
        };
        if u16::from(len) < needed || at + needed > 0x100 {
            return Err(Error::BadCapability("virtio: too short"));
        }
        let field = |offset| super::read(config, address, at + offset);
        let [bar, id, ..] = field(4).to_le_bytes();
        if !usable(bar) {
            return Ok(());
        }
        let low = Structure { bar, offset: field(8).into(), len: field(12).into() };
        match cfg_type {
            kind::COMMON => _ = self.common.get_or_insert(low),
            kind::DEVICE => _ = self.device.get_or_insert(low),
            kind::NOTIFY => _ = self.notify.get_or_insert((low, field(16))),
            _ => {
                let high = |low: u64, high: u32| low | u64::from(high) << 32;
                let (offset, len) = (high(low.offset, field(16)), high(low.len, field(20)));
                if self.shared.iter().all(|(taken, _)| *taken != id) {
                    self.shared.push((id, Structure { bar, offset, len }));
                }
            }
        }
        Ok(())
    }

    fn take_msix(
        &mut self,
        config: &impl ConfigRegionAccess,
        address: PciAddress,
        at: u16,
        word: u32,
    ) -> Result<(), Error> {
        if at + 12 > 0x100 {
            return Err(Error::BadCapability("MSI-X: too short"));
        }
        let vectors = (word >> 16 & 0x7ff) as u16 + 1;
        let table = super::read(config, address, at + 4);
        let len = u64::from(vectors) * 16;
        let table = Structure { bar: (table & 7) as u8, offset: u64::from(table & !7), len };
        self.msix = Some(MsixCapability { at, word, table, vectors });
        Ok(())
    }

    /// Everything that lies in a BAR.
    pub(crate) fn structures(&self) -> Vec<Structure> {
        let parts = [self.common, self.notify.map(|n| n.0), self.device, self.msix.map(|m| m.table)];
        parts.into_iter().flatten().chain(self.shared.iter().map(|(_, s)| *s)).collect()
    }

    /// The BARs that hold something the driver uses, as a bit each.
    pub(crate) fn bars_used(&self) -> u8 {
        self.structures().iter().filter(|s| s.bar < 6).fold(0, |bits, s| bits | 1 << s.bar)
    }
}
