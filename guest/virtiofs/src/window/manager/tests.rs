//! The manager over a stub window that can refuse, and knows what each range shows.

use super::*;
use crate::Transport;
use crate::ops::NodeId;
use crate::window::policy::policy;
use crate::window::range::CHUNK;
use core::ptr::NonNull;
use diolkos_common::cmdline::DaxPolicy;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::vec::Vec;

const PHYS: u64 = 1 << 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Did {
    Map { node: u64, file_offset: u64, slot: u64, writable: bool },
    Unmap { slot: u64 },
    Revoke { slot: u64 },
}

/// The stub: window, page tables and scheduler in one.
#[derive(Default)]
struct Stub {
    did: Mutex<Vec<Did>>,
    shows: Mutex<BTreeMap<u64, (u64, u64, bool)>>,
    /// Answers to the next calls of map and unmap; success when there is none.
    answers: Mutex<VecDeque<Result<()>>>,
    pauses: AtomicU64,
    /// When set, mapping waits until somebody else has paused.
    slow: Mutex<Option<mpsc::Receiver<()>>>,
    wake: Mutex<Option<mpsc::Sender<()>>>,
}

impl Stub {
    fn answer(&self) -> Result<()> {
        self.answers.lock().pop_front().unwrap_or(Ok(()))
    }

    fn will(&self, answers: &[Result<()>]) {
        self.answers.lock().extend(answers);
    }

    fn done(&self) -> Vec<Did> {
        core::mem::take(&mut *self.did.lock())
    }
}

struct Shared(Arc<Stub>);

impl Backing for Shared {
    fn map(&self, node: NodeId, file_offset: u64, range: WindowRange, writable: bool) -> Result<()> {
        let slot = range.offset() / CHUNK;
        self.0.did.lock().push(Did::Map { node: node.0, file_offset, slot, writable });
        let slow = self.0.slow.lock().take();
        if let Some(slow) = slow {
            slow.recv_timeout(core::time::Duration::from_secs(20)).expect("a second thread waits for this chunk");
        }
        let answer = self.0.answer();
        match answer {
            Ok(()) => self.0.shows.lock().insert(slot, (node.0, file_offset, writable)),
            // The worst a host can do: the old mapping is gone, or is not.
            Err(Errno::ENOMEM) => self.0.shows.lock().remove(&slot),
            Err(_) => None,
        };
        answer
    }

    fn unmap(&self, ranges: &[WindowRange]) -> Result<()> {
        for range in ranges {
            self.0.did.lock().push(Did::Unmap { slot: range.offset() / CHUNK });
        }
        let answer = self.0.answer();
        if answer.is_ok() {
            self.0.shows.lock().retain(|slot, _| ranges.iter().all(|range| range.offset() / CHUNK != *slot));
        }
        answer
    }
}

impl Platform for Stub {
    fn now_ns(&self) -> u64 {
        0
    }

    fn revoke(&self, phys: u64, len: u64) {
        assert_eq!((phys % CHUNK, len % CHUNK), (0, 0));
        let first = (phys - PHYS) / CHUNK;
        self.did.lock().extend((first..first + len / CHUNK).map(|slot| Did::Revoke { slot }));
    }

    fn pause(&self) {
        self.pauses.fetch_add(1, SeqCst);
        if let Some(wake) = self.wake.lock().take() {
            wake.send(()).unwrap();
        }
        std::thread::yield_now();
    }
}

struct Silent;

impl Transport for Silent {
    fn request(&self, _: &[&[u8]], _: &mut [&mut [u8]]) -> Result<usize> {
        Err(Errno::EIO)
    }

    fn forget(&self, _: &[u8]) {}
}

fn manager(slots: u64, name: DaxPolicy) -> (Arc<Manager>, Arc<Stub>) {
    let stub = Arc::new(Stub::default());
    // SAFETY: nothing here looks at the memory.
    let memory = unsafe { WindowMemory::new(PHYS, NonNull::new(4096 as *mut u8).unwrap(), slots * CHUNK) }.unwrap();
    let geometry = Geometry::of(slots as usize, CHUNK);
    let session = Arc::new(Session::new(Arc::new(Silent), "t".into(), (0, 0), 64, None));
    let policy = policy(name, geometry.slots()).unwrap();
    let manager =
        Manager::new(memory, geometry, policy, DaxIo::Window, Box::new(Shared(stub.clone())), stub.clone(), session);
    (Arc::new(manager), stub)
}

