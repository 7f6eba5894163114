//! What the comparison with the host cannot see: limits, cookies, times, mappings.

use super::{PAGE, PageSource, Ramfs, RamfsConfig};
use crate::testing::{read_file, ticking};
use crate::{
    Access, Allocation, Errno, File, FileType, Inode, MemBytes, Name, OpenFlags, RenameFlags, Result, SetMetadata,
    SliceSource, Sought, Source, XattrFlags, XattrName,
};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

fn name(text: &str) -> Name<'_> {
    Name::new(text.as_bytes()).unwrap()
}

fn limited(limit: u64) -> (Ramfs, Arc<dyn Inode>) {
    let fs = Ramfs::new(RamfsConfig { limit, ..RamfsConfig::new(1, ticking()) });
    let root = fs.root();
    (fs, root)
}

fn file(root: &Arc<dyn Inode>, called: &str) -> Arc<dyn File> {
    root.create(name(called), 0o644, OpenFlags::RDWR).unwrap().1
}

fn write(file: &Arc<dyn File>, offset: u64, bytes: &[u8]) -> Result<usize> {
    file.write_at(offset, &mut SliceSource::new(bytes))
}

fn resize(file: &Arc<dyn File>, size: u64) -> Result<u64> {
    let change = SetMetadata { size: Some(size), ..SetMetadata::default() };
    file.inode().set_metadata(&change).map(|metadata| metadata.size)
}

#[test]
fn there_are_not_many_more_inodes_than_pages() {
    let (_fs, root) = limited(100 * PAGE as u64);
    let most = root.statfs().unwrap().files;
    assert!((100..200).contains(&most), "{most}");
    let directory = FileType::Directory.mode_bits() | 0o755;
    let mut made = 0;
    let refused = loop {
        match root.mknod(name(&format!("{made}")), directory, 0) {
            Ok(_) => made += 1,
            Err(errno) => break errno,
        }
    };
    // The root is one, too.
    assert_eq!((refused, made, root.statfs().unwrap().ffree), (Errno::ENOSPC, most - 1, 0));
    root.rmdir(name("8")).unwrap();
    assert_eq!(root.statfs().unwrap().ffree, 1);
}

#[test]
fn the_limit_is_kept_and_given_back() {
    let (fs, root) = limited(4 * PAGE as u64 + 5);
    let a = file(&root, "a");
    assert_eq!(write(&a, 0, &vec![1; 10 * PAGE]), Ok(4 * PAGE));
    assert_eq!(write(&a, 4 * PAGE as u64, b"x"), Err(Errno::ENOSPC));
    assert_eq!(a.append(&mut SliceSource::new(b"x")), Err(Errno::ENOSPC));
    assert_eq!(a.inode().metadata().unwrap().size, 4 * PAGE as u64);
    assert_eq!((fs.used(), root.statfs().unwrap().bfree), (4 * PAGE as u64, 0));
    assert_eq!(resize(&a, PAGE as u64 + 1), Ok(PAGE as u64 + 1));
    assert_eq!(fs.used(), 2 * PAGE as u64);
    // Unlinked, it lives while it is open.
    root.unlink(name("a")).unwrap();
    assert_eq!(read_file(&*a, PAGE as u64, 9), Ok(vec![1]));
    assert_eq!(fs.used(), 2 * PAGE as u64);
    drop(a);
    assert_eq!(fs.used(), 0);
}

#[test]
fn holes_cost_nothing_and_read_as_zeros() {
    let (fs, root) = limited(u64::MAX);
    let a = file(&root, "a");
    let far = 1 << 50;
    assert_eq!(write(&a, far, b"end"), Ok(3));
    assert_eq!(fs.used(), PAGE as u64);
    assert_eq!(read_file(&*a, far - 5, 20), Ok(b"\0\0\0\0\0end".to_vec()));
    // What was cut off does not come back.
    write(&a, 0, &[7; 100]).unwrap();
    resize(&a, 10).unwrap();
    resize(&a, 100).unwrap();
    assert_eq!(read_file(&*a, 5, 95), Ok([&[7; 5][..], &[0; 90]].concat()));
}

#[test]
fn the_largest_offsets_are_refused_not_wrapped() {
    let (_fs, root) = limited(u64::MAX);
    let a = file(&root, "a");
    let max = i64::MAX as u64;
    assert_eq!(write(&a, max - 1, b"xy"), Ok(1));
    assert_eq!(write(&a, max, b"x"), Err(Errno::EFBIG));
    assert_eq!(write(&a, u64::MAX, b"x"), Err(Errno::EFBIG));
    assert_eq!(a.append(&mut SliceSource::new(b"x")), Err(Errno::EFBIG));
    assert_eq!(read_file(&*a, u64::MAX, 5), Ok(vec![]));
    assert_eq!(resize(&a, max + 1), Err(Errno::EFBIG));
    assert_eq!(resize(&a, 0), Ok(0));
}

