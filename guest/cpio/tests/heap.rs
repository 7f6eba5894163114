//! Archives that are large for the guest's heap.

use diolkos_cpio::{Header, TRAILER, unpack};
use diolkos_images_testing::heap;
use diolkos_vfs::ramfs::{Ramfs, RamfsConfig};
use diolkos_vfs::{Name, Timespec};
use std::sync::Arc;

#[test]
fn many_directories_need_no_memory_in_one_piece() {
    const COUNT: u32 = 70_000;
    let mut archive = Vec::new();
    for i in 0..COUNT {
        let header = Header { mode: 0o40700, nlink: 2, ino: i, mtime: i, ..Header::default() };
        archive.extend(header.encode(format!("d/{i}").as_bytes()));
    }
    archive.extend(Header::default().encode(TRAILER));
    let root = Ramfs::new(RamfsConfig::new(1, Arc::new(|| Timespec { sec: 77, nsec: 0 }))).root();
    let summary = heap::limited(|| unpack(&mut &archive[..], &root)).unwrap();
    assert_eq!(summary.entries, COUNT.into());
    let d = root.lookup(Name::new(b"d").unwrap()).unwrap();
    for i in [0, 1, COUNT / 2, COUNT - 1] {
        let name = i.to_string();
        let found = d.lookup(Name::new(name.as_bytes()).unwrap()).unwrap().metadata().unwrap();
        assert_eq!((found.mode, found.mtime.sec), (0o40700, i.into()));
    }
}
