//! The tree as the program sees it: a root, and the mounts on it.
//!
//! A mount point is found by the directory and the name it covers, *before* the file system of that directory
//! is asked. So `/proc` can be mounted over a read-only share that has no `proc`, and costs no message to the
//! host. What the operations on paths are is in `open`, `names` and `attributes`.
//!
//! There is no unmounting, and one root for everybody: chroot(2) and mount namespaces are left out.

use crate::dentry::Location;
use crate::mount::{Mount, MountPoint, MountSpec, MountTable, proc_line};
use crate::pipe::Fifos;
use crate::ramfs::{Ramfs, RamfsConfig};
use crate::walk::Walker;
use crate::{Clock, Errno, FileType, Inode, Name, Result, WaitQueues};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use spin::RwLock;

bitflags! {
    /// How a path is looked up.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub struct Lookup: u32 {
        /// Follow a symbolic link in the last component.
        const FOLLOW = 1;
        /// The empty path is the starting place itself (`AT_EMPTY_PATH`).
        const EMPTY_PATH = 2;
    }
}

/// What a namespace needs beside its root file system.
pub struct NamespaceConfig {
    /// Device number of the directories made for mount points whose ancestors are missing; used by no other file system.
    pub scaffold_dev: u64,
    /// Stamps those directories.
    pub clock: Arc<dyn Clock>,
    /// For named pipes.
    pub wait_queues: Arc<dyn WaitQueues>,
}

/// A tree of mounted file systems. Its methods take a starting place for relative paths: the working
/// directory, or what a directory descriptor stands at.
pub struct Namespace {
    root: Arc<Mount>,
    mounts: RwLock<MountTable>,
    pub(crate) fifos: Fifos,
    config: NamespaceConfig,
}

impl Namespace {
    /// A tree that is just `root`, a directory.
    ///
    /// # Errors
    /// `ENOTDIR`.
    pub fn new(root: Arc<dyn Inode>, spec: MountSpec, config: NamespaceConfig) -> Result<Self> {
        if root.file_type() != FileType::Directory {
            return Err(Errno::ENOTDIR);
        }
        let fifos = Fifos::new(config.wait_queues.clone());
        Ok(Self { root: Mount::new(root, None, spec), mounts: RwLock::default(), fifos, config })
    }

    /// The root directory.
    pub fn root(&self) -> Location {
        Location::root_of(self.root.clone())
    }

    /// Finds what `path` leads to. With an O_PATH descriptor's place and the empty path: that place.
    ///
    /// # Errors
    /// path_resolution(7)'s, and what the file systems say.
    pub fn find(&self, start: &Location, path: &[u8], how: Lookup) -> Result<Location> {
        if path.is_empty() && how.contains(Lookup::EMPTY_PATH) {
            return Ok(start.clone());
        }
        Walker::new(self, start, path)?.find(how.contains(Lookup::FOLLOW))
    }

    /// Looks up one name, mounts first.
    pub(crate) fn child(&self, dir: &Location, name: &[u8]) -> Result<Location> {
        if let Some(mount) = self.mounted(dir, name) {
            return Ok(Location::root_of(mount));
        }
        let inode = dir.inode().lookup(Name::new(name)?)?;
        Ok(dir.child(name, inode))
    }

    /// The mount that covers `name` in `dir`.
    pub(crate) fn mounted(&self, dir: &Location, name: &[u8]) -> Option<Arc<Mount>> {
        self.mounts.read().find(dir, name).cloned()
    }

    /// The mounts in `dir` in the order in which they were made, so that a position in the list stays valid.
    pub(crate) fn mounts_in(&self, dir: &Location) -> Vec<Arc<Mount>> {
        let mut mounts: Vec<_> =
            self.mounts.read().in_dir(dir).into_iter().flat_map(|names| names.values().cloned()).collect();
        mounts.sort_by_key(|mount| mount.id());
        mounts
    }

