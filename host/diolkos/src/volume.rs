//! One `--volume HOST:GUEST[:ro]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};

/// A host directory and where it appears in the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The directory on the host.
    pub source: PathBuf,
    /// Its absolute path in the machine, with no `.`, `..` or doubled slash in it; never `/`.
    pub target: Vec<u8>,
    /// Whether the program may write to it.
    pub writable: bool,
}

impl Volume {
    /// Reads `HOST:GUEST`, `HOST:GUEST:ro` or `HOST:GUEST:rw`.
    ///
    /// # Errors
    /// What is wrong with `text`, for a user who has just written it.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let (source, target, writable) = match parts[..] {
            [source, target] | [source, target, b"rw"] => (source, target, true),
            [source, target, b"ro"] => (source, target, false),
            [_, _, mode] => return Err(format!("the mode is 'ro' or 'rw', not '{}'", String::from_utf8_lossy(mode))),
            _ => return Err("expected HOST:GUEST or HOST:GUEST:ro (a path cannot contain ':')".to_owned()),
        };
        if source.is_empty() {
            return Err("the host directory before ':' is empty".to_owned());
        }
        if !target.starts_with(b"/") {
            return Err(format!(
                "the path in the machine must start with '/', not '{}'",
                String::from_utf8_lossy(target)
            ));
        }
        let names: Vec<&[u8]> = target.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect();
        if names.iter().any(|name| matches!(*name, b"." | b"..")) {
            return Err("the path in the machine must not contain '.' or '..'".to_owned());
        }
        if names.is_empty() {
            return Err("the root '/' of the machine is DIR; a volume needs a path below it".to_owned());
        }
        let target = names.iter().flat_map(|name| [b"/", *name].concat()).collect();
        Ok(Self { source: PathBuf::from(OsString::from_vec(source.to_vec())), target, writable })
    }
}

impl ValueParserFactory for Volume {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().try_map(|text| Volume::parse(&text)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_is_writable_unless_it_says_ro() {
        let volume = |writable| Volume { source: "data".into(), target: b"/mnt/x".to_vec(), writable };
        assert_eq!(Volume::parse("data:/mnt/x".as_ref()), Ok(volume(true)));
        assert_eq!(Volume::parse("data:/mnt//x/:rw".as_ref()), Ok(volume(true)));
        assert_eq!(Volume::parse("data:/mnt/x:ro".as_ref()), Ok(volume(false)));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_its_reason() {
        for (text, reason) in [
            ("data", "HOST:GUEST"),
            ("a:/b:ro:x", "HOST:GUEST"),
            (":/b", "empty"),
            ("a:b", "start with '/'"),
            ("a:/", "DIR"),
            ("a:/b/../c", "'..'"),
            ("a:/b:readonly", "'readonly'"),
        ] {
            let error = Volume::parse(text.as_ref()).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
