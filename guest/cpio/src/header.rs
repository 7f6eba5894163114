//! The header of an entry: a magic number and thirteen numbers of eight hexadecimal digits.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes of a header.
pub const HEADER: usize = 110;

/// The name of the entry that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";

/// newc, and the same with a checksum, which Linux does not look at either.
const MAGICS: [&[u8]; 2] = [b"070701", b"070702"];

/// What an entry says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Entries with the same inode number and device, and more links than one, are names of one file.
    pub ino: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub nlink: u32,
    /// When its content changed last, in seconds since 1970.
    pub mtime: u32,
    /// Bytes of content that follow.
    pub size: u32,
    /// Device it lay on, major and minor number.
    pub dev: (u32, u32),
    /// Device it is, major and minor number.
    pub rdev: (u32, u32),
    /// Bytes of the name, with the NUL at its end.
    pub name_len: u32,
}

impl Header {
    /// Whether bytes begin as a header does.
    pub fn is_magic(bytes: &[u8]) -> bool {
        MAGICS.contains(&bytes)
    }

    /// Reads one; `None` if it is none.
    pub fn parse(raw: &[u8; HEADER]) -> Option<Self> {
        if !Self::is_magic(&raw[..6]) {
            return None;
        }
        let mut numbers = [0; 13];
        for (number, digits) in numbers.iter_mut().zip(raw[6..].chunks_exact(8)) {
            let digits = core::str::from_utf8(digits).ok().filter(|digits| !digits.contains(['+', '-']))?;
            *number = u32::from_str_radix(digits, 16).ok()?;
        }
        let [ino, mode, uid, gid, nlink, mtime, size, dev_major, dev_minor, rdev_major, rdev_minor, name_len, _] =
            numbers;
        let (dev, rdev) = ((dev_major, dev_minor), (rdev_major, rdev_minor));
        Some(Self { ino, mode, uid, gid, nlink, mtime, size, dev, rdev, name_len })
    }

    /// The header and a name, padded: the bytes before the content.
    pub fn encode(&self, name: &[u8]) -> Vec<u8> {
        let name_len = name.len() as u32 + 1;
        let Self { ino, mode, uid, gid, nlink, mtime, size, dev, rdev, .. } = *self;
        let mut text = String::from("070701");
        for number in [ino, mode, uid, gid, nlink, mtime, size, dev.0, dev.1, rdev.0, rdev.1, name_len, 0] {
            text.push_str(&alloc::format!("{number:08X}"));
        }
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let header =
            Header { ino: 1, mode: 0o100644, uid: u32::MAX, size: 77, rdev: (5, 1), name_len: 5, ..Header::default() };
        let bytes = header.encode(b"name");
        assert_eq!(bytes.len(), 116);
        let mut raw: [u8; HEADER] = bytes[..HEADER].try_into().unwrap();
        assert_eq!(Header::parse(&raw), Some(header));
        raw[6] = b'+';
        assert_eq!(Header::parse(&raw), None);
        raw[6..14].fill(b'g');
        assert_eq!(Header::parse(&raw), None);
        raw[..6].copy_from_slice(b"070707");
        assert_eq!(Header::parse(&raw), None);
    }
}
