//! What is left of root (capabilities(7)). An ordinary user has nothing to lose here.

use super::{ConfineError, failed};
use caps::{CapSet, Capability, CapsHashSet};

/// What reading a share as root takes: every file, whoever owns it.
const READING: [Capability; 2] = [Capability::CAP_DAC_READ_SEARCH, Capability::CAP_DAC_OVERRIDE];

/// And changing one: files are given to whom the guest says, which takes another identity for a moment (`SETUID`,
/// `SETGID`) or chown(2), and keep their set-user-id bits where Linux keeps root's (`FSETID`).
const WRITING: [Capability; 5] = [
    Capability::CAP_CHOWN,
    Capability::CAP_FOWNER,
    Capability::CAP_FSETID,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
];

/// Gives up every capability that serving files does not need.
///
/// # Errors
/// The kernel refuses.
pub fn reduce(writable: bool) -> Result<(), ConfineError> {
    let step = "capabilities";
    let mut wanted: CapsHashSet = READING.into();
    if writable {
        wanted.extend(WRITING);
    }
    let has = caps::read(None, CapSet::Permitted).map_err(failed(step))?;
    let keeps = &has & &wanted;
    // In this order: what is effective must be permitted at every moment.
    caps::set(None, CapSet::Effective, &keeps).map_err(failed(step))?;
    caps::set(None, CapSet::Permitted, &keeps).map_err(failed(step))?;
    caps::clear(None, CapSet::Inheritable).map_err(failed(step))
}
