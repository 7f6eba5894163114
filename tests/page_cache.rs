//! The page cache: what a share without a window keeps of its files in the machine's memory. On KVM the window is switched
//! off for it; QEMU has none.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::data;
use crate::dialogue::{Dialogue, change, outlive_beliefs};
use crate::each_platform;
use crate::linux_sources::{Libc, compiled, same_c_in_own_folders_with};
use crate::observation::figure;
use crate::platform::Platform;
use crate::vm::Vm;

const PAGE: usize = 4096;
const MIB: usize = 1 << 20;

/// A machine whose shares have no window, and statistics at its end.
fn without_window<'a>(on: Platform, command: &[&'a str]) -> Vm<'a> {
    on.run(command).option(&["--stats"]).option(windowless(on))
}

/// The options that switch the window off.
fn windowless(on: Platform) -> &'static [&'static str] {
    if on == Platform::Kvm { &["--dax-window", "0"] } else { &[] }
}

/// Says what it sees of a file whenever it is asked: by read(2) and by a mapping, with the descriptor it has, and by a new one.
const WATCHER: &str = r#"
import mmap, os, sys
def look(fd):
    size = os.fstat(fd).st_size
    with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as memory:
        return f'{size} {os.pread(fd, 3, 0).decode()} {memory[:3].decode()} {kept[:3].decode()}'
fd = os.open('f', os.O_RDONLY)
kept = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
for line in sys.stdin:
    new = os.open('f', os.O_RDONLY) if line == 'new\n' else fd
    print(look(new), flush=True)
    sys.exit() if line == 'end\n' else None
"#;

