//! Extended attributes: those behind an inode's fields, and those in a block of their own (`fs/ext4/xattr.h`).
//!
//! Either place has entries, of which each says where its value lies, counted from the first entry in the inode and from
//! the beginning of the block. Entries end with four zeros, or where there is no room for more.

use crate::{Error, Ext4, Inode, Result};
use alloc::vec::Vec;
use diolkos_images::bytes::{le16, le32};
use diolkos_images::{Feature, XATTR_PREFIXES, Xattr, crc32c};

const MAGIC: u32 = 0xea02_0000;
/// `struct ext4_xattr_header` of the block, and where its checksum is in it.
const HEADER: usize = 32;
const CHECKSUM: usize = 0x10;
/// `struct ext4_xattr_entry` without the name.
const ENTRY: usize = 16;

impl Ext4 {
    /// The attributes of an inode, all of them.
    ///
    /// # Errors
    /// When they make no sense.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>> {
        let mut found = Vec::new();
        if inode.tail.len() >= 4 && le32(&inode.tail, 0) == MAGIC {
            collect(&inode.tail[4..], 0, &mut found)?;
        }
        if inode.xattr_block != 0 {
            collect(&self.xattr_block(inode.xattr_block)?, HEADER, &mut found)?;
        }
        Ok(found)
    }

    fn xattr_block(&self, number: u64) -> Result<Vec<u8>> {
        let block = self.block(number)?;
        if le32(&block, 0) != MAGIC || le32(&block, 8) != 1 {
            return Err(Error::Corrupt("a block of extended attributes"));
        }
        if let Some(seed) = self.superblock.seed {
            let sum = crc32c(crc32c(seed, &number.to_le_bytes()), &block[..CHECKSUM]);
            let sum = crc32c(crc32c(sum, &[0; 4]), &block[CHECKSUM + 4..]);
            if sum != le32(&block, CHECKSUM) {
                return Err(Error::Checksum("a block of extended attributes"));
            }
        }
        Ok(block)
    }
}

/// Adds the attributes of `area`, whose entries begin at byte `at`. There are no more than there is room for.
fn collect(area: &[u8], mut at: usize, found: &mut Vec<Xattr>) -> Result<()> {
    const BAD: Error = Error::Corrupt("an extended attribute");
    let first = found.len();
    while at + 4 <= area.len() && le32(area, at) != 0 {
        let entry = area.get(at..at + ENTRY).ok_or(BAD)?;
        let name = area.get(at + ENTRY..at + ENTRY + usize::from(entry[0])).ok_or(BAD)?;
        at = (at + ENTRY + name.len()).next_multiple_of(4);
        if le32(entry, 4) != 0 {
            return Err(Error::Unsupported(Feature::Named("inodes for large extended attributes")));
        }
        let Some((_, prefix)) = XATTR_PREFIXES.iter().find(|(number, _)| *number == entry[1]) else { continue };
        let (start, len) = (usize::from(le16(entry, 2)), le32(entry, 8) as usize);
        let value = area.get(start..).and_then(|rest| rest.get(..len)).ok_or(BAD)?;
        // Values may lie on each other, so many of them could be more than the image is long.
        let total: usize = found[first..].iter().map(|xattr: &Xattr| xattr.value.len()).sum();
        if total + len > area.len() {
            return Err(BAD);
        }
        let value = if prefix.starts_with(b"system.posix_acl") { access_list(value)? } else { value.to_vec() };
        found.push(Xattr { name: [prefix, name].concat(), value });
    }
    Ok(())
}

/// An access control list as programs know it (version 2, `struct posix_acl_xattr_entry`), from the shorter form of the image
/// (version 1, `ext4_acl_entry`): there only entries for one user or group have the number of somebody.
fn access_list(stored: &[u8]) -> Result<Vec<u8>> {
    const BAD: Error = Error::Corrupt("an access control list");
    /// `ACL_USER` and `ACL_GROUP`.
    const NUMBERED: [u16; 2] = [0x2, 0x8];
    let (version, mut rest) = stored.split_at_checked(4).ok_or(BAD)?;
    if le32(version, 0) != 1 {
        return Err(BAD);
    }
    let mut list = 2u32.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let (head, behind) = rest.split_at_checked(4).ok_or(BAD)?;
        let (number, behind) = if NUMBERED.contains(&le16(head, 0)) {
            behind.split_at_checked(4).ok_or(BAD)?
        } else {
            (&[0xff; 4][..], behind)
        };
        list.extend([head, number].concat());
        rest = behind;
    }
    Ok(list)
}
