//! A cpio archive for a Linux kernel to start with: the "newc" format of the kernel's buffer-format.rst.

/// Entries so far.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

const FOLDER: u32 = 0o040_755;
/// Whatever it is, it may be executed.
const FILE: u32 = 0o100_755;
/// The entry that ends an archive.
const TRAILER: &str = "TRAILER!!!";

impl Archive {
    /// Adds a folder; those above it must have been added before.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, FOLDER, &[]);
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE, content);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entry(TRAILER, 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("what we put into an archive is far from 4 GiB");
        let name_size = u32::try_from(name.len() + 1).expect("names are ours, and short");
        // ino, mode, uid, gid, nlink, mtime, filesize, the device's and the special file's numbers, namesize, check
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    /// Names and contents end at multiples of four.
    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_where_the_format_wants_them() {
        let mut archive = Archive::default();
        archive.folder("bin");
        archive.file("bin/x", b"hello");
        let bytes = archive.finish();
        let field = |at: usize, number: usize| {
            let from = at + 6 + 8 * number;
            u32::from_str_radix(std::str::from_utf8(&bytes[from..from + 8]).unwrap(), 16).unwrap()
        };
        let (mut at, mut seen) = (0, Vec::new());
        loop {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let (size, name_size) = (field(at, 6) as usize, field(at, 11) as usize);
            let name = String::from_utf8(bytes[at + 110..at + 109 + name_size].to_vec()).unwrap();
            let content = (at + 110 + name_size).next_multiple_of(4);
            seen.push((name.clone(), field(at, 1), bytes[content..content + size].to_vec()));
            if name == TRAILER {
                break;
            }
            at = (content + size).next_multiple_of(4);
        }
        let expected = [("bin", FOLDER, &b""[..]), ("bin/x", FILE, b"hello"), (TRAILER, 0, b"")];
        assert_eq!(seen, expected.map(|(name, mode, content)| (name.to_owned(), mode, content.to_vec())));
    }
}
