//! Conversations over one request queue: the driver under test on one side, a ring walked by hand on the other.

use super::*;
use crate::Error;
use crate::fake::{FakeDevice, Machine};
use crate::fs::{FsOptions, VirtioFs};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};
use std::vec::Vec;

const INDIRECT: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
/// The first request queue.
const Q: u16 = 1;

struct Rig {
    machine: Machine,
    fs: VirtioFs<Machine, &'static str>,
}

impl Rig {
    /// A queue of 8, on a device without some of the usual features.
    fn without(features: u64) -> Self {
        let mut device = FakeDevice::fs(b"root");
        device.offered &= !features;
        let machine = Machine::with(device);
        let options = FsOptions { request_queues: 1, queue_size: 8, max_buffers: 4 };
        let fs = VirtioFs::new(machine.open().unwrap(), options).unwrap();
        Self { machine, fs }
    }

    fn new() -> Self {
        Self::without(0)
    }

    fn queue(&mut self) -> &mut VirtQueue<Machine, &'static str> {
        &mut self.fs.requests()[0]
    }

    /// Submits a chain of fresh buffers: these to read, and so many bytes each to write.
    fn submit(&mut self, readable: &[&[u8]], writable: &[usize]) -> Result<Token, Refused<&'static str>> {
        let readable: Vec<_> = readable.iter().map(|bytes| self.machine.buffer(bytes)).collect();
        let writable: Vec<_> = writable.iter().map(|len| self.machine.buffer(&std::vec![0; *len])).collect();
        // SAFETY: the machine keeps its buffers until it goes, and nobody else uses them.
        unsafe { self.queue().submit(&readable, &writable, "owner") }
    }

    fn refusal(&mut self, readable: &[&[u8]], writable: &[usize]) -> QueueError {
        self.submit(readable, writable).unwrap_err().reason
    }

    /// The error that the next pop runs into; it must stay.
    fn fault(&mut self) -> Fault {
        let first = self.queue().pop_used().unwrap_err();
        assert_eq!(self.queue().pop_used(), Err(first), "a broken queue stays broken");
        assert_eq!(self.refusal(&[b"x"], &[]), first, "a broken queue takes nothing");
        match first {
            QueueError::Broken(fault) => fault,
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_request_goes_out_and_its_reply_comes_back() {
    for features in [0, INDIRECT, EVENT_IDX, INDIRECT | EVENT_IDX] {
        let mut rig = Rig::without(features);
        let reply = rig.machine.buffer(&[0; 16]);
        let request = rig.machine.buffer(b"request");
        // SAFETY: as in `Rig::submit`.
        let token = unsafe { rig.queue().submit(&[request], &[reply], "mine") }.unwrap();
        rig.queue().kick();
        assert_eq!(rig.machine.device(|d| d.doorbells.clone()), [Q]);

        let chain = rig.machine.take(Q).unwrap();
        assert_eq!(chain.readable, [b"request"]);
        assert_eq!(chain.writable, [(reply.addr.0, 16)]);
        assert_eq!(rig.queue().pop_used(), Ok(None));
        assert!(rig.machine.answer(Q, chain, b"a reply"), "an interrupt is due");
        assert_eq!(rig.queue().pop_used(), Ok(Some(Used { token, len: 7, owner: "mine" })));
        assert_eq!(&rig.machine.content(reply)[..8], b"a reply\0");
        assert_eq!(rig.queue().outstanding(), 0);
    }
}

#[test]
fn several_buffers_go_into_an_indirect_table_and_one_does_not() {
    let mut rig = Rig::new();
    rig.submit(&[b"head", b"name"], &[8, 8]).unwrap();
    rig.submit(&[b"alone"], &[]).unwrap();
    let chain = rig.machine.take(Q).unwrap();
    assert!(chain.indirect);
    assert_eq!(chain.readable, [b"head", b"name"]);
    assert_eq!(chain.writable.len(), 2);
    let chain = rig.machine.take(Q).unwrap();
    assert!(!chain.indirect);
    assert_eq!(chain.readable, [b"alone"]);
}

#[test]
fn buffers_of_no_length_are_left_out() {
    let mut rig = Rig::new();
    rig.submit(&[b"", b"head", b""], &[0, 4]).unwrap();
    let chain = rig.machine.take(Q).unwrap();
    assert_eq!((chain.readable.len(), chain.writable.len()), (1, 1));
    assert_eq!(rig.refusal(&[b""], &[0]), QueueError::Empty);
}

#[test]
fn a_full_queue_refuses_and_gives_the_owner_back() {
    let mut rig = Rig::new();
    for _ in 0..8 {
        rig.submit(&[b"a", b"b"], &[]).unwrap();
    }
    let refused = rig.submit(&[b"a"], &[]).unwrap_err();
    assert_eq!(refused, Refused { reason: QueueError::Full, owner: "owner" });
    let chain = rig.machine.take(Q).unwrap();
    rig.machine.answer(Q, chain, b"");
    assert!(rig.queue().pop_used().unwrap().is_some());
    rig.submit(&[b"a"], &[]).unwrap();
}

#[test]
fn without_indirect_tables_a_chain_takes_as_many_descriptors_as_buffers() {
    let mut rig = Rig::without(INDIRECT);
    rig.submit(&[b"1", b"2", b"3"], &[1, 1]).unwrap();
    rig.submit(&[b"4"], &[1]).unwrap();
    assert_eq!(rig.refusal(&[b"5", b"6"], &[]), QueueError::Full);
    let first = rig.machine.take(Q).unwrap();
    let second = rig.machine.take(Q).unwrap();
    // Out of order, so that the free list is shuffled; then the whole queue is one chain.
    for chain in [second, first] {
        rig.machine.answer(Q, chain, b"");
        rig.queue().pop_used().unwrap().unwrap();
    }
    rig.submit(&[b"1", b"2", b"3", b"4"], &[1, 1, 1, 1]).unwrap();
    assert_eq!(rig.machine.take(Q).unwrap().readable, [b"1", b"2", b"3", b"4"]);
}

#[test]
fn too_many_buffers_are_refused() {
    let mut rig = Rig::new();
    assert_eq!(rig.queue().max_buffers(), 4);
    assert_eq!(rig.refusal(&[b"1", b"2", b"3"], &[1, 1]), QueueError::TooManyBuffers);
}

#[test]
fn a_chain_of_4_gib_is_refused() {
    let mut rig = Rig::new();
    let buffer = DmaBuf { len: u32::MAX, ..rig.machine.buffer(b"x") };
    // SAFETY: nothing is submitted.
    let refused = unsafe { rig.queue().submit(&[buffer], &[buffer], "owner") }.unwrap_err();
    assert_eq!(refused.reason, QueueError::TooLong);
}

#[test]
fn replies_in_any_order_find_their_requests() {
    let mut rig = Rig::new();
    let tokens = [(); 3].map(|()| rig.submit(&[b"x"], &[4]).unwrap());
    let mut chains = [(); 3].map(|()| rig.machine.take(Q));
    for i in [1, 2, 0] {
        rig.machine.answer(Q, chains[i].take().unwrap(), &[0; 4][..i + 1]);
        let used = rig.queue().pop_used().unwrap().unwrap();
        assert_eq!((used.token, used.len), (tokens[i], i as u32 + 1));
    }
}

#[test]
fn the_indices_wrap_around() {
    for features in [0, INDIRECT, EVENT_IDX] {
        let mut rig = Rig::without(features);
        let (request, reply) = (rig.machine.buffer(b"r"), rig.machine.buffer(&[0; 4]));
        for round in 0..70_000u32 {
            // SAFETY: as in `Rig::submit`; one at a time.
            let token = unsafe { rig.queue().submit(&[request], &[reply], "owner") }.unwrap();
            assert!(rig.queue().should_notify(), "round {round}: the device has seen everything");
            let chain = rig.machine.take(Q).unwrap();
            assert!(rig.machine.answer(Q, chain, &round.to_le_bytes()), "round {round}: an interrupt is due");
            let used = rig.queue().pop_used().unwrap().unwrap();
            assert_eq!((used.token, used.len), (token, 4));
            assert!(rig.queue().enable_interrupts());
        }
    }
}

#[test]
fn a_device_that_has_not_looked_yet_is_not_told_again() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.submit(&[b"x"], &[]).unwrap();
        rig.queue().kick();
    }
    // avail_event is still 0: only the first entry passes it.
    assert_eq!(rig.machine.device(|d| d.doorbells.len()), 1);
    while rig.machine.take(Q).is_some() {}
    rig.queue().kick();
    assert_eq!(rig.machine.device(|d| d.doorbells.len()), 1, "nothing new, no notification");
    rig.submit(&[b"x"], &[]).unwrap();
    rig.queue().kick();
    assert_eq!(rig.machine.device(|d| d.doorbells.len()), 2);
}

