//! A host that refuses, or does not answer.

use super::*;

#[test]
fn a_failed_mapping_leaves_nothing_behind() {
    let (manager, stub) = manager(1, DaxPolicy::Lifo);
    drop(manager.pin(&want(1, 0)).unwrap());
    stub.will(&[Err(Errno::ENODEV)]);
    assert_eq!(manager.pin(&want(2, 0)).err(), Some(Refusal::Host(Errno::ENODEV)));
    // The range still showed file 1: it is unmapped before anybody may use it, and file 1 is not believed to be there.
    assert_eq!(stub.done(), [map(1, 0, 0, false), map(2, 0, 0, false), Did::Unmap { slot: 0 }]);
    assert_eq!(manager.pin(&Want { fetch: false, ..want(1, 0) }).err(), Some(Refusal::Absent));
    assert!(manager.pin(&want(1, 0)).is_ok());
}

#[test]
fn a_range_the_host_will_not_free_is_never_used_again() {
    for name in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, stub) = manager(2, name);
        stub.will(&[Err(Errno::EIO), Err(Errno::EIO)]);
        assert_eq!(manager.pin(&want(1, 0)).err(), Some(Refusal::Host(Errno::EIO)));
        assert_eq!(manager.counted(Tally::Quarantined), 1);
        stub.done();
        for index in 0..4 {
            assert_eq!(manager.pin(&want(1, index)).unwrap().phys(), PHYS + CHUNK);
        }
        let _held = manager.pin(&want(1, 3)).unwrap();
        assert_eq!(manager.pin(&want(1, 9)).err(), Some(Refusal::Busy));
        assert!(!stub.done().iter().any(|did| matches!(did, Did::Map { slot: 0, .. })));
    }
}

#[test]
fn a_refused_upgrade_restores_the_chunk_or_gives_it_up() {
    let (manager, stub) = manager(2, DaxPolicy::Clock);
    let reader = manager.pin(&Want { hand_out: true, ..want(1, 0) }).unwrap();
    stub.will(&[Err(Errno::ENOMEM)]);
    assert_eq!(manager.pin(&Want { writable: true, ..want(1, 0) }).err(), Some(Refusal::Host(Errno::ENOMEM)));
    assert_eq!(stub.done(), [map(1, 0, 0, false), map(1, 0, 0, true), map(1, 0, 0, false)]);
    assert_eq!(stub.shows.lock().get(&0), Some(&(101, 0, false)));
    assert!(manager.pin(&want(1, 0)).is_ok());

    stub.will(&[Err(Errno::ENOMEM), Err(Errno::ENOMEM)]);
    assert!(manager.pin(&Want { writable: true, ..want(1, 0) }).is_err());
    assert_eq!(stub.done().last(), Some(&Did::Revoke { slot: 0 }));
    assert_eq!(manager.pin(&want(1, 0)).unwrap().phys(), PHYS + CHUNK, "a new place, the old one is lost");
    drop(reader);
    assert_eq!(manager.counted(Tally::Quarantined), 1);
}

#[test]
fn whatever_fails_a_pin_shows_its_own_file() {
    for name in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, stub) = manager(12, name);
        let mut held: Vec<(Want, Pin)> = Vec::new();
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let dice = dice(&mut seed);
            match dice % 16 {
                0 => manager.drop_from(dice / 16 % 3, (dice / 64 % 4) * CHUNK),
                1 if stub.shows.lock().len() > 2 => stub.will(&[Err(Errno::EIO)]),
                2..6 if !held.is_empty() => drop(held.swap_remove(dice as usize % held.len())),
                _ if held.len() < 4 => {
                    let wanted = Want { writable: dice & 0x100 != 0, ..want(dice / 512 % 3, dice / 2048 % 5) };
                    if let Ok(pin) = manager.pin(&wanted) {
                        held.push((wanted, pin));
                    }
                }
                _ => {}
            }
            for (wanted, pin) in &held {
                let slot = (pin.phys() - PHYS) / CHUNK;
                let shows = *stub.shows.lock().get(&slot).expect("a pinned chunk is mapped");
                assert_eq!((shows.0, shows.1), (wanted.node.0, wanted.key.index * CHUNK));
                assert!(shows.2 || !wanted.writable);
            }
            if manager.counted(Tally::Quarantined) > 6 {
                break;
            }
        }
        assert!(manager.counted(Tally::Mappings) > 20);
    }
}

#[test]
fn a_run_that_the_host_refuses_is_unmapped_and_its_first_chunk_tried_alone() {
    let (manager, stub) = manager(4, DaxPolicy::Clock);
    stub.will(&[Err(Errno::EINVAL)]);
    let pin = manager.pin(&Want { ahead: 3, ..want(1, 0) }).unwrap();
    assert_eq!(stub.done(), [map(1, 0, 0, false), Did::Unmap { slot: 0 }, map(1, 0, 0, false)]);
    assert_eq!([0, 1, 2].map(|index| manager.has(ChunkKey { owner: 1, index })), [true, false, false]);
    drop(pin);
    // Nor may it be unmapped: nothing of the run is used again.
    stub.will(&[Err(Errno::EINVAL), Err(Errno::EIO)]);
    assert_eq!(manager.pin(&Want { ahead: 3, ..want(2, 0) }).err(), Some(Refusal::Host(Errno::EINVAL)));
    assert_eq!(manager.counted(Tally::Quarantined), 3);
    assert_eq!(manager.pin(&want(2, 1)).unwrap().phys(), PHYS, "the only one left");
}

#[test]
fn an_unmapping_without_an_answer_gives_up_all_that_it_named() {
    for policy in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, stub) = manager(4, policy);
        (0..3).for_each(|index| drop(manager.pin(&want(1, index)).unwrap()));
        drop(manager.pin(&want(2, 0)).unwrap());
        stub.done();
        stub.will(&[Err(Errno::EIO)]);
        manager.drop_from(1, 0);
        assert_eq!(stub.done(), [0, 1, 2].map(|slot| Did::Unmap { slot }), "one transaction");
        assert_eq!(manager.counted(Tally::Quarantined), 3);
        // They may show file 1 for ever, so nobody gets them any more; and file 1 is not believed to be there.
        for index in 0..8 {
            assert_eq!(manager.pin(&want(3, index)).unwrap().phys(), PHYS + 3 * CHUNK);
        }
        assert!(manager.pin(&Want { fetch: false, ..want(1, 0) }).is_err());
        manager.clear();
        assert!(!stub.done().iter().any(|did| matches!(did, Did::Unmap { slot: 0..3 })));
    }
}
