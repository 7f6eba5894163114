//! A small `/proc` and `/dev`.

use super::{Listed, Tree};
use crate::testing::{list, namespace, read, read_file, spec};
use crate::{Errno, File, FileType, Inode, Lookup, Name, OpenFlags, Result, SliceSource, Source, Timespec};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Mutex;

/// `/dev/null`.
struct Null(Arc<dyn Inode>);

impl File for Null {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.0
    }

    fn read_at(&self, _offset: u64, _sink: &mut dyn crate::Sink) -> Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        Ok(source.remaining())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn tree() -> Arc<Tree> {
    Tree::new(20, 0x9fa0, Timespec { sec: 7, nsec: 0 })
}

#[test]
fn content_is_made_at_each_open() {
    let (ns, opens) = (namespace(), Arc::new(AtomicU32::new(0)));
    let counted = opens.clone();
    let tree = tree();
    let count = tree.node(0o444).file(move || Ok(format!("{}\n", counted.fetch_add(1, Ordering::Relaxed)).into()));
    let broken = tree.node(0o400).file(|| Err(Errno::EIO));
    let link = tree.node(0o777).link(|| Ok(b"count".to_vec()));
    ns.mount(b"/proc", tree.node(0o555).dir(vec![("count", count), ("broken", broken), ("l", link)]), spec("p", false))
        .unwrap();
    let root = ns.root();
    let open = ns.open(&root, b"/proc/count", OpenFlags::empty(), 0).unwrap().file;
    assert_eq!(read(&ns, &root, "/proc/l"), Ok(b"1\n".to_vec()));
    assert_eq!(read_file(&*open, 0, 9), Ok(b"0\n".to_vec()));
    assert_eq!(read_file(&*open, 1, 9), Ok(b"\n".to_vec()));
    assert_eq!(read(&ns, &root, "/proc/broken"), Err(Errno::EIO));
    let metadata = ns.find(&root, b"/proc/count", Lookup::FOLLOW).unwrap().metadata().unwrap();
    assert_eq!((metadata.size, metadata.mode, metadata.mtime.sec, metadata.dev), (0, 0o100444, 7, 20));
    assert_eq!(ns.open(&root, b"/proc/count", OpenFlags::WRONLY, 0).err(), Some(Errno::EACCES));
    assert_eq!(ns.mkdir(&root, b"/proc/new", 0o755), Err(Errno::EROFS));
    assert_eq!(read(&ns, &root, "/proc/other"), Err(Errno::ENOENT));
}

#[test]
fn computed_directories_list_by_key_while_entries_come_and_go() {
    let (ns, tree) = (namespace(), tree());
    let pids = Arc::new(Mutex::new(vec![30u64, 1, 20, 7]));
    let (listed, found, inner) = (pids.clone(), pids.clone(), tree.clone());
    let list_pids = move || {
        let entry = |pid: &u64| Listed { key: *pid, name: format!("{pid}"), file_type: FileType::Directory, ino: *pid };
        Ok(listed.lock().iter().map(entry).collect())
    };
    let find_pid = move |name: Name<'_>| {
        let pid = core::str::from_utf8(name.as_bytes()).ok().and_then(|text| text.parse().ok());
        let pid: u64 = pid.filter(|pid| found.lock().contains(pid)).ok_or(Errno::ENOENT)?;
        let comm = inner.node(0o444).ino(pid << 8).file(move || Ok(format!("process {pid}").into_bytes()));
        Ok(inner.node(0o555).ino(pid).dir(vec![("comm", comm)]))
    };
    let root = tree.node(0o555).computed_dir(list_pids, find_pid);
    ns.mount(b"/proc", root, spec("proc", true)).unwrap();
    let names = |chunk| -> Vec<_> { list(&ns, "/proc", chunk).unwrap().into_iter().map(|(name, _)| name).collect() };
    assert_eq!(names(2), [&b"."[..], b"..", b"1", b"7", b"20", b"30"]);
    assert_eq!(read(&ns, &ns.root(), "/proc/7/comm"), Ok(b"process 7".to_vec()));
    assert_eq!(read(&ns, &ns.root(), "/proc/8/comm"), Err(Errno::ENOENT));
    // The same process is the same directory at every lookup.
    let id = || ns.find(&ns.root(), b"/proc/7", Lookup::FOLLOW).unwrap().id();
    assert_eq!(id(), id());
    let open = ns.open(&ns.root(), b"/proc", OpenFlags::DIRECTORY, 0).unwrap().file;
    let from = |cookie| {
        let (mut seen, mut next) = (Vec::new(), cookie);
        let take = &mut |entry: &crate::DirEntry<'_>| {
            seen.push(String::from_utf8(entry.name.to_vec()).unwrap());
            next = entry.next;
            seen.len() < 4
        };
        open.readdir(cookie, take).unwrap();
        (seen, next)
    };
    let (seen, next) = from(0);
    assert_eq!(seen, [".", "..", "1", "7"]);
    pids.lock().retain(|pid| *pid != 7);
    pids.lock().extend([3, 25]);
    assert_eq!(from(next).0, ["20", "25", "30"]);
}

#[test]
fn devices_open_to_their_own_files_even_on_a_read_only_mount() {
    let (ns, tree) = (namespace(), tree());
    let open = |inode, _flags| Ok(Arc::new(Null(inode)) as Arc<dyn File>);
    let null = tree.node(0o666).owner(3, 4).device(FileType::CharDevice, 0x103, open);
    ns.mount(b"/dev", tree.node(0o755).dir(vec![("null", null)]), spec("dev", true)).unwrap();
    let flags = OpenFlags::RDWR | OpenFlags::CREAT | OpenFlags::TRUNC;
    let opened = ns.open(&ns.root(), b"/dev/null", flags, 0o644).unwrap();
    assert_eq!(opened.file.write_at(0, &mut SliceSource::new(b"gone")), Ok(4));
    assert_eq!(read(&ns, &ns.root(), "/dev/null"), Ok(vec![]));
    let metadata = opened.location.metadata().unwrap();
    assert_eq!((metadata.mode, metadata.rdev, metadata.uid, metadata.gid), (0o020666, 0x103, 3, 4));
    assert_eq!(opened.location.access(2), Ok(()));
    assert_eq!(opened.location.access(1), Err(Errno::EACCES));
}