#[test]
fn without_event_index_the_flag_decides_about_notifications() {
    let mut rig = Rig::without(EVENT_IDX);
    rig.machine.set_no_notify(Q, true);
    rig.submit(&[b"x"], &[]).unwrap();
    assert!(!rig.queue().should_notify());
    rig.machine.set_no_notify(Q, false);
    rig.submit(&[b"x"], &[]).unwrap();
    assert!(rig.queue().should_notify());
}

#[test]
fn interrupts_come_only_when_asked_for() {
    for features in [0, EVENT_IDX] {
        let mut rig = Rig::without(features);
        let answer = |rig: &mut Rig| {
            rig.submit(&[b"x"], &[]).unwrap();
            let chain = rig.machine.take(Q).unwrap();
            rig.machine.answer(Q, chain, b"")
        };
        rig.queue().disable_interrupts();
        assert!(!answer(&mut rig));
        assert!(!answer(&mut rig));
        assert!(!rig.queue().enable_interrupts(), "two came back meanwhile");
        let mut seen = 0;
        rig.queue().drain(|_| seen += 1).unwrap();
        assert_eq!(seen, 2);
        assert!(answer(&mut rig));
    }
}

#[test]
fn with_event_index_one_interrupt_serves_until_the_next_drain() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.submit(&[b"x"], &[]).unwrap();
    }
    let chains = [(); 3].map(|()| rig.machine.take(Q).unwrap());
    let interrupts = chains.map(|chain| rig.machine.answer(Q, chain, b""));
    assert_eq!(interrupts, [true, false, false]);
}

