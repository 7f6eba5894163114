//! `diolkos serve` as a command: how it starts, serves front-ends and ends, confined as it is. What it says to them is tested in
//! `host/serve/tests`, with whole guests in `linux_guest.rs` and, on QEMU, in all the others.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::data;
use crate::outcome::Outcome;
use crate::vm::diolkos;

const PATIENCE: Duration = Duration::from_secs(30);

/// A daemon for `folder` that listens at `socket`.
pub fn start(options: &[&str], socket: &Path, folder: &Path) -> Child {
    let mut command = diolkos();
    command.arg("serve").args(options).arg("--socket").arg(socket).arg(folder);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !socket.exists() {
        assert!(start.elapsed() < PATIENCE, "no socket at {}", socket.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

fn started(options: &[&str]) -> (TempDir, PathBuf, Child) {
    let folder = data::folder();
    let socket = folder.path().join("socket");
    let child = start(options, &socket, folder.path());
    (folder, socket, child)
}

/// A front-end that asks for the features, and has an answer.
fn front_end(socket: &Path) -> UnixStream {
    let mut connection = UnixStream::connect(socket).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    send(&mut connection, 1);
    let mut answer = [0; 20];
    connection.read_exact(&mut answer).unwrap();
    // The same request, version 1 of the protocol and "this is an answer", eight bytes.
    assert_eq!(answer[..12], [1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0]);
    connection
}

/// Sends a message without a body.
fn send(connection: &mut UnixStream, request: u8) {
    connection.write_all(&[request, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
}

#[test]
fn it_ends_with_its_front_end() {
    let (_folder, socket, child) = started(&[]);
    let connection = front_end(&socket);
    assert!(!socket.exists(), "nobody else is to come");
    drop(connection);
    let outcome = Outcome::of(child, PATIENCE).expect_status(0);
    assert_eq!(outcome.err(), "");
}

#[test]
fn it_says_what_is_wrong_with_a_front_end() {
    let (_folder, socket, child) = started(&[]);
    send(&mut front_end(&socket), 200);
    let outcome = Outcome::of(child, PATIENCE).expect_status(125);
    assert!(outcome.err().starts_with("diolkos: the vhost-user front-end broke the protocol: "), "{}", outcome.err());
    assert_eq!(outcome.err().lines().count(), 1);
}

#[test]
fn it_serves_one_front_end_after_the_other_if_asked_to() {
    let (_folder, socket, child) = started(&["--persistent", "--verbose"]);
    for _ in 0..3 {
        drop(front_end(&socket));
        send(&mut front_end(&socket), 200);
    }
    let last = front_end(&socket);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let outcome = Outcome::of(child, PATIENCE).expect_status(143);
    let complaints = outcome.err().lines().filter(|line| line.contains("broke the protocol")).count();
    assert_eq!(complaints, 3, "{}", outcome.err());
    assert!(outcome.err().starts_with("diolkos: confinement: no new privileges, "), "{}", outcome.err());
    drop(last);
}

#[test]
fn a_signal_ends_it_while_it_waits() {
    let (_folder, socket, child) = started(&[]);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    Outcome::of(child, PATIENCE).expect_status(143);
    assert!(!socket.exists());
}
