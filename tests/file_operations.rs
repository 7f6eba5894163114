//! File operations, call by call: a script prints what each gave or the name of its error, on the host in one folder and
//! in the machine in another, and not a line may differ.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::outcome::Outcome;
use crate::platform::Platform;

const COMMON: &str = include_str!("file_operations/common.py");
const ATTRIBUTES: &str = include_str!("file_operations/attributes.py");
const RANGES: &str = include_str!("file_operations/ranges.py");
const METADATA: &str = include_str!("file_operations/metadata.py");
const UNNAMED: &str = include_str!("file_operations/unnamed.py");

each_platform! {
    fn extended_attributes_are_as_on_the_host(on) {
        compare(on, ATTRIBUTES, |_| true);
    }

    fn ranges_are_as_on_the_host(on) {
        // Without a window there are no shared mappings of files.
        compare(on, RANGES, |options| on == Platform::Kvm && options.is_empty());
    }

    fn metadata_names_and_locks_are_as_on_the_host(on) {
        compare(on, METADATA, |_| true);
    }

    fn files_without_a_name_are_as_on_the_host(on) {
        compare(on, UNNAMED, |_| true);
    }

    fn a_copy_in_a_share_is_made_by_the_host(on) {
        let folder = data::folder();
        let path = data::random_file(folder.path(), "big", 100 << 20);
        let vm = on.run(&["/bin/cp", "big", "copy"]).option(&["--stats"]).writable_data(folder.path());
        let outcome = vm.outcome().expect_status(0);
        assert!(fs::read(folder.path().join("copy")).unwrap() == fs::read(path).unwrap(), "not the same bytes");
        let requests = |name: &str| outcome.err().lines().filter(|line| line.trim().starts_with(name)).count();
        assert_eq!((requests("COPY FILE RANGE "), requests("WRITE ")), (1, 0), "{}", outcome.err());
    }

    fn files_in_memory_are_as_in_the_hosts_tmpfs(on) {
        as_in_tmpfs(on, "/tmp/work", &[ATTRIBUTES, RANGES, METADATA, UNNAMED]);
    }

    fn files_over_a_share_are_as_in_the_hosts_tmpfs(on) {
        // An overlay knows more of ranges; the exerciser tells of them.
        as_in_tmpfs(on, "/data/work", &[ATTRIBUTES, METADATA, UNNAMED]);
    }

    fn attributes_of_a_read_only_share_stay(on) {
        let folder = data::folder();
        data::file(folder.path(), "f", b"x");
        let script = "import os\nfor change in (lambda: os.setxattr('f', 'user.a', b'v'), lambda: os.removexattr('f', 'user.a'), \
                      lambda: os.chown('f', -1, -1)):\n  try: change()\n  except OSError as e: print(e.errno)";
        let outcome = on.run(&["/usr/bin/python3", "-c", script]).data(folder.path()).outcome();
        outcome.expect_status(0).expect_out("30\n30\n30\n");
    }

    fn attributes_that_mean_something_to_the_host_cannot_be_given(on) {
        let folder = data::folder();
        data::file(folder.path(), "f", b"x");
        let script = "import os\nfor name in ('security.capability', 'trusted.x'):\n  \
                      try: os.setxattr('f', name, b'v')\n  except OSError as e: print(e.errno)";
        let outcome = on.run(&["/usr/bin/python3", "-c", script]).writable_data(folder.path()).outcome();
        outcome.expect_status(0).expect_out("1\n1\n");
    }
}

/// Runs scripts in the machine at `place`, where `/data` is an overlay, and on the host in memory.
fn as_in_tmpfs(on: Platform, place: &str, all: &[&str]) {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    for script in all {
        let run = |on_host: bool, work: &Path| {
            let folder = scripts(script);
            let inside = format!("import os; os.makedirs({work:?}, exist_ok=True); os.chdir({work:?}); {RUN}");
            let command = ["/usr/bin/python3", "-c", &inside];
            let scripts = if on_host { folder.path().to_str().unwrap() } else { "/data" };
            let vm = on.run(&command).overlaid_data(folder.path()).env("SHARED", "1").env("SCRIPTS", scripts);
            if on_host { vm.on_host() } else { vm.outcome() }
        };
        let work = shm.path().join("work");
        let host = run(true, &work).expect_status(0);
        fs::remove_dir_all(&work).unwrap();
        run(false, Path::new(place)).expect_same(&host);
    }
}

/// Runs the script in the folder that the environment names; its working directory is another one.
const RUN: &str =
    "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, os.environ['SCRIPTS']); import script";

/// A folder with `script` and what it needs.
fn scripts(script: &str) -> TempDir {
    let folder = data::folder();
    data::file(folder.path(), "common.py", COMMON.as_bytes());
    data::file(folder.path(), "script.py", script.as_bytes());
    folder
}

/// Runs `script` here and there, with a window and without. `shared` says whether mappings of files can be shared.
fn compare(on: Platform, script: &str, shared: impl Fn(&[&str]) -> bool) {
    let windows: &[&[&str]] = match on {
        Platform::Kvm => &[&[], &["--dax-window", "0"]],
        Platform::Qemu => &[&[]],
    };
    for options in windows {
        let run = |on_host: bool| -> Outcome {
            let folder = scripts(script);
            let inside = format!("import os; os.mkdir('work'); os.chdir('work'); {RUN}");
            let command = ["/usr/bin/python3", "-c", &inside];
            let mut vm = on.run(&command).option(options).writable_data(folder.path()).env("SCRIPTS", "..");
            if shared(options) {
                vm = vm.env("SHARED", "1");
            }
            if on_host { vm.on_host() } else { vm.outcome() }
        };
        let (host, guest) = (run(true).expect_status(0), run(false));
        assert!(host.out().lines().count() > 50, "the script did something:\n{}", host.out());
        guest.expect_same(&host);
    }
}
