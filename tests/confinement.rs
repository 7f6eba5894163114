//! The process that serves a guest confines itself before the guest's first instruction: the machine's own on KVM, each share's
//! daemon on QEMU. (What that keeps it from is tested where it is done, in `host/vmm/src/confine`.)

use std::fs;
use std::io::{BufRead, BufReader};

use crate::each_platform;
use crate::outcome::Outcome;
use crate::platform::Platform;

#[test]
fn verbose_tells_how_the_machine_is_confined() {
    let Some(on) = Platform::Kvm.here() else { return };
    let outcome = on.run(&["/bin/true"]).option(&["--verbose"]).outcome().expect_status(0);
    assert!(outcome.err().contains("diolkos: confinement: no new privileges, "), "{}", outcome.err());
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).unwrap();
    let children = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let children: String = children.collect::<Vec<_>>().join(" ");
    children.split_whitespace().map(|child| child.parse().unwrap()).collect()
}

/// Those of them that are `diolkos serve`.
fn daemons(parent: u32) -> Vec<u32> {
    let serves = |child: &u32| fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap().contains("\0serve\0");
    children(parent).into_iter().filter(serves).collect()
}

/// A field of /proc/PID/status.
fn field(status: &str, name: &str) -> String {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
}

/// Looks at every thread of `process`, and returns how many there are.
fn expect_confined(process: u32) -> usize {
    let mut threads = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let value = |name: &str| field(&status, name);
        let thread = value("Name:");
        assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".into(), "2".into()), "{thread}");
        // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, of root; nothing, of a user.
        let capabilities = u64::from_str_radix(&value("CapPrm:"), 16).unwrap();
        assert_eq!(capabilities & !0b110, 0, "{thread}");
        threads += 1;
    }
    threads
}

#[test]
fn who_keeps_the_machine_can_only_wait_and_goes_when_we_are_gone() {
    let Some(on) = Platform::Kvm.here() else { return };
    let mut child = on.run(&["/bin/sh", "-c", "echo ready; read line"]).start();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut String::new()).unwrap();
    let keeper = *children(child.id()).first().expect("there is a keeper");
    let status = || fs::read_to_string(format!("/proc/{keeper}/status"));
    let seen = status().unwrap();
    let value = |name: &str| field(&seen, name);
    assert_eq!(
        (value("Name:"), value("NoNewPrivs:"), value("Seccomp:")),
        ("diolkos-keeper".into(), "1".into(), "2".into())
    );
    assert_eq!((value("CapPrm:"), value("CapEff:")), ("0".repeat(16), "0".repeat(16)));
    // All but SIGKILL and SIGSTOP, which nobody can block, and two of the C library's own.
    assert_eq!(u64::from_str_radix(&value("SigBlk:"), 16).unwrap() | 0x1_8004_0100, u64::MAX);
    // However we end.
    child.kill().unwrap();
    child.wait().unwrap();
    let gone = || status().map_or(true, |status| field(&status, "State:").starts_with('Z'));
    let began = std::time::Instant::now();
    while !gone() {
        assert!(began.elapsed() < on.patience(), "the keeper is still there: {}", status().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

each_platform! {
    fn every_thread_that_serves_a_guest_is_confined(on) {
        let mut child = on.run(&["/bin/sh", "-c", "echo ready; read line"]).start();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let (serving, fewest) = match on {
            Platform::Kvm => (vec![child.id()], 5),
            // The one that hears the front-end, the one that hears signals, and one for each queue.
            Platform::Qemu => (daemons(child.id()), 4),
        };
        assert_eq!(serving.len(), 1, "one process serves the one share");
        let threads = expect_confined(serving[0]);
        assert!(threads >= fewest, "{threads} threads");
        drop(child.stdin.take());
        Outcome::of(child, on.patience()).expect_status(1);
    }

    fn a_signal_that_comes_early_ends_the_run(on) {
        use rustix::process::{Pid, Signal, kill_process};
        for pause in [0, 1, 3, 10, 30] {
            let child = on.run(&["/bin/sleep", "20"]).start();
            std::thread::sleep(std::time::Duration::from_millis(pause));
            kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
            // Before the handlers are there the signal kills, as it kills anybody: the same status for a shell.
            Outcome::of(child, on.patience()).expect_status(143);
        }
    }
}
