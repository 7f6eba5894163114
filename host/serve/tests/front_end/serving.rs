//! Front-ends that keep to the rules.

use crate::files::{DESTROY, FOR_WRITING, LOOKUP, OPEN, REQUESTS, URGENT};
use crate::machine::{Machine, SHMEM, WINDOW, daemon};
use crate::window::Mapping;
use std::fs;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use vhost::VhostBackend;
use vhost::vhost_user::VhostUserFrontend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserProtocolFeatures as Protocol};

const CHUNK: u64 = 2 << 20;

/// A directory with two files: one of a few bytes, one of some chunks in which each page differs.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("small"), "hello").unwrap();
    let pages = (0..3 * CHUNK / 4096).flat_map(|page| (page as u32).to_le_bytes().repeat(1024));
    fs::write(folder.path().join("large"), pages.collect::<Vec<u8>>()).unwrap();
    folder
}

#[test]
fn files_are_read_by_messages_and_on_any_queue() {
    let folder = folder();
    let daemon = daemon(folder.path(), false);
    let mut machine = Machine::started(&daemon, 4);
    machine.init();
    assert_eq!(machine.contents("small"), b"hello");
    assert_eq!(machine.lookup("none"), Err(libc::ENOENT));
    for queue in [URGENT, 2, 3] {
        assert_eq!(machine.call_on(queue, LOOKUP, 1, b"small\0").map(|_| ()), Ok(()), "queue {queue}");
    }
    machine.hang_up().unwrap();
}

/// A guest that waits for each reply sends its next request soon after it, and the daemon looks for that before it sleeps.
#[test]
fn what_comes_soon_after_a_reply_is_served_without_a_doorbell() {
    let folder = folder();
    let daemon = daemon(folder.path(), false);
    let mut machine = Machine::started(&daemon, 2);
    machine.init();
    let mut found = 0;
    for _ in 0..200 {
        machine.lookup("small").unwrap();
        // The chain of that lookup, once more.
        machine.offer_quietly(REQUESTS, 0, 1);
        if machine.gives_back_within(REQUESTS, Duration::from_millis(5)) {
            found += 1;
        } else {
            machine.ring(REQUESTS);
        }
        assert!(machine.given_back(REQUESTS).is_some());
    }
    assert!(found > 0, "no request was found without its doorbell");
    // Who says nothing for long has to ring.
    std::thread::sleep(Duration::from_millis(100));
    machine.offer_quietly(REQUESTS, 0, 1);
    assert!(!machine.gives_back_within(REQUESTS, Duration::from_millis(50)), "it looks for ever");
    machine.ring(REQUESTS);
    assert!(machine.given_back(REQUESTS).is_some());
    assert_eq!(machine.stop(REQUESTS), 1 + 2 * 200 + 1, "requests served, INIT the first");
    machine.hang_up().unwrap();
}

#[test]
fn the_window_is_mapped_and_unmapped_by_the_front_end() {
    let folder = folder();
    let daemon = daemon(folder.path(), false);
    let mut machine = Machine::started(&daemon, 2);
    let config = machine.front_end.get_shmem_config().unwrap();
    assert_eq!((config.nregions, config.memory_sizes[0]), (1, WINDOW));
    machine.init();
    let node = machine.lookup("large").unwrap();
    machine.map(node, CHUNK, CHUNK, 0, 4 * CHUNK).unwrap();
    let asked = Mapping { len: CHUNK, file_offset: CHUNK, writable: false, open_for_writing: false };
    {
        let place = machine.place.lock().unwrap();
        assert_eq!(place.mappings.iter().collect::<Vec<_>>(), [(&(4 * CHUNK), &asked)]);
        let whole = fs::read(folder.path().join("large")).unwrap();
        assert!(place.read(4 * CHUNK, CHUNK as usize) == whole[CHUNK as usize..2 * CHUNK as usize]);
        // It is the host's page cache, not a copy.
        let file = fs::File::options().write(true).open(folder.path().join("large")).unwrap();
        file.write_all_at(b"seen at once", CHUNK + 10_000).unwrap();
        assert_eq!(place.read(4 * CHUNK + 10_000, 12), b"seen at once");
    }
    // Over an old mapping, of which a part cannot go.
    machine.map(node, 0, CHUNK, 0, 4 * CHUNK).unwrap();
    assert_eq!(machine.place.lock().unwrap().mappings[&(4 * CHUNK)].file_offset, 0);
    assert_eq!(machine.unmap(4 * CHUNK, 4096), Err(libc::EINVAL));
    assert_eq!(machine.map(node, 0, CHUNK, 0, 4 * CHUNK + 4096), Err(libc::EINVAL));
    assert_eq!(machine.place.lock().unwrap().mappings.len(), 1);
    machine.unmap(3 * CHUNK, 2 * CHUNK).unwrap();
    assert!(machine.place.lock().unwrap().mappings.is_empty());
    // Outside the window, or nothing the front-end would have to hear of.
    let asked = machine.place.lock().unwrap().asked;
    for (offset, len, at) in
        [(0, CHUNK, WINDOW), (0, 2 * WINDOW, 0), (0, u64::MAX - 4095, 4096), (7, CHUNK, 0), (0, 0, 0)]
    {
        assert_eq!(machine.map(node, offset, len, 0, at), Err(libc::EINVAL), "{offset:#x} {len:#x} {at:#x}");
    }
    machine.unmap(0, WINDOW).unwrap();
    assert_eq!(machine.place.lock().unwrap().asked, asked);
    machine.hang_up().unwrap();
}

