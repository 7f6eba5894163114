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
//! Every reply that names a node counts as one lookup of it, and FORGET takes lookups back (fuse(4)); at none the node is
//! gone.

use super::host::FileId;
use crate::virtio::fs::descriptors::{Descriptors, Token};
use crate::virtio::fs::guard::refuse;
use rustix::fs::FileType;
use std::collections::BTreeMap;
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
struct Known {
    node: Arc<Node>,
    id: FileId,
    lookups: u64,
}

#[derive(Debug)]
struct Table {
    known: BTreeMap<u64, Known>,
    numbers: BTreeMap<FileId, u64>,
    next: u64,
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
        let table = Mutex::new(Table { known: BTreeMap::new(), numbers: BTreeMap::new(), next: ROOT + 1 });
        Self { root, root_id, descriptors, table }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Whole after every statement that changes it but two in `enter` and `forget`, which cannot panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of this number.
    ///
    /// # Errors
    /// `EBADF` for one the guest does not know.
    pub fn get(&self, number: u64) -> io::Result<Arc<Node>> {
        if number == ROOT {
            return Ok(self.root.clone());
        }
        self.table().known.get(&number).map(|known| known.node.clone()).ok_or_else(|| refuse(libc::EBADF))
    }

    /// Counts one lookup of `file`, an `O_PATH` descriptor, and returns the number of its node.
    ///
    /// # Errors
    /// `ENFILE` when the file is new and the guest holds as many descriptors as it may.
    pub fn enter(&self, file: OwnedFd, id: FileId, kind: FileType) -> io::Result<u64> {
        if id == self.root_id {
            return Ok(ROOT);
        }
        let mut table = self.table();
        let number = table.numbers.get(&id).copied();
        if let Some((number, known)) = number.and_then(|number| Some((number, table.known.get_mut(&number)?))) {
            known.lookups = known.lookups.saturating_add(1);
            return Ok(number);
        }
        let token = self.descriptors.take().ok_or_else(|| refuse(libc::ENFILE))?;
        let number = table.next;
        // At a million a second this takes half a million years.
        table.next += 1;
        table.numbers.insert(id, number);
        let node = Arc::new(Node { file, kind, _token: Some(token) });
        table.known.insert(number, Known { node, id, lookups: 1 });
        Ok(number)
    }

    /// Whether a new node would have a descriptor. To be asked before a file is made that needs one.
    ///
    /// # Errors
    /// `ENFILE`.
    pub fn room(&self) -> io::Result<()> {
        self.descriptors.take().map(drop).ok_or_else(|| refuse(libc::ENFILE))
    }

    /// Takes `count` lookups back. A guest that forgets more than it looked up forgets the node; the root stays.
    pub fn forget(&self, number: u64, count: u64) {
        let mut table = self.table();
        let Some(known) = table.known.get_mut(&number) else { return };
        known.lookups = known.lookups.saturating_sub(count);
        if known.lookups == 0 {
            let id = known.id;
            table.numbers.remove(&id);
            table.known.remove(&number);
        }
    }

    /// Forgets everything, when a guest leaves or starts anew.
    pub fn clear(&self) {
        let mut table = self.table();
        table.known.clear();
        table.numbers.clear();
    }
}
