//! Front-ends and guests that do not keep to the rules. The daemon may end the connection, or no longer serve a queue; it
//! never panics or hangs, and the next front-end finds it as it was.

use crate::files::{INIT, LOOKUP, REQUESTS, SETUPMAPPING, halves, words};
use crate::machine::{Descriptor, ENTRIES, HERE, INDIRECT, Machine, NEXT, RAM, SHMEM, WRITE, daemon};
use diolkos_serve::{Daemon, Error};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use vhost::vhost_user::VhostUserFrontend;
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

struct Scene {
    daemon: Arc<Daemon>,
    _folder: tempfile::TempDir,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small"), "hello").unwrap();
    fs::write(folder.path().join("large"), vec![7; 4 << 20]).unwrap();
    Scene { daemon: daemon(folder.path(), true), _folder: folder }
}

impl Scene {
    /// A front-end whose message `bad` is refused: it hears so, and is hung up on.
    fn refused(&self, what: &str, bad: impl FnOnce(&mut Machine) -> vhost::Result<()>) {
        let mut machine = Machine::connected(&self.daemon, SHMEM);
        assert!(bad(&mut machine).is_err(), "{what}");
        let result = machine.was_hung_up_on();
        assert!(matches!(result, Err(Error::Protocol(_))), "{what}: {result:?}");
    }

    /// The daemon is none the worse.
    fn still_serves(&self) {
        let mut machine = Machine::started(&self.daemon, 2);
        machine.init();
        assert_eq!(machine.contents("small"), b"hello");
        machine.hang_up().unwrap();
    }
}

#[test]
fn memory_that_makes_no_sense() {
    let scene = scene();
    let change = |what: &str, change: fn(&mut VhostUserMemoryRegionInfo)| {
        scene.refused(what, |machine| {
            let mut region = machine.region();
            change(&mut region);
            machine.front_end.set_mem_table(&[region]).map(|_| ())
        });
    };
    change("more than the file", |region| region.memory_size = RAM + 4096);
    change("more than there is", |region| region.memory_size = u64::MAX);
    change("most of an address space", |region| region.memory_size = 1 << 62);
    change("past the file's end", |region| region.mmap_offset = 4096);
    change("a sum that wraps", |region| region.mmap_offset = u64::MAX - 4095);
    change("half a page", |region| (region.memory_size, region.mmap_offset) = (RAM / 2, 5));
    change("round the guest's address space", |region| region.guest_phys_addr = u64::MAX - 4095);
    scene.refused("twice the same", |machine| {
        machine.front_end.set_mem_table(&[machine.region(), machine.region()]).map(|_| ())
    });
    scene.refused("what is no file", |machine| {
        let pipe = std::io::pipe().unwrap();
        let region = VhostUserMemoryRegionInfo { mmap_handle: pipe.0.as_raw_fd(), ..machine.region() };
        machine.front_end.set_mem_table(&[region]).map(|_| ())
    });
    scene.still_serves();
}

#[test]
fn queues_that_make_no_sense() {
    let scene = scene();
    let change = |what: &str, change: fn(&mut VringConfigData)| {
        scene.refused(what, |machine| {
            machine.lend().unwrap();
            let queue = machine.describe(REQUESTS, 0);
            let mut addresses = Machine::addresses(REQUESTS);
            change(&mut addresses);
            machine.front_end.set_vring_addr(REQUESTS, &addresses)?;
            machine.front_end.set_vring_kick(REQUESTS, &queue.kick)?;
            machine.front_end.set_vring_enable(REQUESTS, true)
        });
    };
    change("before the memory", |addresses| addresses.desc_table_addr = HERE - 16);
    change("after the memory", |addresses| addresses.avail_ring_addr = HERE + RAM);
    change("at the end of numbers", |addresses| addresses.used_ring_addr = u64::MAX - 3);
    change("descriptors that leave it", |addresses| addresses.desc_table_addr = HERE + RAM - 16);
    change("an available ring that leaves it", |addresses| addresses.avail_ring_addr = HERE + RAM - 2);
    change("a used ring that leaves it", |addresses| addresses.used_ring_addr = HERE + RAM - 4);
    change("not aligned", |addresses| addresses.desc_table_addr += 8);
    change("a log of changes", |addresses| (addresses.flags, addresses.log_addr) = (1, Some(HERE)));
    for size in [0, 3, 1000, 2048, u16::MAX] {
        scene.refused("a size", |machine| machine.front_end.set_vring_num(REQUESTS, size));
    }
    for index in [32, 33, 255] {
        scene.refused("a queue there is not", |machine| machine.front_end.set_vring_num(index, 16));
        scene.refused("its position", |machine| machine.front_end.get_vring_base(index).map(|_| ()));
        scene.refused("its start", |machine| machine.front_end.set_vring_enable(index, true));
    }
    scene.still_serves();
}

