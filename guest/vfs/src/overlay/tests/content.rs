//! Content: what is copied, when, and what a failing or changing lower file does to it.

use super::lower::WINDOW;
use super::{HELD, World, byte, chmod, find, make, name, numbered, resize, write};
use crate::ramfs::PAGE;
use crate::testing::read_file;
use crate::{Access, Allocation, Errno, OpenFlags, RenameFlags, SliceSource, Sought, XattrFlags, XattrName};
use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

const SIZE: u64 = PAGE as u64;
const PAGES: usize = 100;

/// A file of a hundred pages, which is more than is copied whole.
fn big() -> World {
    World::new(|host| drop(make(host, "big", &numbered(PAGES))))
}

#[test]
fn what_is_only_read_is_the_lower_files() {
    let world = big();
    let file = world.open("big", OpenFlags::empty()).unwrap();
    assert_eq!(read_file(&*file, 0, PAGES * PAGE + 1).unwrap(), numbered(PAGES));
    assert_eq!((world.reads(), world.pages()), (1, 0), "one read of the same size, and no memory");
    let (ours, theirs) = (file.inode().metadata().unwrap(), find(&world.host, "big").unwrap().metadata().unwrap());
    assert_eq!(ours, theirs);
}

#[test]
fn a_byte_takes_a_page_and_the_lower_keeps_its_own() {
    let world = big();
    let (file, other) = (world.open("big", OpenFlags::RDWR).unwrap(), world.open("big", OpenFlags::empty()).unwrap());
    assert_eq!(write(&file, 7 * SIZE, b"!"), Ok(1));
    assert_eq!((world.pages(), world.reads()), (1, 1));
    let mut expected = numbered(PAGES);
    expected[7 * PAGE] = b'!';
    for file in [&file, &other, &world.open("big", OpenFlags::empty()).unwrap()] {
        assert!(read_file(&**file, 0, PAGES * PAGE).unwrap() == expected);
    }
    let below = find(&world.host, "big").unwrap().open(OpenFlags::empty()).unwrap();
    assert!(read_file(&*below, 0, PAGES * PAGE).unwrap() == numbered(PAGES));
    // Memory is given back with the last name and the last descriptor.
    world.root.unlink(name("big")).unwrap();
    assert_eq!(byte(&file, 7), Ok(Some(b'!')));
    drop((file, other));
    assert_eq!(world.pages(), 0);
}

#[test]
fn a_small_file_is_copied_whole_and_the_host_no_longer_matters() {
    let world = World::new(|host| drop(make(host, "small", b"hello, world")));
    let file = world.open("small", OpenFlags::RDWR).unwrap();
    assert_eq!(write(&file, 0, b"H"), Ok(1));
    make_over(&world, "small", b"from the host");
    assert_eq!(read_file(&*file, 0, 99).unwrap(), b"Hello, world");
}

/// The host writes into a file, whose length stays.
fn make_over(world: &World, called: &str, content: &[u8]) {
    write(&find(&world.host, called).unwrap().open(OpenFlags::RDWR).unwrap(), 0, content).unwrap();
}

#[test]
fn a_change_of_attributes_copies_no_content() {
    let world = big();
    let file = find(&world.root, "big").unwrap();
    let before = file.metadata().unwrap();
    chmod(&file, 0o600).unwrap();
    let after = file.metadata().unwrap();
    assert_eq!(
        (after.mode & 0o7777, after.ino, after.size, after.mtime),
        (0o600, before.ino, before.size, before.mtime)
    );
    assert_eq!((world.reads(), world.pages()), (0, 0));
}

#[test]
fn truncation_reads_nothing_but_the_page_it_cuts() {
    let world = big();
    let inode = find(&world.root, "big").unwrap();
    assert_eq!(resize(&inode, 50 * SIZE), Ok(50 * SIZE));
    assert_eq!((world.reads(), world.pages()), (0, 0));
    assert_eq!(resize(&inode, 40 * SIZE + 10), Ok(40 * SIZE + 10));
    assert_eq!((world.reads(), world.pages()), (1, 1));
    // What was cut off does not come back.
    assert_eq!(resize(&inode, 60 * SIZE), Ok(60 * SIZE));
    let file = inode.open(OpenFlags::TRUNC).map(drop);
    assert_eq!((file, world.reads(), world.pages()), (Ok(()), 1, 0));
    let world = big();
    let inode = find(&world.root, "big").unwrap();
    resize(&inode, 40 * SIZE + 10).unwrap();
    resize(&inode, 60 * SIZE).unwrap();
    let file = inode.open(OpenFlags::empty()).unwrap();
    let mut expected = numbered(40);
    expected.extend([40 + b'a'; 10]);
    expected.resize(60 * PAGE, 0);
    assert!(read_file(&*file, 0, PAGES * PAGE).unwrap() == expected);
}

