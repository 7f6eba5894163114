//! The page cache against a real server: reading ahead, one copy for everybody, writing back, and giving memory back.

mod server;

use diolkos_common::cmdline::CacheMode;
use diolkos_vfs::{Access, Allocation, Errno, File, MappedRun, OpenFlags, SetMetadata, SliceSource};
use diolkos_virtiofs::Tally;
use server::*;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

const RDONLY: OpenFlags = OpenFlags::empty();
const PAGE: usize = 4096;

fn rig(pages: usize) -> Rig {
    Setup { window: 0, memory: Some(pages), ..Setup::default() }.build()
}

/// The memory of a page that is mapped, as a program sees it.
fn page(run: &MappedRun, offset: u64) -> *mut u8 {
    assert!((run.offset..run.offset + run.len).contains(&offset), "{offset} is not in the run");
    (run.phys + (offset - run.offset)) as *mut u8
}

fn look(run: &MappedRun, offset: u64, len: usize) -> Vec<u8> {
    // SAFETY: frames of the tests' memory stay readable for ever, and the run reaches so far.
    unsafe { std::slice::from_raw_parts(page(run, offset), len) }.to_vec()
}

fn store(run: &MappedRun, offset: u64, bytes: &[u8]) {
    assert!(run.writable);
    // SAFETY: as above, and nobody else looks at the page meanwhile.
    unsafe { page(run, offset).copy_from(bytes.as_ptr(), bytes.len()) };
}

fn map(file: &Arc<dyn File>, offset: u64, access: Access) -> MappedRun {
    file.map(offset, access).unwrap().expect("memory of the cache")
}

#[test]
fn who_reads_in_order_is_read_ahead_for() {
    let rig = rig(4096);
    let content = pattern(4 << 20);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    for (i, piece) in content.chunks(PAGE).enumerate() {
        assert!(read(&file, (i * PAGE) as u64, PAGE).unwrap() == piece, "page {i}");
    }
    // 128, 256, 512 KiB and then 1 MiB at a time.
    assert_eq!((rig.count("fuse.READ"), rig.tally(Tally::PageMisses)), (7, 1), "all but the first came in time");
    assert_eq!((rig.tally(Tally::PagesRead), rig.tally(Tally::PagesAhead)), (1024, 1024 - 1));
    assert_eq!(rig.tally(Tally::PageHits), 1024);
    assert!(read(&file, 0, 4 << 20).unwrap() == content);
    assert_eq!(rig.count("fuse.READ"), 7, "the second time it is all there");
}

#[test]
fn large_reads_are_kept_the_second_time() {
    let rig = rig(4096);
    let content = pattern(4 << 20);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    let all = || {
        for (i, piece) in content.chunks(1 << 20).enumerate() {
            assert!(read(&file, (i << 20) as u64, piece.len()).unwrap() == piece, "piece {i}");
        }
    };
    all();
    assert_eq!((rig.tally(Tally::PagesRead), rig.tally(Tally::PassedBy)), (0, 4 << 20));
    assert_eq!(rig.machine.frames.used(), 0);
    all();
    assert_eq!((rig.tally(Tally::PagesRead), rig.tally(Tally::PassedBy)), (1024, 4 << 20));
    let reads = rig.count("fuse.READ");
    all();
    assert_eq!(rig.count("fuse.READ"), reads);
}

#[test]
fn small_files_and_small_reads_are_kept_at_once() {
    let rig = rig(4096);
    rig.put("small", &pattern(900 << 10));
    rig.put("large", &pattern(4 << 20));
    read(&rig.open("small", RDONLY).unwrap(), 0, 900 << 10).unwrap();
    assert_eq!((rig.tally(Tally::PagesRead), rig.tally(Tally::PassedBy)), (225, 0));
    read(&rig.open("large", RDONLY).unwrap(), 0, 500 << 10).unwrap();
    assert_eq!(rig.tally(Tally::PassedBy), 0);
}

