//! The window: maps, pins, and threads that share it.

use super::*;

#[test]
fn maps_show_the_file_and_are_revoked_before_the_memory_is_used_again() {
    // Sixteen chunks of 256 KiB.
    let (rig, small) = (Setup { window: 2 * CHUNK, ..Setup::default() }.build(), CHUNK as u64 / 8);
    let content = pattern(CHUNK + 8192);
    rig.put("f", &content);
    rig.put("g", &pattern(4 * CHUNK));
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    let run = file.map(CHUNK as u64 + 50, Access::Read).unwrap().unwrap();
    assert_eq!((run.offset, run.len, run.writable), (CHUNK as u64, small, false));
    let at = (run.phys - PHYS) as usize;
    let window = rig.mapper.as_ref().unwrap().mapped.lock().unwrap().clone();
    assert!(window.contains(&(at as u64)));
    assert_eq!(errno(file.map(CHUNK as u64 + 8192, Access::Read)), Errno::EINVAL);
    // Pinned, it stays whatever else is read.
    let other = rig.open("g", RDONLY).unwrap();
    assert_eq!(read(&other, 0, 4 * CHUNK).unwrap().len(), 4 * CHUNK);
    assert!(rig.machine.revoked.lock().unwrap().is_empty());
    let again = file.map(CHUNK as u64 + 4096, Access::Read).unwrap().unwrap();
    assert_eq!(again.phys, run.phys);
    drop((run, again));
    assert_eq!(read(&other, 0, 4 * CHUNK).unwrap().len(), 4 * CHUNK);
    let revoked = rig.machine.revoked.lock().unwrap().clone();
    assert!(revoked.iter().any(|(phys, len)| (*phys..phys + len).contains(&(PHYS + at as u64))), "{revoked:x?}");
}

#[test]
fn writable_maps_write_to_the_file() {
    let rig = Setup::default().build();
    rig.put("f", &[b'.'; 8192]);
    let file = rig.open("f", OpenFlags::RDWR).unwrap();
    assert_eq!(read(&file, 0, 4).unwrap(), b"....");
    let run = file.map(4096, Access::Write).unwrap().unwrap();
    assert!(run.writable && run.offset == 0);
    assert_eq!(rig.count("fuse.SETUPMAPPING"), 2, "the readable chunk was mapped again, writable");
    let mapper = rig.mapper.as_ref().unwrap();
    mapper.poke((run.phys - PHYS) as usize + 5000, b"mark");
    assert_eq!(&std::fs::read(rig.path("f")).unwrap()[4999..5005], b".mark.");
    let reader = rig.open("f", RDONLY).unwrap();
    assert_eq!(errno(reader.map(0, Access::Write)), Errno::EACCES);
}

#[test]
fn when_every_chunk_is_pinned_messages_do_the_work() {
    let rig = Setup { window: CHUNK, ..Setup::default() }.build();
    let content = pattern(2 * CHUNK);
    rig.put("f", &content);
    let file = rig.open("f", RDONLY).unwrap();
    let first_half = (0..CHUNK as u64).step_by(CHUNK / 16);
    let _pinned: Vec<_> = first_half.map(|at| file.map(at, Access::Read).unwrap().unwrap()).collect();
    // Another fault would wait for one of these to be over.
    assert!(read(&file, 0, 2 * CHUNK).unwrap() == content);
    assert_eq!(rig.count("fuse.READ"), 16);
    assert_eq!(rig.tally(Tally::FallbackBusy), 16);
}

#[test]
fn a_chunk_outlives_its_file_while_it_is_pinned() {
    let rig = Setup { window: CHUNK, timeout: std::time::Duration::ZERO, ..Setup::default() }.build();
    rig.put("f", &pattern(100));
    rig.put("g", &pattern(200));
    rig.put("h", &pattern(CHUNK));
    let run = rig.open("f", RDONLY).unwrap().map(0, Access::Read).unwrap().unwrap();
    rig.mount.idle();
    assert_eq!(rig.server.lookups_held(), 0);
    let rest = rig.open("h", RDONLY).unwrap();
    let others = (0..CHUNK as u64).step_by(CHUNK / 16).take(15);
    let _pinned: Vec<_> = others.map(|at| rest.map(at, Access::Read).unwrap().unwrap()).collect();
    let other = rig.open("g", RDONLY).unwrap();
    assert!(read(&other, 0, 200).unwrap() == pattern(200));
    assert_eq!(rig.count("fuse.READ"), 1, "the last chunk is taken");
    let before = rig.machine.revoked.lock().unwrap().len();
    drop(run);
    assert!(read(&other, 0, 200).unwrap() == pattern(200));
    assert_eq!(rig.count("fuse.READ"), 1);
    assert_eq!(
        rig.machine.revoked.lock().unwrap().len(),
        before + 1,
        "page tables may have been filled after the first time"
    );
}

#[test]
fn many_threads_find_one_inode_and_map_each_chunk_once() {
    let rig = Setup { timeout: std::time::Duration::ZERO, ..Setup::default() }.build();
    let content = pattern(4 * CHUNK);
    rig.put("f", &content);
    let keep = rig.find("f").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let node = rig.find("f").unwrap();
                    assert!(Arc::ptr_eq(&node, &keep));
                    let file = node.open(RDONLY).unwrap();
                    assert!(read(&file, 0, 4 * CHUNK).unwrap() == content);
                }
            });
        }
    });
    assert_eq!(rig.tally(Tally::Mappings), 4);
    drop(keep);
    rig.mount.idle();
    assert_eq!(rig.server.lookups_held(), 0);
}

#[test]
fn threads_in_a_window_too_small_for_them_read_the_right_bytes() {
    for dax in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let rig = Setup { window: 2 * CHUNK, dax, ..Setup::default() }.build();
        let content = pattern(6 * CHUNK);
        rig.put("f", &content);
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let (rig, content) = (&rig, &content);
                scope.spawn(move || {
                    let file = rig.open("f", RDONLY).unwrap();
                    for round in 0..60 {
                        let at = (thread * 7919 + round * 104_729) * 97 % (content.len() - 70_000);
                        assert!(read(&file, at as u64, 70_000).unwrap() == content[at..at + 70_000]);
                    }
                });
            }
        });
        assert!(rig.tally(Tally::Evictions) > 0);
    }
}
