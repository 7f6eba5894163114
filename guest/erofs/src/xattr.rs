//! Extended attributes: those of an inode, which follow it, and those that several share, which lie together.

use crate::{Erofs, Error, Inode, Result};
use alloc::vec;
use alloc::vec::Vec;
use diolkos_images::bytes::{le16, le32};
use diolkos_images::{XATTR_PREFIXES, Xattr};

/// `struct erofs_xattr_ibody_header`.
const HEADER: usize = 12;
/// `struct erofs_xattr_entry` without name and value. Entries begin at multiples of its length, too.
const ENTRY: u64 = 4;

/// All attributes of an inode together, in bytes: many times what Linux' other file systems have room for.
const MOST: usize = 1 << 20;

/// Bytes that attributes take behind their inode, by the inode's count of them.
pub(crate) fn space(count: u16) -> u64 {
    if count == 0 { 0 } else { HEADER as u64 + ENTRY * u64::from(count - 1) }
}

impl Erofs {
    /// The attributes of an inode, all of them.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut found = Vec::new();
        if inode.xattrs_len == 0 {
            return Ok(found);
        }
        let mut header = [0; HEADER];
        self.image.metadata(inode.xattrs, &mut header)?;
        let end = inode.body();
        let mut at = inode.xattrs + HEADER as u64;
        let mut total = 0;
        let mut add = |xattr: Option<Xattr>| {
            total += xattr.as_ref().map_or(0, |xattr| xattr.name.len() + xattr.value.len());
            found.extend(xattr);
            if total > MOST { Err(Error::Corrupt("the length of all attributes")) } else { Ok(()) }
        };
        for _ in 0..header[4] {
            if at + ENTRY > end {
                return Err(Error::Corrupt("the number of shared attributes"));
            }
            let mut id = [0; 4];
            self.image.metadata(at, &mut id)?;
            let shared = self.superblock.xattrs + ENTRY * u64::from(le32(&id, 0));
            add(self.xattr(shared, u64::MAX)?.0)?;
            at += ENTRY;
        }
        while at < end {
            let (xattr, next) = self.xattr(at, end)?;
            add(xattr)?;
            at = next;
        }
        Ok(found)
    }

    /// The attribute at `at`, unless it is of a kind that nobody knows, and where the next one begins.
    fn xattr(&self, at: u64, end: u64) -> Result<(Option<Xattr>, u64)> {
        let mut entry = [0; ENTRY as usize];
        self.image.metadata(at, &mut entry)?;
        let (name_len, value_len) = (usize::from(entry[0]), usize::from(le16(&entry, 2)));
        let next = (at + ENTRY + (name_len + value_len) as u64).next_multiple_of(ENTRY);
        if next > end {
            return Err(Error::Corrupt("the length of an attribute"));
        }
        let Some((_, prefix)) = XATTR_PREFIXES.iter().find(|(number, _)| *number == entry[1]) else {
            return Ok((None, next));
        };
        let mut bytes = vec![0; name_len + value_len];
        self.image.metadata(at + ENTRY, &mut bytes)?;
        let value = bytes.split_off(name_len);
        Ok((Some(Xattr { name: [prefix, &bytes[..]].concat(), value }), next))
    }
}
