//! Pipes between threads of `std`.

use super::{CAPACITY, PIPE_BUF, PipeEnd, pipe};
use crate::testing::{namespace, queues, read_file, ticking};
use crate::{Errno, File, Location, MemBytes, Namespace, OpenFlags, Poll, Result, Sink, SliceSource};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use std::thread;

fn new(flags: OpenFlags) -> (Arc<PipeEnd>, Arc<PipeEnd>) {
    pipe(11, (1, 2), &*ticking(), &*queues(), flags)
}

fn nonblocking() -> (Arc<PipeEnd>, Arc<PipeEnd>) {
    new(OpenFlags::NONBLOCK)
}

fn write(file: &dyn File, bytes: &[u8]) -> Result<usize> {
    file.write_at(0, &mut SliceSource::new(bytes))
}

#[test]
fn bytes_come_out_in_order_and_then_the_end() {
    let (reader, writer) = nonblocking();
    assert_eq!(read_file(&*reader, 0, 9), Err(Errno::EAGAIN));
    assert_eq!(write(&*writer, b"hello"), Ok(5));
    assert_eq!(reader.available(), 5);
    assert_eq!(read_file(&*reader, 7, 2), Ok(b"he".to_vec()));
    assert_eq!(read_file(&*reader, 0, 0), Ok(vec![]));
    drop(writer);
    assert_eq!(read_file(&*reader, 0, 9), Ok(b"llo".to_vec()));
    assert_eq!(read_file(&*reader, 0, 9), Ok(vec![]));
}

#[test]
fn ends_do_only_what_they_are_for() {
    let (reader, writer) = nonblocking();
    assert_eq!(write(&*reader, b"x"), Err(Errno::EBADF));
    assert_eq!(read_file(&*writer, 0, 1), Err(Errno::EBADF));
    assert!(reader.is_stream());
    drop(reader);
    assert_eq!(write(&*writer, b"x"), Err(Errno::EPIPE));
    assert_eq!(write(&*writer, b""), Ok(0));
}

#[test]
fn a_full_pipe_takes_small_writes_whole_and_large_ones_in_part() {
    let (reader, writer) = nonblocking();
    assert_eq!(write(&*writer, &vec![1; CAPACITY - 100]), Ok(CAPACITY - 100));
    assert_eq!(write(&*writer, &[2; 101]), Err(Errno::EAGAIN));
    assert_eq!(write(&*writer, &[2; PIPE_BUF + 1]), Ok(100));
    assert_eq!(write(&*writer, &[2; PIPE_BUF + 1]), Err(Errno::EAGAIN));
    assert_eq!(read_file(&*reader, 0, 2 * CAPACITY).unwrap().len(), CAPACITY);
    assert_eq!(write(&*writer, &[2; 101]), Ok(101));
}

#[test]
fn polls_say_what_would_not_wait() {
    let (reader, writer) = nonblocking();
    assert_eq!((reader.poll(), writer.poll()), (Poll::empty(), Poll::OUT));
    write(&*writer, &vec![0; CAPACITY]).unwrap();
    assert_eq!((reader.poll(), writer.poll()), (Poll::IN, Poll::empty()));
    drop(writer);
    assert_eq!(reader.poll(), Poll::IN | Poll::HUP);
    let (reader, writer) = nonblocking();
    drop(reader);
    assert_eq!(writer.poll(), Poll::OUT | Poll::ERR);
}

/// Fails as the copy to an unmapped buffer does.
struct Unmapped;

impl Sink for Unmapped {
    fn room(&self) -> usize {
        100
    }

    fn put(&mut self, _bytes: MemBytes<'_>) -> Result<usize> {
        Err(Errno::EFAULT)
    }
}

#[test]
fn a_faulting_read_loses_nothing() {
    let (reader, writer) = nonblocking();
    write(&*writer, b"kept").unwrap();
    assert_eq!(reader.read_at(0, &mut Unmapped), Err(Errno::EFAULT));
    assert_eq!(read_file(&*reader, 0, 9), Ok(b"kept".to_vec()));
}

