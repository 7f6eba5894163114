//! Telling who watches that something happened to a file: inotify(7), for what this machine does.
//!
//! Where something happens, [`crate::Namespace`], [`crate::Location`] and the open files above them say so. An event goes to
//! who watches the inode and, with its name, to who watches the directory. What the host does to a share is not seen.
//!
//! While nobody watches anything, saying so costs one look at a counter.

mod instance;
mod queue;
mod registry;
#[cfg(test)]
mod tests;

pub use instance::{Inotify, MAX_INSTANCES, MAX_WATCHES, WatchRequest};
pub use queue::MAX_QUEUED;

use crate::{Dentry, FileType, Inode, InodeId, Location};
use alloc::sync::Arc;
use bitflags::bitflags;
use core::sync::atomic::{AtomicU32, Ordering};
use registry::Told;

bitflags! {
    /// What happened, with inotify(7)'s values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Events: u32 {
        /// It was read.
        const ACCESS = 0x1;
        /// It was written or resized.
        const MODIFY = 0x2;
        /// Its attributes changed.
        const ATTRIB = 0x4;
        /// An open file that could write was closed.
        const CLOSE_WRITE = 0x8;
        /// Another was closed.
        const CLOSE_NOWRITE = 0x10;
        /// It was opened.
        const OPEN = 0x20;
        /// A name went from the directory elsewhere.
        const MOVED_FROM = 0x40;
        /// A name came into the directory.
        const MOVED_TO = 0x80;
        /// A name was made in the directory.
        const CREATE = 0x100;
        /// A name was taken out of the directory.
        const DELETE = 0x200;
        /// It has gone itself.
        const DELETE_SELF = 0x400;
        /// It was renamed itself.
        const MOVE_SELF = 0x800;
        /// Events were lost: the queue was full.
        const Q_OVERFLOW = 0x4000;
        /// The watch is no more.
        const IGNORED = 0x8000;
        /// It is a directory.
        const ISDIR = 0x4000_0000;
    }
}

/// The events that can be watched for (`IN_ALL_EVENTS`).
pub const ALL: Events = Events::from_bits_truncate(0xfff);

const CLOSE: Events = Events::CLOSE_WRITE.union(Events::CLOSE_NOWRITE);

/// A name that moves, as the two events of its move share it. 0 is no move.
fn next_cookie() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(1).max(1)
}

/// Whether anybody watches anything.
pub fn watched() -> bool {
    registry::any()
}

/// Something happened to an inode itself.
pub(crate) fn to_inode(inode: &Arc<dyn Inode>, what: Events) {
    if watched() {
        let what = what | kind(inode);
        registry::tell(inode.id(), &Told { what, name: None, cookie: 0, unlinked: false });
    }
}

/// A name in `dir` was made, moved or taken away; `is_dir` says what it leads to.
pub(crate) fn to_name(dir: &Location, name: &[u8], what: Events, is_dir: bool, cookie: u32) {
    let what = if is_dir { what | Events::ISDIR } else { what };
    registry::tell(dir.id(), &Told { what, name: Some(name), cookie, unlinked: false });
}

/// A name was made in `dir`.
pub(crate) fn created(dir: &Location, name: &[u8], kind: FileType) {
    if watched() {
        to_name(dir, name, Events::CREATE, kind == FileType::Directory, 0);
    }
}

/// The inode has neither a name nor anybody who holds it by one.
pub(crate) fn gone(id: InodeId) {
    if watched() {
        registry::tell(id, &Told { what: Events::DELETE_SELF, name: None, cookie: 0, unlinked: false });
        registry::forget(id);
    }
}

fn kind(inode: &Arc<dyn Inode>) -> Events {
    if inode.file_type() == FileType::Directory { Events::ISDIR } else { Events::empty() }
}

impl Location {
    /// Something happened to what stands here: tells who watches it, and who watches its directory.
    pub fn tell(&self, what: Events) {
        if !watched() {
            return;
        }
        // Only what is done through an open file counts as done to a file without a name.
        let used = what.intersects(Events::OPEN | Events::ACCESS | Events::MODIFY | CLOSE);
        let what = what | kind(self.inode());
        let place = self.dentry().named_in();
        let unlinked = used && place.as_ref().is_some_and(|(.., removed)| *removed);
        if let Some((parent, name, _)) = place {
            registry::tell(parent.id(), &Told { what, name: Some(&name), cookie: 0, unlinked });
        }
        registry::tell(self.id(), &Told { what, name: None, cookie: 0, unlinked });
    }
}

/// An inode that is about to lose a name, kept only while somebody watches.
pub(crate) struct Losing(Option<Arc<dyn Inode>>);

impl Losing {
    /// What `name` in `dir` leads to.
    pub(crate) fn name(dir: &Location, name: crate::Name<'_>) -> Self {
        Self(watched().then(|| dir.inode().lookup(name).ok()).flatten())
    }

    /// What it is.
    pub(crate) fn inode(&self) -> Option<&Arc<dyn Inode>> {
        self.0.as_ref()
    }

    /// It has lost the name, which `dentry` stood for if anybody stands there. With its last name it goes, at once or when the
    /// last who stands there leaves.
    pub(crate) fn lost(self, dentry: Option<Arc<Dentry>>) {
        let Some(inode) = self.0 else { return };
        let is_dir = inode.file_type() == FileType::Directory;
        if !is_dir && inode.metadata().is_ok_and(|metadata| metadata.nlink > 0) {
            return;
        }
        match dentry {
            Some(dentry) => dentry.goes_with_its_last_user(),
            None => gone(inode.id()),
        }
    }
}

/// A name moved; `exchanged` is the other direction of a swap. The two events of a move share a number.
pub(crate) fn moved(from: (&Location, &[u8]), to: (&Location, &[u8]), what: &Losing, replaced: Option<&Losing>) {
    let Some(inode) = what.inode() else { return };
    let (is_dir, cookie) = (inode.file_type() == FileType::Directory, next_cookie());
    to_name(from.0, from.1, Events::MOVED_FROM, is_dir, cookie);
    to_name(to.0, to.1, Events::MOVED_TO, is_dir, cookie);
    if let Some(replaced) = replaced.and_then(Losing::inode) {
        to_inode(replaced, Events::ATTRIB);
    }
    to_inode(inode, Events::MOVE_SELF);
}
