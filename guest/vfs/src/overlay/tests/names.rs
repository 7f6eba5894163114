//! Names: what a directory shows of the lower and of its own, and what stays when the host changes its names too.

use super::{World, byte, chmod, find, list, make, mkdir, name, names, write};
use crate::testing::read_file;
use crate::{Errno, OpenFlags, RenameFlags};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::SeqCst;

/// Files `f00` to `f19` and a directory `d` with a file `x` in it.
fn twenty() -> World {
    World::new(|host| {
        (0..20).for_each(|i| drop(make(host, &format!("f{i:02}"), b"lower")));
        drop(make(&mkdir(host, "d"), "x", b"lower"));
    })
}

#[test]
fn a_listing_goes_on_while_its_names_change_whatever_the_cookies_are() {
    // Above the middle cookies look like those of the overlay's own names.
    for from in [0, 1 << 20, (1 << 63) - 4, 1 << 63, u64::MAX - 1000] {
        let world = twenty();
        world.behaviour.cookies_from.store(from, SeqCst);
        let dir = world.root.clone().open(OpenFlags::DIRECTORY).unwrap();
        make(&world.root, "new1", b"");
        let (first, cookie) = list(&dir, 0, 12).unwrap();
        assert_eq!(first, [".", "..", "f00", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09"]);
        // Gone, before and after the place we are at; changed, and so kept by us; replaced; renamed; new.
        for gone in ["f03", "f12"] {
            world.root.unlink(name(gone)).unwrap();
        }
        for changed in ["f02", "f13"] {
            chmod(&find(&world.root, changed).unwrap(), 0o600).unwrap();
        }
        world.root.unlink(name("f14")).unwrap();
        make(&world.root, "f14", b"ours");
        world.root.rename(name("f15"), &world.root, name("renamed"), RenameFlags::empty()).unwrap();
        make(&world.root, "new2", b"");
        let rest = ["f10", "f11", "f13", "f14", "f16", "f17", "f18", "f19", "d", "new1", "renamed", "new2"];
        assert_eq!(list(&dir, cookie, 99).unwrap().0, rest, "{from}");
        // One at a time it is the same, and so it is from any cookie that was given.
        let mut given = Vec::from([cookie]);
        for name in rest {
            let (one, next) = list(&dir, given[given.len() - 1], 1).unwrap();
            assert_eq!(one, [name], "{from}");
            given.push(next);
        }
        for (passed, cookie) in given.iter().enumerate() {
            assert_eq!(list(&dir, *cookie, 99).unwrap().0, rest[passed..], "{from}");
        }
    }
}

#[test]
fn a_cookie_that_was_never_given_is_refused_or_ends_the_listing() {
    let world = twenty();
    make(&world.root, "new", b"");
    let dir = world.root.clone().open(OpenFlags::DIRECTORY).unwrap();
    assert_eq!(list(&dir, (1 << 63) + 1000, 9).unwrap().0, Vec::<String>::new());
    for cookie in [3 << 62, (3 << 62) + 5, u64::MAX] {
        assert_eq!(list(&dir, cookie, 9).err(), Some(Errno::EINVAL));
    }
}

#[test]
fn one_inode_stays_itself_by_all_its_names() {
    let world = World::new(|host| {
        let file = make(host, "a", b"content");
        host.link(name("b"), file.inode()).unwrap();
    });
    let [a, b] = ["a", "b"].map(|path| find(&world.root, path).unwrap());
    let before = a.metadata().unwrap();
    assert_eq!((a.id(), before.nlink), (b.id(), 2));
    write(&a.clone().open(OpenFlags::RDWR).unwrap(), 0, b"C").unwrap();
    drop((a, b));
    world.root.link(name("c"), &find(&world.root, "b").unwrap()).unwrap();
    world.root.rename(name("a"), &world.root, name("z"), RenameFlags::empty()).unwrap();
    for path in ["b", "c", "z"] {
        let inode = find(&world.root, path).unwrap();
        let now = inode.metadata().unwrap();
        assert_eq!((now.ino, now.nlink), (before.ino, 3), "{path}");
        assert_eq!(read_file(&*inode.open(OpenFlags::empty()).unwrap(), 0, 9).unwrap(), b"Content", "{path}");
    }
    assert_eq!(names(&world.host), ["a", "b"]);
}

#[test]
fn a_directory_is_renamed_with_all_that_lies_below_it() {
    let world = twenty();
    let before = find(&world.root, "d").unwrap().metadata().unwrap().ino;
    world.root.rename(name("d"), &world.root, name("e"), RenameFlags::empty()).unwrap();
    let after = find(&world.root, "e").unwrap();
    assert_eq!((after.metadata().unwrap().ino, names(&after)), (before, [String::from("x")].into()));
    assert_eq!(find(&world.root, "d").err(), Some(Errno::ENOENT));
    assert_eq!(world.pages(), 0, "nothing is copied");
    // The host's own change of that directory shows under its new name.
    drop(make(&find(&world.host, "d").unwrap(), "y", b""));
    assert_eq!(names(&after), ["x", "y"]);
    // It has one place, even when the host moves it, too.
    world.host.rename(name("d"), &world.host, name("g"), RenameFlags::empty()).unwrap();
    assert_eq!(find(&world.root, "g").err(), Some(Errno::ENOENT));
    assert_eq!(names(&find(&world.root, "e").unwrap()), ["x", "y"]);
}

#[test]
fn a_directory_made_again_is_empty() {
    let world = twenty();
    assert_eq!(world.root.rmdir(name("d")), Err(Errno::ENOTEMPTY));
    let old = find(&world.root, "d").unwrap();
    old.unlink(name("x")).unwrap();
    world.root.rmdir(name("d")).unwrap();
    assert_eq!(old.create(name("y"), 0o644, OpenFlags::RDWR).err(), Some(Errno::ENOENT));
    let new = mkdir(&world.root, "d");
    assert_eq!(names(&new), Vec::<String>::new());
    assert_ne!(new.id(), old.id());
    assert_eq!(names(&find(&world.host, "d").unwrap()), ["x"]);
}

#[test]
fn what_the_program_did_to_a_name_stays_whatever_the_host_does_to_it() {
    let world = twenty();
    world.root.unlink(name("f00")).unwrap();
    make(&world.root, "mine", b"ours");
    chmod(&find(&world.root, "f01").unwrap(), 0o600).unwrap();
    for changed in ["f00", "f01", "f02"] {
        world.host.unlink(name(changed)).unwrap();
        make(&world.host, changed, b"other");
    }
    make(&world.host, "mine", b"theirs");
    assert_eq!(find(&world.root, "f00").err(), Some(Errno::ENOENT));
    let content = |path: &str| read_file(&*world.open(path, OpenFlags::empty()).unwrap(), 0, 9).unwrap();
    assert_eq!((content("mine"), content("f01"), content("f02")), (b"ours".into(), b"lower".into(), b"other".into()));
    let all = names(&world.root);
    assert_eq!(all.iter().filter(|name| *name == "mine").count(), 1, "{all:?}");
    assert!(!all.contains(&String::from("f00")), "{all:?}");
    // A name of ours that the host has had and lost is listed all the same.
    world.host.unlink(name("f01")).unwrap();
    assert_eq!(names(&world.root).iter().filter(|name| *name == "f01").count(), 1);
}

#[test]
fn an_answer_that_came_too_late_does_not_bring_a_name_back() {
    let world = twenty();
    let root = world.root.clone();
    let remove = move || root.unlink(name("f00")).unwrap();
    *world.behaviour.during_lookup.lock().unwrap() = Some(Box::new(remove));
    assert_eq!(find(&world.root, "f00").err(), Some(Errno::ENOENT));
    // Two that make the same name: one of them was first.
    let root = world.root.clone();
    *world.behaviour.during_lookup.lock().unwrap() = Some(Box::new(move || drop(make(&root, "new", b"first"))));
    assert_eq!(world.root.create(name("new"), 0o644, OpenFlags::RDWR).err(), Some(Errno::EEXIST));
    // A rename whose source goes meanwhile.
    let root = world.root.clone();
    *world.behaviour.during_lookup.lock().unwrap() = Some(Box::new(move || root.unlink(name("f01")).unwrap()));
    let renamed = world.root.rename(name("f01"), &world.root, name("f02"), RenameFlags::empty());
    assert_eq!(
        (renamed, byte(&world.open("f02", OpenFlags::empty()).unwrap(), 0)),
        (Err(Errno::ENOENT), Ok(Some(b'l')))
    );
}

#[test]
fn names_are_counted_and_given_back() {
    let world = World::limited(4, false, |host| (0..9).for_each(|i| drop(make(host, &format!("f{i}"), b""))));
    let free = || world.root.statfs().unwrap().ffree;
    assert_eq!(free(), 4);
    for number in 0..4 {
        make(&world.root, &format!("n{number}"), b"");
    }
    assert_eq!((free(), world.root.mknod(name("x"), 0o100_644, 0).err()), (0, Some(Errno::ENOSPC)));
    // A mark that a name is gone needs room, too, and so does a change of attributes, whose name is then kept.
    assert_eq!(world.root.unlink(name("f0")), Err(Errno::ENOSPC));
    assert_eq!(chmod(&find(&world.root, "f0").unwrap(), 0o600), Err(Errno::ENOSPC));
    assert_eq!(find(&world.root, "f0").unwrap().metadata().unwrap().mode & 0o777, 0o644);
    // A name of our own leaves nothing behind.
    world.root.unlink(name("n0")).unwrap();
    assert_eq!((free(), world.root.unlink(name("f0")), free()), (1, Ok(()), 0));
    assert_eq!(names(&world.root), ["f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "n1", "n2", "n3"]);
    // A directory takes its marks with it.
    let world = World::limited(4, false, |host| {
        let d = mkdir(host, "d");
        (0..3).for_each(|i| drop(make(&d, &format!("f{i}"), b"")));
    });
    let d = find(&world.root, "d").unwrap();
    (0..3).for_each(|i| d.unlink(name(&format!("f{i}"))).unwrap());
    world.root.rmdir(name("d")).unwrap();
    assert_eq!(world.root.statfs().unwrap().ffree, 3);
}
