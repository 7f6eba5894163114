//! What the comparison with a plain memory file system (`tests/compare/overlay.rs`) cannot see: what is asked of the lower
//! file system and what happens when it fails or changes, memory and its limit, mappings, cookies.

mod content;
mod lower;
mod names;

use super::{Mappings, Overlay, OverlayConfig};
use crate::ramfs::{PAGE, PageSource, RamfsConfig};
use crate::testing::{read_file, ticking};
use crate::{Errno, File, FileType, Inode, InodeId, Name, OpenFlags, Result, SetMetadata, SliceSource};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::SeqCst;
use lower::{Behaviour, lower};
use std::sync::Mutex;

/// Files up to this size are copied whole in these tests.
const WHOLE: u64 = 2 * PAGE as u64;

/// Lower inodes of changed files that may be held before small files are copied to let go of them.
const HELD: u64 = 8;

/// Page tables that only remember what was to be forgotten.
#[derive(Default)]
struct Forgotten(Mutex<Vec<(InodeId, u64, u64)>>);

impl Mappings for Forgotten {
    fn forget(&self, file: InodeId, from: u64, to: u64) {
        self.0.lock().unwrap().push((file, from, to));
    }
}

/// An overlay over a lower file system of the tests.
struct World {
    overlay: Overlay,
    /// The root of the overlay.
    root: Arc<dyn Inode>,
    /// The same directory as the host changes it.
    host: Arc<dyn Inode>,
    behaviour: Arc<Behaviour>,
    forgotten: Arc<Forgotten>,
}

impl World {
    /// With files made by `prepare` on the host's side, and room for so many pages.
    fn limited(pages: u64, has_window: bool, prepare: impl FnOnce(&Arc<dyn Inode>)) -> Self {
        let (behaviour, host, lower) = lower(has_window);
        prepare(&host);
        let forgotten = Arc::new(Forgotten::default());
        let limit = pages.saturating_mul(PAGE as u64);
        let memory = RamfsConfig { limit, pages: Some(heap_pages()), ..RamfsConfig::new(1, ticking()) };
        let overlay =
            Overlay::new(OverlayConfig { lower, memory, mappings: forgotten.clone(), whole: WHOLE, held: HELD })
                .unwrap();
        Self { root: overlay.root(), overlay, host, behaviour, forgotten }
    }

    fn new(prepare: impl FnOnce(&Arc<dyn Inode>)) -> Self {
        Self::limited(u64::MAX, false, prepare)
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<dyn File>> {
        find(&self.root, path)?.open(flags)
    }

    /// Calls of `read_at` on lower files so far.
    fn reads(&self) -> u64 {
        self.behaviour.reads.load(SeqCst)
    }

    /// Pages of memory in use.
    fn pages(&self) -> u64 {
        self.overlay.used() / PAGE as u64
    }
}

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

/// What a path leads to, without symbolic links.
fn find(root: &Arc<dyn Inode>, path: &str) -> Result<Arc<dyn Inode>> {
    path.split('/').try_fold(root.clone(), |dir, part| dir.lookup(name(part)))
}

/// Makes a file with this content.
fn make(dir: &Arc<dyn Inode>, called: &str, content: &[u8]) -> Arc<dyn File> {
    let (_, file) = dir.create(name(called), 0o644, OpenFlags::RDWR).unwrap();
    assert_eq!(write(&file, 0, content), Ok(content.len()));
    file
}

fn mkdir(dir: &Arc<dyn Inode>, called: &str) -> Arc<dyn Inode> {
    dir.mknod(name(called), FileType::Directory.mode_bits() | 0o755, 0).unwrap()
}

fn write(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) -> Result<usize> {
    file.write_at(offset, &mut SliceSource::new(bytes))
}

fn resize(inode: &Arc<dyn Inode>, size: u64) -> Result<u64> {
    inode.set_metadata(&SetMetadata { size: Some(size), ..SetMetadata::default() }).map(|metadata| metadata.size)
}

fn chmod(inode: &Arc<dyn Inode>, mode: u32) -> Result<()> {
    inode.set_metadata(&SetMetadata { mode: Some(mode), ..SetMetadata::default() }).map(drop)
}

/// Content whose every page tells its number.
fn numbered(pages: usize) -> Vec<u8> {
    (0..pages * PAGE).map(|at| (at / PAGE) as u8 + b'a').collect()
}

/// The first byte of a page.
fn byte(file: &Arc<dyn File>, page: u64) -> Result<Option<u8>> {
    Ok(read_file(&**file, page * PAGE as u64, 1)?.first().copied())
}

/// Names from a cookie on, at most so many, and the cookie to go on from.
fn list(directory: &Arc<dyn File>, cookie: u64, most: usize) -> Result<(Vec<String>, u64)> {
    let (mut names, mut next) = (Vec::new(), cookie);
    directory.readdir(cookie, &mut |entry| {
        if names.len() == most {
            return false;
        }
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        next = entry.next;
        true
    })?;
    Ok((names, next))
}

/// All names but the dots, sorted.
fn names(dir: &Arc<dyn Inode>) -> Vec<String> {
    let directory = dir.clone().open(OpenFlags::DIRECTORY).unwrap();
    let (mut names, _) = list(&directory, 0, usize::MAX).unwrap();
    names.retain(|name| name != "." && name != "..");
    names.sort();
    names
}

/// Pages of the heap, which mappings show at their own addresses.
fn heap_pages() -> PageSource {
    #[repr(align(4096))]
    struct Aligned(#[expect(dead_code, reason = "only its layout counts")] [u8; PAGE]);
    fn allocate() -> Option<NonNull<u8>> {
        // SAFETY: the layout has a size.
        NonNull::new(unsafe { std::alloc::alloc(Layout::new::<Aligned>()) })
    }
    /// # Safety
    /// `page` came from `allocate`.
    unsafe fn release(page: NonNull<u8>) {
        // SAFETY: by the caller's promise.
        unsafe { std::alloc::dealloc(page.as_ptr(), Layout::new::<Aligned>()) };
    }
    // SAFETY: pages are the heap's, whole and aligned by their layout.
    unsafe { PageSource::new(allocate, release, |address| address as u64) }
}

#[test]
fn only_a_directory_of_the_same_device_can_lie_below() {
    let attempt = |dev, path: Option<&str>| {
        let (_, host, lower) = lower(false);
        make(&host, "file", b"");
        let lower = path.map_or(Ok(lower.clone()), |path| find(&lower, path)).unwrap();
        let memory = RamfsConfig::new(dev, ticking());
        let mappings = Arc::new(Forgotten::default());
        Overlay::new(OverlayConfig { lower, memory, mappings, whole: WHOLE, held: HELD }).err()
    };
    assert_eq!(attempt(1, None), None);
    assert_eq!(attempt(2, None), Some(Errno::EXDEV));
    assert_eq!(attempt(1, Some("file")), Some(Errno::ENOTDIR));
}
