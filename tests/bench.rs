//! `diolkos bench micro`: that it measures what it says, and leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::data;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::tools;
use crate::vm::diolkos;

const PATIENCE: Duration = Duration::from_secs(120);

/// A folder for the files, if fio and KVM are here.
fn folder() -> Option<TempDir> {
    Platform::Kvm.here()?;
    tools::here(PathBuf::from("/usr/bin/fio"))?;
    Some(data::folder())
}

fn start(folder: &Path, only: &str) -> Child {
    let mut command = diolkos();
    command.args(["bench", "micro", "--quick", "--size", "16M", "--time", "0.05", "--only", only]);
    command.arg("--dir").arg(folder).arg("--json").arg(json(folder)).arg("--charts").arg(folder.join("charts"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn json(folder: &Path) -> PathBuf {
    folder.join("report.json")
}

/// How many folders of the benchmark's own are left.
fn left(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("diolkos-bench-")).count()
}

#[test]
fn it_tells_how_fast_files_are_and_which_way_they_came() {
    let Some(folder) = folder() else { return };
    let jobs = "randread-4k,many-read-1m-cold,mmap-read-4k,write-4k,open-fstat-close,stat-files";
    let outcome = Outcome::of(start(folder.path(), &format!("host,dax,nodax,rofs,{jobs}")), PATIENCE).expect_status(0);
    let (table, progress) = (outcome.out(), outcome.err());
    assert_eq!(progress.lines().filter(|line| line.starts_with('[')).count(), 23, "{progress}");
    let row = |job: &str, system: &str| {
        let lines = table.lines().skip_while(|line| line.split_whitespace().next() != Some(job));
        let named = |line: &&str| line.split_whitespace().take(2).any(|word| word == system);
        lines.take(4).find(named).unwrap_or_else(|| panic!("no {job} by {system}: {table}"))
    };
    for job in jobs.split(',') {
        for system in ["host", "dax", "nodax"] {
            assert!(!row(job, system).contains("failed"), "{table}");
        }
    }
    for job in jobs.split(',').filter(|job| *job != "write-4k") {
        assert!(!row(job, "rofs").contains("failed"), "{table}");
    }
    assert!(row("many-read-1m-cold", "rofs").contains("disk "), "{table}");
    assert!(row("randread-4k", "dax").contains("window "), "{table}");
    assert!(row("mmap-read-4k", "dax").contains("mapped pages "), "{table}");
    assert!(row("write-4k", "dax").contains("window "), "{table}");
    assert!(row("randread-4k", "nodax").contains("messages ") && !row("randread-4k", "nodax").contains("window "));
    assert!(std::fs::read_to_string(json(folder.path())).unwrap().contains("\"diolkos-bench-micro/1\""));
    for group in ["one-file-warm", "many-files-cold", "one-file-mapped", "writes", "names-and-attributes"] {
        for kind in ["svg", "png"] {
            assert!(folder.path().join(format!("charts/{group}.{kind}")).is_file(), "{group}.{kind}");
        }
    }
    assert_eq!(left(folder.path()), 0);
}

#[test]
fn it_tells_how_long_programs_take_to_start() {
    let Some(on) = Platform::Kvm.here() else { return };
    assert_eq!(on.option(), "kvm");
    let web = "/usr/share/java/tomcat9-catalina.jar";
    let Some(_) = tools::here(PathBuf::from(web)) else { return };
    // Not below /tmp, as a build may be: that is memory in a guest.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let mut command = diolkos();
    command.args(["bench", "boot", "--only", "host,dax,nodax,rofs,ramfs", "--repeat", "1", "--dir"]).arg(folder.path());
    command.arg("--json").arg(json(folder.path())).arg("--charts").arg(folder.path().join("charts"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let outcome = Outcome::of(command.spawn().unwrap(), PATIENCE).expect_status(0);
    let (table, progress) = (outcome.out(), outcome.err());
    for program in ["true", "python", "java", "web"] {
        for system in ["host", "dax", "nodax", "rofs", "ramfs"] {
            let start = format!("round 1, {program}, {system}: ");
            assert!(progress.lines().any(|line| line.starts_with(&start) && line.ends_with(" ms")), "{progress}");
        }
        assert!(folder.path().join(format!("charts/start-{program}.svg")).is_file(), "{program}");
    }
    assert!(table.contains("first instruction") && !table.contains("failed"), "{table}");
    assert!(std::fs::read_to_string(json(folder.path())).unwrap().contains("\"diolkos-bench-boot/1\""));
    assert_eq!(left(folder.path()), 0);
}

#[test]
fn starts_that_cannot_be_measured_are_refused_by_name() {
    let run = |words: &[&str]| {
        let mut command = diolkos();
        command.args(["bench", "boot", "--only", "host,true"]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Outcome::of(command.spawn().unwrap(), PATIENCE).expect_status(125)
    };
    run(&["--only", "speed"]).expect_line(&["--only speed", "python", "nodax"]);
    run(&["--repeat", "0"]).expect_line(&["--repeat"]);
    run(&["--dir", "/tmp"]).expect_line(&["--dir /tmp", "memory in a guest"]);
    run(&["--dir", "/nonexistent"]).expect_line(&["--dir /nonexistent", "No such file"]);
}

#[test]
fn it_can_be_stopped_and_leaves_nothing() {
    let Some(folder) = folder() else { return };
    let mut child = start(folder.path(), "host,dax");
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // The second run is the first machine's; it is under way or about to start.
    while !line.starts_with("[1/") {
        line.clear();
        assert_ne!(progress.read_line(&mut line).unwrap(), 0, "it ended by itself");
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let outcome = Outcome::of(child, PATIENCE).expect_status(143);
    assert!(outcome.out().contains("stopped before the end"), "{}", outcome.out());
    assert_eq!(left(folder.path()), 0);
}

#[test]
fn what_cannot_be_measured_is_refused_by_name() {
    let folder = data::folder();
    let run = |words: &[&str]| {
        let mut command = diolkos();
        command.args(["bench", "micro", "--only", "host,stat-files", "--dir"]).arg(folder.path()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Outcome::of(command.spawn().unwrap(), PATIENCE).expect_status(125)
    };
    run(&["--only", "speed"]).expect_line(&["--only speed", "read-4k", "nodax"]);
    run(&["--size", "5"]).expect_line(&["--size"]);
    run(&["--repeat", "0"]).expect_line(&["--repeat"]);
    run(&["--time", "much"]).expect_line(&["--time"]);
    run(&["--json", "/nonexistent/x"]).expect_line(&["--json /nonexistent/x", "No such file"]);
    let mut command = diolkos();
    command.args(["bench", "micro", "--quick", "--only", "host,stat-files", "--dir", "/nonexistent/x"]);
    let output = Outcome::of(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap(), PATIENCE);
    let error = output.expect_status(125).err();
    assert!(error.contains("diolkos: /nonexistent/x: No such file"), "{error}");
}
