//! Comparing an image with the directory it was made of.

use crate::contents::{Node, Reader};
use crate::error::at;
use crate::tree::Entry;
use crate::{Error, Progress, Result, visit};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Bytes compared at once.
const PIECE: usize = 256 << 10;

struct Check<'a> {
    root: &'a Path,
    /// What is expected and has not been found yet.
    expected: HashMap<&'a [u8], &'a Entry>,
    /// Files with several names: what they are in the image, by where they lie on the host.
    linked: HashMap<(u64, u64), u64>,
    /// How many names of a file lie in the directory: others may lie outside, and do not count in every format.
    names: HashMap<(u64, u64), u64>,
}

/// Where a file lies on the host.
fn place(entry: &Entry) -> (u64, u64) {
    (entry.metadata.dev(), entry.metadata.ino())
}

/// Compares the image in `file` with what `entries` say of the directory `root`: names, types, owners, modes, times, links and
/// every byte of content.
pub(crate) fn check(
    file: &File,
    name: &Path,
    root: &Path,
    entries: &[Entry],
    progress: &mut Progress<'_>,
) -> Result<()> {
    let expected = entries.iter().map(|entry| (entry.path.as_os_str().as_bytes(), entry)).collect();
    let mut names = HashMap::new();
    for entry in entries {
        *names.entry(place(entry)).or_default() += 1;
    }
    let mut check = Check { root, expected, linked: HashMap::new(), names };
    let mut done = 0;
    visit(file, name, &mut |node, reader| {
        if done % 64 == 0 {
            progress(&format!("checking {done} of {} files", entries.len()));
        }
        done += 1;
        check.node(node, reader)
    })?;
    match check.expected.keys().next() {
        Some(path) => Err(differs(path, "it is missing")),
        None => Ok(()),
    }
}

fn differs(path: &[u8], what: impl Into<String>) -> Error {
    Error::Differs { path: String::from_utf8_lossy(path).into_owned(), what: what.into() }
}

impl Check<'_> {
    fn node(&mut self, node: &Node, reader: &mut Reader<'_>) -> Result<()> {
        let entry = self.expected.remove(&node.path[..]).ok_or_else(|| differs(&node.path, "it is not there"))?;
        let metadata = &entry.metadata;
        let differs = |what: String| differs(&node.path, what);
        let owner = (metadata.uid(), metadata.gid());
        if (node.mode, node.uid, node.gid) != (metadata.mode(), owner.0, owner.1) {
            return Err(differs(format!("mode {:o}, owner {}, group {}", node.mode, node.uid, node.gid)));
        }
        if node.mtime.0 != metadata.mtime() || node.mtime.1.is_some_and(|nsec| i64::from(nsec) != metadata.mtime_nsec())
        {
            return Err(differs(format!("time {}", node.mtime.0)));
        }
        let kind = metadata.file_type();
        if kind.is_dir() {
            return Ok(());
        }
        let first = self.link(node, entry).map_err(|what| differs(what.to_string()))?;
        let host = self.root.join(&entry.path);
        if kind.is_symlink() {
            let target = std::fs::read_link(&host).map_err(at(&host))?;
            if first && node.target.as_deref() != Some(target.as_os_str().as_bytes()) {
                return Err(differs("it leads elsewhere".to_string()));
            }
        } else if !kind.is_file() {
            if node.rdev != metadata.rdev() {
                return Err(differs("its device number".to_string()));
            }
        } else if first {
            compare(entry.open(self.root)?, &host, node, reader)?;
        }
        Ok(())
    }

    /// Checks that names lead to one file in the image as they do on the host. Whether this is the first of a file's names.
    fn link(&mut self, node: &Node, entry: &Entry) -> std::result::Result<bool, &'static str> {
        let (names, here) = (entry.metadata.nlink(), self.names[&place(entry)]);
        if ![names, here].contains(&u64::from(node.nlink)) {
            return Err("the number of its names");
        }
        if here == 1 {
            return Ok(true);
        }
        match self.linked.insert(place(entry), node.id) {
            None => Ok(true),
            Some(id) if id == node.id => Ok(false),
            Some(_) => Err("its names lead to different files"),
        }
    }
}

/// Compares the content of a file of the host, at `host`, with that of the image's.
fn compare(mut file: File, host: &Path, node: &Node, reader: &mut Reader<'_>) -> Result<()> {
    let len = file.metadata().map_err(at(host))?.len();
    if node.size != len {
        return Err(differs(&node.path, format!("it has {} bytes", node.size)));
    }
    let (mut here, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    let mut done = 0;
    while done < len {
        let n = (len - done).min(PIECE as u64) as usize;
        let mut filled = 0;
        while filled < n {
            match reader(&mut here[filled..n]).map_err(|error| differs(&node.path, error))? {
                0 => return Err(differs(&node.path, "its content ends early")),
                more => filled += more,
            }
        }
        file.read_exact(&mut there[..n]).map_err(at(host))?;
        if here[..n] != there[..n] {
            return Err(differs(&node.path, format!("its content, from byte {done} on")));
        }
        done += n as u64;
    }
    Ok(())
}
