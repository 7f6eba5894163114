//! The index of a compressed file, entry by entry: `struct z_erofs_map_header` and what follows it.
//!
//! Full indexes have eight bytes for each cluster. Compact ones are packs: of two entries in eight bytes, or of sixteen in
//! 32. A pack ends with the address of a block, and an entry's own block is found by counting the blocks of the entries
//! before it in the pack.

use super::refused;
use crate::{Erofs, Error, Inode, Result};
use diolkos_images::bytes::{le16, le32};

/// `h_advise`: there are packs of 32 bytes.
const COMPACTED_2B: u16 = 0x1;
/// Clusters of the first algorithm may have several blocks.
const BIG_FIRST: u16 = 0x2;
/// And those of the second, and what is not compressed.
const BIG_SECOND: u16 = 0x4;
/// The last extent lies behind the index.
const INLINE: u16 = 0x8;
const KNOWN: u16 = COMPACTED_2B | BIG_FIRST | BIG_SECOND | INLINE;

/// Says in the place of a distance that the number is one of blocks (`Z_EROFS_LI_D0_CBLKCNT`).
const BLOCKS: u64 = 1 << 11;

/// The entry of a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    /// Where in the cluster the extent begins.
    pub(super) offset: u64,
}

/// What is in a cluster.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// The beginning of an extent.
    Head { plain: bool, second: bool, block: u32 },
    /// No beginning: the extent goes back so many clusters at least. The first after a head may say how many blocks the
    /// physical cluster has.
    Inside { back: u64, blocks: Option<u64> },
}

impl Entry {
    pub(super) fn is_head(&self) -> bool {
        matches!(self.kind, Kind::Head { .. })
    }
}

/// The index of a file.
pub(super) struct Index<'a> {
    fs: &'a Erofs,
    /// Size of the file.
    pub(super) size: u64,
    pub(super) cluster_bits: u32,
    pub(super) big_first: bool,
    pub(super) big_second: bool,
    /// Where the last extent lies, and how long it is, if it is behind the index.
    pub(super) inline: Option<(u64, u64)>,
    algorithms: u8,
    /// Where the entries begin.
    entries: u64,
    /// For compact indexes: how many entries are in packs of eight bytes before, and how many in packs of 32.
    packs: Option<(u64, u64)>,
}

/// A pack of compact entries.
struct Pack {
    bytes: [u8; 32],
    entries: usize,
    /// Bits of an entry, and those of them that are a number.
    entry_bits: usize,
    number_bits: u32,
}

impl<'a> Index<'a> {
    /// Reads the header.
    pub(super) fn new(fs: &'a Erofs, inode: &Inode, compact: bool) -> Result<Self> {
        let start = inode.body().next_multiple_of(8);
        let block_bits = u32::from(fs.superblock.block_bits);
        // Old images have no header before full indexes, but the room for one.
        let mut header = [0; 8];
        if compact || fs.superblock.map_headers {
            fs.image.metadata(start, &mut header)?;
        }
        let advise = le16(&header, 4);
        if advise & !KNOWN != 0 || header[7] & !7 != 0 {
            return Err(Error::Corrupt("the header of a compressed file"));
        }
        let mut index = Self {
            fs,
            size: inode.size,
            cluster_bits: block_bits + u32::from(header[7]),
            big_first: advise & BIG_FIRST != 0,
            big_second: advise & BIG_SECOND != 0,
            inline: None,
            algorithms: header[6],
            entries: start + 8,
            packs: None,
        };
        if compact {
            index.packs = Some(index.packs(advise & COMPACTED_2B != 0));
        } else {
            index.entries += 8;
        }
        if advise & INLINE != 0 && index.size > 0 {
            let last = (index.size - 1) >> index.cluster_bits;
            index.inline = Some((index.behind(last)?, u64::from(le16(&header, 2))));
        }
        Ok(index)
    }

    /// Packs of 32 bytes begin at multiples of that; before them, and for what is left at the end, there are those of eight.
    fn packs(&self, long: bool) -> (u64, u64) {
        let total = self.size.div_ceil(1 << self.cluster_bits);
        let before = (self.entries.next_multiple_of(32) - self.entries) / 4;
        let long = if long && before < total { (total - before) / 16 * 16 } else { 0 };
        (before, long)
    }

    /// Where the pack of compact entries is that holds a number, how many bytes it has, and which of its entries it is.
    fn pack_of(&self, (before, long): (u64, u64), number: u64) -> Result<(u64, u64, usize)> {
        let (from, shift) = if number < before || long == 0 {
            (self.entries.checked_add(number.checked_mul(4).ok_or(OUTSIDE)?), 2)
        } else if number < before + long {
            ((self.entries + before * 4).checked_add((number - before) * 2), 1)
        } else {
            ((self.entries + before * 4 + long * 2).checked_add((number - before - long) * 4), 2)
        };
        let len: u64 = if shift == 2 { 8 } else { 32 };
        let at = from.ok_or(OUTSIDE)?;
        Ok((at / len * len, len, ((at % len) >> shift) as usize))
    }