#[test]
fn messages_that_come_too_early_or_too_late() {
    let scene = scene();
    let event = || EventFd::new(0).unwrap();
    scene.refused("no memory", |machine| {
        machine.front_end.set_vring_enable(REQUESTS, true).unwrap();
        machine.front_end.set_vring_kick(REQUESTS, &event())
    });
    scene.refused("no addresses", |machine| {
        machine.lend().unwrap();
        machine.front_end.set_vring_kick(REQUESTS, &event()).unwrap();
        machine.front_end.set_vring_enable(REQUESTS, true)
    });
    let running = |what: &str, bad: fn(&mut Machine) -> vhost::Result<()>| {
        scene.refused(what, |machine| {
            machine.lend().unwrap();
            machine.start(REQUESTS, 0);
            bad(machine)
        });
    };
    running("a new size", |machine| machine.front_end.set_vring_num(REQUESTS, ENTRIES));
    running("a new position", |machine| machine.front_end.set_vring_base(REQUESTS, 0));
    running("new addresses", |machine| machine.front_end.set_vring_addr(REQUESTS, &Machine::addresses(REQUESTS)));
    // A queue that never ran has a position all the same.
    let machine = Machine::connected(&scene.daemon, SHMEM);
    assert_eq!(machine.front_end.get_vring_base(REQUESTS).unwrap(), 0);
    machine.hang_up().unwrap();
    scene.still_serves();
}

