//! The nodes a guest knows: numbers for files of the host.
//!
//! A node holds its file by a descriptor that can do nothing but name it (`O_PATH`), so it stays the same file whatever is
//! renamed, replaced or deleted on the host. A number is given once and never again, not even after INIT: whatever a guest
//! remembers of a node it has forgotten, it cannot mean another file by it.
//!
//! A descriptor a node is the price. File handles (open_by_handle_at(2)) would spare it, but they take a privilege, and they do
//! not go with Landlock: what such a handle opens after the host has dropped the name from its cache lies nowhere for
//! Landlock, and is refused. So there is an end to what one guest can know, and a guest stays below it by forgetting.
//!
//! What a listing names is only seen at first ([`super::sighting`]): its node has the right to a descriptor, and gets it when
//! it is used, or when the guest takes away the name it was seen under ([`Nodes::hold_name`]).
//!
//! Every reply that names a node counts as one lookup of it, and FORGET takes lookups back (fuse(4)); at none the node is
//! gone.

use super::host::{FileId, Status};
use super::sighting::{Sighting, open_path};
use crate::virtio::fs::descriptors::{Descriptors, Token};
use crate::virtio::fs::guard::refuse;
use rustix::fs::FileType;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// `FUSE_ROOT_ID`.
pub const ROOT: u64 = 1;

/// A file a guest knows.
#[derive(Debug)]
pub struct Node {
    file: OwnedFd,
    kind: FileType,
    // The root has none: it is the share's own.
    _token: Option<Token>,
}

impl Node {
    /// What sort of file it is; that never changes.
    pub fn kind(&self) -> FileType {
        self.kind
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Debug)]
enum File {
    Held(Arc<Node>),
    /// With the right to the descriptor it will have.
    Seen(Sighting<Arc<Node>>, Token),
}

#[derive(Debug)]
struct Known {
    file: File,
    id: FileId,
    lookups: u64,
}

#[derive(Debug)]
struct Table {
    known: HashMap<u64, Known>,
    numbers: HashMap<FileId, u64>,
    next: u64,
}

impl Table {
    /// The number of the file of this status, if the guest knows it.
    fn number(&self, status: &Status) -> Option<u64> {
        let number = *self.numbers.get(&status.id())?;
        match &self.known.get(&number)?.file {
            // Nobody else gets its inode number while it is held.
            File::Held(_) => Some(number),
            File::Seen(sighting, _) => sighting.was_born(status.birth()).then_some(number),
        }
    }

    /// Counts a lookup.
    fn count(&mut self, number: u64) -> u64 {
        if let Some(known) = self.known.get_mut(&number) {
            known.lookups = known.lookups.saturating_add(1);
        }
        number
    }

    /// A new node. One that had its identity before is of a file that is no more.
    fn add(&mut self, file: File, id: FileId) -> u64 {
        let number = self.next;
        // At a million a second this takes half a million years.
        self.next += 1;
        self.numbers.insert(id, number);
        self.known.insert(number, Known { file, id, lookups: 1 });
        number
    }

    /// Lets a node have `file`, if it has none yet.
    fn hold(&mut self, number: u64, file: OwnedFd) -> Option<Arc<Node>> {
        let Known { file: known, id, lookups } = self.known.remove(&number)?;
        let node = match known {
            File::Held(node) => node,
            File::Seen(sighting, token) => Arc::new(Node { file, kind: sighting.kind(), _token: Some(token) }),
        };
        self.known.insert(number, Known { file: File::Held(node.clone()), id, lookups });
        Some(node)
    }
}

/// All nodes of a share.
#[derive(Debug)]
pub struct Nodes {
    root: Arc<Node>,
    root_id: FileId,
    descriptors: Arc<Descriptors>,
    table: Mutex<Table>,
}

