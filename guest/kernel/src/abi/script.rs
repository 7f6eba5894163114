//! The first line of a script: `#!INTERPRETER [ARGUMENT]`, read as Linux reads it (fs/binfmt_script.c).

use alloc::vec::Vec;

/// Bytes of a file's beginning that decide (`BINPRM_BUF_SIZE`).
pub const HEAD_SIZE: usize = 256;

/// A script's first line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The interpreter's path, not empty.
    pub interpreter: Vec<u8>,
    /// Everything after it, as one argument.
    pub argument: Option<Vec<u8>>,
}

fn blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && blank(first)
    {
        text = rest;
    }
    while let [rest @ .., last] = text
        && blank(last)
    {
        text = rest;
    }
    text
}

impl Script {
    /// Reads the first line from `head`, the file's first bytes, at most [`HEAD_SIZE`] of them.
    /// `None` when it is no script: no `#!`, no interpreter, or an interpreter whose name is cut off.
    pub fn parse(head: &[u8]) -> Option<Self> {
        let head = &head[..head.len().min(HEAD_SIZE)];
        let text = head.strip_prefix(b"#!")?;
        let end = text.iter().position(|b| matches!(b, b'\n' | 0));
        let whole = end.is_some() || head.len() < HEAD_SIZE;
        let line = trim(&text[..end.unwrap_or(text.len())]);
        let split = line.iter().position(blank);
        if line.is_empty() || (split.is_none() && !whole) {
            return None;
        }
        let (interpreter, rest) = line.split_at(split.unwrap_or(line.len()));
        let rest = trim(rest);
        Some(Self { interpreter: interpreter.to_vec(), argument: (!rest.is_empty()).then(|| rest.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        Script::parse(head).map(|s| (s.interpreter, s.argument))
    }

    #[test]
    fn lines_are_read_as_linux_reads_them() {
        assert_eq!(parse(b"#!/bin/sh\necho"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(parse(b"#! \t/bin/sh \t\necho"), Some((b"/bin/sh".to_vec(), None)));
        assert_eq!(
            parse(b"#!/usr/bin/env python3 -u \nx"),
            Some((b"/usr/bin/env".to_vec(), Some(b"python3 -u".to_vec())))
        );
        assert_eq!(parse(b"#!sh"), Some((b"sh".to_vec(), None)));
        assert_eq!(parse(b"#!/bin/sh\0junk\n"), Some((b"/bin/sh".to_vec(), None)));
        for bad in [&b"#!\n"[..], b"#! \t\n", b"#", b"", b"\x7fELF", b" #!/bin/sh"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn a_cut_name_is_refused_and_a_cut_argument_taken() {
        let long = [b"#!/", &[b'x'; 400][..]].concat();
        assert_eq!(parse(&long), None);
        let argument = [b"#!/bin/sh ", &[b'x'; 400][..]].concat();
        assert_eq!(parse(&argument).unwrap().1.unwrap().len(), HEAD_SIZE - b"#!/bin/sh ".len());
    }
}
