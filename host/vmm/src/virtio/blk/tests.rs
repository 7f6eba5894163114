//! The device against hand-made requests in descriptor chains, with a real file behind it.

use super::disk::{DiskStats, OpenError};
use super::*;
use crate::layout::MIB;
use crate::virtio::testing::{Driver, Part};
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::NamedTempFile;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;
const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A disk of bytes that tell where they are, and its driver.
struct Bench {
    driver: Driver,
    disk: Arc<Disk>,
    file: NamedTempFile,
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i / 512 * 7 + i) as u8).collect()
}

fn bench_of(len: usize, writable: bool) -> Bench {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), pattern(len)).unwrap();
    let path = file.path().to_owned();
    bench_at(&path, file, writable)
}

/// The disk at `path`, whose bytes are those of `file`.
fn bench_at(path: &Path, file: NamedTempFile, writable: bool) -> Bench {
    let disk = Arc::new(Disk::open(path, writable).unwrap());
    let mut driver = Driver::new(Blk::new(disk.clone(), 2), None);
    let wanted = driver_features(&mut driver);
    driver.start(wanted);
    Bench { driver, disk, file }
}

/// What the device offers of its own.
fn driver_features(driver: &mut Driver) -> u64 {
    driver.write(0, &0u32.to_le_bytes());
    u64::from(u32::from_le_bytes(driver.read::<4>(4))) & 0xff_ffff
}

fn bench(writable: bool) -> Bench {
    bench_of(64 << 10, writable)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

impl Bench {
    /// A request with data for the device; returns the status.
    fn send(&mut self, kind: u32, sector: u64, data: &[u8]) -> u8 {
        let head = header(kind, sector);
        let reply = match data {
            [] => self.driver.call(0, &[Part::Out(&head), Part::In(1)]),
            data => self.driver.call(0, &[Part::Out(&head), Part::Out(data), Part::In(1)]),
        };
        assert_eq!(reply.len(), 1);
        reply[0]
    }

    fn read(&mut self, queue: usize, sector: u64, len: u32) -> (u8, Vec<u8>) {
        let head = self.driver.add(queue, &[Part::Out(&header(IN, sector)), Part::In(len), Part::In(1)]);
        self.driver.ring(queue);
        let (used, mut bytes) = self.driver.used(queue);
        assert_eq!(used, head);
        let status = bytes.pop().unwrap();
        (status, bytes)
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.file.path()).unwrap()
    }
}

#[test]
fn the_configuration_says_what_the_file_is() {
    let bench = bench_of(1000, true);
    let word = |at: u64| u32::from_le_bytes(bench.driver.read::<4>(0x100 + at));
    assert_eq!(bench.driver.read::<8>(0x100), 2u64.to_le_bytes(), "capacity in sectors, rounded up");
    assert_eq!((word(8), word(12)), (SIZE_MAX, SEG_MAX));
    assert_eq!(bench.driver.read::<2>(0x100 + 34), [2, 0]);
    assert_eq!((word(36), word(40), word(44)), (DISCARD_MAX, RANGES_MAX, 1));
    assert_eq!((word(48), word(52), bench.driver.read::<1>(0x100 + 56)), (ZEROES_MAX, RANGES_MAX, [1]));
    assert_eq!(bench.driver.status(), 15);
}

#[test]
fn a_read_only_disk_says_so_and_does_so() {
    let (writable, read_only) = (bench(true), bench(false));
    for (disk, bits) in [(writable, [0, 1, 1, 1]), (read_only, [1, 0, 0, 0])] {
        let mut driver = Driver::new(Blk::new(disk.disk.clone(), 1), None);
        let offered = driver_features(&mut driver);
        assert_eq!([5, 9, 13, 14].map(|bit| offered >> bit & 1), bits);
    }
    let mut bench = bench(false);
    assert_eq!(bench.send(OUT, 0, &[1; 512]), IOERR);
    assert_eq!(bench.send(DISCARD, 0, &range(0, 1, 0)), IOERR);
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(0, 1, 0)), IOERR);
    assert_eq!(bench.send(FLUSH, 0, &[]), OK, "there is nothing to flush");
    assert_eq!(bench.content(), pattern(64 << 10));
}

