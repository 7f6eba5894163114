//! open(2): from a path to an open file.

use crate::dentry::Location;
use crate::namespace::Namespace;
use crate::notify::{self, Events};
use crate::permission::{READ, SEARCH, WRITE, permit, permit_owner, remove_privileges};
use crate::walk::{Followed, Walker};
use crate::{
    Access, DirSink, Errno, File, FileType, Inode, MappedRun, Name, OpenFlags, Poll, Result, Sink, Source, WriteAccess,
};
use alloc::sync::Arc;
use core::any::Any;

/// What open(2) gives: the file, and the place it was opened at.
#[derive(Clone)]
pub struct Opened {
    /// For `/proc/self/fd`, and as a starting place for relative paths.
    pub location: Location,
    /// With [`OpenFlags::PATH`] every read and write of it fails with `EBADF`.
    pub file: Arc<dyn File>,
    /// The right to write it, to be kept as long as it is open.
    pub writing: Option<Arc<WriteAccess>>,
}

/// How often creating may lose a race against somebody else's creating and unlinking of the same name.
const CREATE_TRIES: u32 = 8;

impl Namespace {
    /// Opens `path`, with open(2)'s rules. `mode` has the umask applied.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open(&self, start: &Location, path: &[u8], flags: OpenFlags, mode: u32) -> Result<Opened> {
        let flags = checked(flags)?;
        let mut walker = Walker::new(self, start, path)?;
        if flags.contains(OpenFlags::TMPFILE) {
            return self.open_unnamed(&walker.find(!flags.contains(OpenFlags::NOFOLLOW))?, flags, mode);
        }
        let creates = flags.contains(OpenFlags::CREAT);
        let follows = !flags.contains(OpenFlags::NOFOLLOW);
        let mut tries = 0;
        let mut last = walker.walk_to_parent()?;
        loop {
            let Some(name) = last.name() else {
                return self.open_found(walker.child_last(&last)?, flags, true);
            };
            if creates && last.trailing {
                return Err(Errno::EISDIR);
            }
            let found = match walker.child_last(&last) {
                Err(Errno::ENOENT) if creates => match self.create(walker.at(), name, flags, mode) {
                    Err(Errno::EEXIST) if !flags.contains(OpenFlags::EXCL) && tries < CREATE_TRIES => {
                        tries += 1;
                        continue;
                    }
                    made => return made,
                },
                found => found?,
            };
            let is_link = found.inode().file_type() == FileType::Symlink;
            if !is_link || !(follows || last.trailing) {
                return self.open_found(found, flags, last.trailing);
            }
            match walker.follow(&found, last.trailing)? {
                Followed::Path => last = walker.walk_to_parent()?,
                Followed::Place(place) => return self.open_found(place, flags, last.trailing),
            }
        }
    }

    fn create(&self, dir: &Location, name: &[u8], flags: OpenFlags, mode: u32) -> Result<Opened> {
        let checked = Name::new(name)?;
        if dir.mount().is_read_only() {
            return Err(Errno::EROFS);
        }
        permit(dir.inode(), WRITE | SEARCH)?;
        let (inode, file) = dir.inode().create(checked, mode & 0o7777, for_fs(flags) - OpenFlags::TRUNC)?;
        let writing = writing(&inode, flags.writes())?;
        let location = dir.child(name, inode);
        notify::created(dir, name, FileType::Regular);
        location.tell(Events::OPEN);
        Ok(Opened { location, file, writing })
    }

    fn open_unnamed(&self, dir: &Location, flags: OpenFlags, mode: u32) -> Result<Opened> {
        if !dir.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if dir.mount().is_read_only() {
            return Err(Errno::EROFS);
        }
        permit(dir.inode(), WRITE | SEARCH)?;
        let (inode, file) = dir.inode().tmpfile(mode & 0o7777, flags - OpenFlags::TRUNC)?;
        let shown = alloc::format!("#{}", inode.metadata()?.ino);
        let writing = writing(&inode, flags.writes())?;
        Ok(Opened { location: dir.unnamed_child(shown.as_bytes(), inode), file, writing })
    }

    /// The second half of open(2): what was there is opened, if its type and its mount allow.
    fn open_found(&self, location: Location, flags: OpenFlags, must_be_dir: bool) -> Result<Opened> {
        let kind = location.inode().file_type();
        let is_dir = kind == FileType::Directory;
        if flags.contains(OpenFlags::CREAT) {
            if flags.contains(OpenFlags::EXCL) {
                return Err(Errno::EEXIST);
            }
            if is_dir {
                return Err(Errno::EISDIR);
            }
        }
        if (must_be_dir || flags.contains(OpenFlags::DIRECTORY)) && !is_dir {
            return Err(Errno::ENOTDIR);
        }
        if flags.contains(OpenFlags::PATH) {
            let file = Arc::new(PathFile { inode: location.inode().clone() });
            return Ok(Opened { location, file, writing: None });
        }
        self.reopen(&location, flags)
    }

    /// Opens what stands at a place anew, as open(2) of `/proc/self/fd/N` does. Creating flags are ignored.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn reopen(&self, location: &Location, flags: OpenFlags) -> Result<Opened> {
        let inode = location.inode();
        let kind = inode.file_type();
        let truncates = flags.contains(OpenFlags::TRUNC);
        match kind {
            FileType::Symlink => return Err(Errno::ELOOP),
            FileType::Directory if flags.writes() || truncates => return Err(Errno::EISDIR),
            _ => {}
        }
        let stored = matches!(kind, FileType::Regular | FileType::Directory);
        let mut mask = if flags.reads() { READ } else { 0 };
        if flags.writes() || truncates {
            mask |= WRITE;
            if location.mount().is_read_only() && stored {
                return Err(Errno::EROFS);
            }
        }
        permit(inode, mask)?;
        if flags.contains(OpenFlags::NOATIME) {
            permit_owner(inode)?;
        }
        self.open_permitted(location, flags)
    }

    /// Opens what stands at a place to be executed, for which it need not be readable. That it may be executed, the caller
    /// has checked.
    ///
    /// # Errors
    /// open(2)'s.
    pub fn open_program(&self, location: &Location) -> Result<Opened> {
        self.open_permitted(location, OpenFlags::empty())
    }

    fn open_permitted(&self, location: &Location, flags: OpenFlags) -> Result<Opened> {
        let inode = location.inode();
        let kind = inode.file_type();
        let truncates = flags.contains(OpenFlags::TRUNC);
        let mut flags = for_fs(flags);
        if kind != FileType::Regular {
            flags -= OpenFlags::TRUNC;
        }
        let writing = writing(inode, flags.writes() || truncates)?;
        if flags.contains(OpenFlags::TRUNC) {
            remove_privileges(inode)?;
        }
        let file = match kind {
            FileType::Socket => return Err(Errno::ENXIO),
            FileType::Fifo => self.fifos.open(inode, flags)?,
            _ => inode.clone().open(flags)?,
        };
        location.tell(Events::OPEN);
        if flags.contains(OpenFlags::TRUNC) {
            location.tell(Events::MODIFY);
        }
        Ok(Opened { location: location.clone(), file, writing: writing.filter(|_| flags.writes()) })
    }
}