#[test]
fn a_large_read_takes_from_the_cache_what_is_there() {
    let rig = rig(4096);
    let content = pattern(4 << 20);
    rig.put("f", &content);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    // A page that the program has stored into, and that the host does not know.
    let run = map(&file, 2 << 20, Access::Write);
    store(&run, 2 << 20, b"stored");
    let reads = rig.count("fuse.READ");
    let mut expected = content;
    expected[2 << 20..][..6].copy_from_slice(b"stored");
    assert!(read(&file, 0, 4 << 20).unwrap() == expected);
    assert_eq!(rig.count("fuse.READ"), reads + 4, "what is before it, and behind the pages that came along");
    assert!(rig.tally(Tally::PassedBy) >= (4 << 20) - (256 << 10));
}

#[test]
fn who_jumps_gets_no_more_than_asked_for() {
    let rig = rig(4096);
    let content = pattern(4 << 20);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    for at in [3_000_000, 1_000_000, 2_000_000, 500_000] {
        assert!(read(&file, at as u64, 100).unwrap() == content[at..at + 100]);
    }
    assert_eq!((rig.count("fuse.READ"), rig.tally(Tally::PagesAhead)), (4, 0));
    assert!(rig.tally(Tally::PagesRead) <= 8);
}

#[test]
fn any_read_is_the_files_content_and_ends_where_it_does() {
    for size in [1, PAGE - 1, PAGE, PAGE + 1, 300_000] {
        let rig = rig(4096);
        let content = pattern(size);
        rig.put("f", &content);
        let file = rig.open("f", RDONLY).unwrap();
        for (offset, len) in [(0, 1), (size / 2, size), (0, size + 10), (size - 1, 5), (size, 5), (size + PAGE, 5)] {
            let want = &content[offset.min(size)..(offset + len).min(size)];
            assert!(read(&file, offset as u64, len).unwrap() == want, "{size}: {offset} {len}");
        }
        assert_eq!(read(&file, u64::MAX, 10).unwrap(), b"");
    }
}

#[test]
fn readers_and_mappings_have_one_copy() {
    let rig = rig(4096);
    rig.put("f", &pattern(40 * PAGE));
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let run = map(&file, 5 * PAGE as u64 + 9, Access::WriteLater);
    assert!(run.len >= 27 * PAGE as u64 && !run.writable && run.taken_back, "what is around it comes along");
    assert!(look(&run, 5 * PAGE as u64, PAGE) == pattern(40 * PAGE)[5 * PAGE..6 * PAGE]);
    let before = rig.count("fuse.READ");
    assert!(read(&file, 5 * PAGE as u64, PAGE).unwrap() == look(&run, 5 * PAGE as u64, PAGE));
    assert_eq!(rig.count("fuse.READ"), before);
    // A store is read, and a write is seen.
    let writable = map(&file, 5 * PAGE as u64, Access::Write);
    assert_eq!(writable.len, PAGE as u64, "no more is marked as dirty than what is written");
    store(&writable, 5 * PAGE as u64 + 3, b"stored");
    assert_eq!(read(&file, 5 * PAGE as u64 + 3, 6).unwrap(), b"stored");
    write(&file, 5 * PAGE as u64 + 100, b"written").unwrap();
    assert_eq!(look(&run, 5 * PAGE as u64 + 100, 7), b"written");
    assert_eq!(look(&run, 5 * PAGE as u64 + 3, 6), b"stored");
}

#[test]
fn stores_reach_the_host_when_they_are_made_safe_and_only_once() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; 10 * PAGE + 7]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    for at in [PAGE, 2 * PAGE, 10 * PAGE] {
        let run = map(&file, at as u64, Access::Write);
        store(&run, at as u64, b"abcdefgh_beyond");
    }
    assert!(!std::fs::read(&path).unwrap().contains(&b'a'));
    file.fsync(true).unwrap();
    let host = std::fs::read(&path).unwrap();
    assert_eq!(host.len(), 10 * PAGE + 7, "what lies behind the end stays with us");
    assert_eq!((&host[PAGE..PAGE + 8], &host[10 * PAGE..]), (&b"abcdefgh"[..], &b"abcdefg"[..]));
    assert_eq!((rig.count("fuse.WRITE"), rig.tally(Tally::PagesWritten)), (2, 3), "neighbours go together");
    file.fsync(true).unwrap();
    assert_eq!(rig.count("fuse.WRITE"), 2);
    assert_eq!(rig.machine.frames.revoked.lock().unwrap().len(), 3, "the next store is to be noticed");
    store(&map(&file, PAGE as u64, Access::Write), PAGE as u64, b"again");
    drop(file);
    assert_eq!(&std::fs::read(&path).unwrap()[PAGE..PAGE + 8], b"againfgh", "the last close writes back");
    rig.mount.idle();
    assert_eq!(*rig.server.opens.lock().unwrap(), 0, "and nothing stays open for it");
}

