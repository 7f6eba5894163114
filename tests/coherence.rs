//! Two machines and the host with one directory, at the same time.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::data;
use crate::linux_sources::{Libc, compiled};
use crate::outcome::Outcome;
use crate::platform::Platform;

/// One more party on the host: `command` in `folder`.
fn on_host(command: &[&str], folder: &Path) -> Child {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).current_dir(folder);
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn memory_of_a_file_is_one_memory_for_two_machines_and_the_host() {
    let Some(on) = Platform::Kvm.here() else { return };
    let folder = compiled("take_turns", Libc::Musl);
    data::file(folder.path(), "page", &[0; 4096]);
    const ROUNDS: &str = "300";
    let machine = |me| on.run(&["./take_turns", "page", me, "3", ROUNDS]).writable_data(folder.path());
    let (first, second) = (machine("0").start(), machine("1").start());
    let host = on_host(&["./take_turns", "page", "2", "3", ROUNDS], folder.path());
    for party in [first, second, host] {
        let outcome = Outcome::of(party, on.patience()).expect_status(0);
        assert_eq!(outcome.err(), "");
    }
    let page = fs::read(folder.path().join("page")).unwrap();
    assert_eq!(u64::from_le_bytes(page[..8].try_into().unwrap()), 900, "everybody had every turn");
}
