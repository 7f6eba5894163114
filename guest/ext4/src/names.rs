//! Finding a name in a directory.
//!
//! A directory of one block is gone through. Of a longer one an index is made when the first name is looked for: hashes of
//! all names, sorted, with where each stands. The indexes of a few directories are kept, and a directory with more names than
//! an index may have is gone through each time. The index that the image may have of a directory is of no use: many tools
//! that make images write none, and ours needs to know nothing of hashes.

use crate::{Ext4, Inode, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_images::DirectMapped;

/// Directories of which an index is kept, at most.
const KEPT: usize = 8;
/// Names in an index, at most: it takes 1 MiB then.
const NAMES_MAX: usize = 128 << 10;

/// The hash of a name, and where its entry begins, by [`UNIT`] bytes.
type Place = (u32, u32);
/// Entries begin at multiples of so many bytes.
const UNIT: u64 = 4;

/// The names of a directory, by hash; empty if they are too many.
struct Index(Vec<Place>);

/// The indexes of directories.
pub(crate) struct Names(DirectMapped<Index>);

impl Names {
    pub(crate) fn new() -> Self {
        Self(DirectMapped::new(KEPT))
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
            let at = u64::from(*place) * UNIT;
            let (number, into) = (at >> self.superblock.block_bits, at & ((1 << self.superblock.block_bits) - 1));
            let block = self.dir_block(directory, number)?;
            let entry = block.as_ref().map(|block| block.entry(into as usize)).transpose()?;
            if let Some((Some(entry), _)) = entry.filter(|(entry, _)| entry.is_some_and(|entry| entry.name == name)) {
                return Ok(Some(entry.nid));
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
        if let Some(index) = self.names.0.get(key) {
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
        let index = Arc::new(Index(places));
        self.names.0.insert(key, index.clone());
        Ok(Some(index).filter(|index| !index.0.is_empty()))
    }
}