#[test]
fn what_the_host_refuses_to_take_is_told_once_by_whoever_makes_it_safe() {
    const WRITE: u32 = 16;
    let rig = rig(4096);
    rig.put("f", &vec![b'.'; 3 * PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let reader = rig.open("f", RDONLY).unwrap();
    let refused = |errno| *rig.server.refused.lock().unwrap() = errno;
    let lose = || {
        store(&map(&file, 0, Access::Write), 0, b"lost");
        refused(Some((WRITE, libc::ENOSPC)));
        // Nobody can be told here.
        file.write_back();
        rig.mount.reclaim(1, true);
        read(&reader, 0, 10).unwrap();
        reader.flush().unwrap();
        refused(None);
    };
    lose();
    assert_eq!(errno(file.fsync(true)), Errno::ENOSPC);
    file.fsync(true).unwrap();
    lose();
    assert_eq!(errno(file.flush()), Errno::ENOSPC);
    file.flush().unwrap();
    lose();
    drop((file, reader));
    let again = rig.open("f", OpenFlags::RDWR).unwrap();
    assert_eq!(errno(again.fsync(true)), Errno::ENOSPC, "as long as the inode is known");
}

#[test]
fn syncfs_writes_back() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    store(&map(&file, 0, Access::Write), 0, b"stored");
    rig.mount.root().sync_fs().unwrap();
    assert_eq!(&std::fs::read(path).unwrap()[..6], b"stored");
}

#[test]
fn a_mapping_of_a_file_opened_to_append_is_written_where_it_lies() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; 2 * PAGE]);
    let file = rig.open("f", OpenFlags::RDWR | OpenFlags::APPEND).unwrap();
    store(&map(&file, PAGE as u64, Access::Write), PAGE as u64, b"here");
    store(&map(&file, 0, Access::Write), 0, b"there");
    assert_eq!(file.append(&mut SliceSource::new(b"end")).unwrap().0, 3);
    file.fsync(true).unwrap();
    let host = std::fs::read(path).unwrap();
    assert_eq!((&host[..5], &host[PAGE..PAGE + 4], &host[2 * PAGE..]), (&b"there"[..], &b"here"[..], &b"end"[..]));
    assert_eq!(*rig.server.opens.lock().unwrap(), 2);
    drop(file);
    assert_eq!(*rig.server.opens.lock().unwrap(), 0);
}

#[test]
fn a_hole_leaves_what_was_stored_beside_it_in_its_page() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; 4 * PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let runs = [0, 3 * PAGE as u64].map(|at| map(&file, at, Access::Write));
    let other = rig.open("f", OpenFlags::RDWR).unwrap();
    // While they are pinned the pages count as dirty: what is stored now was not written back before the hole is made.
    store(&runs[0], 0, b"beside");
    store(&runs[1], 4 * PAGE as u64 - 6, b"beside");
    other.allocate(Allocation::Punch, 100, 4 * PAGE as u64 - 200).unwrap();
    store(&runs[0], 10, b"later");
    drop(runs);
    other.fsync(true).unwrap();
    let host = std::fs::read(path).unwrap();
    assert_eq!((&host[..6], &host[10..15], &host[4 * PAGE - 6..]), (&b"beside"[..], &b"later"[..], &b"beside"[..]));
    assert!(host[100..4 * PAGE - 100].iter().all(|byte| *byte == 0));
    assert!(read(&file, 0, 5 * PAGE).unwrap() == host);
}

#[test]
fn a_page_that_is_being_entered_into_page_tables_stays_dirty() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let run = map(&file, 0, Access::Write);
    file.fsync(true).unwrap();
    store(&run, 0, b"late");
    drop(run);
    file.fsync(true).unwrap();
    assert_eq!(&std::fs::read(&path).unwrap()[..4], b"late");
}