#[test]
fn sectors_are_read_on_every_queue() {
    let mut bench = bench(false);
    for queue in [0, 1] {
        assert_eq!(bench.read(queue, 3, 1024), (OK, pattern(64 << 10)[1536..2560].to_vec()));
    }
    assert_eq!(bench.read(0, 127, 512), (OK, pattern(64 << 10)[127 * 512..].to_vec()));
    let stats = DiskStats { reads: 3, read_bytes: 2560, ..DiskStats::default() };
    assert_eq!(bench.disk.stats(), stats);
}

#[test]
fn sectors_are_written() {
    let mut bench = bench(true);
    let data: Vec<u8> = (0..1024).map(|i| (i * 3) as u8).collect();
    assert_eq!(bench.send(OUT, 2, &data), OK);
    assert_eq!(bench.send(FLUSH, 0, &[]), OK);
    let mut expected = pattern(64 << 10);
    expected[1024..2048].copy_from_slice(&data);
    assert_eq!(bench.content(), expected);
    let stats = DiskStats { writes: 1, written_bytes: 1024, flushes: 1, ..DiskStats::default() };
    assert_eq!(bench.disk.stats(), stats);
}

#[test]
fn a_request_may_be_cut_into_descriptors_anywhere() {
    let mut bench = bench(true);
    // Header and data share a descriptor, and the header is in two.
    let mut first = header(OUT, 1);
    let second = [first.split_off(5), vec![7; 100]].concat();
    let parts = [Part::Out(&first), Part::Out(&second), Part::Out(&[7; 412]), Part::In(1)];
    assert_eq!(bench.driver.call(0, &parts), [OK]);
    assert_eq!(bench.content()[512..1024], [7; 512]);
    // Data and status share a descriptor.
    let parts = [Part::Out(&header(IN, 2)), Part::In(500), Part::In(525)];
    let mut reply = bench.driver.call(0, &parts);
    assert_eq!(reply.pop(), Some(OK));
    assert_eq!(reply, pattern(64 << 10)[1024..2048]);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let mut bench = bench(true);
    let before = bench.file.as_file().metadata().unwrap().blocks();
    let two = [range(0, 64, 0), range(72, 8, 0)].concat();
    assert_eq!(bench.send(DISCARD, 0, &two), OK);
    assert!(bench.file.as_file().metadata().unwrap().blocks() < before, "the host has the space back");
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(65, 2, 0)), OK);
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(68, 1, 1)), OK);
    let mut expected = pattern(64 << 10);
    for sectors in [0..64, 65..67, 68..69, 72..80] {
        expected[sectors.start * 512..sectors.end * 512].fill(0);
    }
    assert_eq!(bench.content(), expected);
    assert_eq!((bench.disk.stats().discards, bench.disk.stats().writes), (2, 2));
}

/// A block device of the host before a file, with sectors of 4 KiB; it goes when this does.
struct Loop(PathBuf);

impl Loop {
    /// None where there can be none: it takes root, and a kernel that has them.
    fn before(file: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["-f", "--show", "-b", "4096"]).arg(file).output().ok()?;
        made.status.success().then(|| Self(String::from_utf8(made.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

#[test]
fn parts_of_a_block_devices_larger_sectors_are_zeroed_too() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), pattern(64 << 10)).unwrap();
    let Some(device) = Loop::before(file.path()) else {
        println!("SKIPPED: no loop device can be made here");
        return;
    };
    let mut bench = bench_at(&device.0, file, true);
    // One of its sectors and a part of another: the host does neither by itself.
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(9, 10, 0)), OK);
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(33, 1, 1)), OK);
    assert_eq!(bench.send(DISCARD, 0, &range(65, 1, 0)), OK);
    assert_eq!(bench.send(FLUSH, 0, &[]), OK);
    let mut expected = pattern(64 << 10);
    expected[9 * 512..19 * 512].fill(0);
    expected[33 * 512..34 * 512].fill(0);
    assert!(bench.content() == expected);
    drop(bench);
}

