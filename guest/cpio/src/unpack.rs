//! Making a file tree of an archive.

use crate::input::Input;
use crate::{Content, Error, Header, NAME_MAX, Result, Summary, read};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::{Errno, FileType, Inode, InodeId, Name, OpenFlags, SetMetadata, SetTime, SliceSource, Timespec};

/// Bytes copied at once.
const PIECE: usize = 64 << 10;

/// Permission bits of directories that no entry tells of.
const DIRECTORY: u32 = 0o755;

/// What an entry's file was called where it came from: inode, and device by major and minor number.
type Origin = (u32, (u32, u32));

struct Tree {
    root: Arc<dyn Inode>,
    /// The directory that was used last: entries of one mostly follow each other.
    last: (Vec<u8>, Arc<dyn Inode>),
    /// Files with several names, by what they were where they came from.
    linked: BTreeMap<Origin, Arc<dyn Inode>>,
    /// Directories and their times, which making entries in them changes. No list: of many directories that would be more
    /// in one piece than the guest's heap has.
    directories: BTreeMap<InodeId, (Arc<dyn Inode>, SetMetadata)>,
    buffer: Box<[u8]>,
}

/// Makes files of the entries of `archive` below `root`, a directory of a memory file system. Directories that the archive
/// does not tell of are made; what is there already is replaced, a directory by nothing but its attributes.
///
/// # Errors
/// What is wrong with the archive, or why a file cannot be made.
pub fn unpack(archive: &mut dyn Input, root: &Arc<dyn Inode>) -> Result<Summary> {
    let mut tree = Tree {
        root: root.clone(),
        last: (Vec::new(), root.clone()),
        linked: BTreeMap::new(),
        directories: BTreeMap::new(),
        buffer: vec![0; PIECE].into(),
    };
    let summary = read(archive, &mut |header, path, content| {
        let name = || String::from_utf8_lossy(path).to_string();
        tree.add(header, path, content)
            .map_err(|failure| failure.unwrap_or_else(|errno| Error::Make { name: name(), errno }))
    })?;
    for (directory, times) in tree.directories.values() {
        directory.set_metadata(times).map_err(|errno| Error::Make { name: "a directory".to_string(), errno })?;
    }
    Ok(summary)
}

/// Why an entry was not added: the archive, or the file system.
type Failure = core::result::Result<Error, Errno>;

fn made<T>(result: diolkos_vfs::Result<T>) -> core::result::Result<T, Failure> {
    result.map_err(Err)
}

impl Tree {
    fn add(
        &mut self,
        header: &Header,
        path: &[u8],
        content: &mut Content<'_, '_>,
    ) -> core::result::Result<(), Failure> {
        let kind = FileType::from_mode(header.mode).expect("checked by who read it");
        let (parent, name) = path.iter().rposition(|byte| *byte == b'/').map_or((&[][..], path), |at| {
            let (parent, name) = path.split_at(at);
            (parent, &name[1..])
        });
        if name.is_empty() {
            return if kind == FileType::Directory { self.keep(self.root.clone(), header) } else { Ok(()) };
        }
        let directory = made(self.directory(parent))?;
        let name = made(Name::new(name))?;
        if kind == FileType::Directory {
            let inode = made(enter(&directory, name))?;
            return self.keep(inode, header);
        }
        let origin = (header.ino, header.dev);
        let several = header.nlink > 1;
        let known = self.linked.get(&origin).filter(|_| several).cloned();
        match made(directory.lookup(name).map(Some).or_else(absent))? {
            Some(there) if there.file_type() == FileType::Directory => return Err(Err(Errno::EISDIR)),
            // A name of the same file that was given twice.
            Some(there) if known.as_ref().is_some_and(|known| known.id() == there.id()) => {}
            Some(_) => made(directory.unlink(name))?,
            None => {}
        }
        let inode = match known {
            Some(known) => {
                if directory.lookup(name).is_err() {
                    made(directory.link(name, &known))?;
                }
                known
            }
            None => self.make(&directory, name, header, kind, content)?,
        };
        if several {
            self.linked.insert(origin, inode.clone());
        }
        // Of a file with several names one entry has the content, often the last.
        if kind == FileType::Regular && content.left() > 0 {
            self.copy(&inode, content)?;
        }
        made(inode.set_metadata(&attributes(header, kind)))?;
        Ok(())
    }

