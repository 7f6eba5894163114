//! Machines with several processors.

use crate::data;
use crate::each_platform;
use crate::linux_sources::{Libc, compiled};
use crate::observation::figure;
use std::path::Path;

/// What a program can ask the machine of its processors, in one line.
const DESCRIPTION: &str = r#"
import os
cpus = range(os.cpu_count())
lines = open("/proc/cpuinfo").read().splitlines()
listed = [line.split()[2] for line in lines if line.startswith("processor")]
online = open("/sys/devices/system/cpu/online").read().strip()
packages = {open(f"/sys/devices/system/cpu/cpu{cpu}/topology/package_cpus_list").read().strip() for cpu in cpus}
told = [line.split()[0] for line in open("/proc/stat") if line.startswith("cpu")]
moved = []
for cpu in cpus:
    os.sched_setaffinity(0, {cpu})
    moved.append(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[36])
print(len(cpus), *listed, online, *packages, *told, *moved)
"#;

/// 8 MiB of words, each its own offset: what `processors.c` reads and maps.
fn offsets(folder: &Path) {
    let bytes: Vec<u8> = (0u64..8 << 20).step_by(8).flat_map(u64::to_le_bytes).collect();
    data::file(folder, "offsets", &bytes);
}

each_platform! {
    fn threads_run_at_once_and_see_what_others_do(on) {
        let folder = compiled("processors", Libc::Glibc);
        offsets(folder.path());
        let vm = on.run(&["./processors", "2", "50", "offsets"]).data(folder.path()).option(&["--cpus", "2", "--stats"]);
        let outcome = vm.outcome().expect_status(0);
        for what in ["shootdowns", "steals"] {
            assert!(figure(&outcome.err(), what) > 0, "{what}: {}", outcome.err());
        }
        // Only what is in a window is read without the kernel lock.
        assert_eq!(figure(&outcome.err(), "unlocked") > 0, on == Platform::Kvm, "{}", outcome.err());
    }

    fn more_processors_than_threads_idle(on) {
        let folder = compiled("processors", Libc::Glibc);
        offsets(folder.path());
        on.run(&["./processors", "5", "10", "offsets"]).data(folder.path()).option(&["--cpus", "5"]).outcome().expect_status(0);
    }

    fn programs_are_told_of_all_processors(on) {
        let run = |count| on.run(&["/usr/bin/python3", "-c", DESCRIPTION]).option(&["--cpus", count]).outcome();
        run("1").expect_out("1 0 0 0 cpu cpu0 0\n");
        run("3").expect_out("3 0 1 2 0-2 0-2 cpu cpu0 cpu1 cpu2 0 1 2\n");
    }

    fn a_program_ends_with_threads_on_other_processors(on) {
        // The end of one thread by a signal ends them all, wherever they are.
        let script = "import os, signal, threading, time\n\
                      def spin():\n    while True: pass\n\
                      [threading.Thread(target=spin, daemon=True).start() for _ in range(3)]\n\
                      time.sleep(0.05)\n\
                      os.kill(os.getpid(), signal.SIGTERM)\n\
                      while True: pass";
        let outcome = on.run(&["/usr/bin/python3", "-c", script]).option(&["--cpus", "2"]).outcome();
        outcome.expect_status(128 + 15);
        // And another program can take its place.
        on.run(&["/bin/sh", "-c", "exec /usr/bin/nproc"]).option(&["--cpus", "2"]).outcome().expect_out("2\n");
    }
}

#[test]
fn a_small_window_serves_all_processors() {
    let Some(on) = crate::platform::Platform::Kvm.here() else { return };
    let folder = compiled("processors", Libc::Glibc);
    offsets(folder.path());
    for window in ["4M", "0"] {
        let options = ["--cpus", "2", "--dax-window", window, "--dax-io", "window"];
        let vm = on.run(&["./processors", "2", "20", "offsets"]).data(folder.path());
        vm.option(&options[..if window == "0" { 4 } else { 6 }]).outcome().expect_status(0);
    }
}

#[test]
fn an_emulated_processor_does_not_say_that_it_copies_bytes_fast() {
    let Some(on) = crate::platform::Platform::Qemu.here() else { return };
    // Where QEMU uses KVM the processor is the host's.
    if std::fs::read_to_string("/proc/cpuinfo").unwrap().split_whitespace().any(|flag| matches!(flag, "vmx" | "svm")) {
        return; // an emulated processor is what this is about
    }
    on.run(&["/bin/grep", "-c", "-w", "erms", "/proc/cpuinfo"]).outcome().expect_out("0\n").expect_status(1);
}
