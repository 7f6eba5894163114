//! Who gets which place, and who goes for it.

use super::*;

#[test]
fn a_chunk_is_mapped_once_and_found_after() {
    let (manager, stub) = manager(2, DaxPolicy::Clock);
    let absent = Want { fetch: false, ..want(1, 7) };
    assert_eq!(manager.pin(&absent).err(), Some(Refusal::Absent));
    let first = manager.pin(&want(1, 7)).unwrap();
    let second = manager.pin(&absent).unwrap();
    assert_eq!((first.phys(), second.phys()), (PHYS, PHYS));
    assert_eq!(stub.done(), [map(1, 7, 0, false)]);
    assert_eq!((manager.counted(Tally::Mappings), manager.counted(Tally::Hits)), (1, 1));
    assert_eq!(first.bytes(CHUNK - 1, 2).err(), Some(Errno::EINVAL));
}

#[test]
fn a_chunk_in_use_is_never_a_victim() {
    for name in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, stub) = manager(4, name);
        let first = manager.pin(&want(1, 0)).unwrap();
        for index in 1..12 {
            assert_ne!(manager.pin(&want(1, index)).unwrap().phys(), PHYS);
        }
        let second = manager.pin(&want(1, 20)).unwrap();
        assert_eq!(manager.pin(&want(1, 30)).err(), Some(Refusal::Busy), "copies leave half of the window to faults");
        assert!(manager.pin(&want(1, 20)).is_ok(), "what a copy pins already is no more of it");
        let fault = |index| manager.pin(&Want { hand_out: true, ..want(1, index) });
        let (third, fourth) = (fault(31).unwrap(), fault(32).unwrap());
        assert_eq!(fault(33).err(), Some(Refusal::Busy), "in so small a window nobody waits");
        let places: BTreeSet<u64> = [&first, &second, &third, &fourth].map(Pin::phys).into_iter().collect();
        assert_eq!(places.len(), 4);
        drop((first, third));
        assert!(manager.pin(&want(1, 30)).is_ok());
        assert!(!stub.done().iter().any(|did| matches!(did, Did::Unmap { .. })), "mappings replace each other");
    }
}

#[test]
fn what_was_handed_out_is_revoked_before_it_shows_something_else() {
    let (manager, stub) = manager(1, DaxPolicy::Clock);
    drop(manager.pin(&Want { hand_out: true, ..want(1, 0) }).unwrap());
    drop(manager.pin(&want(1, 0)).unwrap());
    drop(manager.pin(&want(2, 0)).unwrap());
    drop(manager.pin(&want(3, 0)).unwrap());
    let (one, two, three) = (map(1, 0, 0, false), map(2, 0, 0, false), map(3, 0, 0, false));
    assert_eq!(stub.done(), [one, Did::Revoke { slot: 0 }, two, three]);
}

#[test]
fn pages_that_one_instruction_may_need_do_not_push_each_other_out() {
    for policy in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let hand_out =
            |manager: &Arc<Manager>, index| manager.pin(&Want { hand_out: true, ..want(1, index) }).map(drop);
        let (few, _) = manager(2, policy);
        assert_eq!([0, 1, 2].map(|index| hand_out(&few, index).is_ok()), [true, true, false], "{policy:?}");
        assert_eq!(hand_out(&few, 0), Ok(()), "what is there may be had again");
        assert!(few.pin(&want(2, 0)).is_ok(), "a reader makes room");

        // With room for more than an instruction needs, the oldest gives way and the newest six stay.
        let (many, _) = manager(8, policy);
        for index in 0..20 {
            assert_eq!(hand_out(&many, index), Ok(()), "{policy:?} {index}");
            for kept in index.saturating_sub(5)..=index {
                assert!(many.has(ChunkKey { owner: 1, index: kept }), "{policy:?} {index}: {kept} is gone");
            }
        }
    }
}

#[test]
fn writing_maps_again_where_it_is() {
    let (manager, stub) = manager(2, DaxPolicy::Clock);
    let reader = manager.pin(&want(1, 0)).unwrap();
    let writer = manager.pin(&Want { writable: true, ..want(1, 0) }).unwrap();
    assert_eq!(reader.phys(), writer.phys());
    assert!(manager.pin(&want(1, 0)).is_ok(), "and it still serves readers");
    assert_eq!(stub.done(), [map(1, 0, 0, false), map(1, 0, 0, true)]);
}

