//! A front-end with a guest: its memory, its driver's end of the queues, and the place for its DAX window.

use crate::window::Place;
use diolkos_common::cmdline::CacheMode;
use diolkos_serve::{Config, Daemon, Error};
use diolkos_vmm::worker::borrow;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures as Protocol};
use vhost::vhost_user::{Frontend, FrontendReqHandler, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// The guest's memory, in bytes.
pub const RAM: u64 = 4 << 20;
/// Entries of each queue.
pub const ENTRIES: u16 = 64;
/// Where each queue's part of the memory begins, and what lies in it.
const EACH: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x4000;
/// Where the guest's memory begins among the front-end's addresses: any place will do, nobody looks there.
pub const HERE: u64 = 0x7000_0000_0000;

/// `VRING_DESC_F_NEXT`, `_WRITE`, `_INDIRECT`.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;

/// Size of the window offered.
pub const WINDOW: u64 = 16 << 20;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the daemon of most tests serves, and how.
pub fn daemon(folder: &Path, writable: bool) -> Arc<Daemon> {
    let say = |_: &str| {};
    let tag = Some("share".to_owned());
    let source = folder.to_owned();
    let config = Config { source, writable, cache: CacheMode::Auto, window: WINDOW, tag, say };
    Arc::new(Daemon::new(config).unwrap())
}

/// A connection to a daemon that serves it on a thread of its own.
pub fn connect(daemon: &Arc<Daemon>) -> (UnixStream, JoinHandle<Result<(), Error>>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let daemon = daemon.clone();
    (ours, std::thread::spawn(move || daemon.serve(theirs)))
}

/// How the daemon's thread ended. One that does not end fails the test, and one that panicked does.
pub fn end(serving: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    let start = std::time::Instant::now();
    while !serving.is_finished() {
        assert!(start.elapsed() < PATIENCE, "the daemon does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
    serving.join().expect("the daemon does not panic")
}

/// The driver's end of a queue.
pub struct Queue {
    pub index: usize,
    pub kick: EventFd,
    pub call: EventFd,
    pub error: EventFd,
    available: u16,
    used: u16,
}

/// A descriptor: address, length, flags and the next one.
pub type Descriptor = (u64, u32, u16, u16);

pub struct Machine {
    pub front_end: Frontend,
    pub memory: GuestMemoryMmap,
    pub ram: File,
    pub queues: Vec<Queue>,
    pub place: Arc<Mutex<Place>>,
    serving: JoinHandle<Result<(), Error>>,
    unique: u64,
}

/// The protocol features with which a front-end keeps a window.
pub const SHMEM: Protocol = Protocol::SHMEM.union(Protocol::BACKEND_REQ).union(Protocol::BACKEND_SEND_FD);

impl Machine {
    /// A machine that has agreed with the daemon on `features` (and on what every test needs), and nothing more.
    pub fn connected(daemon: &Arc<Daemon>, features: Protocol) -> Self {
        let (connection, serving) = connect(daemon);
        let mut front_end = Frontend::from_stream(connection, 256);
        front_end.set_owner().unwrap();
        let offered = front_end.get_features().unwrap();
        front_end.set_features(offered).unwrap();
        front_end.get_protocol_features().unwrap();
        front_end.set_protocol_features(features | Protocol::REPLY_ACK | Protocol::MQ | Protocol::CONFIG).unwrap();
        // So that we hear of what is refused.
        front_end.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        let ram = tempfile::tempfile().unwrap();
        ram.set_len(RAM).unwrap();
        let lent = FileOffset::new(ram.try_clone().unwrap(), 0);
        let memory = GuestMemoryMmap::from_ranges_with_files([(GuestAddress(0), RAM as usize, Some(lent))]).unwrap();
        let place = Arc::new(Mutex::new(Place::new(WINDOW as usize)));
        Self { front_end, memory, ram, queues: Vec::new(), place, serving, unique: 0 }
    }

    /// A machine that runs, with `queues` queues and a window.
    pub fn started(daemon: &Arc<Daemon>, queues: usize) -> Self {
        let mut machine = Self::connected(daemon, SHMEM);
        machine.offer_window();
        machine.lend().unwrap();
        for index in 0..queues {
            machine.start(index, 0);
        }
        machine
    }

    /// Gives the daemon the way on which it asks for mappings, and answers there until the daemon hangs up.
    pub fn offer_window(&mut self) {
        let mut channel = FrontendReqHandler::new(self.place.clone()).unwrap();
        channel.set_reply_ack_flag(true);
        self.front_end.set_backend_request_fd(&channel.get_tx_raw_fd()).unwrap();
        std::thread::spawn(move || {
            // What the place refuses is an answer, too.
            while matches!(channel.handle_request(), Ok(_) | Err(vhost::vhost_user::Error::ReqHandlerError(_))) {}
        });
    }

    /// Where the guest's memory is, for a message.
    pub fn region(&self) -> VhostUserMemoryRegionInfo {
        use std::os::fd::AsRawFd;
        VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: RAM,
            userspace_addr: HERE,
            mmap_offset: 0,
            mmap_handle: self.ram.as_raw_fd(),
        }
    }

    pub fn lend(&self) -> vhost::Result<()> {
        self.front_end.set_mem_table(&[self.region()]).map(|_| ())
    }

    /// The parts of queue `index`, as they should be told.
    pub fn addresses(index: usize) -> VringConfigData {
        let base = HERE + index as u64 * EACH;
        VringConfigData {
            queue_max_size: ENTRIES,
            queue_size: ENTRIES,
            flags: 0,
            desc_table_addr: base,
            avail_ring_addr: base + AVAILABLE,
            used_ring_addr: base + USED,
            log_addr: None,
        }
    }

    /// Tells all of queue `index` but the doorbell.
    pub fn describe(&mut self, index: usize, base: u16) -> Queue {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let queue = Queue { index, kick: event(), call: event(), error: event(), available: base, used: base };
        self.front_end.set_vring_num(index, ENTRIES).unwrap();
        self.front_end.set_vring_addr(index, &Self::addresses(index)).unwrap();
        self.front_end.set_vring_base(index, base).unwrap();
        self.front_end.set_vring_call(index, &queue.call).unwrap();
        self.front_end.set_vring_err(index, &queue.error).unwrap();
        queue
    }

    /// Starts queue `index` from position `base`.
    pub fn start(&mut self, index: usize, base: u16) {
        let queue = self.describe(index, base);
        self.front_end.set_vring_kick(index, &queue.kick).unwrap();
        self.front_end.set_vring_enable(index, true).unwrap();
        self.queues.retain(|old| old.index != index);
        self.queues.push(queue);
    }

    /// Where the buffers of queue `index` may lie.
    pub fn buffers(index: usize) -> u64 {
        index as u64 * EACH + BUFFERS
    }

    /// Writes `descriptors` to the table of queue `index`, from the first entry on.
    pub fn fill(&self, index: usize, descriptors: &[Descriptor]) {
        self.write_table(index as u64 * EACH, descriptors);
    }

    /// Writes `descriptors` to a table anywhere.
    pub fn write_table(&self, at: u64, descriptors: &[Descriptor]) {
        for (entry, (address, len, flags, next)) in descriptors.iter().enumerate() {
            let bytes = [&address.to_le_bytes()[..], &len.to_le_bytes(), &flags.to_le_bytes(), &next.to_le_bytes()];
            self.memory.write_slice(&bytes.concat(), GuestAddress(at + 16 * entry as u64)).unwrap();
        }
    }

    fn queue(&mut self, index: usize) -> &mut Queue {
        self.queues.iter_mut().find(|queue| queue.index == index).expect("it was started")
    }

    /// Makes the chain at `head` available on queue `index`, moves the ring on by `steps`, and rings.
    pub fn offer(&mut self, index: usize, head: u16, steps: u16) {
        self.offer_quietly(index, head, steps);
        self.ring(index);
    }

    /// Rings for queue `index`.
    pub fn ring(&mut self, index: usize) {
        self.queue(index).kick.write(1).unwrap();
    }

    /// As [`Machine::offer`], without ringing.
    pub fn offer_quietly(&mut self, index: usize, head: u16, steps: u16) {
        let at = GuestAddress(index as u64 * EACH + AVAILABLE);
        let queue = self.queue(index);
        let slot = 4 + 2 * u64::from(queue.available % ENTRIES);
        queue.available = queue.available.wrapping_add(steps);
        let available = queue.available;
        self.memory.write_obj(head.to_le(), GuestAddress(at.0 + slot)).unwrap();
        self.memory.store(available.to_le(), GuestAddress(at.0 + 2), std::sync::atomic::Ordering::Release).unwrap();
    }

    /// Whether queue `index` gives a chain back within so long.
    pub fn gives_back_within(&mut self, index: usize, time: Duration) -> bool {
        let at = GuestAddress(index as u64 * EACH + USED + 2);
        let began = std::time::Instant::now();
        let expected = self.queue(index).used;
        loop {
            let used: u16 = self.memory.load(at, std::sync::atomic::Ordering::Acquire).unwrap();
            if u16::from_le(used) != expected {
                return true;
            }
            if began.elapsed() > time {
                return false;
            }
            std::thread::yield_now();
        }
    }

    /// Waits until queue `index` gives a chain back: its head, and the bytes written into it. None when the daemon says
    /// that the queue is broken.
    pub fn given_back(&mut self, index: usize) -> Option<(u32, u32)> {
        let at = index as u64 * EACH + USED;
        let memory = self.memory.clone();
        let queue = self.queue(index);
        loop {
            let used: u16 = memory.load(GuestAddress(at + 2), std::sync::atomic::Ordering::Acquire).unwrap();
            if u16::from_le(used) != queue.used {
                let entry = GuestAddress(at + 4 + 8 * u64::from(queue.used % ENTRIES));
                queue.used = queue.used.wrapping_add(1);
                // Ask to be told of the next one (section 2.7.10: used_event is at the end of the available ring).
                let event = GuestAddress(index as u64 * EACH + AVAILABLE + 4 + 2 * u64::from(ENTRIES));
                memory.write_obj(queue.used.to_le(), event).unwrap();
                let both = u64::from_le(memory.read_obj(entry).unwrap());
                return Some((both as u32, (both >> 32) as u32));
            }
            let mut fds = [&queue.call, &queue.error].map(|fd| PollFd::from_borrowed_fd(borrow(fd), PollFlags::IN));
            let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
            assert!(poll(&mut fds, Some(&patience)).unwrap() > 0, "no answer on queue {index}");
            if queue.error.read().is_ok() {
                return None;
            }
            let _ = queue.call.read();
        }
    }

    /// The number of the next request.
    pub fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }

    /// Stops queue `index` and returns its position.
    pub fn stop(&mut self, index: usize) -> u32 {
        self.front_end.get_vring_base(index).unwrap()
    }

    /// Hangs up; what the daemon says.
    pub fn hang_up(self) -> Result<(), Error> {
        let Self { front_end, serving, .. } = self;
        drop(front_end);
        end(serving)
    }

    /// What the daemon says, who should have hung up.
    pub fn was_hung_up_on(self) -> Result<(), Error> {
        let Self { front_end, serving, .. } = self;
        let result = end(serving);
        drop(front_end);
        result
    }
}