/// The right to write, if it is wanted.
fn writing(inode: &Arc<dyn Inode>, wanted: bool) -> Result<Option<Arc<WriteAccess>>> {
    Ok(if wanted { WriteAccess::get(inode)?.map(Arc::new) } else { None })
}

/// The flags with open(2)'s rules on combinations applied (`build_open_flags` in Linux' fs/open.c).
fn checked(mut flags: OpenFlags) -> Result<OpenFlags> {
    if flags.contains(OpenFlags::PATH) {
        return Ok(flags & (OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC));
    }
    let writes = flags.writes() || flags.contains(OpenFlags::TRUNC);
    if flags.contains(OpenFlags::TMPFILE) {
        if !flags.contains(OpenFlags::DIRECTORY) || flags.contains(OpenFlags::CREAT) || !writes {
            return Err(Errno::EINVAL);
        }
        return Ok(flags);
    }
    // Since Linux 6.4; before, it made a regular file.
    if flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(OpenFlags::CREAT | OpenFlags::EXCL) {
        flags |= OpenFlags::NOFOLLOW;
    }
    Ok(flags)
}

/// What of the flags is left to the file system; see [`Inode::open`].
fn for_fs(flags: OpenFlags) -> OpenFlags {
    flags - (OpenFlags::CREAT | OpenFlags::EXCL | OpenFlags::NOFOLLOW)
}

/// What a descriptor opened with [`OpenFlags::PATH`] leads to: a place, not a file.
pub struct PathFile {
    inode: Arc<dyn Inode>,
}

impl File for PathFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, _sink: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write_at(&self, _offset: u64, _source: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn append(&self, _source: &mut dyn Source) -> Result<(usize, u64)> {
        Err(Errno::EBADF)
    }

    fn readdir(&self, _cookie: u64, _entries: &mut DirSink<'_>) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn map(&self, _offset: u64, _access: Access) -> Result<Option<MappedRun>> {
        Err(Errno::EBADF)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn poll(&self) -> Poll {
        Poll::empty()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
