//! What lies below in these tests: a memory file system seen through inodes that count what they are asked, and that
//! fail, give less than was asked for, or change under the overlay, when a test says so. Nothing of it can be changed
//! through them: what would change it is not implemented, and refused with `EROFS` or `EPERM`.

use crate::testing::ramfs;
use crate::{
    Access, DirEntry, DirSink, Errno, File, FileType, Inode, InodeId, MappedRun, Metadata, Name, OpenFlags, Result,
    Sink, Sought, StatFs, XattrName,
};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::Mutex;

/// Where the memory of the lower files begins: byte n of any file has address `WINDOW + n`.
pub const WINDOW: u64 = 1 << 56;

/// What is done once, at the next moment of its kind.
type Once = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// How it behaves, and what it was asked.
pub struct Behaviour {
    /// Calls of `read_at` on files.
    pub reads: AtomicU64,
    /// Most bytes that one of them gives.
    pub most: AtomicU64,
    /// The next of them fails with this.
    pub failure: Mutex<Option<Errno>>,
    /// Done inside the next of them, after the bytes were read and before they are given.
    pub during_read: Once,
    /// Done inside the next lookup, after the answer was found and before it is given.
    pub during_lookup: Once,
    /// Added to each cookie.
    pub cookies_from: AtomicU64,
    /// How `map` was called.
    pub maps: Mutex<Vec<Access>>,
    /// Whether there is a window.
    pub has_window: bool,
    /// Inodes that somebody holds.
    pub held: AtomicU64,
}

fn happen(what: &Once) {
    let what = what.lock().unwrap().take();
    if let Some(what) = what {
        what();
    }
}

/// A lower file system: its behaviour, the way to change it as the host would, and its root as the overlay sees it.
pub fn lower(has_window: bool) -> (Arc<Behaviour>, Arc<dyn Inode>, Arc<dyn Inode>) {
    let behaviour = Arc::new(Behaviour {
        reads: AtomicU64::new(0),
        most: AtomicU64::new(u64::MAX),
        failure: Mutex::default(),
        during_read: Mutex::default(),
        during_lookup: Mutex::default(),
        cookies_from: AtomicU64::new(0),
        maps: Mutex::default(),
        has_window,
        held: AtomicU64::new(0),
    });
    let host = ramfs(1);
    let root = LowerInode::counted(host.clone(), &behaviour);
    (behaviour, host, root)
}

struct LowerInode {
    inner: Arc<dyn Inode>,
    behaviour: Arc<Behaviour>,
}

impl LowerInode {
    fn counted(inner: Arc<dyn Inode>, behaviour: &Arc<Behaviour>) -> Arc<dyn Inode> {
        behaviour.held.fetch_add(1, SeqCst);
        Arc::new(Self { inner, behaviour: behaviour.clone() })
    }
}

impl Drop for LowerInode {
    fn drop(&mut self) {
        self.behaviour.held.fetch_sub(1, SeqCst);
    }
}

impl Inode for LowerInode {
    fn id(&self) -> InodeId {
        self.inner.id()
    }

    fn file_type(&self) -> FileType {
        self.inner.file_type()
    }

    fn metadata(&self) -> Result<Metadata> {
        self.inner.metadata()
    }

    fn lookup(&self, name: Name<'_>) -> Result<Arc<dyn Inode>> {
        let found = self.inner.lookup(name);
        happen(&self.behaviour.during_lookup);
        Ok(Self::counted(found?, &self.behaviour))
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        self.inner.readlink()
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        assert!(!flags.writes() && !flags.contains(OpenFlags::TRUNC), "{flags:?}");
        let inner = self.inner.clone().open(flags)?;
        Ok(Arc::new(LowerFile { inner, behaviour: self.behaviour.clone(), inode: self }))
    }

    fn access(&self, mask: u32) -> Result<()> {
        self.inner.access(mask)
    }

    fn statfs(&self) -> Result<StatFs> {
        self.inner.statfs()
    }

    fn xattr(&self, name: XattrName<'_>, value: &mut [u8]) -> Result<usize> {
        if name.as_bytes() == ACL { Ok(value.len().min(8)) } else { self.inner.xattr(name, value) }
    }

    fn list_xattrs(&self, list: &mut [u8]) -> Result<usize> {
        let n = self.inner.list_xattrs(list)?;
        if let Some(rest) = list.get_mut(n..n + ACL.len()) {
            rest.copy_from_slice(ACL);
        }
        Ok(n + ACL.len() + 1)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An attribute that all lower inodes have and memory file systems do not know.
const ACL: &[u8] = b"system.posix_acl_access";

struct LowerFile {
    inner: Arc<dyn File>,
    inode: Arc<dyn Inode>,
    behaviour: Arc<Behaviour>,
}

impl File for LowerFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        self.behaviour.reads.fetch_add(1, SeqCst);
        if let Some(errno) = self.behaviour.failure.lock().unwrap().take() {
            return Err(errno);
        }
        let most = usize::try_from(self.behaviour.most.load(SeqCst)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; sink.room().min(most)];
        let n = self.inner.read_at(offset, &mut crate::SliceSink::new(&mut bytes))?;
        happen(&self.behaviour.during_read);
        sink.put(bytes[..n].into())
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let from = self.behaviour.cookies_from.load(SeqCst);
        let cookie = if cookie == 0 { 0 } else { cookie.checked_sub(from).expect("a cookie that was given") };
        self.inner.readdir(cookie, &mut |entry| entries(&DirEntry { next: entry.next + from, ..entry.clone() }))
    }

    fn map(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        assert!(access != Access::Write, "the lower file is mapped for writing");
        self.behaviour.maps.lock().unwrap().push(access);
        let size = self.inner.inode().metadata()?.size;
        if offset >= size {
            return Err(Errno::EINVAL);
        }
        let len = size.next_multiple_of(4096);
        let run = MappedRun { offset: 0, phys: WINDOW, len, writable: false, taken_back: false, pin: Arc::new(()) };
        Ok(self.behaviour.has_window.then_some(run))
    }

    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        self.inner.seek(what, offset)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
