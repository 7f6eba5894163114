//! Finding a name in a directory.
//!
//! A directory of one block is gone through. Of a longer one an index is made when the first name is looked for: hashes of
//! all names, sorted, with where each stands. The indexes of the directories used last are kept, those of long ones apart from
//! those of short ones, and a directory with more names than an index may have is gone through each time. The index that the image may have of a directory is of no use: many tools
//! that make images write none, and ours needs to know nothing of hashes.

use crate::{Ext4, Inode, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_images::DirectMapped;

/// Names in an index, at most: it takes 1 MiB then.
const NAMES_MAX: usize = 128 << 10;
/// Indexes kept of directories with so many names.
const LONG: usize = 4;

/// Names in an index that counts as short: it takes 32 KiB at most.
const SHORT_MAX: usize = 4 << 10;
/// Indexes kept of such directories: 2 MiB.
const SHORT: usize = 64;

/// The hash of a name, and where its entry begins, by [`UNIT`] bytes.
type Place = (u32, u32);
/// Entries begin at multiples of so many bytes.
const UNIT: u64 = 4;

/// The names of a directory, by hash; empty if they are too many.
struct Index(Vec<Place>);

/// The indexes of directories, by the number of the inode.
pub(crate) struct Names {
    short: DirectMapped<Index>,
    long: DirectMapped<Index>,
}

impl Names {
    pub(crate) fn new() -> Self {
        Self { short: DirectMapped::new(SHORT), long: DirectMapped::new(LONG) }
    }

    fn get(&self, directory: u64) -> Option<Arc<Index>> {
        self.short.get(directory).or_else(|| self.long.get(directory))
    }

    fn insert(&self, directory: u64, index: Arc<Index>) {
        let kept = if index.0.len() <= SHORT_MAX { &self.short } else { &self.long };
        kept.insert(directory, index);
    }
}

/// FNV-1a.
fn hash(name: &[u8]) -> u32 {
    name.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

impl Ext4 {
    /// The number of the inode behind a name.
    ///
    /// # Errors
    /// When the directory makes no sense.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let long = directory.size >> self.superblock.block_bits > 1;
        let Some(index) = long.then(|| self.index(directory)).transpose()?.flatten() else {
            return self.search(directory, name);
        };
        let wanted = hash(name);
        let first = index.0.partition_point(|(hash, _)| *hash < wanted);
        for (_, place) in index.0[first..].iter().take_while(|(hash, _)| *hash == wanted) {
            let mut found = None;
            self.walk(directory, u64::from(*place) * UNIT, &mut |entry, _| {
                found = (entry.name == name).then_some(entry.nid);
                false
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Goes through the names.
    fn search(&self, directory: &Inode, name: &[u8]) -> Result<Option<u64>> {
        let mut found = None;
        self.list(directory, 0, &mut |entry, _| {
            if entry.name == name {
                found = Some(entry.nid);
            }
            found.is_none()
        })?;
        Ok(found)
    }

    /// The index of a directory; `None` if there would be too many names in it.
    fn index(&self, directory: &Inode) -> Result<Option<Arc<Index>>> {
        let key = u64::from(directory.number);
        if let Some(index) = self.names.get(key) {
            return Ok(Some(index).filter(|index| !index.0.is_empty()));
        }
        let (mut places, mut too_many) = (Vec::new(), false);
        self.walk(directory, 0, &mut |entry, at| {
            match u32::try_from(at.start / UNIT) {
                Ok(place) if places.len() < NAMES_MAX => places.push((hash(entry.name), place)),
                _ => too_many = true,
            }
            !too_many
        })?;
        if too_many {
            places = Vec::new();
        }
        places.sort_unstable();
        places.shrink_to_fit();
        let index = Arc::new(Index(places));
        self.names.insert(key, index.clone());
        Ok(Some(index).filter(|index| !index.0.is_empty()))
    }
}
