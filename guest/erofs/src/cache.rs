//! The clusters that were decompressed last.

use crate::Result;
use crate::pieces::Pieces;
use alloc::sync::Arc;
use diolkos_images::DirectMapped;

/// Clusters kept, at most.
const CLUSTERS: usize = 64;
/// Of clusters longer than this one is kept, the last: so all others together are no more than 8 MiB.
const CLUSTER_MOST: usize = 128 << 10;

/// Decompressed clusters, by where they lie in the image.
pub(crate) struct Clusters {
    short: DirectMapped<Pieces>,
    long: DirectMapped<Pieces>,
}

impl Clusters {
    pub(crate) fn new() -> Self {
        Self { short: DirectMapped::new(CLUSTERS), long: DirectMapped::new(1) }
    }

    /// What the cluster at byte `at` decompresses to, `len` bytes, made by `make` unless it is there.
    pub(crate) fn find(&self, at: u64, len: usize, make: impl FnOnce() -> Result<Pieces>) -> Result<Arc<Pieces>> {
        let kept = if len <= CLUSTER_MOST { &self.short } else { &self.long };
        if let Some(cluster) = kept.get(at).filter(|cluster| cluster.len() == len) {
            return Ok(cluster);
        }
        let cluster = Arc::new(make()?);
        kept.insert(at, cluster.clone());
        Ok(cluster)
    }
}
