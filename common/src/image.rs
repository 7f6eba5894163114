//! What a file or disk holds, by the bytes that it begins with.

/// Bytes from the beginning that [`recognise`] wants to see; fewer if there are no more.
pub const HEAD: usize = 2048;

/// What can become a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// An EROFS file system.
    Erofs,
    /// An ext4 file system, or one of its forerunners.
    Ext4,
    /// A cpio archive in the "new" format, plain or packed by a compressor (of which only the archive's reader can say
    /// whether a cpio archive is in it).
    Cpio,
}

impl Image {
    /// The name of the file system, as mount(8) has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Ext4 => "ext4",
            Self::Cpio => "cpio",
        }
    }
}

/// Begins a superblock at byte 1024 (Linux, `fs/erofs/erofs_fs.h`).
const EROFS: [u8; 4] = 0xe0f5_e1e2u32.to_le_bytes();
/// Stands 56 bytes after that place (Linux, `fs/ext4/ext4.h`, `s_magic`).
const EXT4: [u8; 2] = 0xef53u16.to_le_bytes();
const SUPERBLOCK: usize = 1024;
const EXT4_MAGIC: usize = SUPERBLOCK + 56;

/// What archives begin with: cpio without and with checksums, gzip, zstd, lz4 (legacy and frames), xz, bzip2, lzma.
const ARCHIVES: [&[u8]; 8] = [
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\x02\x21\x4c\x18",
    b"\x04\x22\x4d\x18",
    b"\xfd7zXZ\0",
    b"BZh",
];

/// What begins with `head`.
pub fn recognise(head: &[u8]) -> Option<Image> {
    let at = |at: usize, magic: &[u8]| head.get(at..at + magic.len()) == Some(magic);
    if at(SUPERBLOCK, &EROFS) {
        Some(Image::Erofs)
    } else if at(EXT4_MAGIC, &EXT4) {
        Some(Image::Ext4)
    } else if ARCHIVES.iter().any(|magic| at(0, magic)) {
        Some(Image::Cpio)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn images_are_recognised_by_their_magic_numbers() {
        let with = |at: usize, magic: &[u8]| {
            let mut head = vec![0; HEAD];
            head[at..at + magic.len()].copy_from_slice(magic);
            recognise(&head)
        };
        assert_eq!(with(1024, b"\xe2\xe1\xf5\xe0"), Some(Image::Erofs));
        assert_eq!(with(1080, b"\x53\xef"), Some(Image::Ext4));
        assert_eq!(with(0, b"070701"), Some(Image::Cpio));
        assert_eq!(with(0, b"\x1f\x8b\x08"), Some(Image::Cpio));
        assert_eq!(with(1, b"070701"), None);
    }

    #[test]
    fn short_beginnings_are_nothing() {
        for len in [0, 1, 5, 1023, 1026, 1081] {
            assert_eq!(recognise(&vec![0xe2; len]), None);
        }
        assert_eq!(recognise(b"070701"), Some(Image::Cpio));
    }
}
