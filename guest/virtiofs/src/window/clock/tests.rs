use super::*;
use std::vec::Vec;

const CHUNK: u64 = super::super::range::CHUNK;
const HOT: u64 = 1;
const SCANNED: u64 = 2;

fn free(_: usize) -> bool {
    false
}

/// Uses bytes of a chunk; whether it had to be brought in.
fn access(clock: &mut Clock, owner: u64, index: u64, start: u64, end: u64) -> bool {
    let key = ChunkKey { owner, index };
    let found = clock.find(key);
    let slot = found.unwrap_or_else(|| clock.place(key, &free).unwrap().slot);
    clock.used(slot, start, end);
    found.is_none()
}

/// Reads a chunk from start to end in steps of 4 KiB, with one access to the hot set after each 64 KiB.
fn scan_chunk(clock: &mut Clock, index: u64, hot: &[u64], hot_misses: &mut u64) {
    for step in 0..CHUNK / 4096 {
        access(clock, SCANNED, index, step * 4096, (step + 1) * 4096);
        if step % 16 == 0 && !hot.is_empty() {
            let at = (index * 32 + step / 16) as usize % hot.len();
            *hot_misses += u64::from(access(clock, HOT, hot[at], 0, 4096));
        }
    }
}

#[test]
fn a_scan_does_not_push_out_what_is_used() {
    for slots in [4, 8, 64] {
        let mut clock = Clock::new(slots);
        let hot: Vec<u64> = (0..slots as u64 / 2).collect();
        for _ in 0..3 {
            for index in &hot {
                access(&mut clock, HOT, *index, 0, 4096);
            }
        }
        let mut misses = 0;
        for index in 0..slots as u64 * 20 {
            scan_chunk(&mut clock, index, &hot, &mut misses);
        }
        assert_eq!(misses, 0, "window of {slots} chunks");
    }
}

#[test]
fn what_was_used_often_survives_a_scan_in_which_it_is_not_used() {
    let mut clock = Clock::new(16);
    for _ in 0..3 {
        for index in 0..8 {
            access(&mut clock, HOT, index, 0, 4096);
        }
    }
    for index in 0..14 {
        scan_chunk(&mut clock, index, &[], &mut 0);
    }
    let kept = (0..8).filter(|index| clock.find(ChunkKey { owner: HOT, index: *index }).is_some()).count();
    assert_eq!(kept, 8);
}

#[test]
fn the_scan_itself_leaves_no_trace() {
    let mut clock = Clock::new(8);
    for index in 0..100 {
        scan_chunk(&mut clock, index, &[], &mut 0);
    }
    assert!(clock.ring.is_empty(), "512 reads of a chunk in a row are one use of it");
}

#[test]
fn what_comes_back_soon_is_kept_longer() {
    // A loop a little longer than the window: a plain FIFO or LRU would miss every time.
    let mut clock = Clock::new(8);
    let mut misses = 0;
    for round in 0..20 {
        for index in 0..10 {
            misses += u64::from(access(&mut clock, SCANNED, index, 0, CHUNK)) * u64::from(round >= 10);
        }
    }
    assert!(misses < 80, "{misses} of 100");
}

#[test]
fn a_second_use_is_one_that_goes_back() {
    let mut clock = Clock::new(4);
    access(&mut clock, HOT, 0, 0, 4096);
    access(&mut clock, HOT, 0, 4096, 8192);
    assert!(!clock.residents[0].unwrap().used_again);
    access(&mut clock, HOT, 0, 4096, 8192);
    assert!(clock.residents[0].unwrap().used_again);
}

#[test]
fn chunks_in_use_are_never_victims() {
    let mut clock = Clock::new(4);
    for index in 0..4 {
        access(&mut clock, HOT, index, 0, CHUNK);
        access(&mut clock, HOT, index, 0, CHUNK);
    }
    let key = |index| ChunkKey { owner: SCANNED, index };
    assert_eq!(clock.place(key(0), &|_| true), None);
    for index in 0..20 {
        let placed = clock.place(key(index), &|slot| slot != 2).unwrap();
        assert_eq!(placed.slot, 2);
    }
    assert_eq!((0..4).filter(|i| clock.find(ChunkKey { owner: HOT, index: *i }).is_some()).count(), 3);
}

#[test]
fn the_books_stay_bounded_and_agree() {
    let mut clock = Clock::new(16);
    let mut seed = 1u64;
    for _ in 0..50_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (index, blocked) = ((seed >> 33) % 40, (seed >> 50) as usize % 16);
        let key = ChunkKey { owner: HOT, index };
        match clock.find(key) {
            Some(slot) if seed >> 61 == 0 => clock.remove(slot),
            Some(slot) => clock.used(slot, index, index + 1),
            None => {
                let placed = clock.place(key, &|slot| slot == blocked).unwrap();
                assert_ne!(placed.slot, blocked);
                assert_eq!(clock.key_of(placed.slot), Some(key));
            }
        }
        let mut queued: Vec<usize> = clock.lobby.iter().chain(&clock.ring).copied().collect();
        queued.sort_unstable();
        let resident: Vec<usize> = (0..16).filter(|slot| clock.residents[*slot].is_some()).collect();
        assert_eq!(queued, resident);
        assert_eq!(clock.places.len(), resident.len());
        assert!(clock.departed.len() <= 16);
    }
}