#[test]
fn what_the_host_has_behind_the_end_never_shows() {
    let world = World::new(|host| drop(make(host, "f", &vec![b'x'; 3 * PAGE + 10])));
    let file = world.open("f", OpenFlags::RDWR).unwrap();
    chmod(file.inode(), 0o600).unwrap();
    // The host appends; the file in the overlay keeps its size, and then grows by itself.
    make_over(&world, "f", &vec![b'y'; 5 * PAGE]);
    assert_eq!(read_file(&*file, 3 * SIZE, PAGE).unwrap(), [b'y'; 10]);
    assert_eq!(file.append(&mut SliceSource::new(b"end")), Ok((3, 3 * SIZE + 13)));
    resize(file.inode(), 5 * SIZE).unwrap();
    let tail = read_file(&*file, 3 * SIZE, 2 * PAGE).unwrap();
    assert_eq!((&tail[..13], tail.len()), (&b"yyyyyyyyyyend"[..], 2 * PAGE));
    assert!(tail[13..].iter().all(|byte| *byte == 0));
}

#[test]
fn short_reads_of_the_lower_are_gone_on_with() {
    let world = World::new(|host| drop(make(host, "small", &numbered(2))));
    world.behaviour.most.store(1000, SeqCst);
    let file = world.open("small", OpenFlags::RDWR).unwrap();
    assert_eq!(write(&file, 3, b"!"), Ok(1));
    let mut expected = numbered(2);
    expected[3] = b'!';
    assert_eq!(world.reads(), 2 * SIZE.div_ceil(1000) - 1);
    assert!(read_file(&*file, 0, 3 * PAGE).unwrap() == expected);
}

#[test]
fn a_failure_of_the_lower_changes_nothing() {
    let world = big();
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    *world.behaviour.failure.lock().unwrap() = Some(Errno::EIO);
    assert_eq!(write(&file, 5, b"!"), Err(Errno::EIO));
    assert_eq!((world.pages(), byte(&file, 0)), (0, Ok(Some(b'a'))));
    *world.behaviour.failure.lock().unwrap() = Some(Errno::EIO);
    assert_eq!(resize(file.inode(), 5), Err(Errno::EIO));
    *world.behaviour.failure.lock().unwrap() = Some(Errno::EIO);
    assert_eq!(byte(&file, 0), Err(Errno::EIO));
    assert_eq!(file.inode().metadata().unwrap().size, PAGES as u64 * SIZE);
    assert_eq!((write(&file, 5, b"!"), byte(&file, 0)), (Ok(1), Ok(Some(b'a'))));
}

#[test]
fn unchanged_pages_follow_the_host_and_the_size_does_not() {
    let world = big();
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    write(&file, 10 * SIZE, b"!").unwrap();
    make_over(&world, "big", &vec![b'h'; 20 * PAGE]);
    assert_eq!((byte(&file, 9), byte(&file, 10), byte(&file, 11)), (Ok(Some(b'h')), Ok(Some(b'!')), Ok(Some(b'h'))));
    let below = find(&world.host, "big").unwrap();
    resize(&below, 200 * SIZE).unwrap();
    assert_eq!(file.inode().metadata().unwrap().size, PAGES as u64 * SIZE);
    assert_eq!(byte(&file, PAGES as u64), Ok(None));
}

