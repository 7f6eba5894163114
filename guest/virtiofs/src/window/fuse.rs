//! The window of a FUSE session: SETUPMAPPING and REMOVEMAPPING.

use super::Backing;
use super::range::WindowRange;
use crate::ops::NodeId;
use crate::ops::map::{RemoveMapping, SetupMapping};
use crate::session::Session;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::Result;
use fuse_abi::linux::fuse_removemapping_one;

/// Ranges in one REMOVEMAPPING: a page of them is what every server takes.
const REMOVE_BATCH: usize = 128;

/// A window behind a session.
pub(crate) struct FuseWindow(pub(crate) Arc<Session>);

impl Backing for FuseWindow {
    fn map(&self, node: NodeId, file_offset: u64, range: WindowRange, writable: bool) -> Result<()> {
        self.0.call(&SetupMapping { node, file_offset, window_offset: range.offset(), len: range.len(), writable })
    }

    fn unmap(&self, ranges: &[WindowRange]) -> Result<()> {
        for batch in ranges.chunks(REMOVE_BATCH) {
            let batch: Vec<_> =
                batch.iter().map(|r| fuse_removemapping_one { moffset: r.offset(), len: r.len() }).collect();
            self.0.call(&RemoveMapping(&batch))?;
        }
        Ok(())
    }
}
