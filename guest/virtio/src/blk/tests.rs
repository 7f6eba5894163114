//! Requests, what becomes of them, and what a device may claim.

use super::*;
use crate::fake::{FakeDevice, Machine};
use crate::queue::Fault;
use std::vec;

type Blk = VirtioBlk<Machine, u32>;

fn with(device: FakeDevice, queues: u16) -> (Machine, Blk) {
    let machine = Machine::with(device);
    let blk = Blk::new(machine.open().unwrap(), queues).unwrap();
    (machine, blk)
}

fn rig() -> (Machine, Blk) {
    with(FakeDevice::blk(feature::WANTED - feature::RO), 1)
}

fn submit(blk: &mut Blk, request: Request<'_>, owner: u32) -> Result<(), QueueError> {
    // SAFETY: the fake machine's buffers are never freed, and only the fakes touch them.
    unsafe { blk.submit(0, request, owner) }.map_err(|refused| refused.reason)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

#[test]
fn what_the_device_says_is_made_sense_of() {
    let (_, blk) = rig();
    let ranges = |most, align| Some(Ranges { most, align });
    let info = Info {
        sectors: 1 << 33,
        read_only: false,
        block_size: 4096,
        flush: true,
        discard: ranges(4096, 8),
        write_zeroes: ranges(2048, 1),
        segment_bytes: 1 << 20,
        segments: MAX_SEGMENTS,
        queues: 4,
    };
    assert_eq!(*blk.info(), info);
    let (_, plain) = with(FakeDevice::blk(feature::RO), 4);
    let info = Info {
        read_only: true,
        block_size: 512,
        flush: false,
        discard: None,
        write_zeroes: None,
        segment_bytes: u32::MAX / 512 * 512,
        segments: 1,
        queues: 1,
        ..info
    };
    assert_eq!((*plain.info(), plain.queues()), (info, 1));
}

#[test]
fn nonsense_in_the_configuration_does_no_harm() {
    let mut device = FakeDevice::blk(feature::WANTED);
    device.config.fill(0xff);
    let (_, blk) = with(device, 2);
    let info = blk.info();
    assert_eq!((info.sectors, info.block_size, blk.queues()), (u64::MAX / 512, 512, 2));
    let mut device = FakeDevice::blk(feature::WANTED);
    device.config.fill(0);
    let (_, blk) = with(device, 2);
    let info = blk.info();
    assert_eq!((info.sectors, info.segment_bytes, info.segments), (0, 512, 1));
    assert_eq!((info.discard, info.write_zeroes, blk.queues()), (None, None, 1));
    let machine = Machine::with(FakeDevice::new(2, 0, &[0; 4], &[64]));
    assert_eq!(Blk::new(machine.open().unwrap(), 1).unwrap_err(), Error::ShortConfig);
}

#[test]
fn sectors_are_read() {
    let (machine, mut blk) = rig();
    let buffers = [machine.buffer(&[0; 512]), machine.buffer(&[0; 1024])];
    submit(&mut blk, Request::Read(1 << 32, &buffers), 7).unwrap();
    assert_eq!(blk.take_done(0), Ok(None));
    let chain = machine.take(0).unwrap();
    assert_eq!(chain.readable, [header(0, 1 << 32)]);
    assert_eq!(chain.writable.iter().map(|(_, len)| *len).collect::<Vec<_>>(), [512, 1024, 1]);
    let reply = [vec![1; 512], vec![2; 1024], vec![0]].concat();
    machine.answer(0, chain, &reply);
    assert!(blk.has_done(0));
    assert_eq!(blk.take_done(0), Ok(Some(Done { owner: 7, result: Ok(()) })));
    assert_eq!((machine.content(buffers[0]), machine.content(buffers[1])), (vec![1; 512], vec![2; 1024]));
}

#[test]
fn sectors_are_written_flushed_discarded_and_zeroed() {
    let (machine, mut blk) = rig();
    let buffer = machine.buffer(&[5; 512]);
    let range = |sector: u64, count: u32, flags: u32| {
        [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
    };
    let requests = [
        (Request::Write(3, &[buffer]), vec![header(1, 3), vec![5; 512]]),
        (Request::Flush, vec![header(4, 0)]),
        (Request::Discard(8, 16), vec![header(11, 0), range(8, 16, 0)]),
        (Request::WriteZeroes(9, 1, false), vec![header(13, 0), range(9, 1, 0)]),
        (Request::WriteZeroes(9, 1, true), vec![header(13, 0), range(9, 1, 1)]),
    ];
    for (request, readable) in requests {
        submit(&mut blk, request, 1).unwrap();
        let chain = machine.take(0).unwrap();
        assert_eq!(chain.readable, readable);
        machine.answer(0, chain, &[0]);
        assert_eq!(blk.take_done(0), Ok(Some(Done { owner: 1, result: Ok(()) })));
    }
}

#[test]
fn the_status_says_how_it_went() {
    let (machine, mut blk) = rig();
    let silent: &[u8] = &[];
    for (status, result) in [(&[0][..], Ok(())), (&[1], Err(Failed::Io)), (&[2], Err(Failed::Unsupported))]
        .into_iter()
        .chain([(&[3][..], Err(Failed::Io)), (&[0xff], Err(Failed::Io)), (silent, Err(Failed::Io))])
    {
        submit(&mut blk, Request::Flush, 9).unwrap();
        let chain = machine.take(0).unwrap();
        machine.answer(0, chain, status);
        assert_eq!(blk.take_done(0), Ok(Some(Done { owner: 9, result })), "{status:?}");
    }
}

#[test]
fn requests_come_back_in_any_order_and_make_room() {
    let (machine, mut blk) = rig();
    let mut chains: Vec<_> = (0..64)
        .map(|owner| {
            assert!(blk.has_room(0));
            submit(&mut blk, Request::Flush, owner).unwrap();
            (owner, machine.take(0).unwrap())
        })
        .collect();
    assert!(!blk.has_room(0));
    assert_eq!(submit(&mut blk, Request::Flush, 99), Err(QueueError::Full));
    let statuses: std::collections::BTreeSet<_> = chains.iter().map(|(_, chain)| chain.writable[0].0).collect();
    assert_eq!(statuses.len(), 64, "no two share a status");
    chains.reverse();
    for (owner, chain) in chains {
        machine.answer(0, chain, &[(owner % 2) as u8]);
        let result = if owner % 2 == 0 { Ok(()) } else { Err(Failed::Io) };
        assert_eq!(blk.take_done(0), Ok(Some(Done { owner, result })));
    }
    assert!(blk.has_room(0));
    submit(&mut blk, Request::Flush, 1).unwrap();
}

#[test]
fn each_queue_is_its_own() {
    let (machine, mut blk) = with(FakeDevice::blk(feature::WANTED), 3);
    assert_eq!(blk.queues(), 3);
    for queue in 0..3 {
        // SAFETY: a flush has no buffers.
        unsafe { blk.submit(queue, Request::Flush, queue as u32) }.unwrap();
    }
    for queue in (0..3).rev() {
        let chain = machine.take(queue).unwrap();
        machine.answer(queue, chain, &[0]);
        assert_eq!(blk.take_done(queue.into()), Ok(Some(Done { owner: queue.into(), result: Ok(()) })));
    }
}

#[test]
fn a_device_that_claims_too_much_is_broken_and_its_requests_come_back() {
    let (machine, mut blk) = rig();
    for owner in [1, 2] {
        submit(&mut blk, Request::Flush, owner).unwrap();
    }
    machine.claim(0, 0, 2);
    let broken = QueueError::Broken(Fault::TooLong { len: 2, writable: 1 });
    assert_eq!(blk.take_done(0), Err(broken));
    assert_eq!(submit(&mut blk, Request::Flush, 3), Err(broken));
    assert_eq!(blk.abort(), Ok(vec![1, 2]));
}

#[test]
fn who_waits_for_room_in_a_broken_queue_hears_of_it() {
    let (machine, mut blk) = rig();
    for owner in 0..64 {
        submit(&mut blk, Request::Flush, owner).unwrap();
    }
    machine.claim(0, 0, 2);
    let broken = blk.take_done(0).unwrap_err();
    assert_eq!(blk.abort().unwrap().len(), 64);
    assert!(blk.has_room(0));
    assert_eq!(submit(&mut blk, Request::Flush, 64), Err(broken));
}

#[test]
fn too_many_buffers_are_refused() {
    let (machine, mut blk) = rig();
    let buffers = vec![machine.buffer(&[0; 512]); MAX_SEGMENTS as usize + 1];
    assert_eq!(submit(&mut blk, Request::Read(0, &buffers), 1), Err(QueueError::TooManyBuffers));
    submit(&mut blk, Request::Read(0, &buffers[1..]), 1).unwrap();
}

#[test]
fn memory_comes_back() {
    let machine = Machine::with(FakeDevice::blk(feature::WANTED));
    drop(Blk::new(machine.open().unwrap(), 4).unwrap());
    assert_eq!(machine.pages(), 0);
}
