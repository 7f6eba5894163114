//! Several queues for requests.

use super::*;

fn bench_of(queues: u16) -> Bench {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), b"hello, queue").unwrap();
    let share = Share::open(directory.path()).unwrap();
    let window = Arc::new(Window::new(WINDOW, true, 100).unwrap());
    let server = FileServer::with_descriptors(share, true, CacheMode::Auto, None, Descriptors::new(100)).unwrap();
    let mut driver = Driver::new(Fs::new("root", server, queues), None);
    driver.start(0);
    let mut bench = Bench { driver, window, directory, unique: 0 };
    assert_eq!(bench.init().0, 0);
    bench
}

/// A LOOKUP of the file by `queue`, without waiting for its reply.
fn look_up(bench: &mut Bench, queue: usize) -> u16 {
    let header = bench.header(1, ROOT, 5);
    let head = bench.driver.add(queue, &[Part::Out(&header), Part::Out(b"file\0"), Part::In(16), Part::In(200)]);
    bench.driver.ring(queue);
    head
}

#[test]
fn the_driver_is_told_how_many_there_are() {
    for (wanted, there) in [(0, 1), (1, 1), (3, 3), (u16::MAX, MAX_REQUEST_QUEUES)] {
        let share = Share::open(tempfile::tempdir().unwrap().path()).unwrap();
        let server = FileServer::with_descriptors(share, true, CacheMode::Auto, None, Descriptors::new(100)).unwrap();
        let device = Fs::new("root", server, wanted);
        assert_eq!(half(device.config(), MAX_TAG), u32::from(there));
        assert_eq!(device.queues().len(), 1 + usize::from(there));
    }
}

#[test]
fn a_request_is_answered_in_its_own_queue() {
    let mut bench = bench_of(3);
    let heads: Vec<u16> = (1..4).map(|queue| look_up(&mut bench, queue)).collect();
    for (queue, head) in (1..4).zip(heads) {
        let (used, reply) = bench.driver.used(queue);
        assert_eq!((used, half(&reply, 4)), (head, 0), "queue {queue}");
    }
}

#[test]
fn a_queue_that_makes_no_sense_stops_no_other_and_all_start_anew() {
    let mut bench = bench_of(3);
    bench.driver.set_available(2, 0x4000);
    bench.driver.ring(2);
    bench.driver.wait("the device says that it is broken", |driver| driver.status() & 64 != 0);
    look_up(&mut bench, 3);
    assert_eq!(half(&bench.driver.used(3).1, 4), 0);
    bench.driver.reset();
    bench.driver.start(0);
    assert_eq!(bench.init().0, 0);
    for queue in 1..4 {
        look_up(&mut bench, queue);
        assert_eq!(half(&bench.driver.used(queue).1, 4), 0, "queue {queue}");
    }
}
