//! Lists of mounts as people write them: `/etc/fstab` (fstab(5)), and the options that a mount has there and elsewhere.
//! Pure: text in, values out.

use alloc::string::String;
use alloc::vec::Vec;

/// A line of `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The device, tag or word in the first field.
    pub source: String,
    /// Where it is to be mounted.
    pub target: Vec<u8>,
    /// The file system's name.
    pub fs_type: String,
    /// Options separated by commas.
    pub options: String,
}

/// Entries looked at; what is behind them is ignored.
const MOST: usize = 256;

/// The entries of a text. Lines that are no entries (empty, comments, too few fields, bytes that are no text) are left out.
pub fn parse(text: &[u8]) -> Vec<Entry> {
    text.split(|byte| *byte == b'\n').filter_map(entry).take(MOST).collect()
}

fn entry(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(u8::is_ascii_whitespace).filter(|field| !field.is_empty()).map(unescape);
    let source = fields.next().filter(|source| !source.starts_with(b"#"))?;
    let (target, fs_type) = (fields.next()?, fields.next()?);
    let options = fields.next().unwrap_or_default();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    Some(Entry { source: text(source)?, target, fs_type: text(fs_type)?, options: text(options)? })
}

/// Undoes the escapes of getmntent(3): a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.first_chunk::<3>().filter(|digits| digits.iter().all(|digit| matches!(digit, b'0'..=b'7')));
        match digits {
            Some(digits) if byte == b'\\' => {
                out.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
                rest = &behind[3..];
            }
            _ => {
                out.push(byte);
                rest = behind;
            }
        }
    }
    out
}

/// What the options of a mount say, as far as this kernel knows them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// `ro` or `rw`; `None` if neither is there.
    pub read_only: Option<bool>,
    /// `nofail`: that it cannot be mounted is no news.
    pub nofail: bool,
    /// `noauto`: not to be mounted at start.
    pub noauto: bool,
    /// `mode=`: permissions of the root of a file system in memory.
    pub mode: Option<u32>,
    /// Those that are not known.
    pub unknown: Vec<String>,
}

/// Options that say what is so already, or what makes no difference here.
const NO_MATTER: [&str; 17] = [
    "defaults",
    "auto",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "nodiratime",
    "strictatime",
    "lazytime",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "async",
    "nouser",
    "_netdev",
];

impl Options {
    /// Reads a list.
    pub fn parse(text: &str) -> Self {
        let mut options = Self::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                None if word == "ro" => options.read_only = Some(true),
                None if word == "rw" => options.read_only = Some(false),
                None if word == "nofail" => options.nofail = true,
                None if word == "noauto" => options.noauto = true,
                None if NO_MATTER.contains(&word) => {}
                Some(("mode", mode)) if let Ok(mode) = u32::from_str_radix(mode, 8) => {
                    options.mode = Some(mode & 0o7777);
                }
                // For those who start services, not for those who mount.
                _ if word.starts_with("x-") || word.starts_with("comment=") => {}
                _ => options.unknown.push(word.into()),
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn entries_are_found_among_other_lines() {
        let text = b"# a comment\n\n/dev/vda\t/ ext4 ro 0 1\n  tag /mnt/a\\040b virtiofs\n#x y z\nshort /line\n\
            UUID=1 /boot vfat umask=0077,nofail 0 2\nnone /t tmpfs mode=700\n\xff / x\n\xff /x y";
        let entry = |source: &str, target: &str, fs_type: &str, options: &str| Entry {
            source: source.into(),
            target: target.into(),
            fs_type: fs_type.into(),
            options: options.into(),
        };
        let expected = [
            entry("/dev/vda", "/", "ext4", "ro"),
            entry("tag", "/mnt/a b", "virtiofs", ""),
            entry("UUID=1", "/boot", "vfat", "umask=0077,nofail"),
            entry("none", "/t", "tmpfs", "mode=700"),
        ];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn escapes_are_undone_and_others_left() {
        for (field, bytes) in
            [("a\\134b", "a\\b"), ("\\", "\\"), ("\\04", "\\04"), ("\\089", "\\089"), ("\\011x", "\tx")]
        {
            assert_eq!(unescape(field.as_bytes()), bytes.as_bytes(), "{field}");
        }
        assert_eq!(unescape(b"\\777"), [0xff]);
    }

    #[test]
    fn there_is_an_end_to_the_entries() {
        let text = "a /b tmpfs\n".repeat(MOST + 10);
        assert_eq!(parse(text.as_bytes()).len(), MOST);
    }

    #[test]
    fn options_say_what_they_say() {
        let options =
            Options::parse("defaults,ro,nofail,,noatime,x-systemd.automount,mode=1777,errors=remount-ro,mode=9");
        let expected = Options {
            read_only: Some(true),
            nofail: true,
            mode: Some(0o1777),
            unknown: vec!["errors=remount-ro".into(), "mode=9".into()],
            ..Options::default()
        };
        assert_eq!(options, expected);
        assert_eq!(Options::parse("rw,noauto"), Options { read_only: Some(false), noauto: true, ..Options::default() });
    }
}