#[test]
fn where_the_host_has_cut_a_changed_file_reading_ends_and_no_page_is_made_up() {
    let world = big();
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    write(&file, 50 * SIZE, b"!").unwrap();
    resize(&find(&world.host, "big").unwrap(), 20 * SIZE).unwrap();
    assert_eq!(read_file(&*file, 18 * SIZE, 10 * PAGE).unwrap().len(), 2 * PAGE);
    assert_eq!(byte(&file, 30), Ok(None));
    assert_eq!(byte(&file, 50), Ok(Some(b'!')));
    assert_eq!(write(&file, 30 * SIZE, b"!"), Err(Errno::EIO));
    assert_eq!(file.map(30 * SIZE, Access::Read).err(), Some(Errno::EINVAL));
    assert_eq!(file.map(30 * SIZE, Access::Write).err(), Some(Errno::EIO));
    assert!(file.map(50 * SIZE, Access::Write).unwrap().is_some());
}

#[test]
fn a_write_that_comes_while_its_page_is_copied_is_not_lost() {
    let world = big();
    let (file, other) = (world.open("big", OpenFlags::RDWR).unwrap(), world.open("big", OpenFlags::RDWR).unwrap());
    *world.behaviour.during_read.lock().unwrap() =
        Some(Box::new(move || assert_eq!(write(&other, 0, b"first"), Ok(5))));
    assert_eq!(write(&file, 5, b"second"), Ok(6));
    assert_eq!(read_file(&*file, 0, 11).unwrap(), b"firstsecond");
    // A file that is cut while a page is copied is not made longer by it.
    let other = file.inode().clone();
    *world.behaviour.during_read.lock().unwrap() = Some(Box::new(move || assert_eq!(resize(&other, 0), Ok(0))));
    assert_eq!(write(&file, 5 * SIZE + 3, b"third"), Ok(5));
    assert_eq!(read_file(&*file, 0, PAGES * PAGE).unwrap(), [&vec![0; 5 * PAGE + 3][..], b"third"].concat());
}

#[test]
fn full_memory_refuses_changes_and_nothing_else() {
    let world = World::limited(3, false, |host| drop(make(host, "big", &numbered(PAGES))));
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    assert_eq!((0..3).map(|page| write(&file, page * SIZE, b"!")).collect::<Vec<_>>(), [Ok(1); 3]);
    assert_eq!(write(&file, 3 * SIZE, b"!"), Err(Errno::ENOSPC));
    assert_eq!(file.append(&mut SliceSource::new(b"x")), Err(Errno::ENOSPC));
    assert_eq!(file.inode().metadata().unwrap().size, PAGES as u64 * SIZE);
    assert_eq!(file.allocate(Allocation::Reserve { keep_size: true }, 9 * SIZE, 1), Err(Errno::ENOSPC));
    assert_eq!(file.map(9 * SIZE, Access::Write).err(), Some(Errno::ENOSPC));
    assert_eq!((byte(&file, 2), byte(&file, 3)), (Ok(Some(b'!')), Ok(Some(b'd'))));
    let statfs = world.root.statfs().unwrap();
    assert_eq!((statfs.blocks, statfs.bfree), (3, 0));
    // As much as fits of a write is written.
    assert_eq!(resize(file.inode(), SIZE), Ok(SIZE));
    assert_eq!(write(&file, SIZE, &vec![7; 9 * PAGE]), Ok(2 * PAGE));
}

#[test]
fn holes_are_where_neither_has_anything() {
    let world = big();
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    assert_eq!(file.allocate(Allocation::Punch, 10 * SIZE, 5 * SIZE), Ok(()));
    assert_eq!((world.reads(), world.pages()), (0, 0), "a punched page is not copied first");
    assert_eq!((byte(&file, 9), byte(&file, 10), byte(&file, 15)), (Ok(Some(b'j')), Ok(Some(0)), Ok(Some(b'p'))));
    let end = PAGES as u64 * SIZE;
    resize(file.inode(), end + 10 * SIZE).unwrap();
    write(&file, end + 5 * SIZE, b"!").unwrap();
    let seek = |what, from: u64| file.seek(what, from * SIZE).map(|at| at / SIZE);
    assert_eq!((seek(Sought::Hole, 0), seek(Sought::Data, 10), seek(Sought::Hole, 15)), (Ok(10), Ok(15), Ok(100)));
    assert_eq!((seek(Sought::Data, 100), seek(Sought::Hole, 105)), (Ok(105), Ok(106)));
    assert_eq!((seek(Sought::Data, 106), seek(Sought::Hole, 110)), (Err(Errno::ENXIO), Err(Errno::ENXIO)));
}