#[test]
fn space_is_reserved_or_not_and_given_back() {
    let (fs, root) = limited(8 * PAGE as u64);
    let a = file(&root, "a");
    let page = PAGE as u64;
    a.allocate(Allocation::Reserve { keep_size: true }, page, 2 * page).unwrap();
    assert_eq!((fs.used(), a.inode().metadata().unwrap().size), (2 * page, 0));
    a.allocate(Allocation::Reserve { keep_size: false }, 10, 20).unwrap();
    assert_eq!((fs.used(), a.inode().metadata().unwrap().size), (3 * page, 30));
    for (offset, len) in [(0, 9 * page), (100 * page, 1 << 50), (i64::MAX as u64 - 5, 5)] {
        let refused = a.allocate(Allocation::Reserve { keep_size: false }, offset, len);
        let expected = if len == 5 { Ok(()) } else { Err(Errno::ENOSPC) };
        assert_eq!(refused, expected, "{offset} {len}");
    }
    resize(&a, 30).unwrap();
    assert_eq!(fs.used(), page, "what lay past the new end is gone");
    assert_eq!(a.allocate(Allocation::Zero { keep_size: true }, 0, 1), Err(Errno::EOPNOTSUPP));
    assert_eq!(a.allocate(Allocation::Reserve { keep_size: false }, i64::MAX as u64, 1), Err(Errno::EFBIG));
    let reader = a.inode().clone().open(OpenFlags::empty()).unwrap();
    assert_eq!(reader.allocate(Allocation::Punch, 0, 1), Err(Errno::EBADF));
}

#[test]
fn punched_ranges_read_as_zeros_and_are_holes() {
    let (fs, root) = limited(u64::MAX);
    let a = file(&root, "a");
    write(&a, 0, &[7; 4 * PAGE]).unwrap();
    a.allocate(Allocation::Punch, 100, 2 * PAGE as u64).unwrap();
    let expected = [&[7; 100][..], &[0; 2 * PAGE], &[7; 2 * PAGE - 100]].concat();
    assert!(read_file(&*a, 0, 9 * PAGE).unwrap() == expected);
    assert_eq!(fs.used(), 3 * PAGE as u64);
    let page = PAGE as u64;
    let seek = |what, offset| a.seek(what, offset);
    assert_eq!((seek(Sought::Hole, 5), seek(Sought::Data, page + 5)), (Ok(page), Ok(2 * page)));
    assert_eq!((seek(Sought::Hole, page + 5), seek(Sought::Data, 17)), (Ok(page + 5), Ok(17)));
    assert_eq!((seek(Sought::Hole, 2 * page), seek(Sought::Data, 4 * page)), (Ok(4 * page), Err(Errno::ENXIO)));
    a.allocate(Allocation::Punch, 0, i64::MAX as u64).unwrap();
    assert_eq!((fs.used(), seek(Sought::Data, 0), seek(Sought::Hole, 9)), (0, Err(Errno::ENXIO), Ok(9)));
    assert_eq!(a.inode().metadata().unwrap().size, 4 * page);
    a.allocate(Allocation::Punch, 5 * page, 1).unwrap();
}

#[test]
fn attributes_are_kept_within_bounds() {
    let (_fs, root) = limited(u64::MAX);
    let a = file(&root, "a").inode().clone();
    let attribute = |text: &'static str| XattrName::new(text.as_bytes()).unwrap();
    let (any, mut buffer) = (XattrFlags::empty(), [0; 16]);
    assert_eq!(a.set_xattr(attribute("user.b"), b"1", XattrFlags::REPLACE), Err(Errno::ENODATA));
    a.set_xattr(attribute("user.b"), b"123", any).unwrap();
    a.set_xattr(attribute("user.a"), b"", XattrFlags::CREATE).unwrap();
    assert_eq!(a.set_xattr(attribute("user.b"), b"", XattrFlags::CREATE), Err(Errno::EEXIST));
    assert_eq!((a.xattr(attribute("user.b"), &mut []), a.xattr(attribute("user.b"), &mut buffer)), (Ok(3), Ok(3)));
    assert_eq!(&buffer[..4], b"123\0");
    assert_eq!(a.xattr(attribute("user.b"), &mut [0; 2]), Err(Errno::ERANGE));
    assert_eq!(a.xattr(attribute("user.a"), &mut buffer), Ok(0));
    assert_eq!((a.list_xattrs(&mut []), a.list_xattrs(&mut buffer)), (Ok(14), Ok(14)));
    assert_eq!(&buffer[..14], b"user.a\0user.b\0");
    for room in 1..14 {
        assert_eq!(a.list_xattrs(&mut vec![0; room]), Err(Errno::ERANGE), "{room}");
    }
    a.remove_xattr(attribute("user.a")).unwrap();
    assert_eq!(a.remove_xattr(attribute("user.a")), Err(Errno::ENODATA));
    assert_eq!(a.set_xattr(attribute("user."), b"", any), Err(Errno::EINVAL));
    assert_eq!(a.set_xattr(attribute("system.x"), b"", any), Err(Errno::EOPNOTSUPP));
    // One attribute at its longest may be replaced for ever; more of them than an inode holds may not be.
    for _ in 0..10 {
        a.set_xattr(attribute("user.b"), &[7; 65536], any).unwrap();
    }
    let full =
        (0..).find(|i| a.set_xattr(XattrName::new(format!("user.{i}").as_bytes()).unwrap(), &[7; 1024], any).is_err());
    assert!((60..64).contains(&full.unwrap()), "{full:?}");
    root.symlink(name("link"), b"a").unwrap();
    let link = root.lookup(name("link")).unwrap();
    assert_eq!(link.set_xattr(attribute("user.b"), b"", any), Err(Errno::EPERM));
    assert_eq!(link.xattr(attribute("user.b"), &mut []), Err(Errno::ENODATA));
}