each_platform! {
    fn reading_in_order_takes_few_messages_and_reading_again_none(on) {
        let size = 24 * MIB;
        let folder = data::folder();
        data::random_file(folder.path(), "f", size);
        let turns = |turns: usize| {
            let command = [vec!["/bin/cat"], vec!["f"; turns]].concat();
            let outcome = without_window(on, &command).data(folder.path()).outcome().expect_status(0);
            (figure(&outcome.err(), "READ"), outcome)
        };
        let ((once, _), (thrice, outcome)) = (turns(1), turns(3));
        let block = outcome.err();
        // A megabyte at a time but for the first steps; cat itself and its libraries take a few more.
        assert!((24..=24 + 30).contains(&once), "{once}: {block}");
        assert!(thrice <= once + 3, "{once}, then {thrice}: {block}");
        assert!(figure(&block, "pages read ahead") > (size / PAGE / 2) as u64, "{block}");
        assert!(figure(&block, "hits") >= (3 * size / PAGE) as u64, "{block}");
        assert!(outcome.stdout == fs::read(folder.path().join("f")).unwrap().repeat(3), "not the same bytes");
    }

    fn large_reads_are_kept_the_second_time(on) {
        const READ: &str = "import os, sys\n\
                            for _ in range(int(sys.argv[1])):\n \
                            with open('f', 'rb', buffering=0) as file:\n  \
                            while file.readinto(memoryview(buffer := bytearray(1 << 20))): sys.stdout.buffer.write(buffer)";
        let size = 24 * MIB;
        let folder = data::folder();
        data::random_file(folder.path(), "f", size);
        let [once, twice, thrice] = ["1", "2", "3"].map(|turns| {
            let outcome = without_window(on, &["/usr/bin/python3", "-c", READ, turns]).data(folder.path()).outcome();
            let outcome = outcome.expect_status(0);
            let content = fs::read(folder.path().join("f")).unwrap().repeat(turns.parse().unwrap());
            assert!(outcome.stdout == content, "not the same bytes");
            let block = outcome.err();
            (figure(&block, "READ"), figure(&block, "pages read"), block)
        });
        let pages = (size / PAGE) as u64;
        assert!(once.1 < pages && once.2.contains("bytes read past"), "{}", once.2);
        assert!(twice.0 >= once.0 + 24 && twice.1 >= once.1 + pages, "{} {}", once.2, twice.2);
        assert!(thrice.0 <= twice.0 + 3, "{} {}", twice.2, thrice.2);
    }

    fn reading_here_and_there_brings_what_is_asked_for(on) {
        const READ: &str = "import os; fd = os.open('f', os.O_RDONLY); \
                            [os.pread(fd, 4096, n * 7919 % 6144 * 4096) for n in range(500)]";
        let folder = data::folder();
        data::random_file(folder.path(), "f", 24 * MIB);
        let vm = without_window(on, &["/usr/bin/python3", "-c", READ]).data(folder.path());
        let block = vm.outcome().expect_status(0).err();
        let nothing = without_window(on, &["/usr/bin/python3", "-c", ""]).data(folder.path());
        let pages = figure(&block, "pages read") - figure(&nothing.outcome().expect_status(0).err(), "pages read");
        assert!((480..600).contains(&pages), "{pages}: {block}");
    }

    fn a_page_is_one_page_whoever_looks_at_it(on) {
        same_c_in_own_folders_with(on, "cached_mappings", windowless(on));
    }

    fn stores_reach_the_host_in_every_way_that_they_must(on) {
        for way in ["msync", "fsync", "fdatasync", "munmap", "syncfs", "close", "again", "exit"] {
            let folder = compiled("store", Libc::Glibc);
            let path = data::file(folder.path(), "f", &[b'.'; 300 * PAGE]);
            let mut program = Dialogue::start(without_window(on, &["./store", "f", "300", way]).writable_data(folder.path()));
            let check = |byte| {
                let content = fs::read(&path).unwrap();
                let stored = (0..300).all(|page| content[page * PAGE + page] == byte);
                assert!(stored && content.iter().filter(|other| **other != b'.').count() == 300, "{way}");
            };
            if way != "exit" {
                assert_eq!(program.line(), format!("{way}: ok"));
                check(if way == "again" { b'2' } else { b'1' });
            }
            let block = program.end();
            check(if way == "again" { b'2' } else { b'1' });
            let (pages, messages) = (figure(&block, "pages written back"), figure(&block, "WRITE"));
            // Neighbours go together, and what has not been stored to again does not go again.
            assert_eq!((pages, messages), if way == "again" { (600, 10) } else { (300, 5) }, "{way}: {block}");
        }
    }

    fn what_does_not_fit_into_memory_is_read_and_mapped(on) {
        const READ: &str = r#"
import mmap, os, sys
size, fd = os.stat('f').st_size, os.open('f', os.O_RDONLY)
total = 0
for at in range(0, size, 1 << 20):
    piece = os.pread(fd, 1 << 20, at)
    total += sum(piece[::4096]) + len(piece)
memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ, flags=getattr(mmap, sys.argv[1]))
print(total, sum(memory[::4096]), memory[-9:].hex())
"#;
        let folder = data::folder();
        // Twice what the machine has, on QEMU most of it a hole.
        let path = data::random_file(folder.path(), "f", if on == Platform::Kvm { 128 * MIB } else { 8 * MIB });
        fs::OpenOptions::new().write(true).open(path).unwrap().set_len(128 * MIB as u64 + 77).unwrap();
        for flags in ["MAP_PRIVATE", "MAP_SHARED"] {
            let vm = without_window(on, &["/usr/bin/python3", "-c", READ, flags]).option(&["--memory", "64M"]);
            let vm = vm.data(folder.path());
            let (host, guest) = (vm.on_host(), vm.outcome());
            let block = guest.err();
            assert_eq!((guest.expect_status(0).out(), host.err()), (host.out(), String::new()), "{block}");
            assert!(figure(&block, "pages dropped") > 30_000, "{block}");
        }
    }

    fn what_is_dirty_is_written_when_memory_is_short(on) {
        let folder = compiled("store", Libc::Glibc);
        let pages = 96 * MIB / PAGE;
        let path = folder.path().join("f");
        fs::File::create(&path).unwrap().set_len((pages * PAGE) as u64).unwrap();
        let (memory, number) = (["--memory", "64M"], pages.to_string());
        let vm = without_window(on, &["./store", "f", &number, "exit"]).option(&memory).writable_data(folder.path());
        let block = vm.outcome().expect_status(0).err();
        let content = fs::read(path).unwrap();
        assert!((0..pages).all(|page| content[page * PAGE + page % PAGE] == b'1'), "{block}");
        assert!(figure(&block, "pages dropped") > 5_000, "{block}");
        assert_eq!(figure(&block, "pages written back"), pages as u64, "{block}");
    }

    fn two_shares_do_not_mix_their_pages(on) {
        let [first, second] = ["first", "second"].map(|name| {
            let folder = compiled("store", Libc::Glibc);
            data::file(folder.path(), "f", name.repeat(PAGE).as_bytes());
            folder
        });
        // Stores to one file, which is mapped, and reads both.
        const BOTH: &str = "import mmap, os\n\
            one, two = os.open('/data/f', os.O_RDWR), os.open('/second/f', os.O_RDWR)\n\
            mine, other = mmap.mmap(one, 0), mmap.mmap(two, 0)\n\
            mine[4096:4101] = b'STORE'\n\
            print(mine[:6], other[:6], os.pread(one, 5, 4096), os.pread(two, 5, 4096))\n\
            other[4096:4101] = b'OTHER'\n\
            print(mine[4096:4101], other[4096:4101], os.pread(one, 5, 4096), os.pread(two, 5, 4096))";
        let vm = without_window(on, &["/usr/bin/python3", "-c", BOTH]).writable_data(first.path());
        let outcome = vm.volume(second.path(), "/second").outcome().expect_status(0);
        let lines = ["b'firstf' b'second' b'STORE' b'ndsec'", "b'STORE' b'OTHER' b'STORE' b'OTHER'", ""];
        assert_eq!(outcome.out(), lines.join("\n"));
        let at = |folder: &Path| fs::read(folder.join("f")).unwrap()[PAGE..PAGE + 5].to_vec();
        assert_eq!((at(first.path()), at(second.path())), (b"STORE".to_vec(), b"OTHER".to_vec()));
    }

    fn what_the_host_changes_is_seen_by_the_rule(on) {
        for cache in ["none", "auto", "always"] {
            let folder = data::folder();
            let path = data::file(folder.path(), "f", &[b'a'; 3 * PAGE]);
            let vm = without_window(on, &["/usr/bin/python3", "-uc", WATCHER]).option(&["--cache", cache]);
            let mut program = Dialogue::start(vm.data(folder.path()));
            assert_eq!(program.ask("look"), "12288 aaa aaa aaa");

            change(&path, |file| file.write_all_at(b"bbb", 0).unwrap());
            outlive_beliefs(cache);
            // The mapping that was made before is looked at last: fstat(2) has brought the news by then.
            let seen = if cache == "always" { "12288 aaa aaa aaa" } else { "12288 bbb bbb bbb" };
            assert_eq!(program.ask("look"), seen, "{cache}");

            // Who opens the file sees what was written before that, but for `always`.
            change(&path, |file| file.write_all_at(b"ccc", 0).unwrap());
            let seen = if cache == "always" { "12288 aaa aaa aaa" } else { "12288 ccc ccc ccc" };
            assert_eq!(program.ask("new"), seen, "{cache}");

            change(&path, |file| file.set_len(5000).unwrap());
            outlive_beliefs(cache);
            if cache != "always" {
                assert_eq!(program.ask("look"), "5000 ccc ccc ccc", "{cache}");
                change(&path, |file| file.set_len(20_000).unwrap());
                outlive_beliefs(cache);
                assert_eq!(program.ask("look"), "20000 ccc ccc ccc", "{cache}");
            }
            program.end();
        }
    }

    fn what_the_host_has_cut_off_is_gone_from_mappings(on) {
        const TOUCH: &str = r#"
import mmap, os, sys
fd = os.open('f', os.O_RDONLY)
memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
print(memory[:3], memory[5 * 4096:5 * 4096 + 3], flush=True)
sys.stdin.readline()
print(len(os.pread(fd, 100000, 0)), len(os.pread(fd, 10, 5 * 4096)), memory[:3], flush=True)
memory[5 * 4096]
"#;
        let folder = data::folder();
        let path = data::file(folder.path(), "f", &[b'a'; 6 * PAGE]);
        let vm = without_window(on, &["/usr/bin/python3", "-uc", TOUCH]).option(&["--cache", "none"]);
        let vm = vm.data(folder.path());
        let mut program = Dialogue::start(vm.clone());
        assert_eq!(program.line(), "b'aaa' b'aaa'");
        change(&path, |file| file.set_len(2 * PAGE as u64).unwrap());
        assert_eq!(program.ask("go"), "8192 0 b'aaa'");
        let outcome = vm.finish(program.child).expect_status(128 + 7);
        assert!(outcome.err().contains("SIGBUS"), "{}", outcome.err());
    }

    fn what_the_host_has_no_room_for_is_told_by_fsync_once(on) {
        let folder = compiled("store", Libc::Glibc);
        fs::create_dir(folder.path().join("small")).unwrap();
        // The host's file is a hole on a file system too small for it.
        const SETUP: &str = "mount -t tmpfs -o size=64k none \"$0\" && truncate -s 1M \"$0/f\" && exec \"$@\"";
        let vm = without_window(on, &["/data/store", "/data/small/f", "256", "twice"]).writable_data(folder.path());
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", SETUP]).arg(folder.path().join("small"));
        let run = vm.command();
        command.arg(run.get_program()).args(run.get_args());
        let outcome = vm.finish(vm.watched(command)).expect_status(0);
        assert_eq!(outcome.out(), "first: No space left on device\nsecond: ok\n", "{}", outcome.err());
    }
}
