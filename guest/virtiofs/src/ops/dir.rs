//! Directory listings: READDIR, READDIRPLUS and the entries in their replies.

use super::data::OpenNode;
use super::{Message, NodeId, Opcode};
use diolkos_vfs::FileType;
use fuse_abi::linux::{fuse_entry_out, fuse_read_in};
use zerocopy::{FromBytes, Immutable, KnownLayout};

/// FUSE_READDIR or, with `plus`, FUSE_READDIRPLUS from a cookie.
pub(crate) struct ReadDir<const PLUS: bool> {
    pub(crate) dir: OpenNode,
    pub(crate) cookie: u64,
    pub(crate) size: u32,
}

impl<const PLUS: bool> Message for ReadDir<PLUS> {
    const OPCODE: Opcode = if PLUS { Opcode::FUSE_READDIRPLUS } else { Opcode::FUSE_READDIR };
    type Request = fuse_read_in;

    fn node(&self) -> NodeId {
        self.dir.node
    }

    fn request(&self) -> fuse_read_in {
        fuse_read_in {
            fh: self.dir.handle.0,
            offset: self.cookie,
            size: self.size,
            flags: self.dir.flags,
            ..Default::default()
        }
    }
}

/// One entry of a listing.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    pub(crate) ino: u64,
    /// Cookie of the next entry: opaque, all 64 bits of it.
    pub(crate) next: u64,
    /// `None` for `DT_UNKNOWN`.
    pub(crate) kind: Option<FileType>,
    /// 1 to 255 bytes without `/` and NUL; may be `.` or `..`.
    pub(crate) name: &'a [u8],
    /// What READDIRPLUS adds. Node 0 in it: the server did not look this one up.
    pub(crate) entry: Option<fuse_entry_out>,
}

impl Listed<'_> {
    /// Whether it is `.` or `..`, whose READDIRPLUS entries count no lookup.
    pub(crate) fn is_dot(&self) -> bool {
        matches!(self.name, b"." | b"..")
    }
}

/// The fixed part of `fuse_dirent`.
#[repr(C)]
#[derive(FromBytes, Immutable, KnownLayout)]
struct DirentHeader {
    ino: u64,
    off: u64,
    namelen: u32,
    kind: u32,
}

/// A malformed listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The entries of a reply, one by one. After [`Malformed`] there are no more.
pub(crate) struct Listing<'a> {
    rest: &'a [u8],
    plus: bool,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(reply: &'a [u8], plus: bool) -> Self {
        Self { rest: reply, plus }
    }

    fn take(&mut self) -> Option<Listed<'a>> {
        let start = self.rest;
        let mut rest = start;
        let entry = match self.plus {
            true => {
                let (entry, after) = fuse_entry_out::read_from_prefix(rest).ok()?;
                rest = after;
                Some(entry)
            }
            false => None,
        };
        let (header, after) = DirentHeader::read_from_prefix(rest).ok()?;
        let namelen = header.namelen as usize;
        let name = after.get(..namelen)?;
        if name.is_empty() || name.len() > 255 || name.iter().any(|b| matches!(b, 0 | b'/')) {
            return None;
        }
        // Entries are padded to 8 bytes; the padding of the last one may be left out.
        let used = (start.len() - after.len()) + namelen;
        self.rest = start.get(used.next_multiple_of(8)..).unwrap_or_default();
        let kind = FileType::from_mode((header.kind & 15) << 12);
        Some(Listed { ino: header.ino, next: header.off, kind, name, entry })
    }
}

impl<'a> Iterator for Listing<'a> {
    type Item = Result<Listed<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let entry = self.take();
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry.ok_or(Malformed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn dirent(ino: u64, off: u64, namelen: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(ino.to_le_bytes());
        bytes.extend(off.to_le_bytes());
        bytes.extend(namelen.to_le_bytes());
        bytes.extend(8u32.to_le_bytes());
        bytes.extend(name);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn entries_come_one_by_one() {
        let mut bytes = dirent(1, u64::MAX, 1, b".");
        bytes.extend(dirent(2, 7, 8, b"exactly8"));
        bytes.extend(dirent(3, 9, 3, b"odd"));
        let names: Vec<_> = Listing::new(&bytes, false).map(|e| e.unwrap()).map(|e| (e.name, e.next)).collect();
        assert_eq!(names, [(&b"."[..], u64::MAX), (b"exactly8", 7), (b"odd", 9)]);
        bytes.truncate(bytes.len() - 5);
        assert_eq!(Listing::new(&bytes, false).filter(|e| e.is_ok()).count(), 3, "padding of the last one is optional");
    }

    #[test]
    fn names_out_of_bounds_end_the_listing() {
        for bad in [
            dirent(1, 1, 0, b""),
            dirent(1, 1, 256, &[b'x'; 256]),
            dirent(1, 1, u32::MAX, b"abc"),
            dirent(1, 1, 9, b"abc"),
            dirent(1, 1, 3, b"a/b"),
            dirent(1, 1, 3, b"a\0b"),
            dirent(1, 1, 3, b"abc")[..20].to_vec(),
        ] {
            let mut listing = Listing::new(&bad, false);
            assert_eq!(listing.next().unwrap().unwrap_err(), Malformed);
            assert!(listing.next().is_none());
        }
    }

    #[test]
    fn plus_entries_carry_their_node() {
        let mut bytes = vec![0u8; size_of::<fuse_entry_out>()];
        bytes[0] = 42;
        bytes.extend(dirent(3, 9, 3, b"odd"));
        let listed = Listing::new(&bytes, true).next().unwrap().unwrap();
        assert_eq!((listed.entry.unwrap().nodeid, listed.name), (42, &b"odd"[..]));
        assert!(Listing::new(&bytes[..130], true).next().unwrap().is_err());
    }

    use std::vec;
}