#[test]
fn a_range_is_zeroed_without_copying_it_and_then_has_its_room() {
    let world = World::limited(10, false, |host| drop(make(host, "big", &numbered(PAGES))));
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    assert_eq!(file.allocate(Allocation::Zero { keep_size: true }, 98 * SIZE + 5, 4 * SIZE), Ok(()));
    assert_eq!((world.reads(), world.pages(), file.inode().metadata().unwrap().size), (1, 5, PAGES as u64 * SIZE));
    assert_eq!(file.allocate(Allocation::Zero { keep_size: false }, 98 * SIZE + 5, 4 * SIZE), Ok(()));
    assert_eq!(file.inode().metadata().unwrap().size, 102 * SIZE + 5);
    let expected = [&[98 + b'a'; 5][..], &vec![0; 4 * PAGE]].concat();
    assert!(read_file(&*file, 98 * SIZE, 9 * PAGE).unwrap() == expected);
    assert_eq!(file.allocate(Allocation::Zero { keep_size: false }, 0, 50 * SIZE), Err(Errno::ENOSPC));
    assert_eq!((byte(&file, 0), byte(&file, 60)), (Ok(Some(0)), Ok(Some(b'a' + 60))));
}

#[test]
fn mappings_lead_to_the_lower_until_a_page_is_changed() {
    let world = World::limited(u64::MAX, true, |host| drop(make(host, "big", &numbered(PAGES))));
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    // Untouched, the lower is asked for just what we are asked for.
    let run = file.map(7 * SIZE + 5, Access::Copy).unwrap().unwrap();
    assert_eq!((run.offset, run.phys, run.len, run.writable), (0, WINDOW, PAGES as u64 * SIZE, false));
    assert_eq!(*world.behaviour.maps.lock().unwrap(), [Access::Copy]);
    assert!(world.forgotten.0.lock().unwrap().is_empty());
    // Page 7 is changed: its entries go, and it lies in memory from now on.
    write(&file, 7 * SIZE, b"!").unwrap();
    assert_eq!(
        world.forgotten.0.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [(file.inode().id(), 7 * SIZE, 8 * SIZE)]
    );
    let run = file.map(7 * SIZE, Access::Read).unwrap().unwrap();
    assert_eq!((run.offset, run.len), (7 * SIZE, SIZE));
    assert!(run.phys < WINDOW);
    // Around it the lower shows, up to there and from there on. A copy would go stale now.
    for (page, start, end) in [(3, 0, 7), (8, 8, 100)] {
        let run = file.map(page * SIZE, Access::Copy).unwrap().unwrap();
        assert_eq!((run.offset, run.phys, run.len), (start * SIZE, WINDOW + start * SIZE, (end - start) * SIZE));
    }
    assert_eq!(world.behaviour.maps.lock().unwrap()[1..], [Access::Read; 2]);
    // To be written through a mapping a page is copied first.
    let run = file.map(20 * SIZE, Access::Write).unwrap().unwrap();
    assert_eq!((run.offset, run.len, run.writable), (20 * SIZE, SIZE, true));
    assert_eq!(
        world.forgotten.0.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [(file.inode().id(), 20 * SIZE, 21 * SIZE)]
    );
    assert_eq!(world.pages(), 2);
    // What is cut off is shown no longer.
    resize(file.inode(), 8 * SIZE).unwrap();
    assert_eq!(
        world.forgotten.0.lock().unwrap().drain(..).collect::<Vec<_>>(),
        [(file.inode().id(), 8 * SIZE, u64::MAX)]
    );
    assert_eq!(file.map(8 * SIZE, Access::Read).err(), Some(Errno::EINVAL));
}

#[test]
fn without_a_window_a_changed_file_is_mapped_from_memory() {
    let world = big();
    let file = world.open("big", OpenFlags::RDWR).unwrap();
    assert!(file.map(0, Access::Copy).unwrap().is_none(), "the kernel reads it, as it would without an overlay");
    write(&file, 7 * SIZE, b"!").unwrap();
    let run = file.map(3 * SIZE, Access::Copy).unwrap().unwrap();
    assert_eq!((run.offset, run.len, world.pages()), (3 * SIZE, SIZE, 2));
}

