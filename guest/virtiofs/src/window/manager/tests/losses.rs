//! Chunks whose file the host cuts short.

use super::*;

#[test]
fn chunks_of_a_run_that_lose_content_meanwhile_are_not_used() {
    for (lost, refused) in [(0, true), (2, false)] {
        let (manager, stub) = manager(4, DaxPolicy::Clock);
        let (go, slow) = mpsc::channel();
        *stub.slow.lock() = Some(slow);
        let pinned = std::thread::scope(|scope| {
            let mapping = scope.spawn(|| manager.pin(&Want { ahead: 3, ..want(1, 0) }).is_err());
            while stub.slow.lock().is_some() {
                std::thread::yield_now();
            }
            assert!(manager.lose(PHYS + lost * CHUNK, CHUNK));
            go.send(()).unwrap();
            mapping.join().unwrap()
        });
        assert_eq!(pinned, refused);
        for index in 0..4 {
            assert_eq!(manager.has(ChunkKey { owner: 1, index }), index != lost);
        }
    }
}

fn revoke(slot: u64) -> Did {
    Did::Revoke { slot }
}

#[test]
fn a_chunk_that_lost_content_is_mapped_anew() {
    let (manager, stub) = manager(3, DaxPolicy::Clock);
    let held = manager.pin(&want(1, 0)).unwrap();
    drop(manager.pin(&Want { hand_out: true, ..want(1, 1) }).unwrap());
    drop(manager.pin(&want(1, 2)).unwrap());
    stub.done();
    // The end of the first chunk and the start of the second.
    assert!(manager.lose(PHYS + CHUNK - 4096, 4097));
    assert_eq!(stub.done(), [revoke(0), revoke(1)]);
    assert_eq!((manager.counted(Tally::Lost), manager.has(want(1, 2).key)), (2, true));
    // The first is still pinned, so its memory is nobody else's; both are fetched again.
    assert!(!manager.has(want(1, 0).key) && !manager.has(want(1, 1).key));
    let again = manager.pin(&want(1, 0)).unwrap();
    assert_eq!((held.phys(), again.phys()), (PHYS, PHYS + CHUNK));
    assert_eq!(stub.done(), [map(1, 0, 1, false)]);
    drop(held);
    assert_eq!(manager.pin(&want(1, 1)).unwrap().phys(), PHYS);
}

#[test]
fn what_is_lost_elsewhere_is_no_matter_of_this_window() {
    let (manager, stub) = manager(2, DaxPolicy::Clock);
    drop(manager.pin(&want(1, 0)).unwrap());
    stub.done();
    for (phys, len) in [(0, PHYS), (PHYS + 2 * CHUNK, 4096), (u64::MAX, u64::MAX), (PHYS, 0), (0, 0)] {
        assert!(!manager.lose(phys, len), "{phys:#x}+{len:#x}");
    }
    assert_eq!((stub.done(), manager.counted(Tally::Lost)), (Vec::new(), 0));
    assert!(manager.lose(0, u64::MAX));
    assert_eq!(stub.done(), [revoke(0), revoke(1)]);
}

#[test]
fn a_chunk_that_lost_content_while_it_moved_is_not_used() {
    // Once while it is mapped for the first time, once while it becomes writable.
    for upgrade in [false, true] {
        let (manager, stub) = manager(1, DaxPolicy::Clock);
        if upgrade {
            drop(manager.pin(&want(1, 0)).unwrap());
        }
        let (go, slow) = mpsc::channel();
        *stub.slow.lock() = Some(slow);
        let wanted = Want { writable: upgrade, ..want(1, 0) };
        let refused = std::thread::scope(|scope| {
            let mapping = scope.spawn(|| manager.pin(&wanted).err());
            while stub.slow.lock().is_some() {
                std::thread::yield_now();
            }
            assert!(manager.lose(PHYS, CHUNK));
            go.send(()).unwrap();
            mapping.join().unwrap()
        });
        assert_eq!(refused, Some(Refusal::Host(Errno::EIO)), "by message this time");
        assert!(!manager.has(wanted.key));
        assert!(manager.pin(&wanted).is_ok());
    }
}