#[test]
fn a_stream_larger_than_the_pipe_passes_between_threads() {
    let (reader, writer) = new(OpenFlags::empty());
    let sent: Vec<u8> = (0..1_000_003u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    let expected = sent.clone();
    let sending = thread::spawn(move || write(&*writer, &sent));
    let mut received = Vec::new();
    loop {
        let piece = read_file(&*reader, 0, 7001).unwrap();
        if piece.is_empty() {
            break;
        }
        received.extend(piece);
    }
    assert_eq!(sending.join().unwrap(), Ok(1_000_003));
    assert!(received == expected);
}

#[test]
fn small_writes_of_many_writers_stay_whole() {
    let (reader, writer) = new(OpenFlags::empty());
    let writers: Vec<_> = (1..=4u8)
        .map(|id| {
            let writer = writer.clone();
            thread::spawn(move || (0..200).for_each(|_| assert_eq!(write(&*writer, &[id; 1000]), Ok(1000))))
        })
        .collect();
    drop(writer);
    let mut received = Vec::new();
    while let Some(piece) = Some(read_file(&*reader, 0, 3333).unwrap()).filter(|piece| !piece.is_empty()) {
        received.extend(piece);
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert_eq!(received.len(), 800_000);
    assert!(received.chunks(1000).all(|record| record.iter().all(|byte| *byte == record[0])));
}

#[test]
fn a_sleeping_writer_learns_that_the_reader_left() {
    let (reader, writer) = new(OpenFlags::empty());
    let sending = thread::spawn(move || (write(&*writer, &vec![0; CAPACITY + 1]), write(&*writer, b"x")));
    while reader.available() < CAPACITY {
        thread::yield_now();
    }
    drop(reader);
    assert_eq!(sending.join().unwrap(), (Ok(CAPACITY), Err(Errno::EPIPE)));
}

#[test]
fn waiting_is_switched_by_the_flag() {
    let (reader, writer) = new(OpenFlags::empty());
    reader.set_nonblocking(true);
    assert_eq!(read_file(&*reader, 0, 1), Err(Errno::EAGAIN));
    reader.set_nonblocking(false);
    let reading = thread::spawn(move || read_file(&*reader, 0, 1));
    write(&*writer, b"!").unwrap();
    assert_eq!(reading.join().unwrap(), Ok(b"!".to_vec()));
}

#[test]
fn a_pipe_is_reopened_by_its_place() {
    let ns = namespace();
    let (reader, writer) = nonblocking();
    let place = Location::detached(reader.inode().clone(), b"pipe:[1]");
    assert_eq!(place.path(), b"pipe:[1]");
    let again = ns.reopen(&place, OpenFlags::WRONLY | OpenFlags::NONBLOCK).unwrap().file;
    drop(writer);
    assert_eq!(write(&*again, b"more"), Ok(4));
    assert_eq!(read_file(&*reader, 0, 9), Ok(b"more".to_vec()));
    let metadata = reader.inode().metadata().unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid, metadata.dev), (0o010600, 1, 2, 11));
}

fn fifo() -> Arc<Namespace> {
    let ns = namespace();
    ns.mknod(&ns.root(), b"/fifo", 0o010644, 0).unwrap();
    Arc::new(ns)
}

fn open(ns: &Namespace, flags: OpenFlags) -> Result<Arc<dyn File>> {
    ns.open(&ns.root(), b"/fifo", flags, 0).map(|opened| opened.file)
}

#[test]
fn a_fifo_without_waiting() {
    let ns = fifo();
    let (read, write_only) = (OpenFlags::NONBLOCK, OpenFlags::NONBLOCK | OpenFlags::WRONLY);
    assert_eq!(open(&ns, write_only).err(), Some(Errno::ENXIO));
    let reader = open(&ns, read).unwrap();
    assert_eq!(read_file(&*reader, 0, 1), Ok(vec![]));
    let writer = open(&ns, write_only).unwrap();
    assert_eq!(read_file(&*reader, 0, 1), Err(Errno::EAGAIN));
    write(&*writer, b"abc").unwrap();
    assert_eq!(read_file(&*reader, 0, 9), Ok(b"abc".to_vec()));
    // Unread bytes go when the last end does.
    write(&*writer, b"lost").unwrap();
    drop((reader, writer));
    let both = open(&ns, OpenFlags::RDWR).unwrap();
    both.set_nonblocking(true);
    assert_eq!(read_file(&*both, 0, 9), Err(Errno::EAGAIN));
}

#[test]
fn the_ends_of_a_fifo_wait_for_each_other() {
    for _ in 0..200 {
        let ns = fifo();
        let other = ns.clone();
        let writing = thread::spawn(move || write(&*open(&other, OpenFlags::WRONLY).unwrap(), b"met"));
        let reader = open(&ns, OpenFlags::empty()).unwrap();
        assert_eq!(read_file(&*reader, 0, 9), Ok(b"met".to_vec()));
        assert_eq!(writing.join().unwrap(), Ok(3));
    }
}

#[test]
fn a_partner_that_was_waiting_is_met_on_entering() {
    // The writer waits; it may write and be gone before the reader that woke it looks again.
    let channel = super::Channel::new(queues().wait_queue());
    let before = channel.enter(false, true).expect("nobody reads yet");
    assert_eq!((before.reader, before.writer), (0, 0));
    assert!(channel.enter(true, false).is_none());
    channel.leave(false, true);
    assert!(channel.enter(true, false).is_some());
}
