//! Whole runs, with recorded output in the place of every process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::head::Findings;
use crate::runner::{Failure, Invocation, Output};
use crate::selection::Selection;
use crate::settings::{Amounts, Peers};
use crate::system::Missing;

const FIO: &str = include_str!("../../recorded/randread-4k.json");
const STATS: &str = include_str!("../../recorded/stats.txt");
const NAMES: &str = r#"{"operations_per_s":500000.0,"bytes_per_s":0.0,"operations":1000,"seconds":0.002,
"latency":{"mean_ns":2000.0,"p50_ns":1900,"p95_ns":2500,"p99_ns":3000,"p999_ns":4000,"max_ns":9000}}"#;

/// Answers as programs do, from a record. Each run on the host is a little faster than the one before.
struct Recorded {
    commands: Vec<String>,
    /// Commands that have this in them fail.
    failing: &'static str,
    /// After so many the user stops it.
    patience: usize,
}

impl Default for Recorded {
    fn default() -> Self {
        Self { commands: Vec::new(), failing: "nothing fails", patience: usize::MAX }
    }
}

impl Runner for Recorded {
    fn run(&mut self, invocation: &Invocation) -> Result<Output, Failure> {
        let words: Vec<_> = invocation.command.iter().map(|word| word.to_string_lossy()).collect();
        // What guests are to do is written in files.
        let written = words.iter().filter_map(|word| match word.strip_prefix("init=") {
            Some(script) => fs::read(script).ok(),
            None => fs::read(Path::new(&**word).join("config.json")).or_else(|_| fs::read(&**word)).ok(),
        });
        let written: String = written.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect();
        let command = words.join(" ") + &written.replace(['\'', '"', ',', '\n'], "");
        self.commands.push(command.clone());
        if self.commands.len() > self.patience {
            return Err(Failure::Stopped);
        }
        if command.contains(self.failing) {
            return Ok(Output {
                stdout: String::new(),
                stderr: "diolkos: it broke\n".to_owned(),
                status: 125,
                ..Output::default()
            });
        }
        let version = command.ends_with(" --version").then(|| "a program 1.2\nof somebody".to_owned());
        let machine = words.get(1).is_some_and(|word| word == "run");
        let names = command.contains("open-fstat-close ") || command.contains("stat-files ");
        // Half of what the record says, so that there is a ratio to see.
        let rate = |text: &str| if machine { text.replace("\"iops\" : 3", "\"iops\" : 1") } else { text.to_owned() };
        let printed = version.unwrap_or_else(|| if names { NAMES.replace('\n', "") } else { rate(FIO) });
        // What guests of Linux have around it.
        let console = command.contains("-kernel") || command.contains("con0=");
        let printed = if console { format!("Linux\r\n-- begin\r\n{printed}\n-- end 0\r\n") } else { printed };
        let stderr = if machine { STATS.to_owned() } else { String::new() };
        Ok(Output { stdout: printed, stderr, ..Output::default() })
    }
}

/// A computer with these programs, and /dev/kvm if that is among them.
fn computer(programs: &[&str]) -> (tempfile::TempDir, Finder) {
    let root = tempfile::tempdir().unwrap();
    for program in programs {
        let path = root.path().join(program);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let finder = Finder::below(root.path());
    (root, finder)
}

const EVERYTHING: [&str; 16] = [
    "bin/fio",
    "bin/mkfs.erofs",
    "dev/kvm",
    "bin/qemu-system-x86_64",
    "usr/lib/qemu/virtiofsd",
    "bin/busybox",
    "bin/runsc",
    "bin/linux.uml",
    "boot/vmlinuz-6.1",
    "lib/modules/6.1/kernel/drivers/virtio/virtio_ring.ko",
    "lib/modules/6.1/kernel/drivers/virtio/virtio.ko",
    "lib/modules/6.1/kernel/drivers/virtio/virtio_pci_modern_dev.ko",
    "lib/modules/6.1/kernel/drivers/virtio/virtio_pci_legacy_dev.ko",
    "lib/modules/6.1/kernel/drivers/virtio/virtio_pci.ko",
    "lib/modules/6.1/kernel/fs/fuse/fuse.ko",
    "lib/modules/6.1/kernel/fs/fuse/virtiofs.ko",
];

fn settings(folder: &Path, only: &[&str], rounds: u32) -> Settings {
    let only: Vec<String> = only.iter().map(|word| (*word).to_owned()).collect();
    Settings {
        diolkos: "/bin/true".into(),
        version: "1.0".into(),
        command: vec!["diolkos".into(), "bench".into(), "micro".into()],
        folder: folder.to_owned(),
        selection: Selection::of(&only).unwrap(),
        amounts: Amounts { size: 16 << 20, names: 10, time: Duration::from_secs(1), rounds, ..Amounts::QUICK },
        peers: Peers::default(),
    }
}

fn run(programs: &[&str], only: &[&str], rounds: u32, runner: &mut Recorded) -> Result<(Report, String), Error> {
    let (root, finder) = computer(programs);
    let mut progress = Vec::new();
    let report = measure(&settings(root.path(), only, rounds), &finder, runner, &mut progress);
    let left: Vec<_> = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("bench")), "{left:?}");
    Ok((report?, String::from_utf8(progress).unwrap()))
}