fn want(owner: u64, index: u64) -> Want {
    Want {
        key: ChunkKey { owner, index },
        node: NodeId(owner + 100),
        start: 0,
        end: CHUNK,
        writable: false,
        hand_out: false,
        copy_will_do: false,
        fetch: true,
        ahead: 0,
    }
}

fn map(owner: u64, index: u64, slot: u64, writable: bool) -> Did {
    Did::Map { node: owner + 100, file_offset: index * CHUNK, slot, writable }
}

impl Manager {
    fn has(&self, key: ChunkKey) -> bool {
        self.state.lock().policy.find(key).is_some()
    }

    fn counted(&self, tally: Tally) -> u64 {
        self.session.counters.get(tally)
    }
}

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
fn two_threads_that_want_one_chunk_map_it_once() {
    let (manager, stub) = manager(2, DaxPolicy::Clock);
    let (wake, slow) = mpsc::channel();
    (*stub.wake.lock(), *stub.slow.lock()) = (Some(wake), Some(slow));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(manager.pin(&want(1, 0)).unwrap().phys(), PHYS));
        }
    });
    assert!(stub.pauses.load(SeqCst) > 0);
    assert_eq!(stub.done(), [map(1, 0, 0, false)]);
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

/// A number that has little to do with the one before.
fn dice(seed: &mut u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

/// What one of many threads does: copies that fault while they hold their pin, faults, and now and then files that are let
/// go of or cut short.
fn be_one_of_many(manager: &Arc<Manager>, stub: &Stub, number: u64) {
    let mut seed = number;
    let fault = |seed: &mut u64| {
        let wanted = want(dice(seed) % 3, dice(seed) % 40);
        let writable = dice(seed).is_multiple_of(4);
        match manager.pin(&Want { hand_out: true, writable, ahead: (dice(seed) % 3) as usize, ..wanted }) {
            Ok(_) => {}
            // Of what is lost while it is mapped, or refused by the host. Never because others are in the way.
            Err(refusal) => assert!(matches!(refusal, Refusal::Host(_)), "{refusal:?}"),
        }
    };
    for _ in 0..400 {
        let copied = want(dice(&mut seed) % 3, dice(&mut seed) % 40);
        match dice(&mut seed) % 64 {
            0 => manager.drop_from(copied.key.owner, copied.key.index * CHUNK),
            1 => drop(manager.lose(PHYS + copied.key.index % 16 * CHUNK, CHUNK)),
            2 if number == 0 => stub.will(&[Err(Errno::ENOMEM)]),
            3..24 => fault(&mut seed),
            _ => {
                let Ok(pin) = manager.pin(&copied) else { continue };
                // The others get to hold theirs as well.
                std::thread::sleep(core::time::Duration::from_micros(dice(&mut seed) % 200));
                fault(&mut seed);
                drop(pin);
            }
        }
    }
}

#[test]
fn threads_that_fault_while_they_copy_never_wait_for_each_other_for_ever() {
    for name in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        let (manager, stub) = manager(16, name);
        let (over, wait) = mpsc::channel();
        for number in 0..24 {
            let (manager, stub, over) = (manager.clone(), stub.clone(), over.clone());
            std::thread::spawn(move || {
                be_one_of_many(&manager, &stub, number);
                over.send(()).unwrap();
            });
        }
        for finished in 0..24 {
            let waited = wait.recv_timeout(core::time::Duration::from_secs(60));
            assert!(waited.is_ok(), "{name:?}: {finished} threads have finished: {:?}", manager.state.lock().slots);
        }
        manager.clear();
        let state = manager.state.lock();
        assert!(state.slots.iter().all(|slot| slot.content == Content::Free && slot.pins + slot.copies == 0));
        assert_eq!(state.held_by_copies, 0);
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