#[test]
fn a_head_that_does_not_exist_breaks_the_queue() {
    for id in [8, 0xffff, 0x1_0000, u32::MAX] {
        let mut rig = Rig::new();
        rig.submit(&[b"x"], &[4]).unwrap();
        rig.machine.claim(Q, id, 0);
        assert_eq!(rig.fault(), Fault::NotOutstanding(id));
    }
}

#[test]
fn a_descriptor_in_the_middle_of_a_chain_is_no_head() {
    let mut rig = Rig::without(INDIRECT);
    rig.submit(&[b"x"], &[4]).unwrap();
    rig.machine.claim(Q, 1, 0);
    assert_eq!(rig.fault(), Fault::NotOutstanding(1));
}

#[test]
fn a_chain_that_comes_back_twice_breaks_the_queue() {
    let mut rig = Rig::new();
    rig.submit(&[b"x"], &[4]).unwrap();
    rig.submit(&[b"y"], &[4]).unwrap();
    rig.machine.claim(Q, 0, 4);
    rig.machine.claim(Q, 0, 4);
    assert!(rig.queue().pop_used().unwrap().is_some());
    assert_eq!(rig.fault(), Fault::NotOutstanding(0));
}

#[test]
fn more_bytes_than_there_was_room_for_break_the_queue() {
    for (writable, len) in [(&[4, 4][..], 9), (&[], 1), (&[4], u32::MAX)] {
        let mut rig = Rig::new();
        rig.submit(&[b"x"], writable).unwrap();
        rig.machine.claim(Q, 0, len);
        let writable = writable.iter().sum::<usize>() as u32;
        assert_eq!(rig.fault(), Fault::TooLong { len, writable });
    }
}

#[test]
fn a_used_index_that_jumps_breaks_the_queue() {
    for by in [2, 8, 0x8000, 0xffff] {
        let mut rig = Rig::new();
        rig.submit(&[b"x"], &[]).unwrap();
        rig.machine.jump(Q, by);
        assert_eq!(rig.fault(), Fault::IndexJumped { by, outstanding: 1 });
    }
}

#[test]
fn what_was_in_flight_on_a_broken_queue_is_handed_back_after_a_reset() {
    let mut rig = Rig::new();
    for _ in 0..3 {
        rig.submit(&[b"x"], &[]).unwrap();
    }
    rig.machine.claim(Q, 99, 0);
    rig.fault();
    assert_eq!(rig.fs.abort().unwrap(), ["owner"; 3]);
    assert_eq!(rig.machine.device(|d| d.statuses.last().copied()), Some(0));
    assert_eq!(rig.refusal(&[b"x"], &[]), QueueError::Broken(Fault::NotOutstanding(99)));
    assert_eq!(rig.fs.hiprio().pop_used(), Err(QueueError::Stopped));
}

