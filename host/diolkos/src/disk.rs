//! One `--disk FILE[:ro]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};

/// A raw image, or a block device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub source: PathBuf,
    /// Whether the guest may write to it.
    pub writable: bool,
}

impl Disk {
    fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let (path, writable) = match (bytes.strip_suffix(b":ro"), bytes.strip_suffix(b":rw")) {
            (Some(path), _) => (path, false),
            (None, Some(path)) => (path, true),
            (None, None) => (bytes, true),
        };
        if path.is_empty() {
            return Err("give FILE or FILE:ro, such as ./data.img; FILE is empty".to_owned());
        }
        Ok(Self { source: OsString::from_vec(path.to_vec()).into(), writable })
    }
}

impl ValueParserFactory for Disk {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(|text| Disk::parse(&text)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_writable_unless_it_is_said_not_to_be() {
        for (text, source, writable) in
            [("a.img", "a.img", true), ("a.img:ro", "a.img", false), ("a:b:rw", "a:b", true), ("/x:y", "/x:y", true)]
        {
            let disk = Disk { source: source.into(), writable };
            assert_eq!(Disk::parse(text.as_ref()), Ok(disk), "{text}");
        }
        for text in ["", ":ro"] {
            assert!(Disk::parse(text.as_ref()).unwrap_err().contains("FILE is empty"));
        }
    }
}
