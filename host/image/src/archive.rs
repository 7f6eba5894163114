//! Writing a cpio archive of a tree.

use crate::error::at;
use crate::tree::Entry;
use crate::{Error, Progress, Result};
use diolkos_cpio::{Header, NAME_MAX, TRAILER};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Inodes are numbered in the order of their first names, so that the same tree makes the same archive everywhere.
#[derive(Default)]
struct Numbers {
    next: u32,
    /// Of files with several names, by where they lie on the host.
    known: HashMap<(u64, u64), u32>,
}

impl Numbers {
    /// The number of a file, and whether this is its first name.
    fn of(&mut self, entry: &Entry) -> (u32, bool) {
        let metadata = &entry.metadata;
        let place = (metadata.dev(), metadata.ino());
        if let Some(known) = self.known.get(&place) {
            return (*known, false);
        }
        self.next += 1;
        if !metadata.is_dir() && metadata.nlink() > 1 {
            self.known.insert(place, self.next);
        }
        (self.next, true)
    }
}

/// Writes the archive of `entries`, which lie below `root`. A file's content goes with the first of its names.
pub(crate) fn write(root: &Path, entries: &[Entry], out: &mut dyn Write, progress: &mut Progress<'_>) -> Result<()> {
    let failed = |source| Error::File { path: "the archive".into(), source };
    let mut numbers = Numbers::default();
    for (i, entry) in entries.iter().enumerate() {
        if i % 64 == 0 {
            progress(&format!("archiving {i} of {} files", entries.len()));
        }
        let host = root.join(&entry.path);
        let (ino, first) = numbers.of(entry);
        let content = first.then(|| Body::of(root, &host, entry)).transpose()?.unwrap_or(Body::Nothing);
        let header = Header { ino, ..header(&host, entry, content.len())? };
        let name = if entry.path.as_os_str().is_empty() { b"." } else { entry.path.as_os_str().as_bytes() };
        if name.len() >= NAME_MAX {
            return Err(Error::Unfit { path: host, what: "its path is too long for a cpio archive" });
        }
        out.write_all(&header.encode(name)).map_err(failed)?;
        let len = content.len();
        content.copy(&host, out)?;
        out.write_all(&[0; 3][..(len.next_multiple_of(4) - len) as usize]).map_err(failed)?;
    }
    out.write_all(&Header { nlink: 1, ..Header::default() }.encode(TRAILER)).map_err(failed)
}

/// What follows a header.
enum Body {
    Nothing,
    Target(Vec<u8>),
    Content(File, u64),
}

impl Body {
    fn of(root: &Path, host: &Path, entry: &Entry) -> Result<Self> {
        let kind = entry.metadata.file_type();
        Ok(if kind.is_symlink() {
            Self::Target(fs::read_link(host).map_err(at(host))?.into_os_string().into_encoded_bytes())
        } else if kind.is_file() {
            Self::Content(entry.open(root)?, entry.metadata.len())
        } else {
            Self::Nothing
        })
    }

    fn len(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Target(target) => target.len() as u64,
            Self::Content(_, len) => *len,
        }
    }

    fn copy(self, host: &Path, out: &mut dyn Write) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Target(target) => out.write_all(&target).map_err(at(host)),
            Self::Content(file, len) => match io::copy(&mut file.take(len), out) {
                Ok(n) if n == len => Ok(()),
                Ok(_) => Err(Error::Unfit { path: host.into(), what: "it became shorter while it was read" }),
                Err(error) => Err(at(host)(error)),
            },
        }
    }
}

fn header(host: &Path, entry: &Entry, len: u64) -> Result<Header> {
    let metadata = &entry.metadata;
    let unfit = |what| Error::Unfit { path: host.to_owned(), what };
    let rdev = metadata.rdev();
    Ok(Header {
        mode: metadata.mode(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        nlink: u32::try_from(metadata.nlink()).map_err(|_| unfit("it has too many names"))?,
        mtime: u32::try_from(metadata.mtime())
            .map_err(|_| unfit("its time is before 1970 or after 2106, which a cpio archive cannot tell"))?,
        size: u32::try_from(len).map_err(|_| unfit("it has 4 GiB or more, which a cpio archive has no room for"))?,
        rdev: (rustix::fs::major(rdev), rustix::fs::minor(rdev)),
        ..Header::default()
    })
}
