//! MSI-X: an interrupt is a write of a word to an address (PCI 3.0, 6.8.2).

use super::capability::MsixCapability;
use super::{Function, write};
use crate::{Error, Hal, MsiMessage, PhysRange, Registers};
use pci_types::ConfigRegionAccess;

const ENABLE: u32 = 1 << 31;
const MASK_ALL: u32 = 1 << 30;

/// Writes one table entry for each message, unmasked, and turns MSI-X on. Entries beyond stay masked, as
/// reset left them. Four register writes an entry, and one to configuration space.
pub(crate) fn program<H: Hal>(
    hal: &H,
    config: &impl ConfigRegionAccess,
    function: &Function,
    capability: MsixCapability,
    messages: &[MsiMessage],
) -> Result<(), Error> {
    if messages.len() > usize::from(capability.vectors) {
        return Err(Error::TooFewVectors { wanted: messages.len(), has: capability.vectors.into() });
    }
    let whole: PhysRange = function.resolve(capability.table, "MSI-X table")?;
    let used = whole.slice(0, messages.len() as u64 * 16).ok_or(Error::BadCapability("MSI-X table"))?;
    let table = hal.map_mmio(used).ok_or(Error::Unmappable(used))?;
    for (i, message) in messages.iter().enumerate() {
        table.write32(i * 16, message.address as u32);
        table.write32(i * 16 + 4, (message.address >> 32) as u32);
        table.write32(i * 16 + 8, message.data);
        table.write32(i * 16 + 12, 0);
    }
    write(config, function.address, capability.at, capability.word & !MASK_ALL | ENABLE);
    Ok(())
}
