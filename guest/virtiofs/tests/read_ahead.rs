//! Reading ahead with messages that are on their way while other things happen.

mod server;

use diolkos_vfs::{Access, Errno, File, OpenFlags, SetMetadata};
use diolkos_virtiofs::Tally;
use server::*;
use std::sync::Arc;

const RDONLY: OpenFlags = OpenFlags::empty();
const PAGE: usize = 4096;
/// What is read at first, and what comes with it.
const FIRST: usize = 16 * PAGE;
const PIECE: usize = 32 * PAGE;
const SIZE: usize = 4 << 20;

/// A file, of which so much was read that READs nobody waits for are on their way, and its content.
fn under_way(flags: OpenFlags) -> (Rig, Arc<dyn File>, Vec<u8>) {
    let rig = Setup { window: 0, memory: Some(4096), ..Setup::default() }.build();
    let content = pattern(SIZE);
    rig.put("f", &content);
    let file = rig.open("f", flags).unwrap();
    rig.server.post.hold();
    assert!(read(&file, 0, FIRST).unwrap() == content[..FIRST]);
    assert!(rig.server.post.waiting() > 0, "the next ones are on their way");
    (rig, file, content)
}

#[test]
fn what_is_read_next_is_on_its_way() {
    let (rig, file, content) = under_way(RDONLY);
    while rig.server.deliver() {}
    let misses = rig.tally(Tally::PageMisses);
    assert!(read(&file, PIECE as u64, FIRST).unwrap() == content[PIECE..PIECE + FIRST]);
    assert_eq!(rig.tally(Tally::PageMisses), misses, "it was there");
    assert!(rig.server.post.waiting() > 0, "and more is on its way");
}

#[test]
fn a_large_read_asks_for_all_of_it_at_once() {
    let rig = Setup { window: 0, memory: Some(4096), ..Setup::default() }.build();
    let content = pattern(SIZE);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    // The first time it is not kept.
    assert!(read(&file, 0, SIZE).unwrap() == content);
    rig.server.post.hold();
    assert!(read(&file, 0, SIZE).unwrap() == content);
    assert_eq!(rig.server.post.batches.lock().unwrap()[0], 4, "1 MiB each, one doorbell");
    assert_eq!(rig.tally(Tally::PagesAhead), 0, "all of it was wanted");
}

#[test]
fn never_is_more_under_way_than_there_is_room_for() {
    let rig = Setup { window: 0, memory: Some(1 << 16), ..Setup::default() }.build();
    rig.server.post.hold();
    let mut files = Vec::new();
    for i in 0..20 {
        let name = format!("f{i}");
        rig.put(&name, &pattern(SIZE));
        let file = rig.open(&name, RDONLY).unwrap();
        for at in (0..16).map(|i| i * FIRST) {
            read(&file, at as u64, FIRST).unwrap();
        }
        assert!(rig.server.post.waiting() <= 6 + 4, "{}", rig.server.post.waiting());
        files.push(file);
    }
    assert!(rig.machine.frames.used() <= 20 * 1024, "{}", rig.machine.frames.used());
}

#[test]
fn a_file_is_let_go_of_when_nothing_of_it_is_under_way_any_more() {
    let (rig, file, _) = under_way(OpenFlags::RDWR);
    let reads = rig.count("fuse.READ");
    drop(file);
    assert_eq!((rig.server.post.waiting(), rig.count("fuse.RELEASE")), (0, 1));
    assert_eq!(rig.count("fuse.READ"), reads);
    let (rig, file, _) = under_way(OpenFlags::RDWR);
    rig.mount.unmount();
    drop(file);
    assert_eq!(rig.server.post.waiting(), 0);
}

