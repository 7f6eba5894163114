//! Files: Landlock(7) closes everything but the shared directories, and all ways to reach other programs.
//!
//! Landlock knows a directory by itself, not by its name, and asks where a file lies *now*: one that is moved out of a
//! share on the host cannot be opened any more, though the guest still holds its node. Files already open stay so, which is
//! why nothing but the shares has to be named here.

use super::{ConfineError, Directory, Files, failed};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The newest Landlock we know how to use (Linux 6.12). An older kernel enforces what it has.
const KNOWN: ABI = ABI::V6;

/// What is asked of a directory.
fn rights(writable: bool) -> BitFlags<AccessFs> {
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    // No programs are run, no device is made or spoken to.
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    if writable { AccessFs::from_all(KNOWN) & !never } else { reading }
}

/// Leaves the calling thread `directories` and what it has open.
///
/// # Errors
/// The kernel refuses.
pub fn restrict(directories: &[Directory<'_>]) -> Result<Files, ConfineError> {
    let step = "Landlock";
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .map_err(failed(step))?;
    for directory in directories {
        rules = rules.add_rule(PathBeneath::new(directory.fd, rights(directory.writable))).map_err(failed(step))?;
    }
    Ok(match rules.restrict_self().map_err(failed(step))?.ruleset {
        RulesetStatus::FullyEnforced => Files::Fully,
        RulesetStatus::PartiallyEnforced => Files::Partly,
        RulesetStatus::NotEnforced => Files::NotAtAll,
    })
}
