//! Directory entries as getdents64(2) and the older getdents(2) lay them out.

use alloc::vec::Vec;
use diolkos_vfs::DirEntry;

/// Which of the two layouts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `struct linux_dirent`: the type is the record's last byte.
    Old,
    /// `struct linux_dirent64`: the type comes before the name.
    New,
}

/// Entries packed into a buffer of a fixed capacity.
#[derive(Debug)]
pub struct Packer {
    layout: Layout,
    capacity: usize,
    bytes: Vec<u8>,
}

impl Packer {
    /// Before the name: inode number, next cookie, record length, and the type in the new layout.
    const HEADER: usize = 8 + 8 + 2;

    /// An empty buffer for `capacity` bytes; the caller bounds it.
    pub fn new(layout: Layout, capacity: usize) -> Self {
        Self { layout, capacity, bytes: Vec::new() }
    }

    /// Packs one entry, or returns `false` when it does not fit any more.
    pub fn push(&mut self, entry: &DirEntry<'_>) -> bool {
        // Both layouts have the header, the type, the name and its NUL, in different order.
        let length = (Self::HEADER + 1 + entry.name.len() + 1).next_multiple_of(8);
        if self.capacity - self.bytes.len() < length {
            return false;
        }
        let end = self.bytes.len() + length;
        let kind = entry.file_type.map_or(0, |kind| kind.dirent_type());
        self.bytes.extend_from_slice(&entry.ino.to_ne_bytes());
        self.bytes.extend_from_slice(&entry.next.to_ne_bytes());
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        if self.layout == Layout::New {
            self.bytes.push(kind);
        }
        self.bytes.extend_from_slice(entry.name);
        self.bytes.resize(end, 0);
        if self.layout == Layout::Old {
            self.bytes[end - 1] = kind;
        }
        true
    }

    /// The records.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use diolkos_vfs::FileType;

    fn entry(name: &[u8]) -> DirEntry<'_> {
        DirEntry { ino: 0x1122, next: u64::MAX, file_type: Some(FileType::Directory), name, id: None }
    }

    #[test]
    fn the_new_layout_has_the_type_before_the_name() {
        let mut packer = Packer::new(Layout::New, 64);
        assert!(packer.push(&entry(b"abcd")));
        // 8 + 8 + 2 + 1 + 4 + 1 = 24 exactly.
        let mut expected = Vec::new();
        expected.extend_from_slice(&0x1122u64.to_ne_bytes());
        expected.extend_from_slice(&u64::MAX.to_ne_bytes());
        expected.extend_from_slice(&24u16.to_ne_bytes());
        expected.extend_from_slice(b"\x04abcd\0");
        assert_eq!(packer.bytes(), expected);
        assert!(packer.push(&entry(b"abcde")));
        assert_eq!(packer.bytes().len(), 24 + 32);
        assert_eq!(packer.bytes()[24 + 16..24 + 18], 32u16.to_ne_bytes());
    }

    #[test]
    fn the_old_layout_has_the_type_last() {
        let mut packer = Packer::new(Layout::Old, 64);
        assert!(packer.push(&entry(b"abcd")));
        assert_eq!(packer.bytes().len(), 24);
        assert_eq!(&packer.bytes()[18..], b"abcd\0\x04");
    }

    #[test]
    fn an_entry_that_does_not_fit_is_declined_whole() {
        let mut packer = Packer::new(Layout::New, 47);
        assert!(packer.push(&entry(b"abcd")));
        assert!(!packer.push(&entry(b"x")));
        assert_eq!(packer.bytes().len(), 24);
        assert!(!Packer::new(Layout::New, 0).push(&entry(b"x")));
    }

    #[test]
    fn the_longest_name_fits_its_length_field() {
        let mut packer = Packer::new(Layout::New, 4096);
        assert!(packer.push(&entry(&[b'n'; 255])));
        assert_eq!(packer.bytes().len(), 280);
    }
}