    fn make(
        &mut self,
        directory: &Arc<dyn Inode>,
        name: Name<'_>,
        header: &Header,
        kind: FileType,
        content: &mut Content<'_, '_>,
    ) -> core::result::Result<Arc<dyn Inode>, Failure> {
        if kind == FileType::Symlink {
            let mut target = vec![0; content.left() as usize % NAME_MAX];
            if target.is_empty() || target.len() != content.left() as usize {
                return Err(Err(Errno::ENAMETOOLONG));
            }
            let mut done = 0;
            while done < target.len() {
                done += content.read(&mut target[done..]).map_err(Ok)?;
            }
            return made(directory.symlink(name, &target));
        }
        let (major, minor) = (u64::from(header.rdev.0), u64::from(header.rdev.1));
        let rdev = (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12;
        made(directory.mknod(name, header.mode, rdev))
    }

    fn copy(&mut self, inode: &Arc<dyn Inode>, content: &mut Content<'_, '_>) -> core::result::Result<(), Failure> {
        let file = made(inode.clone().open(OpenFlags::WRONLY | OpenFlags::TRUNC))?;
        let mut offset = 0;
        loop {
            let n = content.read(&mut self.buffer).map_err(Ok)?;
            if n == 0 {
                return Ok(());
            }
            let mut source = SliceSource::new(&self.buffer[..n]);
            if made(file.write_at(offset, &mut source))? != n {
                return Err(Err(Errno::ENOSPC));
            }
            offset += n as u64;
        }
    }

    /// The directory at `path`, made where it is missing.
    fn directory(&mut self, path: &[u8]) -> diolkos_vfs::Result<Arc<dyn Inode>> {
        if self.last.0 != path {
            let mut at = self.root.clone();
            for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
                at = enter(&at, Name::new(part)?)?;
            }
            self.last = (path.to_vec(), at);
        }
        Ok(self.last.1.clone())
    }

    /// A directory's owner and mode are set at once; its times when all entries are made.
    fn keep(&mut self, inode: Arc<dyn Inode>, header: &Header) -> core::result::Result<(), Failure> {
        let all = attributes(header, FileType::Directory);
        made(inode.set_metadata(&all))?;
        let times = SetMetadata { atime: all.atime, mtime: all.mtime, ..SetMetadata::default() };
        self.directories.insert(inode.id(), (inode, times));
        Ok(())
    }
}

/// The directory `name` in another one, made if it is missing. A link does not lead to one: archives are not followed out
/// of the places that they name.
fn enter(directory: &Arc<dyn Inode>, name: Name<'_>) -> diolkos_vfs::Result<Arc<dyn Inode>> {
    match directory.lookup(name) {
        Ok(there) if there.file_type() == FileType::Directory => Ok(there),
        Ok(_) => Err(Errno::ENOTDIR),
        Err(Errno::ENOENT) => directory.mknod(name, FileType::Directory.mode_bits() | DIRECTORY, 0),
        Err(errno) => Err(errno),
    }
}

fn absent<T>(errno: Errno) -> diolkos_vfs::Result<Option<T>> {
    if errno == Errno::ENOENT { Ok(None) } else { Err(errno) }
}

fn attributes(header: &Header, kind: FileType) -> SetMetadata {
    let time = Some(SetTime::To(Timespec { sec: i64::from(header.mtime), nsec: 0 }));
    SetMetadata {
        mode: (kind != FileType::Symlink).then_some(header.mode & 0o7777),
        uid: Some(header.uid),
        gid: Some(header.gid),
        size: None,
        atime: time,
        mtime: time,
    }
}
