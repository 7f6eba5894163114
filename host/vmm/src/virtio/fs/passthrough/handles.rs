//! Files a guest has open. A handle belongs to the node it was opened by, and to no other.

use crate::virtio::fs::descriptors::{Descriptors, Token};
use crate::virtio::fs::guard::refuse;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// An open file.
#[derive(Debug)]
pub struct Handle {
    node: u64,
    /// None for a directory, whose descriptor is where it is listed.
    file: Option<File>,
    /// Whether the descriptor appends. Held for reading by writes, which rely on it.
    appends: RwLock<bool>,
    _token: Token,
}

impl Handle {
    /// The file.
    ///
    /// # Errors
    /// `EISDIR`.
    pub fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| refuse(libc::EISDIR))
    }

    /// Does `body` with the file in the shape the library wants.
    ///
    /// # Errors
    /// `EISDIR`, or what `body` says.
    pub fn with<T>(&self, body: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let descriptor = self.file()?.as_raw_fd();
        // SAFETY: `self` keeps the descriptor open longer than this lives, and it is never dropped, so never closes it.
        // Several threads may do this at once: the file has no state of its own beside the descriptor.
        let mut file = ManuallyDrop::new(unsafe { File::from_raw_fd(descriptor) });
        body(&mut file)
    }

    /// Writes with a descriptor that appends or does not, as the guest's own open file does by now: fcntl(2) is not a
    /// request. Writes of the other kind by other threads wait meanwhile.
    ///
    /// # Errors
    /// `EISDIR`, or what the host or `write` says.
    pub fn write<T>(&self, append: bool, write: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
        let mut appends = self.appends.read().unwrap_or_else(PoisonError::into_inner);
        while *appends != append {
            drop(appends);
            self.set_append(append)?;
            appends = self.appends.read().unwrap_or_else(PoisonError::into_inner);
        }
        self.with(write)
    }

    fn set_append(&self, append: bool) -> io::Result<()> {
        let mut appends = self.appends.write().unwrap_or_else(PoisonError::into_inner);
        let file = self.file()?;
        let mut flags = fcntl_getfl(file)?;
        flags.set(OFlags::APPEND, append);
        fcntl_setfl(file, flags)?;
        *appends = append;
        Ok(())
    }
}

/// All open files of a share.
#[derive(Debug)]
pub struct Handles {
    descriptors: Arc<Descriptors>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    open: BTreeMap<u64, Arc<Handle>>,
    last: u64,
}

impl Handles {
    /// None.
    pub fn new(descriptors: Arc<Descriptors>) -> Self {
        Self { descriptors, table: Mutex::default() }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to one more.
    ///
    /// # Errors
    /// `ENFILE` when the guest holds as many descriptors as it may.
    pub fn room(&self) -> io::Result<Token> {
        self.descriptors.take().ok_or_else(|| refuse(libc::ENFILE))
    }

    /// Enters a file opened with `flags`.
    pub fn insert(&self, node: u64, file: File, flags: OFlags, token: Token) -> u64 {
        let appends = RwLock::new(flags.contains(OFlags::APPEND));
        self.enter(Handle { node, file: Some(file), appends, _token: token })
    }

    /// Enters a directory.
    pub fn insert_directory(&self, node: u64, token: Token) -> u64 {
        self.enter(Handle { node, file: None, appends: RwLock::new(false), _token: token })
    }

    fn enter(&self, handle: Handle) -> u64 {
        let mut table = self.table();
        table.last += 1;
        let number = table.last;
        table.open.insert(number, Arc::new(handle));
        number
    }

    /// What `number` is, opened by `node`.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn get(&self, node: u64, number: u64) -> io::Result<Arc<Handle>> {
        let handle = self.table().open.get(&number).cloned();
        handle.filter(|handle| handle.node == node).ok_or_else(|| refuse(libc::EBADF))
    }

    /// Closes it.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn remove(&self, node: u64, number: u64) -> io::Result<()> {
        self.get(node, number)?;
        self.table().open.remove(&number);
        Ok(())
    }

    /// Closes all.
    pub fn clear(&self) {
        self.table().open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// A pwrite(2) by a descriptor that appends goes to the end, whatever its offset.
    #[test]
    fn a_write_appends_or_not_whatever_others_do_meanwhile() {
        const WRITES: usize = 2000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "begin").unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let handles = Handles::new(Descriptors::new(10));
        let number = handles.insert(7, file, OFlags::RDWR, handles.room().unwrap());
        let handle = handles.get(7, number).unwrap();
        std::thread::scope(|scope| {
            for (append, bytes) in [(true, "end"), (false, "BEGIN")] {
                let handle = &handle;
                scope.spawn(move || {
                    for _ in 0..WRITES {
                        handle.write(append, |file| file.write_all_at(bytes.as_bytes(), 0)).unwrap();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "BEGIN".to_owned() + &"end".repeat(WRITES));
    }
}
