//! Where a function's BARs are, and placing them where no firmware did (PCI 3.0, 6.2.5).
//!
//! The exact size of a BAR can only be had by writing to it, four exits and a device that vanishes for a
//! moment. It is paid for a BAR that must be placed, once. For one that firmware placed there is a bound that
//! costs nothing: a BAR is aligned to its size, so it is no longer than the alignment of its address.

use super::{COMMAND, read, write};
use crate::pci::capability::Structure;
use crate::{Error, PhysRange};
use alloc::vec::Vec;
use pci_types::{CommandRegister, ConfigRegionAccess, PciAddress};

/// A BAR register pair, as far as it concerns the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bar {
    /// I/O ports, the upper half of a 64-bit BAR, or nonsense.
    Unusable,
    /// Memory at an address; `None` when nobody placed it yet.
    Memory { wide: bool, range: Option<PhysRange> },
}

/// A function's six BARs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bars([Bar; 6]);

fn register(bar: usize) -> u16 {
    0x10 + 4 * bar as u16
}

/// The longest a BAR at `start` can be; `None` at 0 and beyond what there is.
fn bound(start: u64, wide: bool) -> Option<PhysRange> {
    let limit: u64 = if wide { 1 << 52 } else { 1 << 32 };
    let len = 1u64.checked_shl(start.trailing_zeros())?.min(limit.checked_sub(start)?);
    PhysRange::new(start, len)
}

impl Bars {
    /// Reads the registers, each once.
    pub(crate) fn read(config: &impl ConfigRegionAccess, address: PciAddress) -> Self {
        let mut bars = [Bar::Unusable; 6];
        let mut i = 0;
        while i < 6 {
            let low = read(config, address, register(i));
            let wide = match low & 0b111 {
                0b000 => false,
                0b100 if i < 5 => true,
                _ => {
                    i += 1;
                    continue;
                }
            };
            let high = if wide { read(config, address, register(i + 1)) } else { 0 };
            let start = u64::from(high) << 32 | u64::from(low & !0xf);
            bars[i] = match (start, bound(start, wide)) {
                (0, _) => Bar::Memory { wide, range: None },
                (_, Some(range)) => Bar::Memory { wide, range: Some(range) },
                (_, None) => Bar::Unusable,
            };
            i += if wide { 2 } else { 1 };
        }
        Self(bars)
    }

    /// Whether structures in this BAR can be used.
    pub(crate) fn is_memory(&self, bar: u8) -> bool {
        matches!(self.0.get(usize::from(bar)), Some(Bar::Memory { .. }))
    }

    /// What is placed already.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (u8, PhysRange)> {
        (0..).zip(&self.0).filter_map(|(i, bar)| match bar {
            Bar::Memory { range: Some(range), .. } => Some((i, *range)),
            _ => None,
        })
    }

    /// Sizes and places those of the BARs in `wanted` (a bit each) that have no address.
    ///
    /// # Errors
    /// [`Error::BadBar`] for a BAR that is not there; [`Error::NoBarSpace`].
    pub(crate) fn place(
        &mut self,
        config: &impl ConfigRegionAccess,
        address: PciAddress,
        wanted: u8,
        space: &mut MmioSpace,
    ) -> Result<(), Error> {
        let homeless = |i: usize, bar: &Bar| wanted & 1 << i != 0 && matches!(bar, Bar::Memory { range: None, .. });
        if !self.0.iter().enumerate().any(|(i, bar)| homeless(i, bar)) {
            return Ok(());
        }
        // While its BARs hold all ones the function must not answer to addresses. The upper half of this
        // register is status, whose bits are cleared by writing ones.
        let command = read(config, address, COMMAND) & 0xffff;
        let quiet = command & !u32::from(CommandRegister::MEMORY_ENABLE.bits());
        write(config, address, COMMAND, quiet);
        for i in 0..6 {
            if homeless(i, &self.0[i])
                && let Bar::Memory { wide, .. } = self.0[i]
            {
                let size = size(config, address, i, wide).ok_or(Error::BadBar(i as u8))?;
                let range = space.take(size, wide).ok_or(Error::NoBarSpace { bar: i as u8, size })?;
                write(config, address, register(i), range.start().0 as u32);
                if wide {
                    write(config, address, register(i + 1), (range.start().0 >> 32) as u32);
                }
                self.0[i] = Bar::Memory { wide, range: Some(range) };
            }
        }
        Ok(())
    }

    /// Where a structure lies in physical memory.
    ///
    /// # Errors
    /// [`Error::BadBar`]; [`Error::BadCapability`] naming `what` when it does not lie within its BAR.
    pub(crate) fn resolve(&self, structure: Structure, what: &'static str) -> Result<PhysRange, Error> {
        let Some(Bar::Memory { range: Some(bar), .. }) = self.0.get(usize::from(structure.bar)) else {
            return Err(Error::BadBar(structure.bar));
        };
        bar.slice(structure.offset, structure.len).ok_or(Error::BadCapability(what))
    }
}

/// A BAR's size in bytes, a power of two; `None` when it is not implemented or nonsense.
fn size(config: &impl ConfigRegionAccess, address: PciAddress, bar: usize, wide: bool) -> Option<u64> {
    let probe = |register| {
        write(config, address, register, !0);
        read(config, address, register)
    };
    let low = probe(register(bar)) & !0xf;
    let high = if wide { probe(register(bar + 1)) } else { !0 };
    let mask = u64::from(high) << 32 | u64::from(low);
    // A 32-bit BAR without a writable bit is not implemented; a proper mask is ones from its lowest one upwards.
    let unimplemented = mask == 0 || !wide && low == 0;
    let size = mask.wrapping_neg();
    (!unimplemented && size.is_power_of_two()).then_some(size)
}

/// Physical address space in which BARs may be placed. Nothing but BARs may live there.
#[derive(Debug, Clone)]
pub struct MmioSpace {
    low: Option<PhysRange>,
    high: Option<PhysRange>,
    taken: Vec<PhysRange>,
}

impl MmioSpace {
    /// Space below 4 GiB, for any BAR, and above, for 64-bit BARs, which prefer it.
    /// What of `low` is not below 4 GiB is not used.
    pub fn new(low: Option<PhysRange>, high: Option<PhysRange>) -> Self {
        let below = |range: PhysRange| {
            let room = (1u64 << 32).checked_sub(range.start().0)?;
            PhysRange::new(range.start().0, range.len().min(room))
        };
        Self { low: low.and_then(below), high, taken: Vec::new() }
    }

    /// Marks what is in use.
    pub fn reserve(&mut self, range: PhysRange) {
        self.taken.push(range);
    }

    /// A free, naturally aligned range of `size` bytes, a power of two.
    fn take(&mut self, size: u64, wide: bool) -> Option<PhysRange> {
        let high = self.high.filter(|_| wide);
        let range = [high, self.low].into_iter().flatten().find_map(|space| self.fit(space, size))?;
        self.taken.push(range);
        Some(range)
    }

    fn fit(&self, space: PhysRange, size: u64) -> Option<PhysRange> {
        let mut start = space.start().0.checked_next_multiple_of(size)?;
        loop {
            let range = PhysRange::new(start, size).filter(|range| range.end() <= space.end())?;
            // Each round leaves at least one taken range behind, so this ends.
            match self.taken.iter().find(|taken| taken.overlaps(range)) {
                Some(taken) => start = taken.end().checked_next_multiple_of(size)?,
                None => return Some(range),
            }
        }
    }
}
