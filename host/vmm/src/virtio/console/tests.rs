use super::*;
use crate::virtio::testing::{Driver, Part};
use rustix::pipe::{fcntl_setpipe_size, pipe};
use std::fs::File;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const READY: &[u8] = &[0, 0, 0, 0, 0, 0, 1, 0];
const STDIN: usize = 4;
const STDOUT: usize = 7;
const STDERR: usize = 9;
const SIGNALS: usize = 10;

struct Bench {
    driver: Driver,
    shared: Arc<Shared>,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: File,
    signals: File,
}

fn bench() -> Bench {
    let (stdin_reader, stdin) = pipe().unwrap();
    let (stdout, stdout_writer) = pipe().unwrap();
    let (stderr, stderr_writer) = pipe().unwrap();
    let (signals_reader, signals) = pipe().unwrap();
    fcntl_setpipe_size(&stdout_writer, 4096).unwrap();
    let files = Stdio { stdin: stdin_reader, stdout: stdout_writer, stderr: stderr_writer, signals: signals_reader };
    let console = Console::new(files).unwrap();
    let shared = console.shared.clone();
    let mut driver = Driver::new(console, None);
    driver.start(F_MULTIPORT);
    Bench {
        driver,
        shared,
        stdin: Some(stdin.into()),
        stdout: Some(stdout.into()),
        stderr: stderr.into(),
        signals: signals.into(),
    }
}

/// Sends a control message and takes `answers` of the device's.
fn control(driver: &mut Driver, message: &[u8], answers: usize) -> Vec<Vec<u8>> {
    driver.call(CONTROL_TX, &[Part::Out(message)]);
    (0..answers).map(|_| next_message(driver)).collect()
}

fn next_message(driver: &mut Driver) -> Vec<u8> {
    driver.call(CONTROL_RX, &[Part::In(32)])
}

#[test]
fn the_ports_introduce_themselves() {
    let mut driver = bench().driver;
    assert_eq!(driver.read::<4>(0x104), [5, 0, 0, 0]);
    let added = control(&mut driver, READY, 4);
    assert_eq!(added, [1, 2, 3, 4].map(|port| vec![port, 0, 0, 0, 1, 0, 1, 0]));
    let answers = control(&mut driver, &[3, 0, 0, 0, 3, 0, 1, 0], 2);
    assert_eq!(answers, [b"\x03\0\0\0\x07\0\x01\0stderr".to_vec(), vec![3, 0, 0, 0, 6, 0, 1, 0]]);
}

#[test]
fn every_byte_goes_through_unchanged() {
    let Bench { mut driver, stdin, stdout, mut stderr, mut signals, .. } = bench();
    let (mut stdin, mut stdout) = (stdin.unwrap(), stdout.unwrap());
    let bytes: Vec<u8> = (0..=255).collect();
    for (queue, reader) in [(STDOUT, &mut stdout), (STDERR, &mut stderr)] {
        driver.call(queue, &[Part::Out(&bytes[..100]), Part::Out(&bytes[100..])]);
        let mut read = [0; 256];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(read[..], bytes);
    }
    stdin.write_all(&bytes).unwrap();
    assert_eq!(driver.call(STDIN, &[Part::In(100)]), bytes[..100]);
    assert_eq!(driver.call(STDIN, &[Part::In(4096)]), bytes[100..]);
    signals.write_all(&[15]).unwrap();
    assert_eq!(driver.call(SIGNALS, &[Part::In(8)]), [15]);
}

#[test]
fn a_stream_that_nobody_uses_has_no_thread() {
    let Bench { mut driver, shared, mut stderr, .. } = bench();
    control(&mut driver, READY, 4);
    assert_eq!(shared.workers().len(), 0);
    driver.call(STDERR, &[Part::Out(b"x")]);
    stderr.read_exact(&mut [0]).unwrap();
    assert_eq!(shared.workers().len(), 1);
}

#[test]
fn stdin_is_read_only_when_there_is_room_and_ends_after_its_last_byte() {
    let Bench { mut driver, stdin, .. } = bench();
    let mut stdin = stdin.unwrap();
    control(&mut driver, &[1, 0, 0, 0, 3, 0, 1, 0], 2);
    stdin.write_all(b"abc").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(rustix::io::ioctl_fionread(&stdin).unwrap(), 3, "nobody asked for it yet");
    assert_eq!(driver.call(STDIN, &[Part::In(2)]), b"ab");
    drop(stdin);
    assert_eq!(driver.call(STDIN, &[Part::In(8)]), b"c");
    driver.add(STDIN, &[Part::In(8)]);
    driver.ring(STDIN);
    assert_eq!(next_message(&mut driver), [1, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(driver.try_used(STDIN, Duration::from_millis(20)), None, "no empty buffer at the end");
}

#[test]
fn a_reader_that_goes_away_closes_its_port_and_no_other() {
    let Bench { mut driver, stdout, mut stderr, .. } = bench();
    control(&mut driver, &[2, 0, 0, 0, 3, 0, 1, 0], 2);
    drop(stdout);
    driver.call(STDOUT, &[Part::Out(b"nobody hears this")]);
    assert_eq!(next_message(&mut driver), [2, 0, 0, 0, 6, 0, 0, 0]);
    driver.call(STDOUT, &[Part::Out(b"nor this")]);
    driver.call(STDERR, &[Part::Out(b"but this")]);
    let mut read = [0; 8];
    stderr.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"but this");
}

#[test]
fn a_blocked_stream_holds_up_nobody_and_can_be_stopped() {
    // Its stdout is kept, and not read.
    let Bench { mut driver, mut stderr, stdout: _stdout, .. } = bench();
    driver.add(STDOUT, &[Part::Out(&[1; 100_000])]);
    driver.ring(STDOUT);
    driver.call(STDERR, &[Part::Out(b"x")]);
    let mut read = [0];
    stderr.read_exact(&mut read).unwrap();
    assert_eq!(driver.try_used(STDOUT, Duration::from_millis(30)), None);
    let start = Instant::now();
    driver.reset();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn what_was_handed_over_is_written_before_the_end() {
    use crate::pci::PciDevice;
    let Bench { mut driver, stdout, .. } = bench();
    for _ in 0..4 {
        driver.add(STDOUT, &[Part::Out(&[7; 50_000])]);
    }
    // Not even rung for.
    driver.pci.drain();
    assert!(!driver.pci.drained(), "the pipe takes 4096 bytes and nobody has read them");
    let mut stdout = stdout.unwrap();
    let mut read = vec![0; 200_000];
    stdout.read_exact(&mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
    let end = Instant::now() + Duration::from_secs(5);
    while !driver.pci.drained() {
        assert!(Instant::now() < end);
    }
}

#[test]
fn a_console_survives_a_reset_with_its_files() {
    let Bench { mut driver, mut stderr, .. } = bench();
    driver.reset();
    driver.start(F_MULTIPORT);
    assert_eq!(control(&mut driver, READY, 4).len(), 4);
    driver.call(STDERR, &[Part::Out(b"again")]);
    let mut read = [0; 5];
    stderr.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"again");
}
