//! Two machines and the host with one directory, at the same time.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::data;
use crate::each_platform;
use crate::linux_sources::{Libc, compiled, scripts};
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

/// Several programs use one database at once, and its books are in order at the end.
fn share_a_database(on: Platform, mode: &str, transactions: u32) {
    let folder = scripts(&["sqlite_peers.py"]);
    let number = transactions.to_string();
    let command = |mode, me| ["/usr/bin/python3", "sqlite_peers.py", mode, me, &number];
    let here = |mode| Outcome::of(on_host(&command(mode, "0"), folder.path()), on.patience()).expect_status(0);
    here(mode).expect_out(&format!("{mode}\n"));
    let machine = |me| on.run(&command("work", me)).writable_data(folder.path()).start();
    let parties = [machine("1"), machine("2"), on_host(&command("work", "3"), folder.path())];
    for party in parties {
        Outcome::of(party, on.patience()).expect_status(0).expect_out("torn states: 0\n");
    }
    let each = |me: u32| format!("({me}, {transactions}, 0, {})", transactions - 1);
    here("verify").expect_out(&format!("ok\n10000\n[{}, {}, {}]\n", each(1), each(2), each(3)));
}

#[test]
fn sqlite_shares_a_database_with_a_write_ahead_log() {
    let Some(on) = Platform::Kvm.here() else { return };
    share_a_database(on, "wal", 700);
}

each_platform! {
    fn sqlite_shares_a_database_with_a_rollback_journal(on) {
        share_a_database(on, "delete", if on == Platform::Kvm { 300 } else { 30 });
    }
}
