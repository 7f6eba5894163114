//! One `--volume HOST:GUEST[:ro|:overlay][:cache=MODE][:dax=SIZE]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::ValueEnum as _;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use diolkos_common::cmdline::Access;

use crate::args::Cache;
use crate::memory_size::MemorySize;

/// A host directory and where it appears in the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The directory on the host.
    pub source: PathBuf,
    /// Its absolute path in the machine, with no `.`, `..` or doubled slash in it; never `/`.
    pub target: Vec<u8>,
    /// What the program may do to it.
    pub access: Access,
    /// Its own rule, if not the one for all.
    pub cache: Option<Cache>,
    /// The size of its own window, if not the one for all.
    pub window: Option<MemorySize>,
}

/// What may follow the two paths, each word after a colon and each kind of word once.
#[derive(Default)]
struct Words {
    access: Option<Access>,
    cache: Option<Cache>,
    window: Option<MemorySize>,
}

impl Words {
    fn parse(words: &[&[u8]]) -> Result<Self, String> {
        let mut all = Self::default();
        for word in words {
            let text = String::from_utf8_lossy(word);
            let again = match text.split_once('=') {
                None if text == "ro" => all.access.replace(Access::ReadOnly).is_some(),
                None if text == "overlay" => all.access.replace(Access::Overlay).is_some(),
                None if text == "rw" => all.access.replace(Access::ReadWrite).is_some(),
                Some(("dax", size)) => {
                    let size = size.parse().map_err(|why| format!("dax={size}: {why}"))?;
                    all.window.replace(size).is_some()
                }
                Some(("cache", mode)) => {
                    let mode = Cache::from_str(mode, false)
                        .map_err(|_| format!("the cache rule is 'none', 'auto' or 'always', not '{mode}'"))?;
                    all.cache.replace(mode).is_some()
                }
                _ => {
                    return Err(format!(
                        "after the paths come 'ro', 'rw', 'overlay', 'cache=MODE' or 'dax=SIZE', not '{text}'"
                    ));
                }
            };
            if again {
                return Err(format!("'{text}' contradicts or repeats a word before it"));
            }
        }
        Ok(all)
    }
}

impl Volume {
    /// Reads `HOST:GUEST` and what may follow it: `:ro`, `:rw` or `:overlay`, `:cache=MODE` and `:dax=SIZE`.
    ///
    /// # Errors
    /// What is wrong with `text`, for a user who has just written it.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let [source, target, words @ ..] = &parts[..] else {
            return Err("expected HOST:GUEST or HOST:GUEST:ro (a path cannot contain ':')".to_owned());
        };
        let Words { access, cache, window } = Words::parse(words)?;
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
        let source = PathBuf::from(OsString::from_vec(source.to_vec()));
        Ok(Self { source, target, access: access.unwrap_or(Access::ReadWrite), cache, window })
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
        let (source, target) = (PathBuf::from("data"), b"/mnt/x".to_vec());
        let volume = |access| Volume { source, target, access, cache: None, window: None };
        let access = |text: &str| Volume::parse(text.as_ref()).unwrap().access;
        assert_eq!(Volume::parse("data:/mnt//x/".as_ref()), Ok(volume(Access::ReadWrite)));
        assert_eq!(access("data:/mnt/x:rw"), Access::ReadWrite);
        assert_eq!(access("data:/mnt/x:ro"), Access::ReadOnly);
        assert_eq!(access("data:/mnt/x:overlay"), Access::Overlay);
    }

    #[test]
    fn words_come_in_any_order() {
        for text in ["a:/b:ro:cache=none:dax=64M", "a:/b:dax=64M:cache=none:ro"] {
            let Volume { access, cache, window, .. } = Volume::parse(text.as_ref()).unwrap();
            assert_eq!((access, cache), (Access::ReadOnly, Some(Cache::None)), "{text}");
            assert_eq!(window, Some(MemorySize(64 << 20)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_its_reason() {
        for (text, reason) in [
            ("data", "HOST:GUEST"),
            ("a:/b:ro:x", "'x'"),
            ("a:/b:ro:rw", "'rw'"),
            ("a:/b:ro:overlay", "'overlay'"),
            ("a:/b:cache=auto:cache=auto", "'cache=auto'"),
            ("a:/b:cache=often", "'often'"),
            ("a:/b:dax=big", "dax=big"),
            ("a:/b:dax=1G:dax=2G", "'dax=2G'"),
            ("a:/b:", "''"),
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