#[test]
fn unmounting_writes_back() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'.'; PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    store(&map(&file, 0, Access::Write), 0, b"stored");
    rig.mount.unmount();
    assert_eq!(&std::fs::read(path).unwrap()[..6], b"stored");
}

#[test]
fn a_file_far_larger_than_the_memory_is_read_and_mapped() {
    let rig = rig(512);
    let content = pattern(16 << 20);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    let mut at = 0;
    while at < content.len() {
        give_room(&rig);
        let piece = read(&file, at as u64, 100_000).unwrap();
        assert!(piece == content[at..at + piece.len()], "at {at}");
        at += piece.len();
    }
    for at in (0..content.len()).step_by(PAGE) {
        give_room(&rig);
        let run = map(&file, at as u64, Access::Read);
        assert!(look(&run, at as u64, PAGE) == content[at..at + PAGE], "at {at}");
    }
    assert!(rig.tally(Tally::PagesDropped) > 2 * 3500);
    assert!(rig.machine.frames.used() <= 512);
    assert!(!rig.machine.frames.revoked.lock().unwrap().is_empty(), "what was mapped is taken from page tables first");
}

/// What the machine does when it has no memory left.
fn give_room(rig: &Rig) {
    if rig.machine.frames.used() > 200 {
        assert!(rig.mount.reclaim(100, true) >= 100);
    }
}

#[test]
fn dirty_pages_are_written_before_they_are_given_up_and_pinned_ones_stay() {
    let rig = rig(64);
    let path = rig.put("f", &vec![b'.'; 64 * PAGE]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    for number in 0..8 {
        let at = (number * PAGE) as u64;
        store(&map(&file, at, Access::Write), at, b"dirty");
    }
    let pinned = map(&file, 40 * PAGE as u64, Access::Read);
    let clean = rig.machine.frames.used() as usize - 8 - (pinned.len as usize / PAGE);
    assert_eq!(rig.mount.reclaim(1000, false), clean, "without waiting");
    assert_eq!(rig.tally(Tally::PagesWritten), 0);
    assert_eq!(rig.mount.reclaim(1000, true), 8);
    assert_eq!(rig.tally(Tally::PagesWritten), 8);
    let host = std::fs::read(path).unwrap();
    assert!((0..8).all(|number| &host[number * PAGE..][..5] == b"dirty"));
    assert!(look(&pinned, pinned.offset, 100) == vec![b'.'; 100]);
}

#[test]
fn without_memory_reading_goes_by_message() {
    let rig = rig(0);
    let content = pattern(100_000);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    assert!(read(&file, 0, 200_000).unwrap() == content);
    assert_eq!(errno(file.map(0, Access::Read).map(|_| ())), Errno::ENOMEM);
}

#[test]
fn what_the_host_changes_is_seen_when_the_rule_says() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![b'a'; 3 * PAGE]);
    let file = rig.open("f", RDONLY).unwrap();
    let host = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(read(&file, 0, 3).unwrap(), b"aaa");
    let run = map(&file, 0, Access::Read);
    later();
    host.write_all_at(b"bbb", 0).unwrap();
    assert_eq!(read(&file, 0, 3).unwrap(), b"aaa", "believed for a second");
    rig.pass(2);
    assert_eq!(read(&file, 0, 3).unwrap(), b"bbb");
    assert!(rig.machine.frames.revoked.lock().unwrap().contains(&(run.phys - run.phys % PAGE as u64)));
    // Opening asks, however young what is known is.
    later();
    host.write_all_at(b"ccc", 0).unwrap();
    assert_eq!(read(&file, 0, 3).unwrap(), b"bbb");
    let second = rig.open("f", RDONLY).unwrap();
    assert_eq!(read(&second, 0, 3).unwrap(), b"ccc");
    assert_eq!(read(&file, 0, 3).unwrap(), b"ccc");
    // The end of the file is asked for each time.
    later();
    (&host).write_all(b"").unwrap();
    host.write_all_at(b"new", 3 * PAGE as u64).unwrap();
    assert_eq!(read(&file, 3 * PAGE as u64, 10).unwrap(), b"new");
    host.set_len(100).unwrap();
    rig.pass(2);
    assert_eq!(read(&file, 50, PAGE).unwrap().len(), 50);
}

/// Lets the host's clock for files tick, so that a change shows in the modification time.
fn later() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

