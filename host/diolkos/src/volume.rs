//! One `--volume HOST:GUEST[:ro][:cache=MODE]`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use clap::ValueEnum as _;
use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};

use crate::args::Cache;

/// A host directory and where it appears in the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The directory on the host.
    pub source: PathBuf,
    /// Its absolute path in the machine, with no `.`, `..` or doubled slash in it; never `/`.
    pub target: Vec<u8>,
    /// Whether the program may write to it.
    pub writable: bool,
    /// Its own rule, if not the one for all.
    pub cache: Option<Cache>,
}

/// What may follow the two paths, each word after a colon and each kind of word once.
#[derive(Default)]
struct Words {
    writable: Option<bool>,
    cache: Option<Cache>,
}

impl Words {
    fn parse(words: &[&[u8]]) -> Result<Self, String> {
        let mut all = Self::default();
        for word in words {
            let text = String::from_utf8_lossy(word);
            let again = match text.split_once('=') {
                None if text == "ro" || text == "rw" => all.writable.replace(text == "rw").is_some(),
                Some(("cache", mode)) => {
                    let mode = Cache::from_str(mode, false)
                        .map_err(|_| format!("the cache rule is 'none', 'auto' or 'always', not '{mode}'"))?;
                    all.cache.replace(mode).is_some()
                }
                _ => return Err(format!("after the paths come 'ro', 'rw' or 'cache=MODE', not '{text}'")),
            };
            if again {
                return Err(format!("'{text}' contradicts or repeats a word before it"));
            }
        }
        Ok(all)
    }
}

impl Volume {
    /// Reads `HOST:GUEST` and what may follow it: `:ro` or `:rw`, and `:cache=MODE`.
    ///
    /// # Errors
    /// What is wrong with `text`, for a user who has just written it.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let parts: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b':').collect();
        let [source, target, words @ ..] = &parts[..] else {
            return Err("expected HOST:GUEST or HOST:GUEST:ro (a path cannot contain ':')".to_owned());
        };
        let Words { writable, cache } = Words::parse(words)?;
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
        Ok(Self { source, target, writable: writable.unwrap_or(true), cache })
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
        let volume = |writable| Volume { source: "data".into(), target: b"/mnt/x".to_vec(), writable, cache: None };
        assert_eq!(Volume::parse("data:/mnt/x".as_ref()), Ok(volume(true)));
        assert_eq!(Volume::parse("data:/mnt//x/:rw".as_ref()), Ok(volume(true)));
        assert_eq!(Volume::parse("data:/mnt/x:ro".as_ref()), Ok(volume(false)));
    }

    #[test]
    fn words_come_in_any_order() {
        for text in ["a:/b:ro:cache=none", "a:/b:cache=none:ro"] {
            let volume = Volume::parse(text.as_ref()).unwrap();
            assert_eq!((volume.writable, volume.cache), (false, Some(Cache::None)), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_its_reason() {
        for (text, reason) in [
            ("data", "HOST:GUEST"),
            ("a:/b:ro:x", "'x'"),
            ("a:/b:ro:rw", "'rw'"),
            ("a:/b:cache=auto:cache=auto", "'cache=auto'"),
            ("a:/b:cache=often", "'often'"),
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
