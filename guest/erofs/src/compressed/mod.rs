//! Content that is compressed.
//!
//! A compressed file is cut into *logical clusters* of one size, and each has an entry in the file's index. The content is
//! compressed in *extents*, which begin anywhere and end where the next one begins. A cluster in which an extent begins is
//! its head: the entry says at which byte, and where the compressed bytes lie, a *physical cluster* of one block or more.
//! The entries of clusters in which no extent begins lead back to the head. So an extent is found by going back to its
//! head, and its end by going on to the next.
//!
//! `index` reads single entries in the two forms there are; here they are put together.

mod index;
mod prefix;

use crate::pieces::Pieces;
use crate::{Erofs, Error, Feature, Inode, Result};
use diolkos_images::zeros;
use index::{Entry, Index, Kind};

/// The longest extent, decompressed: what `mkfs.erofs` makes at most, and Linux takes (`Z_EROFS_PCLUSTER_MAX_DSIZE`).
pub const EXTENT_MAX: u64 = 12 << 20;

/// The longest physical cluster (`Z_EROFS_PCLUSTER_MAX_SIZE`).
const CLUSTER_MAX: u64 = 1 << 20;

/// An extent.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Where it begins and ends in the content.
    start: u64,
    end: u64,
    /// Where its physical cluster is in the image, and how long that is.
    at: u64,
    len: u64,
    compressed: bool,
}

impl Erofs {
    pub(crate) fn read_compressed(&self, inode: &Inode, compact: bool, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let index = Index::new(self, inode, compact)?;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let extent = self.extent(&index, at)?;
            let n = usize::try_from(extent.end - at).unwrap_or(usize::MAX).min(buffer.len() - done);
            self.read_extent(&extent, at - extent.start, &mut buffer[done..done + n])?;
            done += n;
        }
        Ok(())
    }

    /// Fills `buffer` from byte `from` of an extent on; all of it lies in the extent.
    fn read_extent(&self, extent: &Extent, from: u64, buffer: &mut [u8]) -> Result<()> {
        if !extent.compressed {
            if from + buffer.len() as u64 > extent.len {
                return Err(Error::Corrupt("the length of a plain extent"));
            }
            return self.image.read(extent.at + from, buffer);
        }
        let len = (extent.end - extent.start) as usize;
        let whole = self.clusters.find(extent.at, len, || self.decompress(extent, len))?;
        whole.copy_to(from as usize, buffer);
        Ok(())
    }

    fn decompress(&self, extent: &Extent, len: usize) -> Result<Pieces> {
        // LZ4 makes no more than 255 bytes of one: so the content is no reason to take more memory than that.
        if len as u64 > extent.len.saturating_mul(256) {
            return Err(Error::Corrupt("the length of a compressed extent"));
        }
        let mut raw = zeros(extent.len as usize)?;
        self.image.read(extent.at, &mut raw)?;
        let mut content = Pieces::zeros(len)?;
        let padded = self.superblock.zero_padding;
        let padding = if padded { raw.iter().position(|byte| *byte != 0).unwrap_or(raw.len()) } else { 0 };
        let block = &raw[padding..];
        let whole = match content.as_one() {
            Some(one) if padded => lz4_flex::block::decompress_into(block, one).is_ok_and(|n| n == len),
            _ => prefix::decompress(block, &mut content).is_some(),
        };
        if whole { Ok(content) } else { Err(Error::Corrupt("compressed data")) }
    }

    /// The extent that holds byte `offset`, which lies in the file.
    fn extent(&self, index: &Index<'_>, offset: u64) -> Result<Extent> {
        let bits = index.cluster_bits;
        let mut number = offset >> bits;
        let mut entry = index.entry(number)?;
        if entry.is_head() && (number << bits) + entry.offset > offset {
            entry = Entry { kind: Kind::Inside { back: 1, blocks: None }, ..entry };
        }
        // Back to the head; each step goes back at least one cluster, and no extent has more than its length allows.
        let lowest = number.saturating_sub(EXTENT_MAX >> bits);
        while let Kind::Inside { back, .. } = entry.kind {
            number = number.checked_sub(back.max(1)).filter(|number| *number >= lowest).ok_or(NO_HEAD)?;
            entry = index.entry(number)?;
        }
        let Kind::Head { plain, second, block } = entry.kind else { return Err(NO_HEAD) };
        let start = (number << bits) + entry.offset;
        let end = self.end(index, number)?.min(index.size);
        if start > offset || end <= offset || end - start > EXTENT_MAX {
            return Err(Error::Corrupt("where an extent lies"));
        }
        let (at, len) = match index.inline {
            Some(inline) if end == index.size => inline,
            _ => {
                let len = self.cluster_blocks(index, number, plain || second)? << self.superblock.block_bits;
                (u64::from(block) << self.superblock.block_bits, len)
            }
        };
        if len > CLUSTER_MAX {
            return Err(Error::Corrupt("the length of a cluster"));
        }
        if !plain {
            index.check_algorithm(second)?;
        }
        Ok(Extent { start, end, at, len, compressed: !plain })
    }

    /// Where the extent ends whose head is in cluster `head`.
    fn end(&self, index: &Index<'_>, head: u64) -> Result<u64> {
        let bits = index.cluster_bits;
        for number in head + 1..=head + (EXTENT_MAX >> bits) + 1 {
            if number << bits >= index.size {
                return Ok(index.size);
            }
            let entry = index.entry(number)?;
            if entry.is_head() {
                return Ok((number << bits) + entry.offset);
            }
        }
        Err(Error::Corrupt("an extent without an end"))
    }

    /// How many blocks the physical cluster has whose head is in cluster `head`: the entry after it tells.
    fn cluster_blocks(&self, index: &Index<'_>, head: u64, second: bool) -> Result<u64> {
        let big = if second { index.big_second } else { index.big_first };
        if !big || (head + 1) << index.cluster_bits >= index.size {
            return Ok(1);
        }
        match index.entry(head + 1)?.kind {
            Kind::Head { .. } | Kind::Inside { blocks: None, back: 1 } => Ok(1),
            Kind::Inside { blocks: Some(blocks), .. } if blocks > 0 => Ok(blocks),
            Kind::Inside { .. } => Err(Error::Corrupt("the length of a cluster")),
        }
    }
}

const NO_HEAD: Error = Error::Corrupt("an extent without a beginning");

/// The name of an algorithm other than LZ4, by its number.
fn refused(algorithm: u8) -> Error {
    Error::Unsupported(Feature::Named(match algorithm {
        1 => "LZMA compression",
        2 => "DEFLATE compression",
        3 => "Zstandard compression",
        _ => "an unknown compressor",
    }))
}