#[test]
fn the_serial_number_is_the_end_of_the_name() {
    let mut bench = bench(false);
    let name = bench.file.path().file_name().unwrap().to_str().unwrap().to_owned();
    let reply = bench.driver.call(0, &[Part::Out(&header(GET_ID, 0)), Part::In(20), Part::In(1)]);
    assert_eq!(reply[20], OK);
    assert_eq!(
        std::str::from_utf8(&reply[..20]).unwrap().trim_end_matches('\0'),
        &name[name.len().saturating_sub(20)..]
    );
}

#[test]
fn a_file_that_ends_within_a_sector_reads_as_zeroes_behind_its_end() {
    let mut bench = bench_of(700, true);
    let expected = [&pattern(700)[512..], &[0; 324]].concat();
    assert_eq!(bench.read(0, 1, 512), (OK, expected));
    assert_eq!(bench.send(OUT, 1, &[9; 512]), OK);
    assert_eq!(bench.read(0, 1, 512), (OK, vec![9; 512]), "and can be written");
    assert_eq!(bench.read(0, 2, 512).0, IOERR);
}

#[test]
fn a_file_cut_short_on_the_host_gives_errors_where_it_is_gone() {
    let mut bench = bench(false);
    bench.file.as_file().set_len(1024).unwrap();
    assert_eq!(bench.read(0, 1, 512).0, OK);
    for (sector, len) in [(1, 1024), (2, 512), (127, 512)] {
        assert_eq!(bench.read(0, sector, len).0, IOERR, "{sector}");
    }
}

#[test]
fn without_flushing_every_write_is_made_safe() {
    let bench = bench(true);
    let mut driver = Driver::new(Blk::new(bench.disk.clone(), 1), None);
    driver.start(0);
    assert_eq!(driver.call(0, &[Part::Out(&header(OUT, 0)), Part::Out(&[1; 512]), Part::In(1)]), [OK]);
    assert_eq!(bench.disk.stats().flushes, 1);
}

#[test]
fn what_was_handed_over_is_done_when_the_machine_ends() {
    let mut bench = bench(true);
    for sector in 0..4 {
        bench.driver.add(0, &[Part::Out(&header(OUT, sector)), Part::Out(&[5; 512]), Part::In(1)]);
    }
    bench.driver.ring(0);
    crate::pci::PciDevice::drain(&mut bench.driver.pci);
    let end = Instant::now() + std::time::Duration::from_secs(10);
    while !crate::pci::PciDevice::drained(&mut bench.driver.pci) {
        assert!(Instant::now() < end);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(bench.content()[..2048], [5; 2048]);
}

#[test]
fn a_disk_can_be_started_over() {
    let mut bench = bench(false);
    bench.driver.reset();
    bench.driver.start(0);
    assert_eq!(bench.read(1, 0, 512).0, OK);
}

#[test]
fn sectors_that_are_not_there_cannot_be_reached() {
    let mut bench = bench(true);
    let ends = [(128, 512), (127, 1024), (u64::MAX, 512), (u64::MAX / 512, 512), (1 << 55, 512), (u64::MAX - 1, 1024)];
    for (sector, len) in ends {
        assert_eq!(bench.read(0, sector, len).0, IOERR, "read {sector}");
        assert_eq!(bench.send(OUT, sector, &vec![1; len as usize]), IOERR, "write {sector}");
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(bench.send(kind, 0, &range(sector, len / 512, 0)), IOERR, "range {sector}");
        }
    }
    for len in [1, 511, 513] {
        assert_eq!(bench.read(0, 0, len).0, IOERR, "part of a sector");
        assert_eq!(bench.send(OUT, 0, &vec![1; len as usize]), IOERR, "part of a sector");
    }
    assert_eq!(bench.content(), pattern(64 << 10));
}

