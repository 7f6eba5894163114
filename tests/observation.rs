//! --stats, --trace and --verbose: that they tell the truth.

use crate::data;
use crate::each_platform;
use crate::platform::Platform;

/// The number beside `label` in a block of --stats; 0 if it is not shown.
pub fn figure(block: &str, label: &str) -> u64 {
    let row = block.lines().find_map(|line| line.strip_prefix("    ")?.strip_prefix(label)?.strip_prefix(' '));
    row.map_or(0, |row| row.trim().replace(',', "").parse().unwrap_or_else(|_| panic!("{label}: {row}")))
}

/// sha256sum of a file of `size` bytes, and its statistics.
fn statistics(on: Platform, size: usize, window: &[&str]) -> String {
    let folder = data::folder();
    data::random_file(folder.path(), "big", size);
    let vm = on.run(&["/usr/bin/sha256sum", "big"]).data(folder.path()).option(&["--stats"]).option(window);
    vm.outcome().expect_status(0).err()
}

const SIZE: usize = 32 << 20;

#[test]
fn bytes_come_through_the_window_when_there_is_one() {
    let Some(on) = Platform::Kvm.here() else { return };
    for policy in ["clock", "lifo"] {
        for (window, evictions) in [("2G", false), ("16M", true)] {
            let options = ["--dax-window", window, "--dax-policy", policy, "--dax-io", "window"];
            let block = statistics(on, SIZE, &options);
            assert!(figure(&block, "mappings") >= (SIZE >> 21) as u64, "{block}");
            // A scan: chunks come several by one message.
            let messages = figure(&block, "SETUPMAPPING");
            assert_eq!(messages, figure(&block, "mappings") - figure(&block, "ahead"), "{block}");
            assert_eq!(figure(&block, "evictions") > 0, evictions, "{policy}, {window}: {block}");
            // A message may still fetch a tail or a small file, not the contents.
            assert!(figure(&block, "READ") <= 8, "{block}");
        }
    }
}

#[test]
fn a_window_smaller_than_the_program_is_enough() {
    let Some(on) = Platform::Kvm.here() else { return };
    for policy in ["clock", "lifo"] {
        for window in ["2M", "4M", "8M"] {
            let vm = on.run(&["/usr/bin/python3", "-c", "import json, zlib; print(json.dumps([1, 2]))"]);
            vm.option(&["--dax-window", window, "--dax-policy", policy]).same_as_host();
        }
    }
}

/// Reads 4 KiB at a time by 2,000 messages in each of so many threads, each on a processor of its own; the statistics.
fn read_by_messages(on: Platform, threads: usize) -> String {
    const READ: &str = "\
import os, sys, threading
def read(cpu):
    os.sched_setaffinity(0, {cpu})
    file = os.open('big', os.O_RDONLY)
    for i in range(2000):
        assert len(os.pread(file, 4096, i * 4096)) == 4096
threads = [threading.Thread(target=read, args=(cpu,)) for cpu in range(int(sys.argv[1]))]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    let threads = threads.to_string();
    let folder = data::folder();
    data::random_file(folder.path(), "big", 8 << 20);
    let vm = on.run(&["/usr/bin/python3", "-c", READ, &threads]).data(folder.path());
    let vm = vm.option(&["--stats", "--cache", "none", "--cpus", &threads]);
    let window: &[&str] = if on == Platform::Kvm { &["--dax-window", "0"] } else { &[] };
    vm.option(window).outcome().expect_status(0).err()
}

each_platform! {
    fn a_reply_that_comes_soon_takes_neither_an_interrupt_nor_a_sleep(on) {
        let block = read_by_messages(on, 1);
        let (found, slept) = (figure(&block, "replies looked for"), figure(&block, "replies slept for"));
        assert!(figure(&block, "READ") >= 2000 && found + slept >= 2000, "{block}");
        assert_eq!(found + slept + figure(&block, "posted"), figure(&block, "queue 1"), "{block}");
        // How soon is soon is the host's affair: under emulation it seldom is.
        if on == Platform::Kvm {
            assert!(found > slept / 4, "{block}");
        }
        // The other interrupts are those of the start and of the time: few.
        assert!(figure(&block, "interrupts") < slept + found / 4 + 200, "{block}");
    }

    fn every_processor_has_a_queue_for_its_requests(on) {
        let block = read_by_messages(on, 2);
        for queue in ["queue 1", "queue 2"] {
            assert!(figure(&block, queue) >= 1500, "{queue}: {block}");
        }
    }

    fn bytes_come_by_messages_when_there_is_no_window(on) {
        let block = statistics(on, SIZE, if on == Platform::Kvm { &["--dax-window", "0"] } else { &[] });
        assert!(figure(&block, "READ") >= (SIZE >> 20) as u64, "{block}");
        assert_eq!(figure(&block, "mappings"), 0, "{block}");
        assert!(block.contains("off ("), "{block}");
    }

    fn statistics_tell_the_story_in_order(on) {
        let block = on.run(&["/bin/true"]).option(&["--stats"]).outcome().expect_status(0).err();
        let mut last = 0.0;
        for moment in ["kernel entered", "shares mounted", "program's first instruction", "program ended", "machine gone"] {
            let line = block.lines().find(|line| line.trim().starts_with(moment)).unwrap_or_else(|| panic!("{moment}: {block}"));
            let time: f64 = line.trim()[moment.len()..].split(" ms").next().unwrap().trim().parse().unwrap();
            assert!(time >= last, "{moment}: {block}");
            last = time;
        }
        assert!(figure(&block, "LOOKUP") > 0, "{block}");
    }

    fn a_trace_shows_calls_and_requests(on) {
        let outcome = on.run(&["/bin/true"]).option(&["--trace", "syscalls,fuse"]).outcome().expect_status(0);
        for word in ["exit_group(", "openat(", "LOOKUP"] {
            assert!(outcome.err().contains(word), "no {word}: {}", outcome.err());
        }
    }

    fn silence_is_the_default(on) { assert_eq!(on.run(&["/bin/true"]).outcome().expect_status(0).err(), ""); }

    fn verbose_names_the_platform(on) {
        let outcome = on.run(&["/bin/true"]).option(&["--verbose"]).outcome().expect_status(0);
        assert!(outcome.err().contains(&format!("diolkos: platform: {}", on.option())), "{}", outcome.err());
    }
}

/// An exit costs tens of microseconds on a nested host, and start-up had 225 of them once.
#[test]
fn start_up_leaves_the_guest_seldom() {
    let Some(on) = Platform::Kvm.here() else { return };
    let block = on.run(&["/bin/true"]).option(&["--stats"]).outcome().expect_status(0).err();
    assert!(figure(&block, "register_write") <= 70, "{block}");
    assert!(figure(&block, "register writes that were none") >= 80, "{block}");
}

#[test]
fn a_platform_without_a_window_says_so_if_one_was_asked_for() {
    let Some(on) = Platform::Qemu.here() else { return };
    let outcome = on.run(&["/bin/true"]).option(&["--dax-window", "16M"]).outcome().expect_status(0);
    outcome.expect_line(&["warning: --dax-window"]);
}
