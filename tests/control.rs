//! Signals to diolkos itself: the machine stops, and nothing stays behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::each_platform;
use crate::outcome::Outcome;

/// Processes whose environment has `mark`, which children inherit.
fn marked(mark: &str) -> Vec<String> {
    let has_mark = |folder: &fs::DirEntry| {
        fs::read(folder.path().join("environ"))
            .is_ok_and(|text| text.split(|b| *b == 0).any(|entry| entry == mark.as_bytes()))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().filter(has_mark);
    processes.map(|folder| fs::read_to_string(folder.path().join("comm")).unwrap_or_default()).collect()
}

/// Starts a program that waits for ever and, once it runs, sends `signal` to diolkos.
fn stop_with(on: crate::platform::Platform, signal: Signal, status: i32) {
    let mark = format!("DIOLKOS_TEST_MARK={}-{on:?}-{}", std::process::id(), signal.as_raw());
    let (key, value) = mark.split_once('=').unwrap();
    let mut command = on.run(&["/bin/sh", "-c", "echo ready; read line"]).command();
    command.env(key, value);
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let _stdin = child.stdin.take();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    let start = Instant::now();
    kill_process(Pid::from_child(&child), signal).unwrap();
    let outcome = Outcome::of(child, Duration::from_secs(20)).expect_status(status);
    assert_eq!(outcome.err(), "");
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    gone(&mark);
}

/// Waits a moment for the last of them; the kernel kills orphans in its own time.
fn gone(mark: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !marked(mark).is_empty() {
        assert!(Instant::now() < deadline, "left behind: {:?}", marked(mark));
        std::thread::sleep(Duration::from_millis(10));
    }
}

each_platform! {
    fn ctrl_c_stops_the_machine(on) { stop_with(on, Signal::INT, 130); }

    fn sigterm_stops_the_machine(on) { stop_with(on, Signal::TERM, 143); }

    fn a_hangup_stops_the_machine(on) { stop_with(on, Signal::HUP, 129); }

    fn even_sigkill_leaves_nothing_behind(on) { stop_with(on, Signal::KILL, 137); }

    fn a_blocked_output_does_not_hold_the_machine(on) {
        let mut child = on.run(&["/usr/bin/yes"]).start();
        let stdout = child.stdout.take().unwrap();
        let mut reader = BufReader::with_capacity(16, stdout);
        reader.read_line(&mut String::new()).unwrap();
        // Nobody reads on, and the pipe stays open: it fills.
        std::thread::sleep(Duration::from_millis(300));
        let start = Instant::now();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        Outcome::of(child, Duration::from_secs(20)).expect_status(143);
        assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    }
}