#[test]
fn requests_that_make_no_sense_are_answered() {
    let mut bench = bench(true);
    for kind in [2, 3, 5, 7, 9, 10, 12, 14, 16, u32::MAX] {
        assert_eq!(bench.send(kind, 0, &[]), UNSUPPORTED, "{kind}");
    }
    for data in
        [vec![], vec![0; 15], vec![0; 17], vec![0; 16 * 17], range(0, DISCARD_MAX + 1, 0), range(0, u32::MAX, 0)]
    {
        assert_eq!(bench.send(DISCARD, 0, &data), IOERR, "{} bytes", data.len());
    }
    assert_eq!(bench.send(DISCARD, 0, &range(0, 1, 1)), UNSUPPORTED);
    for flags in [2, 3, u32::MAX] {
        assert_eq!(bench.send(WRITE_ZEROES, 0, &range(0, 1, flags)), UNSUPPORTED);
    }
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(0, ZEROES_MAX + 1, 0)), IOERR);
    assert_eq!(bench.send(WRITE_ZEROES, 0, &range(0, 0, 0)), OK, "nothing is not much");
    assert_eq!(bench.read(0, 0, 0).0, OK);
    assert_eq!(bench.content(), pattern(64 << 10));
}

#[test]
fn chains_that_cannot_be_answered_come_back_empty() {
    let mut bench = bench(true);
    let (room, ram_end) = (2 << 20, 4 * MIB);
    let cases: [&[(u64, u32, u16)]; 8] = [
        // No header, half of one, no status.
        &[(room, 1, 2)],
        &[(room, 8, 0), (room, 1, 2)],
        &[(room, 16, 0)],
        // Not RAM, or not all of it; far away; past the end of the address space.
        &[(room, 16, 0), (ram_end, 512, 2), (room, 1, 2)],
        &[(room, 16, 0), (ram_end - 511, 512, 2), (room, 1, 2)],
        &[(room, 16, 0), (u64::MAX - 100, 512, 2), (room, 1, 2)],
        &[(u64::MAX, 16, 0), (room, 1, 2)],
        // More than was agreed on.
        &[(room, 16, 0), (room, SIZE_MAX + 1, 2), (room, 1, 2)],
    ];
    for case in cases {
        let head = bench.driver.add_raw(0, case);
        bench.driver.ring(0);
        assert_eq!(bench.driver.used(0), (head, Vec::new()), "{case:x?}");
    }
    assert_eq!(bench.read(0, 0, 512).0, OK, "the next one is served");
    assert_eq!(bench.content(), pattern(64 << 10));
}

#[test]
fn a_ring_that_makes_no_sense_ends_the_queue() {
    let mut bench = bench(false);
    bench.driver.set_available(0, 1000);
    bench.driver.ring(0);
    bench.driver.wait("the device says that it failed", |driver| driver.status() & 64 != 0);
}

#[test]
fn what_cannot_be_a_disk_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, empty) = (folder.path().join("missing"), folder.path().join("empty"));
    fs::write(&empty, "").unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.path().join("pipe"), 0o600.into()).unwrap();
    assert!(matches!(Disk::open(&missing, false), Err(OpenError::Open { path, .. }) if path == missing));
    assert!(matches!(Disk::open(&empty, true), Err(OpenError::Empty(path)) if path == empty));
    for other in [folder.path().to_owned(), folder.path().join("pipe"), "/dev/null".into()] {
        assert!(matches!(Disk::open(&other, false), Err(OpenError::NotAFile(path)) if path == other));
    }
}

#[test]
fn a_disk_that_is_written_to_is_one_machines() {
    let bench = bench(true);
    let path = bench.file.path();
    for writable in [false, true] {
        assert!(matches!(Disk::open(path, writable), Err(OpenError::Busy(_))));
    }
    drop(bench.driver);
    drop(bench.disk);
    let _readers = [false, false].map(|writable| Disk::open(path, writable).unwrap());
    assert!(matches!(Disk::open(path, true), Err(OpenError::Busy(_))));
    bench.file.as_file().write_at(b"x", 0).unwrap();
}