#[test]
fn what_changes_meanwhile_is_read_as_it_is_now() {
    let at = PIECE as u64 + 10;
    type Change = fn(&Rig, &Arc<dyn File>);
    let changes: [(&str, Change); 3] = [
        ("our write", |_, file| assert_eq!(write(file, PIECE as u64 + 10, b"new").unwrap(), 3)),
        ("the host's write, heard of", |rig, _| {
            let mut changed = pattern(SIZE);
            changed[PIECE + 10..PIECE + 13].copy_from_slice(b"new");
            std::fs::write(rig.path("f"), changed).unwrap();
            rig.pass(2);
        }),
        ("cut, and written again", |rig, file| {
            let size = SetMetadata { size: Some(PIECE as u64), ..SetMetadata::default() };
            rig.find("f").unwrap().set_metadata(&size).unwrap();
            write(file, PIECE as u64 + 10, b"new").unwrap();
        }),
    ];
    for (what, change) in changes {
        let (rig, file, _) = under_way(OpenFlags::RDWR);
        // Answered by the host before the change, and here after it.
        change(&rig, &file);
        assert_eq!(read(&file, at, 3).unwrap(), b"new", "{what}");
        while rig.server.deliver() {}
        assert_eq!(read(&file, at, 3).unwrap(), b"new", "{what}, later");
    }
}

#[test]
fn mappings_wait_for_what_is_under_way() {
    let (rig, file, content) = under_way(RDONLY);
    let reads = rig.count("fuse.READ");
    let run = file.map(PIECE as u64, Access::Read).unwrap().unwrap();
    assert_eq!(rig.count("fuse.READ"), reads, "nothing is asked for twice");
    let at = run.phys + (PIECE as u64 - run.offset);
    // SAFETY: frames of the tests' memory stay readable for ever, and the run holds the page.
    let page = unsafe { std::slice::from_raw_parts(at as *const u8, PAGE) };
    assert!(page == &content[PIECE..PIECE + PAGE]);
}

#[test]
fn answers_that_make_no_sense_are_errors_for_who_wants_them_and_nobody_else() {
    type Spoil = fn(&mut [u8], &mut usize);
    let spoils: [(&str, Spoil); 4] = [
        ("somebody else's", |header, _| header[8] ^= 1),
        ("longer than there is room", |_, wrote| *wrote = usize::MAX),
        ("longer than it is", |header, _| header[..4].copy_from_slice(&u32::MAX.to_le_bytes())),
        ("shorter than its header", |_, wrote| *wrote = 7),
    ];
    for (what, spoil) in spoils {
        let (rig, file, content) = under_way(RDONLY);
        *rig.server.post.spoil.lock().unwrap() = Some(spoil);
        while rig.server.deliver() {}
        assert_eq!(errno(read(&file, PIECE as u64, PAGE)), Errno::EIO, "{what}");
        *rig.server.post.spoil.lock().unwrap() = None;
        assert!(read(&file, PIECE as u64, PAGE).unwrap() == content[PIECE..PIECE + PAGE], "{what}, and then not");
    }
}

#[test]
fn a_file_that_turns_out_shorter_ends_where_it_ends_now() {
    let (rig, file, content) = under_way(RDONLY);
    let end = PIECE + 5 * PAGE + 7;
    std::fs::File::options().write(true).open(rig.path("f")).unwrap().set_len(end as u64).unwrap();
    while rig.server.deliver() {}
    assert!(read(&file, PIECE as u64, SIZE).unwrap() == content[PIECE..end]);
    assert_eq!(read(&file, end as u64, 10).unwrap(), b"");
}

#[test]
fn threads_that_read_one_file_ask_for_each_page_once() {
    let rig = Setup { window: 0, memory: Some(4096), ..Setup::default() }.build();
    let content = pattern(SIZE);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    rig.server.post.hold();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for (i, piece) in content.chunks(3 * PAGE).enumerate() {
                    assert!(read(&file, (i * 3 * PAGE) as u64, 3 * PAGE).unwrap() == piece);
                }
            });
        }
    });
    while rig.server.deliver() {}
    assert_eq!(rig.tally(Tally::PagesRead), (SIZE / PAGE) as u64);
}
