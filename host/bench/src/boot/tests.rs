//! Whole runs, with invented processes.

use std::fs;

use super::*;
use crate::head::Findings;
use crate::runner::{Failure, Invocation, Output};

/// Programs that start, each faster than the one before, but for those with `failing` in their command.
struct Invented {
    commands: Vec<String>,
    failing: &'static str,
    stop_after: usize,
}

impl Runner for Invented {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, Failure> {
        let words: Vec<_> = invocation.command.iter().map(|word| word.to_string_lossy()).collect();
        self.commands.push(words.join(" "));
        if self.commands.len() > self.stop_after {
            return Err(Failure::Stopped);
        }
        if words.get(1).is_some_and(|word| word == "image") {
            let at = words.iter().position(|word| word == "-o").unwrap() + 1;
            fs::write(&*words[at], "").unwrap();
        }
        let machine = words.get(1).is_some_and(|word| word == "run");
        let took = if machine { 40 } else { 10 };
        let stats = "diolkos: statistics of x on kvm\n  time since the command began, and since the line before\n    \
                     program's first instruction      12.50 ms     0.53  |  =  |\n";
        let fails = self.commands.last().is_some_and(|command| command.contains(self.failing));
        Ok(Output {
            stdout: if fails { "no" } else { "started\n" }.to_owned(),
            stderr: if machine { stats } else { "" }.to_owned(),
            status: 0,
            elapsed: Duration::from_millis(took),
        })
    }
}

fn run(only: &[&str], programs: &[&str], runner: &mut Invented) -> Result<(BootReport, String), Error> {
    let root = tempfile::tempdir().unwrap();
    for program in programs {
        let path = root.path().join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let only: Vec<_> = only.iter().map(|word| (*word).to_owned()).collect();
    let (systems, programs) = select(&only).unwrap();
    let settings = BootSettings {
        diolkos: "/bin/true".into(),
        version: "1.0".into(),
        command: vec!["diolkos".into(), "bench".into(), "boot".into()],
        folder: root.path().to_owned(),
        systems,
        programs,
        rounds: 2,
        peers: Peers::default(),
    };
    let mut progress = Vec::new();
    let report = measure(&settings, &Finder::below(root.path()), runner, &mut progress)?;
    Ok((report, String::from_utf8(progress).unwrap()))
}

fn invented() -> Invented {
    Invented { commands: Vec::new(), failing: "nothing fails", stop_after: usize::MAX }
}

const ALL: [&str; 6] = ["bin/true", "usr/bin/python3", "bin/java", "bin/javac", "bin/mkfs.erofs", "dev/kvm"];

#[test]
fn systems_take_turns_at_every_program_of_every_round() {
    let mut runner = invented();
    let (report, progress) = run(&["host", "dax", "nodax", "true", "python"], &ALL, &mut runner).unwrap();
    // One start of each program before.
    assert_eq!(runner.commands.len(), 2 + 2 * 2 * 3, "{:?}", runner.commands);
    assert!(runner.commands[3].contains(" run ") && runner.commands[4].contains("--dax-window 0"));
    assert!(!runner.commands[3].contains("--volume"), "{:?}", runner.commands);
    let row = report.rows.iter().find(|row| (row.program, row.system) == (Program::Python, Kind::Dax)).unwrap();
    assert_eq!((row.runs, row.ms.unwrap().median, row.to_host.unwrap().median), (2, 40.0, 4.0));
    assert_eq!(row.first_instruction_ms.unwrap().median, 12.5);
    assert!(progress.contains("round 2, python, nodax: 40.0 ms"), "{progress}");
    let text = report.table();
    assert!(text.contains("Python prints a word") && text.contains("12.5"), "{text}");
    assert!(serde_json::to_string(&report).unwrap().contains(r#""schema":"diolkos-bench-boot/1""#));
}

#[test]
fn images_are_made_of_what_programs_use_before_the_clock_runs() {
    let mut runner = invented();
    let (report, _) = run(&["host", "rofs", "ramfs", "true"], &ALL, &mut runner).unwrap();
    assert!(!report.has_failures(), "{:?}", report.runs);
    // One start before, a trace and two images once, and then two rounds.
    let short = |command: &String| command.split(' ').take(3).collect::<Vec<_>>()[1..].join(" ");
    let order: Vec<_> = runner.commands.iter().filter(|command| command.contains(' ')).map(short).collect();
    let (trace, build, start) = ("run --trace", "image build", "run --stats");
    assert_eq!(order, [trace, build, start, build, start, start, start], "{:?}", runner.commands);
    let command = |system| report.runs.iter().rfind(|run| run.system == system).unwrap().command.join(" ");
    let (rofs, ramfs) = (command(Kind::Rofs), command(Kind::Ramfs));
    assert!(rofs.contains("/images/true.erofs ") && rofs.ends_with("/bin/true"), "{rofs}");
    assert!(ramfs.contains("/images/true.cpio "), "{ramfs}");
}

#[test]
fn what_is_missing_and_what_fails_is_told() {
    let mut runner = Invented { failing: "print('started')", ..invented() };
    let (report, progress) = run(&["host", "dax", "python", "web", "java"], &ALL[..5], &mut runner).unwrap();
    assert!(progress.contains("dax is missing: ") && progress.contains("web is missing: "), "{progress}");
    assert!(report.has_failures());
    let text = report.table();
    assert!(text.contains("MISSING: ") && text.contains("apt install libspring-core-java"), "{text}");
    assert!(text.contains("failed: python on host, round 1: it printed 'no'"), "{text}");
    assert!(runner.commands[0].contains("javac --release 8"), "{:?}", runner.commands);
}

#[test]
fn the_user_can_stop_it_at_any_time() {
    for stop_after in [0, 1, 2, 3] {
        let mut runner = Invented { stop_after, ..invented() };
        match run(&["host", "true"], &ALL, &mut runner) {
            Err(Error::Stopped) => assert!(stop_after < 2),
            Ok((report, _)) => {
                assert_eq!((report.head.interrupted, report.runs.len()), (stop_after < 3, stop_after - 1))
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_word_that_names_nothing_is_refused() {
    let error = select(&["host".into(), "speed".into()]).unwrap_err();
    assert!(error.starts_with("--only speed: ") && error.contains("qemu-linux") && error.contains("web"), "{error}");
}
