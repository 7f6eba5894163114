//! Threads that want the same chunk, or more chunks than there are.

use super::*;

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
            // Not to unmap: what is quarantined leaves fewer places than a fault is promised one among.
            2 if number == 0 => stub.refuses_map.store(true, SeqCst),
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
