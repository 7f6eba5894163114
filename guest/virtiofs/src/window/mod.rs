//! The DAX window: a range of guest-physical memory in which the host maps file content.
//!
//! Two pieces. A [`Backing`] maps and unmaps a range, and thinks nothing (`fuse.rs`: two messages). The
//! [`Manager`] decides: which slot a chunk of a file gets, who is evicted for it, who still uses it. The choice of
//! victim is a [`Policy`]'s: [`clock`] or [`lifo`]; whether a range is worth a place in the window is weighed by
//! `cost.rs`, and what of a file is worth fetching before it is asked for by [`ahead`]. All of it runs against a stub window in the tests.

pub(crate) mod ahead;
pub(crate) mod clock;
mod cost;
mod folios;
pub(crate) mod fuse;
pub(crate) mod lifo;
pub(crate) mod manager;
pub(crate) mod policy;
pub(crate) mod range;
mod slots;
mod touched;

pub(crate) use cost::Way;
pub(crate) use manager::{Manager, Pin};
pub(crate) use range::ChunkKey;
pub(crate) use slots::{Refusal, Want};

use crate::ops::NodeId;
use diolkos_vfs::Result;
use range::WindowRange;

/// The thin half: what the host can do with a window.
pub(crate) trait Backing: Send + Sync {
    /// Makes the content of a file from byte `file_offset` appear in a range, in place of what was there.
    /// The range may reach past the end of the file.
    ///
    /// # Errors
    /// What the host says. What the range shows after that is unknown.
    fn map(&self, node: NodeId, file_offset: u64, range: WindowRange, writable: bool) -> Result<()>;

    /// Makes the ranges show no file any more.
    ///
    /// # Errors
    /// What the host says. What the ranges show after that is unknown.
    fn unmap(&self, ranges: &[WindowRange]) -> Result<()>;
}