    /// The first byte behind the entry of a cluster, or behind its pack.
    fn behind(&self, number: u64) -> Result<u64> {
        match self.packs {
            Some(packs) => self.pack_of(packs, number).map(|(at, len, _)| at + len),
            None => Ok(self.full_at(number)? + 8),
        }
    }

    fn full_at(&self, number: u64) -> Result<u64> {
        let at = number.checked_mul(8).and_then(|at| at.checked_add(self.entries));
        at.filter(|at| *at < self.fs.image.len()).ok_or(OUTSIDE)
    }

    /// The entry of a cluster.
    pub(super) fn entry(&self, number: u64) -> Result<Entry> {
        let entry = match self.packs {
            Some(packs) => self.compact(packs, number)?,
            None => self.full(number)?,
        };
        if entry.is_head() && entry.offset >= 1 << self.cluster_bits {
            return Err(Error::Corrupt("where an extent begins"));
        }
        Ok(entry)
    }

    fn full(&self, number: u64) -> Result<Entry> {
        let mut raw = [0; 8];
        self.fs.image.metadata(self.full_at(number)?, &mut raw)?;
        let kind = kind(le16(&raw, 0) & 3, u64::from(le16(&raw, 4)), || Ok(le32(&raw, 4)))?;
        Ok(Entry { kind, offset: u64::from(le16(&raw, 2)) })
    }

    fn compact(&self, packs: (u64, u64), number: u64) -> Result<Entry> {
        let (at, len, i) = self.pack_of(packs, number)?;
        let entries = if len == 8 { 2 } else { 16 };
        // The sizes for which the format has room in an entry.
        if self.cluster_bits > if len == 8 { 14 } else { 12 } {
            return Err(Error::Corrupt("the size of a compressed file's clusters"));
        }
        let mut pack = Pack {
            bytes: [0; 32],
            entries,
            entry_bits: (len as usize - 4) * 8 / entries,
            number_bits: self.cluster_bits.max(12),
        };
        self.fs.image.metadata(at, &mut pack.bytes[..len as usize])?;
        let (kind_bits, number) = pack.get(i);
        let kind = match kind(kind_bits, number, || pack.block(i, self.big_first))? {
            // The last of a pack tells the distance to the next head instead; the one before it tells ours.
            Kind::Inside { blocks: None, .. } if i + 1 == entries => {
                let before = match pack.get(i - 1) {
                    (2, number) if number & BLOCKS != 0 => 1,
                    (2, number) => number,
                    _ => 0,
                };
                Kind::Inside { back: before + 1, blocks: None }
            }
            kind => kind,
        };
        Ok(Entry { kind, offset: number })
    }

    /// Checks that an extent's algorithm is one that we have.
    pub(super) fn check_algorithm(&self, second: bool) -> Result<()> {
        match if second { self.algorithms >> 4 } else { self.algorithms & 15 } {
            0 => Ok(()),
            other => Err(refused(other)),
        }
    }
}

const OUTSIDE: Error = Error::Corrupt("an index past the end of the image");

/// The kind of an entry, from its two bits and its number.
fn kind(bits: u16, number: u64, block: impl FnOnce() -> Result<u32>) -> Result<Kind> {
    Ok(match bits {
        2 if number & BLOCKS != 0 => Kind::Inside { back: 1, blocks: Some(number & !BLOCKS) },
        2 => Kind::Inside { back: number, blocks: None },
        head => Kind::Head { plain: head == 0, second: head == 3, block: block()? },
    })
}

impl Pack {
    /// Kind and number of an entry.
    fn get(&self, i: usize) -> (u16, u64) {
        let bit = i * self.entry_bits;
        // An entry has at most 16 bits, and the four bytes at the end of the pack are none: so there are always four here.
        let word = le32(&self.bytes, bit / 8) >> (bit % 8);
        (((word >> self.number_bits) & 3) as u16, u64::from(word & ((1 << self.number_bits) - 1)))
    }

    /// The first block of the cluster whose head is entry `i`.
    fn block(&self, i: usize, big: bool) -> Result<u32> {
        let corrupt = Error::Corrupt("a pack of a compressed file's index");
        let mut i = i as u64;
        let mut blocks: u64 = if big { 0 } else { 1 };
        while i > 0 {
            i -= 1;
            let (kind, number) = self.get(i as usize);
            match (kind, big) {
                (2, true) if number & BLOCKS != 0 => {
                    // The head of these blocks is the entry before.
                    blocks += number & !BLOCKS;
                    i = i.saturating_sub(1);
                }
                (2, true) if number <= 1 => return Err(corrupt),
                (2, true) => i = i.saturating_sub(number - 2),
                (2, false) => {
                    let Some(head) = i.checked_sub(number) else { break };
                    i = head;
                    blocks += 1;
                }
                _ => blocks += 1,
            }
        }
        let end = if self.entries == 2 { 4 } else { 28 };
        u64::from(le32(&self.bytes, end)).checked_add(blocks).and_then(|block| u32::try_from(block).ok()).ok_or(corrupt)
    }
}