#[test]
fn a_device_that_does_not_reset_keeps_the_memory_it_may_still_write_to() {
    let mut rig = Rig::new();
    rig.submit(&[b"x"], &[]).unwrap();
    rig.machine.device(|d| d.stuck = true);
    assert_eq!(rig.fs.abort(), Err(Error::ResetTimeout));
    let Rig { machine, fs } = rig;
    let before = machine.pages();
    drop(fs);
    assert_eq!(machine.pages(), before);
}

#[test]
fn dropping_a_driver_resets_the_device_and_frees_its_memory() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let fs = VirtioFs::<_, ()>::new(machine.open().unwrap(), FsOptions::default()).unwrap();
    assert_ne!(machine.pages(), 0);
    drop(fs);
    assert_eq!(machine.device(|d| d.statuses.last().copied()), Some(0));
    assert_eq!(machine.pages(), 0);
}

/// Waits as a processor does, which is not always alone on its core. False if it was for nothing.
fn wait_for(mut what: impl FnMut() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(20);
    for round in 0u32.. {
        if what() {
            return true;
        }
        if round % 1024 == 1023 {
            std::thread::yield_now();
            if Instant::now() > patience {
                break;
            }
        }
        std::hint::spin_loop();
    }
    false
}

/// A device that answers on a thread of its own, and looks at its ring only when the doorbell rings; a driver
/// that looks at its ring only at an interrupt. If either side's wish to be told got lost, both would wait for ever.
/// The gaps are a few instructions wide, so a driver that is wrong is caught with luck; one that is right never is.
#[test]
fn no_wakeup_is_lost_between_two_processors() {
    for features in [0, EVENT_IDX] {
        let mut rig = Rig::without(features);
        let (interrupted, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let buffer = rig.machine.buffer(b"x");
        let machine = rig.machine.clone();
        let rung = || machine.device(|d| !std::mem::take(&mut d.doorbells).is_empty());
        let device = || {
            while wait_for(|| rung() || done.load(Ordering::Relaxed)) && !done.load(Ordering::Relaxed) {
                while let Some(chain) = machine.take(Q) {
                    if machine.answer(Q, chain, b"") {
                        interrupted.store(true, Ordering::Release);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(device);
            let enough = Instant::now() + Duration::from_millis(500);
            let mut woken = true;
            while woken && Instant::now() < enough {
                while rig.queue().outstanding() < 3 {
                    // SAFETY: the machine keeps the buffer, and nobody writes it.
                    unsafe { rig.queue().submit(&[buffer], &[], "owner") }.unwrap();
                    rig.queue().kick();
                }
                woken = wait_for(|| interrupted.swap(false, Ordering::Acquire));
                rig.queue().drain(|_| ()).unwrap();
            }
            done.store(true, Ordering::Relaxed);
            assert!(woken, "a wakeup was lost");
        });
    }
}

#[test]
fn the_random_walk_of_a_device_never_loses_a_chain() {
    // A fixed pseudo-random walk (xorshift) over submissions, replies in random order, and pops.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    for features in [0, INDIRECT, EVENT_IDX] {
        let mut rig = Rig::without(features);
        let buffer = rig.machine.buffer(&[7; 64]);
        let (mut sent, mut back) = (0, 0);
        let mut held = Vec::new();
        for _ in 0..5_000 {
            match random(4) {
                0 | 1 => {
                    let buffers = std::vec![buffer; 1 + random(4) as usize];
                    let (readable, writable) = buffers.split_at(random(buffers.len() as u64 + 1) as usize);
                    // SAFETY: nobody reads or writes the buffer's content.
                    match unsafe { rig.queue().submit(readable, writable, "owner") } {
                        Ok(_) => sent += 1,
                        Err(refused) => assert_eq!(refused.reason, QueueError::Full),
                    }
                }
                2 => {
                    held.extend(rig.machine.take(Q));
                    if !held.is_empty() {
                        let chain = held.swap_remove(random(held.len() as u64) as usize);
                        rig.machine.answer(Q, chain, b"");
                    }
                }
                _ => back += usize::from(rig.queue().pop_used().unwrap().is_some()),
            }
            assert_eq!(usize::from(rig.queue().outstanding()), sent - back);
        }
        assert!(back > 500, "the walk went somewhere: {back}");
    }
}