#[test]
fn with_always_nothing_is_asked_twice_and_with_none_everything_is() {
    for (cache, reads) in [(CacheMode::Always, 1), (CacheMode::None, 3)] {
        let rig = Setup { window: 0, memory: Some(4096), cache, ..Setup::default() }.build();
        let path = rig.put("f", &vec![b'a'; PAGE]);
        let file = rig.open("f", RDONLY).unwrap();
        for _ in 0..3 {
            assert_eq!(read(&file, 0, 3).unwrap(), b"aaa");
        }
        assert_eq!(rig.count("fuse.READ"), reads, "{cache:?}");
        std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"bbb", 0).unwrap();
        let want = if cache == CacheMode::None { b"bbb" } else { b"aaa" };
        assert_eq!(read(&file, 0, 3).unwrap(), want, "{cache:?}");
    }
}

#[test]
fn our_own_changes_are_seen_at_once() {
    let rig = rig(4096);
    rig.put("f", &vec![b'a'; 4 * PAGE + 10]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let all = |want: usize| {
        let content = read(&file, 0, 100_000).unwrap();
        assert_eq!(content.len(), want);
        content
    };
    all(4 * PAGE + 10);
    file.allocate(Allocation::Punch, PAGE as u64, PAGE as u64).unwrap();
    assert!(all(4 * PAGE + 10)[PAGE..2 * PAGE] == [0; PAGE]);
    let resize = |size| file.inode().set_metadata(&SetMetadata { size: Some(size), ..Default::default() }).unwrap();
    resize(2 * PAGE as u64 + 5);
    all(2 * PAGE + 5);
    resize(3 * PAGE as u64);
    assert!(all(3 * PAGE)[2 * PAGE + 5..] == vec![0; PAGE - 5], "what was cut off does not come back");
    let appender = rig.open("f", OpenFlags::RDWR | OpenFlags::APPEND).unwrap();
    appender.append(&mut SliceSource::new(b"end")).unwrap();
    assert_eq!(&all(3 * PAGE + 3)[3 * PAGE..], b"end");
    let truncated = rig.open("f", OpenFlags::RDWR | OpenFlags::TRUNC).unwrap();
    assert_eq!(read(&truncated, 0, 10).unwrap(), b"");
}

#[test]
fn stores_behind_the_end_do_not_come_into_the_file() {
    let rig = rig(4096);
    let path = rig.put("f", &[b'a'; 10]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    store(&map(&file, 0, Access::Write), 0, b"0123456789abcdef");
    file.inode().set_metadata(&SetMetadata { size: Some(16), ..Default::default() }).unwrap();
    file.fsync(false).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"0123456789\0\0\0\0\0\0");
}

#[test]
fn threads_that_store_write_and_read_lose_nothing() {
    let rig = rig(4096);
    let path = rig.put("f", &vec![0; 64 * PAGE]);
    std::thread::scope(|scope| {
        for thread in 0..4usize {
            let rig = &rig;
            scope.spawn(move || {
                let file = rig.open("f", OpenFlags::RDWR).unwrap();
                // Each has eight bytes of each page for itself.
                for round in 1..=100u64 {
                    let number = (round as usize * 7 + thread * 13) % 64;
                    let at = (number * PAGE + thread * 8) as u64;
                    let word = round.to_le_bytes();
                    if round % 2 == 0 {
                        write(&file, at, &word).unwrap();
                    } else {
                        store(&map(&file, at, Access::Write), at, &word);
                    }
                    assert_eq!(read(&file, at, 8).unwrap(), word);
                    match round % 10 {
                        0 => file.fsync(true).unwrap(),
                        5 => drop(rig.mount.reclaim(16, true)),
                        _ => {}
                    }
                }
                file.fsync(true).unwrap();
            });
        }
    });
    rig.mount.unmount();
    let host = std::fs::read(path).unwrap();
    for thread in 0..4 {
        let mut last = [0u64; 64];
        (1..=100u64).for_each(|round| last[(round as usize * 7 + thread * 13) % 64] = round);
        for (number, last) in last.iter().enumerate() {
            let at = number * PAGE + thread * 8;
            assert_eq!(host[at..at + 8], last.to_le_bytes(), "thread {thread}, page {number}");
        }
    }
}
