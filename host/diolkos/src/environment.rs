//! The environment the program starts with.
//!
//! Small and the same everywhere, as with `env -i`: what a program does must not depend on the shell that happened to
//! start the machine. TERM and TZ are taken over because the terminal and the place are the user's own; LANG is not, for
//! the locale it names need not exist in DIR.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Where programs are looked up when no `--env PATH=…` is given: Debian's path for root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables taken over from the host if it has them.
const INHERITED: [&str; 2] = ["TERM", "TZ"];

/// The default environment with `wanted` (the values of `--env`) on top, as `KEY=VALUE` entries, each key once.
///
/// # Errors
/// Names the `--env` that has no key, or that asks for a host variable that is not set.
pub fn build(wanted: &[OsString], uid: u32) -> Result<Vec<Vec<u8>>, String> {
    let mut entries = vec![entry("PATH", PATH.as_ref()), entry("HOME", home(uid).as_ref())];
    entries.extend(INHERITED.iter().filter_map(|key| Some(entry(key, &env::var_os(key)?))));
    for text in wanted {
        let new = resolve(text)?;
        let key = key_of(&new);
        entries.retain(|old| key_of(old) != key);
        entries.push(new);
    }
    Ok(entries)
}

/// Only root's home directory can be known without reading DIR's user database.
fn home(uid: u32) -> &'static str {
    if uid == 0 { "/root" } else { "/" }
}

fn entry(key: &str, value: &OsStr) -> Vec<u8> {
    [key.as_bytes(), b"=", value.as_bytes()].concat()
}

fn key_of(entry: &[u8]) -> &[u8] {
    entry.split(|byte| *byte == b'=').next().unwrap_or(entry)
}

fn resolve(text: &OsStr) -> Result<Vec<u8>, String> {
    let bytes = text.as_bytes();
    let shown = text.display();
    if key_of(bytes).is_empty() {
        return Err(format!("--env '{shown}': there is no name before '='"));
    }
    if bytes.contains(&b'=') {
        return Ok(bytes.to_vec());
    }
    let value = env::var_os(text)
        .ok_or_else(|| format!("--env {shown}: the host's environment has no {shown}; write --env {shown}=VALUE"))?;
    Ok([bytes, b"=", value.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_wins_and_appears_once() {
        let entries = build(&["PATH=/bin".into(), "A=1".into(), "A=2=3".into(), "E=".into()], 0).unwrap();
        let has = |text: &str| entries.iter().any(|entry| entry == text.as_bytes());
        assert!(has("PATH=/bin") && has("A=2=3") && has("E=") && has("HOME=/root"));
        assert!(!has("A=1") && entries.iter().filter(|entry| entry.starts_with(b"PATH=")).count() == 1);
    }

    #[test]
    fn a_bare_name_takes_the_hosts_value() {
        // Cargo sets this for its tests.
        let entries = build(&["CARGO_PKG_NAME".into()], 1000).unwrap();
        assert!(entries.contains(&b"CARGO_PKG_NAME=diolkos".to_vec()));
        assert!(build(&["SURELY_NOT_SET_ANYWHERE".into()], 0).unwrap_err().contains("SURELY_NOT_SET_ANYWHERE"));
        assert!(build(&["=x".into()], 0).unwrap_err().contains("--env"));
    }
}
