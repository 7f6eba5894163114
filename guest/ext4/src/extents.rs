//! The tree of extents, by which ext4 says where the blocks of a file lie (`fs/ext4/ext4_extents.h`).
//!
//! A node is a header and entries, sorted by the block of the file that they begin with: of a leaf extents, of the others
//! further nodes. The root is in the inode, every other node in a block of its own.

use crate::content::Run;
use crate::{Error, Ext4, Inode, Result};
use alloc::vec::Vec;
use diolkos_images::bytes::{le16, le32};
use diolkos_images::crc32c;

const MAGIC: u16 = 0xf30a;
/// Bytes of the header as of an entry.
const ENTRY: usize = 12;
/// Levels below the root, at most: so many have room for as many extents as a file has blocks.
const DEPTH_MAX: u16 = 5;
/// Longer extents are allocated, not written, and so much shorter.
const WRITTEN_MAX: u16 = 1 << 15;

/// A node whose counts have been checked.
struct Node {
    bytes: Vec<u8>,
    count: usize,
    depth: u16,
}

impl Node {
    fn new(bytes: Vec<u8>) -> Result<Self> {
        let (count, most, depth) = (le16(&bytes, 2), le16(&bytes, 4), le16(&bytes, 6));
        let room = bytes.len() / ENTRY - 1;
        if le16(&bytes, 0) != MAGIC || count > most || usize::from(most) > room || depth > DEPTH_MAX {
            return Err(Error::Corrupt("a node of a tree of extents"));
        }
        Ok(Self { count: usize::from(count), depth, bytes })
    }

    fn entry(&self, i: usize) -> &[u8] {
        &self.bytes[(i + 1) * ENTRY..(i + 2) * ENTRY]
    }

    /// The block of the file with which entry `i` begins.
    fn first(&self, i: usize) -> u64 {
        u64::from(le32(self.entry(i), 0))
    }

    /// How many entries begin at or before `block`.
    fn before(&self, block: u64) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.first(middle) <= block { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The node below entry `i`.
    fn below(&self, i: usize) -> u64 {
        let entry = self.entry(i);
        u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32
    }
}

impl Ext4 {
    /// The run of blocks that begins with block `block` of a file.
    pub(crate) fn extent(&self, inode: &Inode, block: u64) -> Result<Run> {
        let mut node = Node::new(inode.place.to_vec())?;
        // Where the next entry begins, of this node or one above it: no hole goes on behind that.
        let mut limit = 1 << 32;
        loop {
            let next = node.before(block);
            if next < node.count {
                limit = limit.min(node.first(next));
            }
            let hole = Run { start: None, count: limit.saturating_sub(block).max(1) };
            let Some(i) = next.checked_sub(1) else { return Ok(hole) };
            if node.depth == 0 {
                return Ok(found(node.entry(i), block, limit)?.unwrap_or(hole));
            }
            let below = self.node(inode, node.below(i))?;
            if below.depth + 1 != node.depth {
                return Err(Error::Corrupt("the depth of a tree of extents"));
            }
            node = below;
        }
    }

    fn node(&self, inode: &Inode, block: u64) -> Result<Node> {
        let node = Node::new(self.block(block)?)?;
        if let Some(seed) = inode.seed {
            // It follows the room for entries.
            let at = (usize::from(le16(&node.bytes, 4)) + 1) * ENTRY;
            let stored = node.bytes.get(at..at + 4).ok_or(Error::Corrupt("a node of a tree of extents"))?;
            if crc32c(seed, &node.bytes[..at]) != le32(stored, 0) {
                return Err(Error::Checksum("a node of its tree of extents"));
            }
        }
        Ok(node)
    }
}

/// The part of an extent from block `block` of the file on, if that is in it.
fn found(extent: &[u8], block: u64, limit: u64) -> Result<Option<Run>> {
    let (first, len) = (u64::from(le32(extent, 0)), le16(extent, 4));
    let written = len <= WRITTEN_MAX;
    let len = u64::from(if written { len } else { len - WRITTEN_MAX });
    if len == 0 {
        return Err(Error::Corrupt("the length of an extent"));
    }
    let end = (first + len).min(limit);
    if end <= block {
        return Ok(None);
    }
    let start = u64::from(le32(extent, 8)) | u64::from(le16(extent, 6)) << 32;
    Ok(Some(Run { start: written.then_some(start + (block - first)), count: end - block }))
}
