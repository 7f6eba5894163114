//! Signals to diolkos itself: they reach the program, which may handle them; a machine that heeds none is stopped; and
//! nothing stays behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::each_platform;
use crate::linux_sources::scripts;
use crate::outcome::Outcome;
use crate::platform::Platform;

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
fn stop_with(on: Platform, signal: Signal, status: i32) {
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

fn send(to: &Child, signal: Signal) {
    kill_process(Pid::from_child(to), signal).unwrap();
}

/// The program's lines, one by one, from the pipe that is its stdout.
fn lines(child: &mut Child) -> impl FnMut() -> String + use<> {
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    move || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

each_platform! {
    fn signals_reach_the_programs_handlers(on) {
        let folder = scripts(&["host_signals.py"]);
        let mut child = on.run(&["/usr/bin/python3", "host_signals.py"]).data(folder.path()).start();
        let mut line = lines(&mut child);
        assert_eq!(line(), "ready");
        for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::HUP, "SIGHUP"), (Signal::TERM, "SIGTERM")] {
            send(&child, signal);
            assert_eq!(line(), format!("handled {name} from 0"));
        }
        send(&child, Signal::USR1);
        assert_eq!(line(), "waited for SIGUSR1 from 0");
        // Ignored by the program: the next one finds it alive.
        send(&child, Signal::QUIT);
        send(&child, Signal::USR2);
        assert_eq!(line(), "read SIGUSR2 from 0");
        send(&child, Signal::INT);
        assert_eq!(line(), "interrupted");
        let outcome = Outcome::of(child, on.patience()).expect_status(7);
        assert_eq!(outcome.err(), "");
    }

    fn a_signal_at_any_moment_of_the_start_ends_the_run(on) {
        for milliseconds in [0, 1, 3, 6, 10, 15, 20, 30, 60, 100] {
            let child = on.run(&["/bin/sleep", "100"]).start();
            thread::sleep(Duration::from_millis(milliseconds));
            send(&child, Signal::TERM);
            // Until env(1) has become diolkos it is env that dies, by the signal itself: the same status here.
            let outcome = Outcome::of(child, on.patience()).expect_status(143);
            assert_eq!(outcome.err(), "", "after {milliseconds} ms");
        }
    }

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
