//! Operations that make, move and take away names: mkdir(2), mknod(2), symlink(2), link(2), unlink(2),
//! rmdir(2), rename(2).
//!
//! The file system does the work and refuses by itself. Here is what it cannot know: mount points, read-only
//! mounts, and what Linux makes of `.`, `..`, `/` and trailing slashes. Names are looked up first only where
//! the answer depends on it, since on a share every lookup may be a message to the host.

use crate::dentry::Location;
use crate::namespace::{Lookup, Namespace};
use crate::notify::{self, Events, Losing};
use crate::permission::{SEARCH, WRITE, caller, permit, permit_removal};
use crate::walk::{Last, LastKind, PATH_MAX, Walker};
use crate::{Errno, FileType, Inode, Name, OpenFlags, RenameFlags, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

impl Namespace {
    fn parent(&self, start: &Location, path: &[u8]) -> Result<(Location, Last)> {
        let mut walker = Walker::new(self, start, path)?;
        let last = walker.walk_to_parent()?;
        Ok((walker.at().clone(), last))
    }

    /// The directory and the name for something new, where nothing is yet as far as we can see
    /// (`filename_create` in Linux' fs/namei.c).
    fn vacant(&self, start: &Location, path: &[u8], for_dir: bool) -> Result<(Location, Vec<u8>)> {
        let (dir, last) = self.parent(start, path)?;
        let LastKind::Normal(name) = last.kind else { return Err(Errno::EEXIST) };
        if self.mounted(&dir, &name).is_some() {
            return Err(Errno::EEXIST);
        }
        let slashed = last.trailing && !for_dir;
        let refused = writable(&dir).and_then(|()| permit(dir.inode(), WRITE | SEARCH)).err();
        if slashed || refused.is_some() {
            return Err(match self.child(&dir, &name) {
                Ok(_) => Errno::EEXIST,
                Err(Errno::ENOENT) => refused.filter(|_| !slashed).unwrap_or(Errno::ENOENT),
                Err(errno) => errno,
            });
        }
        Ok((dir, name))
    }

    /// mkdir(2). `mode` has the umask applied.
    ///
    /// # Errors
    /// mkdir(2)'s.
    pub fn mkdir(&self, start: &Location, path: &[u8], mode: u32) -> Result<()> {
        let (dir, name) = self.vacant(start, path, true)?;
        // Linux takes the sticky bit here, but no set-id bits.
        dir.inode().mknod(Name::new(&name)?, FileType::Directory.mode_bits() | mode & 0o1777, 0)?;
        notify::created(&dir, &name, FileType::Directory);
        Ok(())
    }

    /// mknod(2). `mode` has the umask applied; no type bits mean a regular file.
    ///
    /// # Errors
    /// mknod(2)'s.
    pub fn mknod(&self, start: &Location, path: &[u8], mode: u32, rdev: u64) -> Result<()> {
        let kind = match mode & 0o170000 {
            0 => FileType::Regular,
            _ => FileType::from_mode(mode).ok_or(Errno::EINVAL)?,
        };
        match kind {
            FileType::Directory => return Err(Errno::EPERM),
            FileType::Symlink => return Err(Errno::EINVAL),
            _ => {}
        }
        let (dir, name) = self.vacant(start, path, false)?;
        let (name, permissions) = (Name::new(&name)?, mode & 0o7777);
        if kind == FileType::Regular {
            dir.inode().create(name, permissions, OpenFlags::empty())?;
        } else {
            dir.inode().mknod(name, kind.mode_bits() | permissions, rdev)?;
        }
        notify::created(&dir, name.as_bytes(), kind);
        Ok(())
    }

    /// symlink(2).
    ///
    /// # Errors
    /// symlink(2)'s.
    pub fn symlink(&self, target: &[u8], start: &Location, path: &[u8]) -> Result<()> {
        match target.len() {
            0 => return Err(Errno::ENOENT),
            PATH_MAX.. => return Err(Errno::ENAMETOOLONG),
            _ => {}
        }
        let (dir, name) = self.vacant(start, path, false)?;
        dir.inode().symlink(Name::new(&name)?, target)?;
        notify::created(&dir, &name, FileType::Symlink);
        Ok(())
    }

    /// link(2): gives what `old` leads to the further name `new`. `how` is for `old`: linkat(2)'s flags.
    ///
    /// # Errors
    /// link(2)'s.
    pub fn link(&self, old_start: &Location, old: &[u8], how: Lookup, start: &Location, new: &[u8]) -> Result<()> {
        let target = self.find(old_start, old, how)?;
        let (dir, name) = self.vacant(start, new, false)?;
        let name = Name::new(&name)?;
        if target.mount().id() != dir.mount().id() {
            return Err(Errno::EXDEV);
        }
        if target.is_dir() {
            return Err(match self.child(&dir, name.as_bytes()) {
                Ok(_) => Errno::EEXIST,
                Err(Errno::ENOENT) => Errno::EPERM,
                Err(errno) => errno,
            });
        }
        dir.inode().link(name, target.inode())?;
        notify::to_inode(target.inode(), Events::ATTRIB);
        notify::created(&dir, name.as_bytes(), target.inode().file_type());
        Ok(())
    }

    /// unlink(2).
    ///
    /// # Errors
    /// unlink(2)'s.
    pub fn unlink(&self, start: &Location, path: &[u8]) -> Result<()> {
        let (dir, last) = self.parent(start, path)?;
        let LastKind::Normal(name) = last.kind else { return Err(Errno::EISDIR) };
        writable(&dir)?;
        if let Some(mount) = self.mounted(&dir, &name) {
            let is_dir = Location::root_of(mount).is_dir();
            return Err(if is_dir { Errno::EISDIR } else { Errno::EBUSY });
        }
        if last.trailing {
            let is_dir = self.child(&dir, &name)?.is_dir();
            return Err(if is_dir { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        permit_removal(&dir, &name)?;
        let losing = Losing::name(&dir, Name::new(&name)?);
        dir.inode().unlink(Name::new(&name)?)?;
        let left = dir.dentry().child_removed(&name);
        if let Some(inode) = losing.inode() {
            notify::to_inode(inode, Events::ATTRIB);
            losing.lost(left);
            notify::to_name(&dir, &name, Events::DELETE, false, 0);
        }
        Ok(())
    }

    /// rmdir(2).
    ///
    /// # Errors
    /// rmdir(2)'s; also `EBUSY` for a directory in which something is mounted.
    pub fn rmdir(&self, start: &Location, path: &[u8]) -> Result<()> {
        let (dir, last) = self.parent(start, path)?;
        let name = match last.kind {
            LastKind::DotDot => return Err(Errno::ENOTEMPTY),
            LastKind::Dot => return Err(Errno::EINVAL),
            LastKind::Root => return Err(Errno::EBUSY),
            LastKind::Normal(name) => name,
        };
        writable(&dir)?;
        if self.mounted(&dir, &name).is_some() || self.has_mounts_in_child(&dir, &name) {
            return Err(Errno::EBUSY);
        }
        permit_removal(&dir, &name)?;
        let losing = Losing::name(&dir, Name::new(&name)?);
        dir.inode().rmdir(Name::new(&name)?)?;
        let left = dir.dentry().child_removed(&name);
        if losing.inode().is_some() {
            losing.lost(left);
            notify::to_name(&dir, &name, Events::DELETE, true, 0);
        }
        Ok(())
    }

    /// renameat2(2).
    ///
    /// # Errors
    /// rename(2)'s; `EINVAL` for both flags at once.
    pub fn rename(
        &self,
        old_start: &Location,
        old: &[u8],
        new_start: &Location,
        new: &[u8],
        flags: RenameFlags,
    ) -> Result<()> {
        if flags.contains(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        let (from, old_last) = self.parent(old_start, old)?;
        let (to, new_last) = self.parent(new_start, new)?;
        if from.mount().id() != to.mount().id() {
            return Err(Errno::EXDEV);
        }
        let old_name = old_last.name().ok_or(Errno::EBUSY)?;
        let no_replace = flags.contains(RenameFlags::NOREPLACE);
        let new_name = new_last.name().ok_or(if no_replace { Errno::EEXIST } else { Errno::EBUSY })?;
        writable(&from)?;
        self.rename_allows((&from, &old_last, old_name), (&to, &new_last, new_name), flags)?;
        permit_rename((&from, old_name), (&to, new_name), flags)?;
        let (moving, replaced) = (Losing::name(&from, Name::new(old_name)?), Losing::name(&to, Name::new(new_name)?));
        from.inode().rename(Name::new(old_name)?, to.inode(), Name::new(new_name)?, flags)?;
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        let left = from.dentry().child_renamed(old_name, to.dentry(), new_name, exchange);
        // Two names of one inode: rename(2) did nothing.
        let same = matches!((moving.inode(), replaced.inode()), (Some(a), Some(b)) if a.id() == b.id());
        if !same {
            notify::moved((&from, old_name), (&to, new_name), &moving, Some(&replaced).filter(|_| !exchange));
            if exchange {
                notify::moved((&to, new_name), (&from, old_name), &replaced, None);
            } else {
                replaced.lost(left);
            }
        }
        Ok(())
    }

    /// What of `do_renameat2` in Linux' fs/namei.c the file system cannot decide.
    fn rename_allows(
        &self,
        (from, old_last, old_name): (&Location, &Last, &[u8]),
        (to, new_last, new_name): (&Location, &Last, &[u8]),
        flags: RenameFlags,
    ) -> Result<()> {
        let covered = self.mounted(from, old_name).is_some() || self.mounted(to, new_name).is_some();
        if !covered && !old_last.trailing && !new_last.trailing {
            return Ok(());
        }
        let source = self.child(from, old_name)?;
        let target = match self.child(to, new_name) {
            Err(Errno::ENOENT) => None,
            found => Some(found?),
        };
        let exchange = flags.contains(RenameFlags::EXCHANGE);
        match &target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            None if exchange => return Err(Errno::ENOENT),
            Some(target) if exchange && new_last.trailing && !target.is_dir() => return Err(Errno::ENOTDIR),
            _ => {}
        }
        if !source.is_dir() && (old_last.trailing || (new_last.trailing && !exchange)) {
            return Err(Errno::ENOTDIR);
        }
        if covered { Err(Errno::EBUSY) } else { Ok(()) }
    }

    /// readlink(2). With [`Lookup::EMPTY_PATH`] and the empty path: the link an O_PATH descriptor stands at.
    ///
    /// # Errors
    /// `EINVAL` for what is no link (`ENOENT` with the empty path), and the walk's.
    pub fn readlink(&self, start: &Location, path: &[u8], how: Lookup) -> Result<Vec<u8>> {
        let place = self.find(start, path, how - Lookup::FOLLOW)?;
        if place.inode().file_type() != FileType::Symlink {
            return Err(if path.is_empty() { Errno::ENOENT } else { Errno::EINVAL });
        }
        place.inode().readlink()
    }
}

pub(crate) fn writable(place: &Location) -> Result<()> {
    if place.mount().is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
}

/// Whether a name may be taken from one directory and put into another (`vfs_rename` in Linux' fs/namei.c).
fn permit_rename(from: (&Location, &[u8]), to: (&Location, &[u8]), flags: RenameFlags) -> Result<()> {
    if caller().is_none() {
        return Ok(());
    }
    let found = |(dir, name): (&Location, &[u8])| dir.inode().lookup(Name::new(name)?);
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    let (moving, replaced) = (found(from)?, found(to));
    if flags.contains(RenameFlags::NOREPLACE) && replaced.is_ok() {
        return Err(Errno::EEXIST);
    }
    permit_removal(from.0, from.1)?;
    match &replaced {
        Err(Errno::ENOENT) if !exchange => permit(to.0.inode(), WRITE | SEARCH)?,
        _ => permit_removal(to.0, to.1)?,
    }
    // A directory that gets another parent is written: it says which its parent is.
    let moves = |inode: &Arc<dyn Inode>| match inode.file_type() {
        FileType::Directory if !from.0.is_same_place(to.0) => permit(inode, WRITE),
        _ => Ok(()),
    };
    moves(&moving)?;
    if exchange { moves(&replaced?) } else { Ok(()) }
}