/// Gives some bytes, then faults.
struct Faulting(usize);

impl Source for Faulting {
    fn remaining(&self) -> usize {
        self.0 + 10_000
    }

    fn take(&mut self, _buffer: &mut [u8]) -> Result<usize> {
        Err(Errno::EFAULT)
    }

    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let n = self.0.min(len);
        if n == 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the caller's `to` is good for `len` bytes, and `n` is no more.
        unsafe { to.write_bytes(b'z', n) };
        self.0 -= n;
        Ok(n)
    }
}

#[test]
fn a_faulting_write_counts_what_it_took() {
    let (_fs, root) = limited(u64::MAX);
    let a = file(&root, "a");
    assert_eq!(a.write_at(0, &mut Faulting(5000)), Ok(5000));
    assert_eq!(a.append(&mut Faulting(1)), Ok((1, 5001)));
    assert_eq!(a.append(&mut Faulting(0)), Err(Errno::EFAULT));
    assert_eq!(a.inode().metadata().unwrap().size, 5001);
}

#[test]
fn appends_from_many_threads_lose_nothing() {
    let (_fs, root) = limited(u64::MAX);
    let a = file(&root, "log");
    let threads: Vec<_> = (1..=4u8)
        .map(|id| {
            let a = a.clone();
            std::thread::spawn(move || {
                (0..300).for_each(|_| assert_eq!(a.append(&mut SliceSource::new(&[id; 77])).unwrap().0, 77));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let all = read_file(&*a, 0, 1 << 20).unwrap();
    assert_eq!(all.len(), 4 * 300 * 77);
    assert!(all.chunks(77).all(|record| record[0] != 0 && record.iter().all(|byte| *byte == record[0])));
}

fn entries(directory: &Arc<dyn File>, cookie: u64, most: usize) -> (Vec<String>, u64) {
    let (mut names, mut next) = (Vec::new(), cookie);
    let take = &mut |entry: &crate::DirEntry<'_>| {
        if names.len() == most {
            return false;
        }
        names.push(String::from_utf8(entry.name.to_vec()).unwrap());
        next = entry.next;
        true
    };
    directory.readdir(cookie, take).unwrap();
    (names, next)
}

#[test]
fn listings_go_on_while_entries_come_and_go() {
    let (_fs, root) = limited(u64::MAX);
    for i in 0..200 {
        file(&root, &format!("f{i:03}"));
    }
    let directory = root.clone().open(OpenFlags::DIRECTORY).unwrap();
    let (first, cookie) = entries(&directory, 0, 102);
    assert_eq!((first.len(), first.last().unwrap().as_str()), (102, "f099"));
    for i in 0..150 {
        root.unlink(name(&format!("f{i:03}"))).unwrap();
    }
    file(&root, "new");
    let (rest, end) = entries(&directory, cookie, 1000);
    let expected: Vec<_> = (150..200).map(|i| format!("f{i:03}")).chain([String::from("new")]).collect();
    assert_eq!(rest, expected);
    assert_eq!(entries(&directory, end, 10).0, Vec::<String>::new());
}

#[test]
fn times_and_numbers_go_on_only() {
    let (_fs, root) = limited(u64::MAX);
    let a = file(&root, "a");
    let before = a.inode().metadata().unwrap();
    write(&a, 0, b"x").unwrap();
    let written = a.inode().metadata().unwrap();
    assert!(written.mtime > before.mtime && written.ctime == written.mtime && written.atime == before.atime);
    read_file(&*a, 0, 1).unwrap();
    assert!(a.inode().metadata().unwrap().atime > written.mtime);
    root.unlink(name("a")).unwrap();
    assert!(file(&root, "a").inode().metadata().unwrap().ino > before.ino);
}

#[test]
fn other_file_systems_are_told_apart() {
    let (_one, root) = limited(u64::MAX);
    let (_two, other) = limited(u64::MAX);
    let a = file(&root, "a");
    assert_eq!(other.link(name("a"), a.inode()), Err(Errno::EXDEV));
    assert_eq!(root.rename(name("a"), &other, name("a"), RenameFlags::empty()), Err(Errno::EXDEV));
}

/// Pages out.
static PAGES_OUT: AtomicUsize = AtomicUsize::new(0);
/// Most pages the source gives.
const SOURCE_PAGES: usize = 4;

/// A source of few pages, each filled with what no file may show.
fn counted_pages() -> PageSource {
    const LAYOUT: Layout = Layout::new::<Aligned>();
    #[repr(align(4096))]
    struct Aligned(#[expect(dead_code, reason = "only its layout counts")] [u8; PAGE]);
    fn allocate() -> Option<NonNull<u8>> {
        let taken = PAGES_OUT.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < SOURCE_PAGES).then_some(n + 1));
        taken.ok()?;
        // SAFETY: the layout has a size.
        let page = NonNull::new(unsafe { std::alloc::alloc(LAYOUT) })?;
        // SAFETY: the page was just allocated with this length.
        unsafe { page.write_bytes(0xaa, PAGE) };
        Some(page)
    }
    /// # Safety
    /// `page` came from `allocate`.
    unsafe fn release(page: NonNull<u8>) {
        PAGES_OUT.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: by the caller's promise.
        unsafe { std::alloc::dealloc(page.as_ptr(), LAYOUT) };
    }
    // SAFETY: pages are the heap's, whole and aligned by their layout.
    unsafe { PageSource::new(allocate, release, |address| address as u64) }
}

#[test]
fn mapped_pages_are_the_file() {
    let fs = Ramfs::new(RamfsConfig { pages: Some(counted_pages()), ..RamfsConfig::new(1, ticking()) });
    let a = file(&fs.root(), "shm");
    resize(&a, 3 * PAGE as u64).unwrap();
    let run = a.map(PAGE as u64 + 17, Access::Write).unwrap().unwrap();
    assert_eq!((run.offset, run.len, run.phys % PAGE as u64, run.writable), (PAGE as u64, PAGE as u64, 0, true));
    write(&a, PAGE as u64, b"seen").unwrap();
    // SAFETY: `physical` gives addresses as they are, and the pin keeps the page.
    let mapped = unsafe { MemBytes::new(run.phys as *const u8, 4) };
    let mut buffer = [0; 4];
    crate::Sink::put(&mut crate::SliceSink::new(&mut buffer), mapped).unwrap();
    assert_eq!(&buffer, b"seen");
    // Punched, it is zeroed where it is.
    a.allocate(Allocation::Punch, 0, 9 * PAGE as u64).unwrap();
    assert_eq!(fs.used(), PAGE as u64);
    // SAFETY: as above.
    let mapped = unsafe { MemBytes::new(run.phys as *const u8, 4) };
    crate::Sink::put(&mut crate::SliceSink::new(&mut buffer), mapped).unwrap();
    assert_eq!(buffer, [0; 4]);
    // Cut off, the page stays for who has it mapped.
    resize(&a, 0).unwrap();
    assert_eq!(fs.used(), PAGE as u64);
    drop(run);
    assert_eq!(fs.used(), 0);
    assert_eq!(a.map(0, Access::Read).err(), Some(Errno::EINVAL));
    assert_eq!(PAGES_OUT.load(Ordering::SeqCst), 0);
    // The source runs dry before the limit: that is a full file system too.
    assert_eq!(write(&a, 0, &[b'x'; (SOURCE_PAGES + 1) * PAGE]), Ok(SOURCE_PAGES * PAGE));
    assert_eq!(write(&a, (SOURCE_PAGES * PAGE) as u64, b"x"), Err(Errno::ENOSPC));
    // A fresh page shows zeroes, whatever was in it.
    resize(&a, 0).unwrap();
    write(&a, 1, b"x").unwrap();
    assert_eq!(read_file(&*a, 0, 3), Ok(vec![0, b'x']));
    let (_fs, root) = limited(u64::MAX);
    let b = file(&root, "b");
    write(&b, 0, b"x").unwrap();
    assert!(b.map(0, Access::Read).unwrap().is_none());
}

#[test]
fn trees_deeper_than_the_stack_can_be_dropped() {
    let (fs, mut at) = limited(u64::MAX);
    for _ in 0..200_000 {
        at = at.mknod(name("d"), 0o040755, 0).unwrap();
    }
    drop(at);
    drop(fs);
}
