//! Advisory locks: between the open files of one machine, and between machines and the host.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::data;
use crate::each_platform;
use crate::linux_sources::{same_c_in_own_folders, scripts};
use crate::outcome::Outcome;
use crate::platform::Platform;

each_platform! {
    fn locks_are_linuxs(on) { same_c_in_own_folders(on, "locks"); }

    fn machines_and_the_host_wait_for_each_others_locks(on) {
        for kind in ["flock", "record", "ofd"] {
            let folder = scripts(&["contend.py"]);
            let number = data::file(folder.path(), "number", b"00000000000000000000");
            let command = ["/usr/bin/python3", "contend.py", kind, "number", "60"];
            let machines = [&[][..], &["--dax-window", "0"]];
            let machines = machines.map(|options| on.run(&command).option(options).writable_data(folder.path()));
            let running: Vec<_> = machines.iter().map(|vm| vm.start()).collect();
            machines[0].on_host().expect_status(0).expect_out("done\n");
            for child in running {
                Outcome::of(child, on.patience()).expect_status(0).expect_out("done\n");
            }
            assert_eq!(fs::read_to_string(number).unwrap(), "00000000000000000180", "{kind}");
        }
    }

    fn the_host_sees_locks_of_a_machine_and_their_end(on) {
        for (kind, access) in [("flock", ""), ("record", ""), ("flock", ":ro")] {
            let folder = data::folder();
            data::file(folder.path(), "f", b"");
            let vm = on.run(&["/usr/bin/python3", "-c", HOLD, kind, if access.is_empty() { "r+" } else { "r" }]);
            let vm = if access.is_empty() { vm.writable_data(folder.path()) } else { vm.data(folder.path()) };
            let mut talk = Talk::to(vm.start());
            talk.expect("held");
            assert!(!host_gets(folder.path(), kind), "{kind}{access}: held in the machine");
            talk.say();
            talk.expect("given up");
            assert!(host_gets(folder.path(), kind), "{kind}{access}: given up in the machine");
            talk.say();
            talk.expect("held");
            assert!(!host_gets(folder.path(), kind), "{kind}{access}: held again");
            // Ended with the lock.
            talk.end(on).expect_status(0);
            assert!(host_gets(folder.path(), kind), "{kind}{access}: the machine is gone");
        }
    }

    fn a_machine_meets_the_hosts_locks(on) {
        let folder = data::folder();
        data::file(folder.path(), "f", b"");
        for kind in ["flock", "record"] {
            let mut host = Command::new("/usr/bin/python3");
            host.args(["-c", HOLD, kind, "r+"]).current_dir(folder.path());
            let mut host = Talk::to(host.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
            host.expect("held");
            let vm = on.run(&["/usr/bin/python3", "-c", MEET, kind]).writable_data(folder.path());
            let mut machine = Talk::to(vm.start());
            machine.expect("in the way 11");
            machine.expect("interrupted");
            machine.expect("waiting");
            host.say();
            host.expect("given up");
            machine.expect("got it");
            machine.end(on).expect_status(0);
            host.child.kill().unwrap();
            host.child.wait().unwrap();
        }
    }

    fn what_others_did_under_the_lock_is_seen_with_it(on) {
        let folder = data::folder();
        data::file(folder.path(), "f", b"1");
        data::file(folder.path(), "gone", b"");
        let vm = on.run(&["/usr/bin/python3", "-c", LOOK_UNDER_LOCK]).writable_data(folder.path());
        let mut talk = Talk::to(vm.start());
        talk.expect("1 True False");
        fs::remove_file(folder.path().join("gone")).unwrap();
        data::file(folder.path(), "new", b"");
        data::file(folder.path(), "f", b"four");
        talk.say();
        // Well within the second for which names and sizes are believed without a lock.
        talk.expect("4 False True");
        talk.end(on).expect_status(0);
    }
}

/// Takes a lock, gives it up when told to, takes it again, and ends with it.
const HOLD: &str = "import fcntl, sys\n\
    f = open('f', sys.argv[2])\n\
    lock = fcntl.flock if sys.argv[1] == 'flock' else fcntl.lockf\n\
    lock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.readline()\n\
    lock(f, fcntl.LOCK_UN); print('given up', flush=True); sys.stdin.readline()\n\
    lock(f, fcntl.LOCK_EX); print('held', flush=True); sys.stdin.readline()\n";

/// Meets a lock: without waiting, with a signal that ends the wait, and to the end.
const MEET: &str = "import fcntl, signal, sys\n\
    f = open('f', 'r+')\n\
    lock = fcntl.flock if sys.argv[1] == 'flock' else fcntl.lockf\n\
    try: lock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)\n\
    except OSError as e: print('in the way', e.errno, flush=True)\n\
    def ring(*_): raise InterruptedError\n\
    signal.signal(signal.SIGALRM, ring); signal.setitimer(signal.ITIMER_REAL, 0.1)\n\
    try: lock(f, fcntl.LOCK_EX)\n\
    except InterruptedError: print('interrupted', flush=True)\n\
    print('waiting', flush=True)\n\
    lock(f, fcntl.LOCK_EX); print('got it', flush=True); sys.stdin.readline()\n";

/// Looks at files, and again with a lock on one of them.
const LOOK_UNDER_LOCK: &str = "import fcntl, os, sys\n\
    f = open('f', 'r+')\n\
    def look(): print(os.fstat(f.fileno()).st_size, os.path.exists('gone'), os.path.exists('new'), flush=True)\n\
    look(); sys.stdin.readline(); fcntl.lockf(f, fcntl.LOCK_EX); look()\n";

/// Whether a process of the host gets the lock at once.
fn host_gets(folder: &Path, kind: &str) -> bool {
    let status = match kind {
        "flock" => Command::new("/usr/bin/flock").args(["-n", "f", "true"]).current_dir(folder).status(),
        _ => {
            let script = "import fcntl; fcntl.lockf(open('f', 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)";
            let mut command = Command::new("/usr/bin/python3");
            command.args(["-c", script]).current_dir(folder).stderr(Stdio::null()).status()
        }
    };
    status.unwrap().success()
}

/// A conversation with a running program, line by line.
struct Talk {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Talk {
    fn to(mut child: Child) -> Self {
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from: BufReader::new(from) }
    }

    #[track_caller]
    fn expect(&mut self, line: &str) {
        let mut said = String::new();
        self.from.read_line(&mut said).unwrap();
        assert_eq!(said.trim_end(), line);
    }

    fn say(&mut self) {
        self.to.write_all(b"\n").unwrap();
    }

    fn end(self, on: Platform) -> Outcome {
        drop(self.to);
        Outcome::of(self.child, on.patience())
    }
}
