//! Instances over a tree in memory. All tests share one registry, so each has a device number of its own.

use super::*;
use crate::testing::{StdQueue, namespace_on, ramfs};
use crate::{Errno, File, Lookup, Namespace, OpenFlags, SliceSink, XattrFlags, XattrName};
use std::vec;
use std::vec::Vec;

const EVERYTHING: WatchRequest =
    WatchRequest { events: ALL, once: false, linked_only: false, add: false, create: false };

fn rig(dev: u64) -> (Namespace, Arc<Inotify>) {
    let inotify = Inotify::new(ramfs(dev + 1), Arc::new(StdQueue::default())).unwrap();
    inotify.set_nonblocking(true);
    (namespace_on(ramfs(dev), false), inotify)
}

fn watch(namespace: &Namespace, inotify: &Inotify, path: &str, request: WatchRequest) -> crate::Result<i32> {
    inotify.watch(namespace.find(&namespace.root(), path.as_bytes(), Lookup::FOLLOW)?.inode(), &request)
}

/// What came: watch, events and name.
fn told(inotify: &Inotify) -> Vec<(i32, Events, Vec<u8>)> {
    let mut bytes = vec![0; 4096];
    let n = match inotify.read_at(0, &mut SliceSink::new(&mut bytes)) {
        Err(Errno::EAGAIN) => 0,
        n => n.unwrap(),
    };
    let (mut at, mut told) = (0, Vec::new());
    let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
    while at < n {
        let len = word(at + 12) as usize;
        let name = bytes[at + 16..at + 16 + len].split(|byte| *byte == 0).next().unwrap_or_default();
        told.push((word(at) as i32, Events::from_bits_retain(word(at + 4)), name.to_vec()));
        at += 16 + len;
    }
    told
}

#[test]
fn a_directory_hears_of_its_files_by_name_and_a_file_of_itself() {
    let (namespace, inotify) = rig(0x7_0000);
    let root = namespace.root();
    assert_eq!(watch(&namespace, &inotify, "/", EVERYTHING), Ok(1));
    let file = namespace.open(&root, b"f", OpenFlags::RDWR | OpenFlags::CREAT, 0o600).unwrap();
    assert_eq!(told(&inotify), [(1, Events::CREATE, b"f".to_vec()), (1, Events::OPEN, b"f".to_vec())]);
    assert_eq!(watch(&namespace, &inotify, "/f", EVERYTHING), Ok(2));
    file.location.set_xattr(XattrName::new(b"user.a").unwrap(), b"v", XattrFlags::empty()).unwrap();
    assert_eq!(told(&inotify), [(1, Events::ATTRIB, b"f".to_vec()), (2, Events::ATTRIB, vec![])]);
    namespace.unlink(&root, b"f").unwrap();
    assert_eq!(told(&inotify), [(2, Events::ATTRIB, vec![]), (1, Events::DELETE, b"f".to_vec())]);
    // It goes with whoever has it open.
    drop(file);
    assert_eq!(told(&inotify), [(2, Events::DELETE_SELF, vec![]), (2, Events::IGNORED, vec![])]);
    assert_eq!(inotify.remove(2), Err(Errno::EINVAL));
    inotify.remove(1).unwrap();
    namespace.mkdir(&root, b"d", 0o700).unwrap();
    assert_eq!(told(&inotify), [(1, Events::IGNORED, vec![])]);
}

#[test]
fn a_watch_is_changed_added_to_or_refused() {
    let (namespace, inotify) = rig(0x7_1000);
    let of = |events| WatchRequest { events, ..EVERYTHING };
    watch(&namespace, &inotify, "/", of(Events::CREATE)).unwrap();
    assert_eq!(watch(&namespace, &inotify, "/", WatchRequest { create: true, ..EVERYTHING }), Err(Errno::EEXIST));
    assert_eq!(watch(&namespace, &inotify, "/", WatchRequest { add: true, ..of(Events::DELETE) }), Ok(1));
    namespace.mkdir(&namespace.root(), b"d", 0o700).unwrap();
    namespace.rmdir(&namespace.root(), b"d").unwrap();
    let of_dir = |what| (1, what | Events::ISDIR, b"d".to_vec());
    assert_eq!(told(&inotify), [of_dir(Events::CREATE), of_dir(Events::DELETE)]);
    watch(&namespace, &inotify, "/", WatchRequest { once: true, ..of(Events::CREATE) }).unwrap();
    namespace.mkdir(&namespace.root(), b"d", 0o700).unwrap();
    namespace.mkdir(&namespace.root(), b"e", 0o700).unwrap();
    assert_eq!(told(&inotify), [of_dir(Events::CREATE), (1, Events::IGNORED, vec![])]);
}

#[test]
fn an_instance_takes_its_watches_along() {
    let (namespace, inotify) = rig(0x7_2000);
    watch(&namespace, &inotify, "/", EVERYTHING).unwrap();
    let root = namespace.root().id();
    assert!(registry::watches(root));
    drop(inotify);
    assert!(!registry::watches(root));
}