#[test]
fn a_shrinking_file_lets_go_of_what_lies_past_its_end() {
    let (manager, stub) = manager(8, DaxPolicy::Clock);
    for index in 0..4 {
        drop(manager.pin(&Want { hand_out: true, ..want(1, index) }).unwrap());
    }
    drop(manager.pin(&want(2, 3)).unwrap());
    let held = manager.pin(&want(1, 3)).unwrap();
    stub.done();
    manager.drop_from(1, CHUNK + 1);
    let revoked = (1..4).map(|slot| Did::Revoke { slot });
    assert_eq!(stub.done(), revoked.chain([Did::Unmap { slot: 2 }]).collect::<Vec<_>>());
    let here = |owner, index| manager.pin(&Want { fetch: false, ..want(owner, index) }).is_ok();
    assert!(here(1, 0) && here(1, 1) && !here(1, 2) && here(1, 3) && here(2, 3));
    drop(held);
    manager.drop_from(1, 0);
    assert!(!here(1, 0) && here(2, 3));
    manager.drop_from(1, 0);
}

#[test]
fn an_owner_that_goes_while_a_chunk_is_pinned_leaves_it_to_the_last_pin() {
    let (manager, stub) = manager(1, DaxPolicy::Lifo);
    let held = manager.pin(&Want { hand_out: true, ..want(1, 0) }).unwrap();
    manager.drop_from(1, 0);
    assert_eq!(manager.pin(&want(2, 0)).err(), Some(Refusal::Busy));
    assert_eq!(stub.shows.lock().get(&0), Some(&(101, 0, false)), "what is pinned stays");
    drop(held);
    stub.done();
    assert!(manager.pin(&want(2, 0)).is_ok());
    assert_eq!(stub.done(), [Did::Revoke { slot: 0 }, map(2, 0, 0, false)]);
}

#[test]
fn what_is_pushed_out_of_page_tables_again_and_again_is_copied_if_a_copy_will_do() {
    for policy in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, _) = manager(8, policy);
        let private = |index| Want { hand_out: true, copy_will_do: true, ..want(1, index) };
        let mut refused = 0;
        for _ in 0..10 {
            for index in 0..20 {
                refused += u32::from(manager.pin(&private(index)).err() == Some(Refusal::Restless));
                assert!(manager.pin(&Want { copy_will_do: false, ..private(index) }).is_ok(), "shared mappings stay");
            }
        }
        assert!(refused > 50, "{policy:?}: {refused}");
        assert!(manager.pin(&want(1, 3)).is_ok(), "reading is another matter");
        // What has a place keeps it.
        assert!(manager.pin(&private(3)).is_ok());
        let (roomy, _) = super::tests::manager(32, policy);
        for index in (0..20).cycle().take(200) {
            assert!(roomy.pin(&Want { hand_out: true, copy_will_do: true, ..want(1, index) }).is_ok());
        }
    }
}

#[test]
fn chunks_that_follow_come_along_where_there_is_room() {
    let (manager, stub) = manager(6, DaxPolicy::Clock);
    let ahead = |index, ahead| manager.pin(&Want { ahead, ..want(1, index) }).map(|pin| (pin.phys() - PHYS) / CHUNK);
    assert_eq!(ahead(0, 3), Ok(0));
    assert_eq!(stub.done(), [map(1, 0, 0, false)], "one message");
    assert_eq!((manager.counted(Tally::Mappings), manager.counted(Tally::Ahead)), (4, 3));
    assert_eq!((ahead(3, 7), ahead(4, 7)), (Ok(3), Ok(4)));
    // Full: the scan takes over what it left first, and no more than is there in a row.
    assert_eq!(ahead(6, 2), Ok(0));
    assert_eq!([6, 7, 8].map(|index| manager.has(ChunkKey { owner: 1, index })), [true; 3]);
    assert_eq!([0, 1, 2, 3].map(|index| manager.has(ChunkKey { owner: 1, index })), [false, false, false, true]);
    // What has been used again is not pushed out for what nobody has asked for.
    drop(manager.pin(&want(1, 4)).unwrap());
    drop(manager.pin(&want(1, 4)).unwrap());
    ahead(10, 5).unwrap();
    assert!(manager.has(ChunkKey { owner: 1, index: 4 }));
}