#[test]
fn a_page_that_changes_while_it_is_mapped_is_not_shown_as_it_was() {
    let world = big();
    let (file, other) = (world.open("big", OpenFlags::RDWR).unwrap(), world.open("big", OpenFlags::RDWR).unwrap());
    chmod(file.inode(), 0o600).unwrap();
    // Without a window the page is read; meanwhile somebody writes it.
    *world.behaviour.during_read.lock().unwrap() = Some(Box::new(move || assert_eq!(write(&other, 0, b"!"), Ok(1))));
    let run = file.map(0, Access::Read).unwrap().unwrap();
    // SAFETY: the address is that of a page of the heap, which the pin keeps.
    assert_eq!(unsafe { (run.phys as *const u8).read() }, b'!');
}

#[test]
fn extended_attributes_are_copied_and_access_lists_are_not() {
    let world = World::new(|host| {
        let file = make(host, "f", b"x");
        file.inode().set_xattr(XattrName::new(b"user.colour").unwrap(), b"red", XattrFlags::empty()).unwrap();
    });
    let inode = find(&world.root, "f").unwrap();
    let (colour, acl) = (XattrName::new(b"user.colour").unwrap(), XattrName::new(b"system.posix_acl_access").unwrap());
    assert_eq!(inode.xattr(acl, &mut [0; 8]), Ok(8));
    chmod(&inode, 0o640).unwrap();
    assert_eq!(inode.xattr(colour, &mut [0; 8]), Ok(3));
    assert_eq!(inode.xattr(acl, &mut [0; 8]), Err(Errno::EOPNOTSUPP), "as on any memory file system");
    inode.remove_xattr(colour).unwrap();
    assert_eq!(inode.xattr(colour, &mut []), Err(Errno::ENODATA));
    assert_eq!(find(&world.host, "f").unwrap().xattr(colour, &mut []), Ok(3));
}

#[test]
fn a_lower_inode_is_held_no_longer_than_something_of_it_is_needed() {
    let world = World::new(|host| {
        (0..40).for_each(|i| drop(make(host, &format!("f{i:02}"), b"lower")));
        make(host, "big", &numbered(PAGES));
        host.symlink(name("link"), b"big").unwrap();
        let linked = make(host, "linked", b"lower");
        host.link(name("other"), linked.inode()).unwrap();
    });
    // The root's is always held.
    let held = || world.behaviour.held.load(SeqCst) - 1;
    let append = |path: &str| world.open(path, OpenFlags::RDWR).unwrap().append(&mut SliceSource::new(b"!")).unwrap();
    append("f00");
    find(&world.root, "f01").unwrap().open(OpenFlags::TRUNC).map(drop).unwrap();
    world.root.rename(name("link"), &world.root, name("renamed"), RenameFlags::empty()).unwrap();
    assert_eq!((held(), find(&world.root, "renamed").unwrap().readlink().unwrap()), (0, b"big".to_vec()));
    append("linked");
    append("big");
    assert_eq!(held(), 2, "one has pages that show, one has another name");
    assert_eq!(read_file(&*world.open("other", OpenFlags::empty()).unwrap(), 0, 9).unwrap(), b"lower!");
    resize(&find(&world.root, "big").unwrap(), 0).unwrap();
    // Attributes and names of many files are changed: from some number on each is copied.
    (10..40).for_each(|i| match i % 2 {
        0 => chmod(&find(&world.root, &format!("f{i}")).unwrap(), 0o600).unwrap(),
        _ => world
            .root
            .rename(name(&format!("f{i}")), &world.root, name(&format!("r{i}")), RenameFlags::empty())
            .unwrap(),
    });
    assert_eq!((held(), world.pages()), (HELD - 1, 2 + 30 - (HELD - 2)), "the root is one, and `linked`");
    (10..40).for_each(|i| {
        let path = if i % 2 == 0 { format!("f{i}") } else { format!("r{i}") };
        assert_eq!(read_file(&*world.open(&path, OpenFlags::empty()).unwrap(), 0, 9).unwrap(), b"lower");
        world.root.unlink(name(&path)).unwrap();
    });
    assert_eq!(held(), 1);
}
