//! Front-ends that send anything at all: sound messages in any order with any numbers and any descriptors, and bytes that
//! are no messages. The daemon ends the connection or answers; afterwards it holds no thread and no descriptor more than before.
//!
//! A program of its own with one test, so that what the process holds can be counted.

use diolkos_common::cmdline::CacheMode;
use diolkos_serve::{Config, Daemon, Error};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Connections, and most messages on each.
const CONNECTIONS: u64 = 2000;
const MESSAGES: u64 = 40;

/// The front-end's messages have numbers up to 44 in the specification; and a few beyond.
const CODES: u64 = 48;
/// `VHOST_USER_GET_FEATURES`.
const GET_FEATURES: u32 = 1;
/// Version 1; "I want an answer"; "this is one", which no front-end has to give here.
const VERSION: u32 = 1;
const NEED_REPLY: u32 = 8;
const REPLY: u32 = 4;

/// xorshift64: the same numbers each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Numbers at which mistakes are made.
    fn interesting(&mut self) -> u64 {
        let edges = [0, 1, 2, 3, 16, 64, 255, 256, 4096, 1 << 20, 1 << 31, u32::MAX.into(), 1 << 32, 1 << 63, u64::MAX];
        match self.below(4) {
            0 => self.next(),
            1 => self.below(4) * 4096,
            2 => self.below(40),
            _ => edges[self.below(edges.len() as u64) as usize],
        }
    }
}

/// What may come with a message.
struct Things {
    memory: File,
    event: EventFd,
    socket: UnixStream,
}

fn send(to: &UnixStream, message: &[u8], fds: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)));
    }
    sendmsg(to, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)
}

fn header(code: u32, flags: u32, size: u32) -> Vec<u8> {
    [code, flags, size].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn random_message(numbers: &mut Numbers, things: &Things, to: &UnixStream) -> rustix::io::Result<usize> {
    let code = numbers.below(CODES) as u32;
    let flags = [VERSION, VERSION | NEED_REPLY, VERSION | NEED_REPLY, VERSION | REPLY][numbers.below(4) as usize];
    // The bodies are one word, five words, or a table of regions.
    let body: Vec<u8> = match numbers.below(8) {
        0 => Vec::new(),
        1..4 => numbers.interesting().to_le_bytes().to_vec(),
        4 => (0..5).flat_map(|_| numbers.interesting().to_le_bytes()).collect(),
        5 => {
            let count = numbers.below(4);
            let words = (0..4 * count).map(|_| numbers.interesting());
            let words: Vec<u64> = std::iter::once(count).chain(words).collect();
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        }
        6 => [(numbers.below(40) as u32).to_le_bytes(), (numbers.interesting() as u32).to_le_bytes()].concat(),
        _ => (0..numbers.below(64)).map(|_| numbers.next() as u8).collect(),
    };
    let size = if numbers.below(30) == 0 { numbers.interesting() as u32 } else { body.len() as u32 };
    let all = [things.memory.as_fd(), diolkos_vmm::worker::borrow(&things.event), things.socket.as_fd()];
    let fds: Vec<_> = (0..numbers.below(4)).map(|_| all[numbers.below(3) as usize]).collect();
    send(to, &[header(code, flags, size), body].concat(), &fds)
}

/// Threads and descriptors of this process.
fn held() -> (usize, usize) {
    ["/proc/self/task", "/proc/self/fd"].map(|path| std::fs::read_dir(path).unwrap().count()).into()
}

#[test]
fn nothing_is_left_of_front_ends_that_send_anything() {
    let folder = tempfile::tempdir().unwrap();
    let say = |_: &str| {};
    let (source, cache, window, tag) = (folder.path().to_owned(), CacheMode::Auto, 1 << 30, Some("t".to_owned()));
    let daemon = Arc::new(Daemon::new(Config { source, writable: true, cache, window, tag, say }).unwrap());
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(1 << 20).unwrap();
    let things = Things { memory, event: EventFd::new(EFD_NONBLOCK).unwrap(), socket: UnixStream::pair().unwrap().0 };
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let before = held();
    let mut refused = 0;
    for round in 0..CONNECTIONS {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let serving = std::thread::spawn({
            let daemon = daemon.clone();
            move || daemon.serve(theirs)
        });
        if round % 8 == 7 {
            let bytes: Vec<u8> = (0..numbers.below(200)).map(|_| numbers.next() as u8).collect();
            let _ = (&ours).write_all(&bytes);
        } else {
            // Until it has enough, or has hung up.
            (0..MESSAGES)
                .try_for_each(|_| random_message(&mut numbers, &things, &ours).map(|_| ()))
                .unwrap_or_default();
        }
        let _ = ours.shutdown(std::net::Shutdown::Write);
        // A daemon that neither hangs up nor ends fails here. What is still to be read when it hangs up is lost: a reset.
        let _ = (&ours).read_to_end(&mut Vec::new());
        let result = serving.join().unwrap_or_else(|_| panic!("the daemon panicked in round {round}"));
        assert!(matches!(result, Ok(()) | Err(Error::Protocol(_))), "round {round}: {result:?}");
        refused += u64::from(result.is_err());
    }
    assert!(refused > CONNECTIONS / 2, "{refused} were refused: these are not bad enough");
    assert_eq!(held(), before, "threads and descriptors");

    // And a sound message has its answer.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let serving = std::thread::spawn(move || daemon.serve(theirs));
    send(&ours, &header(GET_FEATURES, VERSION, 0), &[]).unwrap();
    let mut answer = [0; 20];
    ours.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..4], GET_FEATURES.to_le_bytes());
    assert_ne!(answer[12..], [0; 8]);
    drop(ours);
    serving.join().unwrap().unwrap();
}