#[test]
fn systems_take_turns_at_every_job_of_every_round() {
    let mut runner = Recorded::default();
    let only = ["host", "dax", "nodax", "randread-4k", "stat-files"];
    let (report, progress) = run(&EVERYTHING, &only, 2, &mut runner).unwrap();
    let order: Vec<_> = report.runs.iter().map(|run| (run.round, run.job.as_str(), run.system.name())).collect();
    let round = |round| {
        let all = |job| ["host", "dax", "nodax"].map(|system| (round, job, system));
        [all("randread-4k"), all("stat-files")].concat()
    };
    assert_eq!(order, [round(1), round(2)].concat());
    assert!(progress.contains("[12/12] round 2, stat-files, nodax: 500 thousand a second"), "{progress}");
    assert!(progress.contains(" left\n"), "{progress}");
    assert!(!report.head.interrupted && !report.has_failures());
}

#[test]
fn figures_are_compared_with_the_hosts_own() {
    let (report, _) =
        run(&EVERYTHING, &["host", "dax", "randread-4k", "stat-files"], 3, &mut Recorded::default()).unwrap();
    let row = |job: &str, kind| report.rows.iter().find(|row| row.job == job && row.system == kind).unwrap();
    let (host, dax) = (row("randread-4k", Kind::Host), row("randread-4k", Kind::Dax));
    assert_eq!((host.runs, host.failed), (3, 0));
    assert_eq!(host.to_host.unwrap().median, 1.0);
    let ratio = dax.operations_per_s.unwrap().median / host.operations_per_s.unwrap().median;
    assert!(ratio < 0.5 && dax.to_host.unwrap().median == ratio, "{ratio}");
    assert_eq!(dax.way.as_deref(), Some("window 221.0 MiB, messages 35.0 MiB"));
    assert_eq!(row("stat-files", Kind::Host).bytes_per_s, None);
    let text = report.table();
    for line in ["one file, warm", "names and attributes", "window 221.0 MiB", "a program 1.2"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(text.lines().any(|line| line.trim() == format!("randread-4k  {ratio:.2}")), "{text}");
}

#[test]
fn each_variant_is_asked_for_by_its_options() {
    let mut runner = Recorded::default();
    let only = [
        "dax",
        "nodax",
        "rofs",
        "ramfs",
        "qemu",
        "randread-4k",
        "randread-4k-x4",
        "write-1m",
        "read-1m-cold",
        "stat-files",
    ];
    let (report, _) = run(&EVERYTHING, &only, 1, &mut runner).unwrap();
    let command = |job: &str, system: Kind| {
        report.runs.iter().find(|run| run.job == job && run.system == system).map(|run| run.command.join(" "))
    };
    let dax = command("randread-4k", Kind::Dax).unwrap();
    assert!(dax.starts_with("/bin/true run --stats ") && dax.contains("--platform kvm"), "{dax}");
    assert!(dax.contains(":ro / ") && !dax.contains("--dax-window"), "{dax}");
    assert!(!command("write-1m", Kind::Dax).unwrap().contains(":ro / "));
    assert!(command("randread-4k", Kind::Nodax).unwrap().contains("--dax-window 0"));
    assert!(command("randread-4k-x4", Kind::Dax).unwrap().contains("--cpus 2") && !dax.contains("--cpus"), "{dax}");
    let rofs = command("read-1m-cold", Kind::Rofs).unwrap();
    assert!(rofs.contains("/images/one.erofs:ro --mount erofs:/dev/vda:/") && rofs.contains("/one / "), "{rofs}");
    assert!(runner.commands.iter().any(|command| command.contains("image build --format erofs -o ")));
    // It cannot be written.
    assert_eq!(command("write-1m", Kind::Rofs), None);
    let ramfs = command("write-1m", Kind::Ramfs).unwrap();
    assert!(ramfs.contains(" stage ") && ramfs.contains(":ro / "), "{ramfs}");
    assert!(ramfs.contains("--filename=/tmp/diolkos-bench/written/data"), "{ramfs}");
    let staged = command("stat-files", Kind::Ramfs).unwrap();
    assert!(staged.contains("stat-files /tmp/diolkos-bench/names 10"), "{staged}");
    // There is nothing cold about files that were just written to memory.
    assert_eq!(command("read-1m-cold", Kind::Ramfs), None);
    let qemu = command("read-1m-cold", Kind::Qemu).unwrap();
    assert!(qemu.contains("--platform qemu") && qemu.contains("/usr/lib/qemu/virtiofsd"), "{qemu}");
}

#[test]
fn an_image_that_cannot_be_made_fails_its_runs_and_no_others() {
    let mut runner = Recorded { failing: "image build", ..Recorded::default() };
    let (report, _) = run(&EVERYTHING, &["dax", "rofs", "read-4k"], 1, &mut runner).unwrap();
    let error = |kind| report.runs.iter().find(|run| run.system == kind).unwrap().error.clone();
    assert_eq!(error(Kind::Dax), None);
    let rofs = error(Kind::Rofs).unwrap();
    assert!(rofs.contains("image build --format erofs") && rofs.ends_with("status 125: diolkos: it broke"), "{rofs}");
}

#[test]
fn peers_do_the_same_in_their_own_way() {
    let mut runner = Recorded::default();
    let only = ["qemu-linux", "gvisor", "uml", "randwrite-4k", "stat-files"];
    let (report, _) = run(&EVERYTHING, &only, 1, &mut runner).unwrap();
    assert!(report.head.systems.iter().all(|member| member.missing.is_none()), "{:?}", report.head.systems);
    assert!(!report.has_failures() && report.runs.len() == 6, "{:?}", report.runs);
    let command = |system: Kind| report.runs.iter().find(|run| run.system == system).unwrap().command.join(" ");
    let linux = command(Kind::QemuLinux);
    assert!(
        linux.contains("boot/vmlinuz-6.1 ") && linux.contains("vhost-user-fs-pci,chardev=files,tag=files"),
        "{linux}"
    );
    assert!(command(Kind::Gvisor).contains(" run --bundle "));
    assert!(command(Kind::Uml).contains("rootfstype=hostfs rootflags=/ ro"));
    // Each is to run the same program on the same files.
    let with = |word: &str| runner.commands.iter().filter(|command| command.contains(word)).count();
    assert_eq!((with("--rw=randwrite"), with("written/data"), with("stat-files ")), (3, 3, 3));
    // Without the host there is nothing to compare with.
    assert!(report.rows.iter().all(|row| row.to_host.is_none()));
}

#[test]
fn charts_are_drawn_of_every_group_that_was_measured() {
    let jobs = ["randread-4k", "many-read-1m-cold", "mmap-read-4k", "write-1m", "read-4k-x4", "stat-files"];
    let only = [&["host", "dax", "gvisor"][..], &jobs].concat();
    let (report, _) = run(&EVERYTHING, &only, 2, &mut Recorded::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    crate::charts::draw(&report, folder.path()).unwrap();
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 2 * jobs.len(), "{names:?}");
    for path in names {
        let bytes = fs::read(&path).unwrap();
        if path.extension().unwrap() == "png" {
            assert!(
                bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.ends_with(b"IEND\xaeB`\x82"),
                "{}",
                path.display()
            );
            // Letters are drawn, and not only bars: those alone have a handful of colours, and would pack better.
            assert!(bytes.len() > 10_000, "{}: {} bytes", path.display(), bytes.len());
        } else {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"), "{}", path.display());
            for word in ["host", "dax", "gvisor", "median, least and greatest of 2 x 1 s"] {
                assert!(text.contains(word), "{}: {word}", path.display());
            }
        }
    }
    let error = crate::charts::draw(&report, &folder.path().join("none")).unwrap_err();
    assert!(error.contains("none/one-file-warm.svg: "), "{error}");
}

#[test]
fn what_is_missing_is_told_with_what_to_do() {
    let (report, progress) = run(&["bin/fio"], &["read-4k"], 1, &mut Recorded::default()).unwrap();
    let missing: Vec<_> = report.head.systems.iter().filter(|member| member.missing.is_some()).collect();
    assert_eq!(missing.len(), Kind::ALL.len() - 1, "all but the host: {missing:?}");
    let text = report.table();
    for member in missing {
        let Missing { why, remedy } = member.missing.as_ref().unwrap();
        assert!(!why.is_empty() && !remedy.is_empty());
        let line = format!("{} is missing: {why}; {remedy}", member.system.name());
        assert!(progress.contains(&line) && text.contains(&format!("MISSING: {why}; {remedy}")), "{line}");
    }
    let (report, _) =
        run(&["bin/fio", "bin/qemu-system-x86_64"], &["host", "qemu", "read-4k"], 1, &mut Recorded::default()).unwrap();
    let why = report.head.systems[1].missing.clone().unwrap();
    assert!(why.why.contains("virtiofsd") && why.remedy.contains("--virtiofsd"), "{why:?}");
}

#[test]
fn without_fio_or_any_system_nothing_is_measured() {
    let error = run(&["dev/kvm"], &["read-4k"], 1, &mut Recorded::default()).unwrap_err();
    assert!(error.to_string().contains("fio is not installed; apt install fio"), "{error}");
    // Its jobs are not the only ones.
    assert!(run(&["dev/kvm"], &["stat-files"], 1, &mut Recorded::default()).unwrap().0.fio.is_none());
    let error = run(&["bin/fio"], &["dax", "read-4k"], 1, &mut Recorded::default()).unwrap_err();
    assert!(error.to_string().contains("dax: ") && error.to_string().contains("dev/kvm"), "{error}");
}

#[test]
fn a_system_that_fails_does_not_end_the_others() {
    let mut runner = Recorded { failing: "--dax-window 0", ..Recorded::default() };
    let (report, progress) = run(&EVERYTHING, &["host", "nodax", "dax", "read-4k"], 2, &mut runner).unwrap();
    assert_eq!(report.runs.len(), 6);
    assert!(report.has_failures());
    let row = report.rows.iter().find(|row| row.system == Kind::Nodax).unwrap();
    assert_eq!((row.runs, row.failed, row.operations_per_s), (0, 2, None));
    assert!(progress.contains("nodax: failed: status 125: diolkos: it broke"), "{progress}");
    assert!(report.table().contains("read-4k on nodax, round 2: status 125: diolkos: it broke"));
}

#[test]
fn the_user_may_stop_it_and_keeps_what_there_is() {
    // One for fio's version, three for runs.
    let mut runner = Recorded { patience: 4, ..Recorded::default() };
    let (report, _) = run(&EVERYTHING, &["host", "dax", "read-*"], 1, &mut runner).unwrap();
    assert!(report.head.interrupted && report.runs.len() == 3);
    assert!(report.table().contains("stopped before the end"));
    let mut runner = Recorded { patience: 1, ..Recorded::default() };
    assert!(matches!(run(&EVERYTHING, &["host", "read-4k"], 1, &mut runner), Err(Error::Stopped)));
}

#[test]
fn the_json_holds_everything() {
    let (report, _) = run(&EVERYTHING, &["host", "dax", "read-4k"], 1, &mut Recorded::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    report.write_json(&path).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(json["schema"], SCHEMA);
    assert_eq!(json["amounts"]["time_s"], 1.0);
    assert!(json["machine"]["cores"].as_u64().unwrap() >= 1);
    let run = json["runs"].as_array().unwrap().iter().find(|run| run["system"] == "dax").unwrap();
    assert_eq!(run["stats"]["share 'volume1', as used"]["window bytes read"], "221.0 MiB");
    assert!(run["figures"]["latency"]["p99_ns"].as_u64().unwrap() > 0);
    assert!(json["rows"][0]["operations_per_s"]["median"].as_f64().unwrap() > 0.0);
}

#[test]
fn what_was_measured_on_a_busy_computer_is_marked() {
    let (mut report, _) = run(&EVERYTHING, &["host", "read-4k"], 1, &mut Recorded::default()).unwrap();
    for (disturbed, marks) in [(true, 2), (false, 0)] {
        report.runs[0].disturbed = disturbed;
        report.rows[0].disturbed = usize::from(disturbed);
        // In the row and in the note.
        assert_eq!(report.table().matches('*').count(), marks, "{}", report.table());
    }
}