    /// Whether `name` in `dir` is a directory in which something is mounted. It may be empty for its own file
    /// system all the same, since mount points need not exist there.
    pub(crate) fn has_mounts_in_child(&self, dir: &Location, name: &[u8]) -> bool {
        let any = self.mounts.read().any_on(dir.mount());
        any && self.child(dir, name).is_ok_and(|place| self.mounts.read().in_dir(&place).is_some())
    }

    /// Mounts the file system with this root at an absolute path. Links on the way are followed; directories
    /// missing on the way appear in memory, and the last component need not exist at all.
    ///
    /// # Errors
    /// `EBUSY` at `/` or where something is mounted already, `ENOTDIR` for a directory over a file or below one,
    /// `EINVAL` for a relative path, and what the walk gives.
    pub fn mount(&self, path: &[u8], root: Arc<dyn Inode>, spec: MountSpec) -> Result<Arc<Mount>> {
        if path.first() != Some(&b'/') {
            return Err(Errno::EINVAL);
        }
        let mut dir = self.root();
        let mut names = path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b".")).peekable();
        if names.peek().is_none() {
            return Err(Errno::EBUSY);
        }
        while let Some(name) = names.next() {
            match self.find(&dir, name, Lookup::FOLLOW) {
                Ok(place) if names.peek().is_some() && !place.is_dir() => return Err(Errno::ENOTDIR),
                Ok(place) if names.peek().is_some() => dir = place,
                Ok(place) => return self.mount_on(&place, root, spec),
                Err(Errno::ENOENT) if names.peek().is_some() => {
                    let scaffold =
                        MountSpec { fs_type: String::from("tmpfs"), read_only: true, ..MountSpec::default() };
                    dir = Location::root_of(self.mount_as(&dir, name, self.scaffold(), scaffold)?);
                }
                Err(Errno::ENOENT) => return self.mount_as(&dir, name, root, spec),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::EBUSY)
    }

    /// Mounts at a name in the root directory, without asking what is there, which may cost a message: whatever it is, it is
    /// covered.
    ///
    /// # Errors
    /// `EBUSY` where something is mounted already, and what a name can be refused for.
    pub fn cover(&self, name: &[u8], root: Arc<dyn Inode>, spec: MountSpec) -> Result<Arc<Mount>> {
        self.mount_as(&self.root(), name, root, spec)
    }

    /// Mounts over something that exists.
    fn mount_on(&self, place: &Location, root: Arc<dyn Inode>, spec: MountSpec) -> Result<Arc<Mount>> {
        if place.is_dir() != (root.file_type() == FileType::Directory) {
            return Err(Errno::ENOTDIR);
        }
        // A root of a mount is covered already.
        let name = place.name().filter(|_| !Arc::ptr_eq(place.dentry(), place.mount().root())).ok_or(Errno::EBUSY)?;
        let dir = place.parent().ok_or(Errno::EBUSY)?;
        self.mount_as(&dir, &name, root, spec)
    }

    fn mount_as(&self, dir: &Location, name: &[u8], root: Arc<dyn Inode>, spec: MountSpec) -> Result<Arc<Mount>> {
        Name::new(name)?;
        let mount = Mount::new(root, Some(MountPoint { dir: dir.clone(), name: name.into() }), spec);
        if self.mounts.write().insert(mount.clone()) { Ok(mount) } else { Err(Errno::EBUSY) }
    }

    /// A directory in memory to hang further mounts on.
    fn scaffold(&self) -> Arc<dyn Inode> {
        let config = RamfsConfig { limit: 0, ..RamfsConfig::new(self.config.scaffold_dev, self.config.clock.clone()) };
        Ramfs::new(config).root()
    }

    /// All mounts, the root first, in the order in which they were made.
    pub fn mounts(&self) -> Vec<Arc<Mount>> {
        let mut all = alloc::vec![self.root.clone()];
        all.extend(self.mounts.read().in_order().iter().cloned());
        all
    }

    /// The content of `/proc/mounts`.
    pub fn proc_mounts(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for mount in self.mounts() {
            proc_line(&mount, &mut text);
        }
        text
    }
}
