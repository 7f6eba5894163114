//! The addresses of blocks, by which ext2 and ext3 say where the blocks of a file lie.
//!
//! The inode has the addresses of the first twelve, then of a block with addresses, of one with addresses of such blocks, and
//! of one a level further up. An address of 0 is a hole, as long as what would be under it.

use crate::content::Run;
use crate::{Error, Ext4, Inode, Result};
use diolkos_images::bytes::le32;
use diolkos_images::zeros;

/// Addresses in the inode of blocks themselves; those of blocks with addresses follow.
const DIRECT: u64 = 12;
const LEVELS: u32 = 3;

/// Addresses looked at, at most, to see whether blocks follow each other.
const LOOKED_AT: u64 = 256;

impl Ext4 {
    /// The run of blocks that begins with block `block` of a file; no more than `most` blocks are looked for.
    pub(crate) fn pointed(&self, inode: &Inode, block: u64, most: u64) -> Result<Run> {
        if block < DIRECT {
            return Ok(follow(&inode.place[block as usize * 4..DIRECT as usize * 4], most));
        }
        let bits = self.superblock.block_bits - 2;
        let mut left = block - DIRECT;
        let mut levels = 1;
        // Past what is under the addresses before.
        while left >> (bits * levels) != 0 {
            left -= 1 << (bits * levels);
            levels += 1;
            if levels > LEVELS {
                return Err(Error::Corrupt("the number of a block"));
            }
        }
        let mut table = le32(&inode.place, (DIRECT as usize + levels as usize - 1) * 4);
        loop {
            if table == 0 {
                return Ok(Run { start: None, count: (1 << (bits * levels)) - left });
            }
            levels -= 1;
            let (index, under) = (left >> (bits * levels), left & ((1 << (bits * levels)) - 1));
            let here = self.address(u64::from(table))? + index * 4;
            if levels == 0 {
                let count = most.clamp(1, LOOKED_AT).min((1 << bits) - index);
                let mut addresses = zeros(count as usize * 4)?;
                self.device.metadata(here, &mut addresses)?;
                return Ok(follow(&addresses, most));
            }
            let mut address = [0; 4];
            self.device.metadata(here, &mut address)?;
            (table, left) = (le32(&address, 0), under);
        }
    }
}

/// How many of these addresses, at least one, follow each other or are all of holes.
fn follow(addresses: &[u8], most: u64) -> Run {
    let first = le32(addresses, 0);
    let expected = |i: usize| if first == 0 { Some(0) } else { first.checked_add(i as u32) };
    let count = addresses.chunks_exact(4).enumerate().take_while(|(i, address)| Some(le32(address, 0)) == expected(*i));
    Run { start: (first != 0).then_some(u64::from(first)), count: (count.count() as u64).min(most) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn addresses_are_followed_as_far_as_they_go_on() {
        let run = |addresses: &[u32], most| {
            let bytes: Vec<u8> = addresses.iter().flat_map(|address| address.to_le_bytes()).collect();
            let run = follow(&bytes, most);
            (run.start, run.count)
        };
        assert_eq!(run(&[7], 9), (Some(7), 1));
        assert_eq!(run(&[7, 8, 9, 11], 9), (Some(7), 3));
        assert_eq!(run(&[7, 8, 9, 10], 2), (Some(7), 2));
        assert_eq!(run(&[0, 0, 1, 2], 9), (None, 2));
        assert_eq!(run(&[u32::MAX, 0], 9), (Some(u64::from(u32::MAX)), 1));
    }
}
