//! Two machines and the host with one directory, at the same time.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::data;
use crate::dialogue::{Dialogue, outlive_beliefs};
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

/// Tells what it sees of the names and files it is asked for.
const LOOK: &str = r#"
import os, sys
old = os.open('old', os.O_RDONLY)
def content(name):
    try:
        with open(name) as file: return file.read()
    except OSError as error: return os.strerror(error.errno)
def mode(name):
    try: return oct(os.stat(name).st_mode & 0o777)
    except OSError as error: return os.strerror(error.errno)
for line in sys.stdin:
    print(*[f'{name}: {content(name)} {mode(name)};' for name in line.split()], sorted(os.listdir()),
          os.pread(old, 20, 0).decode(), flush=True)
"#;

/// Names, contents and modes that the host changes show when the rule says so.
fn changes_are_seen_by_the_rule(on: Platform, cache: &str, options: &[&str]) {
    let folder = data::folder();
    for name in ["gone", "old"] {
        data::file(folder.path(), name, name.as_bytes());
    }
    let set_mode = |name: &str, mode| {
        let path = folder.path().join(name);
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    set_mode("gone", 0o644);
    set_mode("old", 0o644);
    let vm = on.run(&["/usr/bin/python3", "-uc", LOOK]).option(&["--cache", cache]).option(options);
    let mut program = Dialogue::start(vm.data(folder.path()));
    let all = "gone old new";
    let nothing = "No such file or directory";
    let first = format!("gone: gone 0o644; old: old 0o644; new: {nothing} {nothing}; ['gone', 'old'] old");
    assert_eq!(program.ask(all), first, "{cache} {options:?}");

    fs::remove_file(folder.path().join("gone")).unwrap();
    data::file(folder.path(), "other", b"replaced");
    fs::rename(folder.path().join("other"), folder.path().join("old")).unwrap();
    set_mode("old", 0o600);
    data::file(folder.path(), "new", b"made");
    set_mode("new", 0o600);
    outlive_beliefs(cache);
    // A directory is read each time; the descriptor stays with the file it was opened for.
    let seen = program.ask(all);
    if cache == "always" {
        // For ever means names that were not there, too.
        let wanted = format!("gone: gone 0o644; old: old 0o644; new: {nothing} {nothing}; ['new', 'old'] old");
        assert_eq!(seen, wanted, "{options:?}");
    } else {
        let wanted = format!("gone: {nothing} {nothing}; old: replaced 0o600; new: made 0o600; ['new', 'old'] old");
        assert_eq!(seen, wanted, "{cache} {options:?}");
        set_mode("new", 0o640);
        outlive_beliefs(cache);
        let seen = program.ask("new");
        assert_eq!(seen, "new: made 0o640; ['new', 'old'] old", "{cache} {options:?}");
    }
    program.end();
}

each_platform! {
    fn names_and_attributes_are_believed_as_long_as_the_rule_says(on) {
        let settings: &[&[&str]] = if on == Platform::Kvm { &[&[], &["--dax-window", "0"]] } else { &[&[]] };
        for options in settings {
            for cache in ["none", "auto", "always"] {
                changes_are_seen_by_the_rule(on, cache, options);
            }
        }
    }
}

/// Looks at enough files of a directory that those beside them are listed, and then tells the content of what is asked for.
const LIST: &str = r#"
import os, sys
print(sum(os.stat(str(number)).st_size for number in range(8)), flush=True)
def content(name):
    try:
        with open(name) as file: return file.read()
    except OSError as error: return os.strerror(error.errno)
for line in sys.stdin:
    print(*[f'{name}: {content(name)};' for name in line.split()], flush=True)
"#;

/// A listing makes files known that nobody has opened on the host.
#[test]
fn what_the_host_changes_behind_a_listing_is_looked_up_again() {
    let Some(on) = Platform::Kvm.here() else { return };
    for cache in ["auto", "always"] {
        let folder = data::folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["gone", "moved", "old", "stays", "0", "1", "2", "3", "4", "5", "6", "7"] {
            data::file(folder.path(), name, name.as_bytes());
        }
        let vm = on.run(&["/usr/bin/python3", "-uc", LIST]).option(&["--trace", "fuse", "--cache", cache]);
        let mut program = Dialogue::start(vm.data(folder.path()));
        assert_eq!(program.line(), "8");
        fs::remove_file(path("gone")).unwrap();
        fs::rename(path("moved"), path("away")).unwrap();
        data::file(folder.path(), "other", b"new");
        fs::rename(path("other"), path("old")).unwrap();
        let nothing = "No such file or directory";
        let wanted = format!("gone: {nothing}; moved: {nothing}; old: new; stays: stays; away: moved;");
        assert_eq!(program.ask("gone moved old stays away"), wanted, "{cache}");
        let messages = program.end();
        assert!(
            messages.contains("= ESTALE"),
            "they were listed, and the host was asked for what was there: {messages}"
        );
    }
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