impl Nodes {
    /// Only the root, an `O_PATH` descriptor of a directory.
    pub fn new(root: OwnedFd, root_id: FileId, descriptors: Arc<Descriptors>) -> Self {
        let root = Arc::new(Node { file: root, kind: FileType::Directory, _token: None });
        let table = Mutex::new(Table { known: HashMap::new(), numbers: HashMap::new(), next: ROOT + 1 });
        Self { root, root_id, descriptors, table }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after every statement that changes it but two in `enter` and `forget`, which cannot panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of this number, with its file.
    ///
    /// # Errors
    /// `EBADF` for one the guest does not know, `ESTALE` when it was seen and is not there any more.
    pub fn get(&self, number: u64) -> io::Result<Arc<Node>> {
        if number == ROOT {
            return Ok(self.root.clone());
        }
        let unknown = || refuse(libc::EBADF);
        let sighting = match &self.table().known.get(&number).ok_or_else(unknown)?.file {
            File::Held(node) => return Ok(node.clone()),
            File::Seen(sighting, _) => sighting.clone(),
        };
        let file = sighting.open()?;
        self.table().hold(number, file).ok_or_else(unknown)
    }

    /// Counts one lookup of `file`, an `O_PATH` descriptor of this status, and returns the number of its node.
    ///
    /// # Errors
    /// `ENFILE` when the file is new and the guest holds as many descriptors as it may.
    pub fn enter(&self, file: OwnedFd, status: &Status) -> io::Result<u64> {
        if status.id() == self.root_id {
            return Ok(ROOT);
        }
        let mut table = self.table();
        if let Some(number) = table.number(status) {
            table.hold(number, file);
            return Ok(table.count(number));
        }
        let token = self.token()?;
        let node = Arc::new(Node { file, kind: status.kind(), _token: Some(token) });
        Ok(table.add(File::Held(node), status.id()))
    }

    /// Counts one lookup of what was seen, whose status this is, and returns the number of its node.
    ///
    /// # Errors
    /// As [`Nodes::enter`].
    pub fn see(&self, sighting: Sighting<Arc<Node>>, status: &Status) -> io::Result<u64> {
        let mut table = self.table();
        if let Some(number) = table.number(status) {
            if let Some(Known { file: File::Seen(before, _), .. }) = table.known.get_mut(&number) {
                *before = sighting;
            }
            return Ok(table.count(number));
        }
        let token = self.token()?;
        let id = sighting.id();
        Ok(table.add(File::Seen(sighting, token), id))
    }

    /// If a file was seen under `name` in `directory`, it is held now: the name is about to lead elsewhere, and the guest knows
    /// the file all the same. Whatever goes wrong is about a name that leads there no longer.
    pub fn hold_name(&self, directory: &Arc<Node>, name: &CStr) {
        // The table holds it, and so do we; and so does everything that was seen in it.
        if Arc::strong_count(directory) <= 2 {
            return;
        }
        let Ok(file) = open_path(directory, name) else { return };
        let Ok(status) = Status::of(&file) else { return };
        let mut table = self.table();
        if let Some(number) = table.number(&status) {
            table.hold(number, file);
        }
    }

    fn token(&self) -> io::Result<Token> {
        self.descriptors.take().ok_or_else(|| refuse(libc::ENFILE))
    }

    /// Whether a new node would have a descriptor. To be asked before a file is made that needs one.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn room(&self) -> io::Result<()> {
        self.token().map(drop)
    }

    /// Takes `count` lookups back. A guest that forgets more than it looked up forgets the node; the root stays.
    pub fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        let Some(known) = table.known.get_mut(&number) else { return };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 {
            let id = known.id;
            table.known.remove(&number);
            // Another file may have its identity by now.
            if let Entry::Occupied(place) = table.numbers.entry(id)
                && *place.get() == number
            {
                place.remove();
            }
        }
    }

    /// Forgets everything, when a guest leaves or starts anew.
    pub fn clear(&self) {
        let mut table = self.table();
        table.known.clear();
        table.numbers.clear();
    }
}