#[test]
fn what_is_mapped_at_once_can_be_taken_away_in_pieces() {
    let folder = folder();
    let mut machine = Machine::started(&daemon(folder.path(), false), 2);
    machine.init();
    let node = machine.lookup("large").unwrap();
    let mapped = |machine: &Machine| {
        let place = machine.place.lock().unwrap();
        place.mappings.iter().map(|(at, mapping)| (*at, mapping.len, mapping.file_offset)).collect::<Vec<_>>()
    };
    machine.map(node, 4096, 2 * CHUNK, 0, CHUNK / 2).unwrap();
    let half = CHUNK / 2;
    let pieces = [(half, half, 4096), (CHUNK, CHUNK, half + 4096), (2 * CHUNK, half, half + CHUNK + 4096)];
    assert_eq!(mapped(&machine), pieces);
    machine.unmap(CHUNK, CHUNK).unwrap();
    assert_eq!(mapped(&machine), [pieces[0], pieces[2]]);
    machine.map(node, 0, CHUNK, 0, CHUNK).unwrap();
    assert_eq!(mapped(&machine), [pieces[0], (CHUNK, CHUNK, 0), pieces[2]]);
    // A front-end that takes one piece and refuses the next.
    machine.unmap(0, WINDOW).unwrap();
    machine.place.lock().unwrap().room = 1;
    assert_eq!(machine.map(node, 0, 2 * CHUNK, 0, 0), Err(libc::EIO));
    assert_eq!(mapped(&machine), []);
    machine.hang_up().unwrap();
}

#[test]
fn only_a_writable_share_is_mapped_for_writing() {
    let folder = folder();
    let mut machine = Machine::started(&daemon(folder.path(), false), 2);
    machine.init();
    let node = machine.lookup("large").unwrap();
    assert_eq!(machine.map(node, 0, CHUNK, FOR_WRITING, 0), Err(libc::EROFS));
    assert_eq!(machine.place.lock().unwrap().asked, 0);
    machine.hang_up().unwrap();

    let mut machine = Machine::started(&daemon(folder.path(), true), 2);
    machine.init();
    let node = machine.lookup("large").unwrap();
    machine.map(node, 0, CHUNK, FOR_WRITING, CHUNK).unwrap();
    machine.place.lock().unwrap().write(CHUNK + 5000, b"stored");
    assert_eq!(&fs::read(folder.path().join("large")).unwrap()[5000..5006], b"stored");
    machine.hang_up().unwrap();
}

#[test]
fn a_front_end_without_the_messages_has_no_window() {
    let folder = folder();
    let daemon = daemon(folder.path(), false);
    // All of them are needed.
    for features in [Protocol::empty(), Protocol::SHMEM, SHMEM - Protocol::SHMEM] {
        let mut machine = Machine::connected(&daemon, features);
        machine.lend().unwrap();
        machine.start(REQUESTS, 0);
        if features.contains(Protocol::BACKEND_REQ) {
            machine.offer_window();
        }
        if features.contains(Protocol::SHMEM) {
            assert_eq!(machine.front_end.get_shmem_config().unwrap().nregions, 0);
        }
        machine.init();
        let node = machine.lookup("large").unwrap();
        assert!(machine.map(node, 0, CHUNK, 0, 0).is_err(), "{features:?}");
        assert_eq!(machine.place.lock().unwrap().asked, 0);
        assert_eq!(machine.contents("small"), b"hello");
        machine.hang_up().unwrap();
    }
}