/// A head on a ring that the guest has filled with `descriptors`, and by how many the ring moves on.
struct Chain(&'static str, u16, u16, Vec<Descriptor>);

fn chains() -> Vec<Chain> {
    let at = Machine::buffers(REQUESTS);
    let (reply, table) = (at + 0x1000, at + 0x2000);
    let queue = at & !0xffff;
    vec![
        Chain("leads to itself", 0, 1, vec![(at, 16, NEXT, 0)]),
        Chain("goes in a circle", 0, 1, vec![(at, 64, NEXT, 1), (reply, 64, NEXT | WRITE, 0)]),
        Chain("goes on nowhere", 0, 1, vec![(at, 64, NEXT, u16::MAX)]),
        Chain("outside the memory", 0, 1, vec![(RAM, 64, NEXT, 1), (RAM, 64, WRITE, 0)]),
        Chain("across the end of the memory", 0, 1, vec![(RAM - 8, 64, NEXT, 1), (RAM - 8, 64, WRITE, 0)]),
        Chain("across the end of numbers", 0, 1, vec![(u64::MAX - 8, 64, NEXT, 1), (reply, 64, WRITE, 0)]),
        Chain("a reply outside", 0, 1, vec![(at, 64, NEXT, 1), (u64::MAX - 8, 64, WRITE, 0)]),
        Chain("longer than numbers", 0, 1, (1..=ENTRIES).map(|next| (0, u32::MAX, NEXT | WRITE, next)).collect()),
        Chain("longer to read than numbers", 0, 1, (1..=ENTRIES).map(|next| (0, u32::MAX, NEXT, next)).collect()),
        Chain("only to write", 0, 1, vec![(reply, 4096, WRITE, 0)]),
        Chain("no room for a reply", 0, 1, vec![(at, 64, 0, 0)]),
        Chain("room for half a header", 0, 1, vec![(at, 64, NEXT, 1), (reply, 7, WRITE, 0)]),
        Chain("writes before it reads", 0, 1, vec![(reply, 64, WRITE | NEXT, 1), (at, 64, 0, 0)]),
        Chain("of nothing", 0, 1, vec![(at, 0, NEXT, 1), (reply, 0, WRITE, 0)]),
        Chain("its own ring as the room", 0, 1, vec![(at, 64, NEXT, 1), (queue, 0x3000, WRITE, 0)]),
        Chain("a table in itself", 0, 1, vec![(table, 16, INDIRECT, 0)]),
        Chain("a table of no whole entries", 0, 1, vec![(table, 17, INDIRECT, 0)]),
        Chain("an empty table", 0, 1, vec![(table, 0, INDIRECT, 0)]),
        Chain("an endless table", 0, 1, vec![(table, !15, INDIRECT, 0)]),
        Chain("a table outside", 0, 1, vec![(!15, 64, INDIRECT, 0)]),
        Chain("a table and more", 0, 1, vec![(table, 16, INDIRECT | NEXT, 1), (reply, 64, WRITE, 0)]),
        Chain("a head there is not", ENTRIES, 1, vec![]),
        Chain("a head far away", u16::MAX, 1, vec![]),
        Chain("a ring that jumps", 0, ENTRIES + 1, vec![]),
        Chain("a ring that jumps far", 0, 40_000, vec![]),
        Chain("a ring that goes back", 0, u16::MAX, vec![]),
    ]
}

#[test]
fn chains_that_make_no_sense() {
    let scene = scene();
    for Chain(what, head, steps, descriptors) in chains() {
        let mut machine = Machine::started(&scene.daemon, 3);
        machine.init();
        let at = Machine::buffers(REQUESTS);
        // Whatever is found at the start of the buffers is a sound request, and the table in them leads to itself.
        let request = [halves(&[49, LOOKUP, 1, 0, 1, 0, 0, 0, 1, 0]), b"small\0".to_vec()].concat();
        machine.memory.write_slice(&request, GuestAddress(at)).unwrap();
        machine.write_table(at + 0x2000, &[(at + 0x2000, 16, INDIRECT, 0)]);
        machine.fill(REQUESTS, &descriptors);
        machine.offer(REQUESTS, head, steps);
        // It is given back, with an answer or without, or the queue is given up: what matters is that one of them happens.
        if let Some((given, _)) = machine.given_back(REQUESTS) {
            assert_eq!(given, u32::from(head), "{what}");
        }
        assert!(machine.call_on(2, LOOKUP, 1, b"small\0").is_ok(), "{what}: another queue");
        machine.front_end.get_vring_base(REQUESTS).expect(what);
        machine.hang_up().expect(what);
    }
    scene.still_serves();
}

#[test]
fn memory_taken_from_under_a_queue() {
    let scene = scene();
    let mut machine = Machine::started(&scene.daemon, 2);
    machine.init();
    let page = VhostUserMemoryRegionInfo { memory_size: 4096, ..machine.region() };
    machine.front_end.set_mem_table(&[page]).unwrap();
    machine.offer(REQUESTS, 0, 1);
    assert_eq!(machine.given_back(REQUESTS), None);
    machine.hang_up().unwrap();
    scene.still_serves();
}

#[test]
fn a_front_end_that_goes_in_the_middle_of_a_request() {
    let scene = scene();
    for queues in 2..12 {
        let mut machine = Machine::started(&scene.daemon, queues);
        machine.init();
        for index in 0..queues {
            machine.send(index, LOOKUP, 1, b"small\0");
        }
        machine.hang_up().unwrap();
    }
    let mut machine = Machine::started(&scene.daemon, 2);
    let mut body = halves(&[7, 38, 1 << 20, 0]);
    body.extend([0; 48]);
    machine.send(REQUESTS, INIT, 0, &body);
    machine.hang_up().unwrap();
    scene.still_serves();
}

#[test]
fn a_front_end_that_does_not_answer_a_mapping() {
    let scene = scene();
    let mut machine = Machine::connected(&scene.daemon, SHMEM);
    let (silent, theirs) = UnixStream::pair().unwrap();
    machine.front_end.set_backend_request_fd(&theirs).unwrap();
    drop(theirs);
    machine.lend().unwrap();
    machine.start(REQUESTS, 0);
    machine.init();
    let node = machine.lookup("large").unwrap();
    let ask = words(&[u64::MAX, 0, 2 << 20, 0, 0]);
    machine.send(REQUESTS, SETUPMAPPING, node, &ask);
    // The request is on its way before we hang up.
    rustix::event::poll(&mut [rustix::event::PollFd::new(&silent, rustix::event::PollFlags::IN)], None).unwrap();
    assert!(matches!(machine.hang_up(), Err(Error::Deadlock)));
    drop(silent);
}

#[test]
fn a_front_end_whose_channel_breaks() {
    let scene = scene();
    for answer in [&b""[..], b"short", &[0; 4096]] {
        let mut machine = Machine::connected(&scene.daemon, SHMEM);
        let (mut broken, theirs) = UnixStream::pair().unwrap();
        machine.front_end.set_backend_request_fd(&theirs).unwrap();
        drop(theirs);
        machine.lend().unwrap();
        machine.start(REQUESTS, 0);
        machine.init();
        let node = machine.lookup("large").unwrap();
        broken.write_all(answer).unwrap();
        broken.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(machine.map(node, 0, 2 << 20, 0, 0), Err(libc::EIO));
        assert!(machine.map(node, 0, 2 << 20, 0, 0).is_err(), "closed for good");
        assert_eq!(machine.contents("small"), b"hello");
        machine.hang_up().unwrap();
    }
    scene.still_serves();
}

/// Something else in an eventfd's place.
fn no_event(file: impl IntoRawFd) -> EventFd {
    // SAFETY: the descriptor is open and nobody else's.
    unsafe { EventFd::from_raw_fd(file.into_raw_fd()) }
}

#[test]
fn doorbells_that_are_none() {
    let scene = scene();
    for kick in [tempfile::tempfile().unwrap(), File::open("/dev/zero").unwrap(), File::open("/dev/null").unwrap()] {
        let mut machine = Machine::started(&scene.daemon, 2);
        machine.front_end.set_vring_kick(REQUESTS, &no_event(kick)).unwrap();
        machine.stop(REQUESTS);
        machine.hang_up().unwrap();
    }
    // A pipe that nobody empties: the queue's thread blocks in it.
    let (_reader, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).unwrap();
    let mut machine = Machine::started(&scene.daemon, 2);
    machine.front_end.set_vring_call(REQUESTS, &no_event(writer)).unwrap();
    machine.send(REQUESTS, LOOKUP, 1, b"small\0");
    std::thread::sleep(std::time::Duration::from_millis(100));
    machine.stop(REQUESTS);
    machine.hang_up().unwrap();
    scene.still_serves();
}
