//! Files that a guest has been told of in a listing: opened by their name when they are used, and only if they are still
//! the same.

use super::hostile::poor;
use super::*;
use std::os::unix::fs::symlink;

/// A share of ten files, all of which have been listed, and the node of `file0`.
fn listed() -> (Bench, Arc<Descriptors>, u64) {
    let (mut bench, pool) = poor(100);
    let node = node_of(&mut bench, "file0");
    (bench, pool, node)
}

/// The node that a listing gives for a name.
fn node_of(bench: &mut Bench, name: &str) -> u64 {
    bench.listed_with_nodes().into_iter().find(|(listed, _)| listed == name).unwrap().1
}

impl Bench {
    fn attributes(&mut self, node: u64) -> i32 {
        self.call(3, node, &words(&[0, 0])).0
    }

    /// Entries of this process' table of descriptors that lead to `name`.
    fn descriptors_of(&self, name: &str) -> usize {
        let path = self.path(name);
        let entries = fs::read_dir("/proc/self/fd").unwrap();
        entries.filter(|entry| fs::read_link(entry.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
    }
}

#[test]
fn what_is_listed_is_not_opened_until_it_is_used() {
    let (mut bench, pool, node) = listed();
    assert_eq!((bench.descriptors_of("file0"), pool.used()), (0, 10), "the right to a descriptor each");
    assert_eq!(bench.attributes(node), 0);
    assert_eq!((bench.descriptors_of("file0"), pool.used()), (1, 10));
    let handle = bench.open(node, libc::O_RDONLY).unwrap();
    assert_eq!(bench.read(node, handle, 0, 5), (0, b"x".to_vec()));
    assert_eq!(bench.lookup("file0"), Ok(node));
    let other = node_of(&mut bench, "file1");
    assert_eq!(bench.lookup("file1"), Ok(other), "LOOKUP opens it");
    assert_eq!(bench.descriptors_of("file1"), 1);
    let third = node_of(&mut bench, "file2");
    bench.forget(third, u64::MAX);
    assert_eq!((bench.attributes(third), pool.used()), (libc::EBADF, 10));
}

#[test]
fn another_file_under_the_name_is_another_node() {
    let (mut bench, _, node) = listed();
    fs::write(bench.path("other"), "y").unwrap();
    fs::rename(bench.path("other"), bench.path("file0")).unwrap();
    assert_eq!(bench.attributes(node), libc::ESTALE);
    assert_eq!(bench.open(node, libc::O_RDONLY), Err(libc::ESTALE));
    assert_eq!(bench.map(node, 0, 4096, 1, 0), libc::ESTALE);
    let now = bench.lookup("file0").unwrap();
    assert_ne!(now, node);
    let handle = bench.open(now, libc::O_RDONLY).unwrap();
    assert_eq!(bench.read(now, handle, 0, 5), (0, b"y".to_vec()));
    bench.forget(node, u64::MAX);
    assert_eq!(bench.lookup("file0"), Ok(now));
}

#[test]
fn a_number_means_one_file_even_if_nobody_has_opened_it() {
    let (mut bench, pool, _) = listed();
    let mut nodes = std::collections::BTreeSet::new();
    for round in 0..20 {
        // The host gives the inode number of a deleted file to the next, whose birth is another, by its clock of 4 ms.
        std::thread::sleep(Duration::from_millis(10));
        fs::write(bench.path("new"), "").unwrap();
        assert!(nodes.insert(node_of(&mut bench, "new")), "round {round}");
        fs::remove_file(bench.path("new")).unwrap();
    }
    assert!(nodes.iter().all(|node| bench.attributes(*node) == libc::ESTALE));
    let used = pool.used();
    nodes.iter().for_each(|node| bench.forget(*node, 1));
    assert_eq!(pool.used(), used - nodes.len());
}

#[test]
fn a_file_that_the_host_moves_is_found_again_by_its_new_name() {
    let (mut bench, _, node) = listed();
    fs::rename(bench.path("file0"), bench.path("moved")).unwrap();
    assert_eq!(bench.attributes(node), libc::ESTALE);
    assert_eq!(node_of(&mut bench, "moved"), node, "a listing tells where it is now");
    assert_eq!(bench.attributes(node), 0);
    let node = node_of(&mut bench, "file1");
    fs::rename(bench.path("file1"), bench.path("away")).unwrap();
    assert_eq!(bench.lookup("away"), Ok(node));
    assert_eq!(bench.attributes(node), 0);
}

#[test]
fn what_the_guest_itself_moves_or_removes_stays_what_it_was() {
    let (mut bench, _, node) = listed();
    let replaced = node_of(&mut bench, "file1");
    let rename = [words(&[ROOT]), b"file0\0file1\0".to_vec()].concat();
    assert_eq!(bench.call(12, ROOT, &rename).0, 0);
    assert_eq!((bench.attributes(node), bench.attributes(replaced)), (0, 0));
    let removed = node_of(&mut bench, "file2");
    assert_eq!(bench.call(10, ROOT, b"file2\0").0, 0);
    assert_eq!(bench.attributes(removed), 0);
    let linked = node_of(&mut bench, "file3");
    assert_eq!(bench.call(13, ROOT, &[words(&[linked]), b"again\0".to_vec()].concat()).0, 0);
    fs::remove_file(bench.path("file3")).unwrap();
    assert_eq!(bench.attributes(linked), 0);
}

#[test]
fn links_and_pipes_are_seen_as_they_are() {
    let (mut bench, _, _) = listed();
    symlink("file0", bench.path("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    let (link, pipe) = (node_of(&mut bench, "link"), node_of(&mut bench, "pipe"));
    assert_eq!(bench.call(5, link, &[]), (0, b"file0".to_vec()));
    for node in [link, pipe] {
        assert_eq!(bench.open(node, libc::O_RDONLY), Err(libc::EBADF));
    }
    fs::remove_file(bench.path("pipe")).unwrap();
    fs::write(bench.path("pipe"), "").unwrap();
    assert_eq!(bench.open(pipe, libc::O_RDONLY), Err(libc::EBADF), "held since it was used");
}

#[test]
fn directories_are_held_at_once() {
    let (mut bench, _, _) = listed();
    fs::create_dir(bench.path("d")).unwrap();
    fs::write(bench.path("d/inner"), "").unwrap();
    let directory = node_of(&mut bench, "d");
    fs::rename(bench.path("d"), bench.path("e")).unwrap();
    assert_eq!(bench.call(1, directory, b"inner\0").0, 0);
}
