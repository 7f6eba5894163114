//! Listing a directory as getdents64(2) shows it: with the mount points its own file system knows nothing of.

use crate::dentry::Location;
use crate::namespace::Namespace;
use crate::{DirEntry, DirSink, File, Name, Result};
use alloc::sync::Arc;

/// An open directory. It keeps no position: cookies say where to go on.
pub struct DirStream {
    file: Arc<dyn File>,
    location: Location,
}

/// Cookies of mount points: this plus their number in the directory. Just below the 2^63-1 that some file
/// systems (ext4) give for their end, and above what their hashes reach. A file system's own cookies are opaque and may
/// lie here all the same; so only directories that have mount points look at the range.
const FIRST_MOUNT: u64 = 0x7fff_ffff_ffff_0000;
const LAST_MOUNT: u64 = FIRST_MOUNT + 0xfff0;

impl DirStream {
    /// A stream over `file`, which was opened at `location`.
    pub fn new(file: Arc<dyn File>, location: Location) -> Self {
        Self { file, location }
    }

    /// Lists from `cookie` (0 is the start) until `entries` declines or the directory ends. Entries keep the
    /// inode number the directory gives, also where something is mounted on them, as on Linux; mount points
    /// that the directory does not list come last, with the number of what is mounted.
    ///
    /// # Errors
    /// As [`File::readdir`].
    pub fn read(&self, namespace: &Namespace, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let mounts = namespace.mounts_in(&self.location);
        if mounts.is_empty() {
            return self.file.readdir(cookie, entries);
        }
        let mut number = 0;
        if (FIRST_MOUNT..=LAST_MOUNT).contains(&cookie) {
            number = cookie - FIRST_MOUNT;
        } else {
            let mut declined = false;
            self.file.readdir(cookie, &mut |entry| {
                declined = !entries(entry);
                !declined
            })?;
            if declined {
                return Ok(());
            }
        }
        for (mount, next) in mounts.iter().zip(FIRST_MOUNT + 1..=LAST_MOUNT).skip(number as usize) {
            let Some(point) = mount.point() else { continue };
            // Whatever hinders the lookup, the name is not to vanish: only a name that is there is left to the directory.
            if self.location.inode().lookup(Name::new(&point.name)?).is_ok() {
                continue;
            }
            let root = Location::root_of(mount.clone());
            let entry = DirEntry {
                ino: root.metadata().map_or(1, |metadata| metadata.ino),
                next,
                file_type: Some(root.inode().file_type()),
                name: &point.name,
                id: Some(root.id()),
            };
            if !entries(&entry) {
                break;
            }
        }
        Ok(())
    }
}