#[test]
fn a_front_end_may_refuse_a_mapping() {
    let folder = folder();
    let mut machine = Machine::started(&daemon(folder.path(), false), 2);
    machine.init();
    let node = machine.lookup("large").unwrap();
    machine.place.lock().unwrap().refuse = true;
    assert_eq!(machine.map(node, 0, CHUNK, 0, 0), Err(libc::EIO));
    machine.place.lock().unwrap().refuse = false;
    machine.map(node, 0, CHUNK, 0, 0).unwrap();
    // What it does not take away stays where it is, and nothing else comes there.
    machine.place.lock().unwrap().refuse = true;
    assert_eq!(machine.unmap(0, CHUNK), Err(libc::EIO));
    machine.place.lock().unwrap().refuse = false;
    assert_eq!(machine.unmap(0, 4096), Err(libc::EINVAL), "the book still has it");
    machine.unmap(0, CHUNK).unwrap();
    machine.hang_up().unwrap();
}

#[test]
fn a_guest_that_ends_leaves_nothing_in_the_window() {
    let folder = folder();
    let mut machine = Machine::started(&daemon(folder.path(), false), 2);
    for last_word in [true, false] {
        machine.init();
        assert!(machine.place.lock().unwrap().mappings.is_empty());
        let node = machine.lookup("large").unwrap();
        machine.map(node, 0, CHUNK, 0, 0).unwrap();
        if last_word {
            machine.call(DESTROY, 0, &[]).unwrap();
            assert!(machine.place.lock().unwrap().mappings.is_empty());
        }
    }
    machine.init();
    assert!(machine.place.lock().unwrap().mappings.is_empty());
    machine.hang_up().unwrap();
}

#[test]
fn the_next_front_end_finds_nothing_of_the_last() {
    let folder = folder();
    let daemon = daemon(folder.path(), false);
    let mut first = Machine::started(&daemon, 2);
    first.init();
    let node = first.lookup("large").unwrap();
    first.map(node, 0, CHUNK, 0, 0).unwrap();
    first.hang_up().unwrap();

    let mut second = Machine::started(&daemon, 2);
    assert_eq!(second.call(OPEN, node, &[0; 8]), Err(libc::EBADF));
    second.init();
    let node = second.lookup("large").unwrap();
    // Over the place of the first one's: nothing there has to go first.
    second.map(node, 0, CHUNK, 0, 0).unwrap();
    assert_eq!(second.place.lock().unwrap().asked, 1);
    second.hang_up().unwrap();
}

#[test]
fn a_queue_goes_on_where_it_was_stopped() {
    let folder = folder();
    let mut machine = Machine::started(&daemon(folder.path(), false), 2);
    machine.init();
    for _ in 0..100 {
        machine.lookup("small").unwrap();
    }
    assert_eq!(machine.stop(REQUESTS), 101);
    machine.start(REQUESTS, 101);
    assert_eq!(machine.contents("small"), b"hello");
    // Disabled and enabled again, and with a new doorbell.
    machine.front_end.set_vring_enable(REQUESTS, false).unwrap();
    machine.send(REQUESTS, LOOKUP, 1, b"small\0");
    machine.front_end.set_vring_enable(REQUESTS, true).unwrap();
    machine.reply(REQUESTS).unwrap();
    let kick = machine.queues.iter().find(|queue| queue.index == REQUESTS).unwrap().kick.try_clone().unwrap();
    machine.front_end.set_vring_kick(REQUESTS, &kick).unwrap();
    assert_eq!(machine.contents("small"), b"hello");
    // Memory may be lent anew at any time.
    machine.lend().unwrap();
    assert_eq!(machine.contents("small"), b"hello");
    machine.hang_up().unwrap();
}

#[test]
fn the_device_has_its_tag_and_its_queues() {
    let folder = folder();
    let mut machine = Machine::connected(&daemon(folder.path(), false), Protocol::empty());
    let queues = machine.front_end.get_queue_num().unwrap();
    let (_, config) = machine.front_end.get_config(0, 40, VhostUserConfigFlags::empty(), &[0; 40]).unwrap();
    let mut tag = b"share".to_vec();
    tag.resize(36, 0);
    assert_eq!(config, [&tag[..], &(queues as u32 - 1).to_le_bytes()].concat());
    // All of them at once.
    machine.lend().unwrap();
    for index in 0..queues as usize {
        machine.start(index, 0);
    }
    machine.init();
    for index in 0..queues as usize {
        machine.send(index, LOOKUP, 1, b"small\0");
    }
    for index in 0..queues as usize {
        machine.reply(index).unwrap();
    }
    machine.hang_up().unwrap();
}
