//! File operations by the thousand (`programs/exerciser`): the program keeps a model of what must be in its directory
//! and compares each result with it; what it prints must be the same in the machine as on the host. `cargo xtask
//! exercise` runs it longer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::observation::figure;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::vm::Vm;

each_platform! {
    fn each_call_gives_what_it_gives_on_the_host(on) {
        for options in windows(on) {
            exercise(on, options, "script");
        }
    }

    fn a_random_sequence_keeps_to_the_model(on) {
        let operations = if on == Platform::Kvm { 10_000 } else { 1500 };
        for (seed, options) in windows(on).iter().enumerate() {
            let words = format!("random seed={seed} operations={operations} {}", mappings(on, options));
            let block = exercise(on, options, &words);
            // The files do not fit into the window, so pieces of them took turns.
            let small = options.contains(&"16M");
            assert_eq!(figure(&block, "evictions") > 0, small, "{options:?}: {block}");
        }
    }

    fn an_overlay_keeps_to_the_model(on) {
        let operations = if on == Platform::Kvm { 10_000 } else { 1500 };
        for options in windows(on) {
            for words in [&format!("random seed=3 operations={operations}"), "script"] {
                exercise_in(on, options, words, |vm, folder| vm.overlaid_data(folder));
            }
        }
    }

    fn changes_by_the_host_are_seen_at_once_without_a_cache(on) {
        let operations = if on == Platform::Kvm { 4000 } else { 600 };
        for (seed, options) in windows(on).iter().enumerate() {
            let options = [*options, &["--cache", "none"]].concat();
            let words = format!("random seed={seed} operations={operations} ask=20 {}", mappings_of_others(on, &options));
            exercise(on, &options, &words);
        }
    }

    fn changes_by_the_host_are_seen_after_the_time_the_cache_has(on) {
        for options in windows(on) {
            // Attributes and names are believed for a second.
            let words = format!("random seed=5 operations=400 ask=80 wait=1100 {}", mappings_of_others(on, options));
            exercise(on, options, &words);
        }
    }

    fn threads_with_files_of_their_own_do_not_disturb_each_other(on) {
        let operations = if on == Platform::Kvm { 8000 } else { 1000 };
        for options in windows(on) {
            exercise(on, options, &format!("files operations={operations} {}", mappings(on, options)));
        }
    }

    fn threads_on_regions_of_one_file_do_not_disturb_each_other(on) {
        let operations = if on == Platform::Kvm { 8000 } else { 1000 };
        for options in windows(on) {
            exercise(on, options, &format!("regions operations={operations} {}", mappings(on, options)));
        }
    }
}

/// What is written back by one queue is not read past it by another.
#[test]
fn threads_on_two_processors_do_not_disturb_each_other_without_a_window() {
    let Some(on) = Platform::Kvm.here() else { return };
    exercise(on, &["--dax-window", "0", "--cpus", "2"], "regions operations=8000 mappings=writable");
}

/// Small windows of both policies, through which all goes that can, so that pieces take turns; and none.
fn windows(on: Platform) -> &'static [&'static [&'static str]] {
    match on {
        Platform::Kvm => &[
            &["--dax-window", "16M", "--dax-io", "window", "--dax-policy", "clock"],
            &["--dax-window", "16M", "--dax-io", "window", "--dax-policy", "lifo"],
            &["--dax-window", "0"],
        ],
        Platform::Qemu => &[&[]],
    }
}

/// The window that sizes go by, if there is one. Mappings of all kinds are tried either way.
fn mappings(on: Platform, options: &[&str]) -> &'static str {
    if without_window(on, options) { "mappings=writable" } else { "window=16777216" }
}

/// The same where the host changes files: shared mappings without a window show that only when a call has brought the news.
fn mappings_of_others(on: Platform, options: &[&str]) -> &'static str {
    if without_window(on, options) { "mappings=private" } else { "window=16777216" }
}

fn without_window(on: Platform, options: &[&str]) -> bool {
    on == Platform::Qemu || options.contains(&"0")
}

/// Runs the program with `words` on the host, and with `options` in a machine, in an empty directory each. Returns the
/// machine's statistics.
pub fn exercise(on: Platform, options: &[&str], words: &str) -> String {
    exercise_in(on, options, words, |vm, folder| vm.writable_data(folder))
}

/// The same, with the machine's directory shared as `share` says.
fn exercise_in(on: Platform, options: &[&str], words: &str, share: impl for<'a> Fn(Vm<'a>, &Path) -> Vm<'a>) -> String {
    let text = format!("cd work && exec ../exerciser {words}");
    let command = ["/bin/sh", "-c", &text];
    let (here, there) = (folder(), folder());
    let mut shell = Command::new(command[0]);
    shell.args(&command[1..]).current_dir(here.path());
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let vm = share(on.run(&command).option(options).option(&["--stats"]), there.path());

    let host = answered(shell.spawn().unwrap(), here.path(), on).expect_status(0);
    let mut guest = answered(vm.start(), there.path(), on);
    let block = std::mem::take(&mut guest.stderr);
    guest.expect_same(&host);
    String::from_utf8_lossy(&block).into_owned()
}

/// The end of a program, whose requests for changes by the host are served meanwhile in its directory.
fn answered(mut child: Child, folder: &Path, on: Platform) -> Outcome {
    let mut server = Command::new(folder.join("exerciser"));
    server.arg("answer").arg(folder.join("work"));
    server.stdin(child.stdout.take().unwrap()).stdout(child.stdin.take().unwrap()).stderr(Stdio::piped());
    let output = server.spawn().unwrap().wait_with_output().unwrap();
    let outcome = Outcome::of(child, on.patience());
    // What is no request is passed on.
    Outcome { stdout: output.stderr, ..outcome }
}

/// A folder with the program and an empty directory for it to work in.
fn folder() -> TempDir {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    let folder = data::folder();
    let path = data::file(folder.path(), "exerciser", PROGRAM.get_or_init(compile));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(folder.path().join("work")).unwrap();
    folder
}

fn compile() -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs/exerciser");
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let files = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()).filter(is_c);
    let folder = data::folder();
    let path = folder.path().join("exerciser");
    let mut compiler = Command::new("musl-gcc");
    compiler.args(["-static", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&path).args(files).arg("-lpthread");
    let output = compiler.output().expect("musl-gcc starts; .ci/run names the packages that tests need");
    assert!(output.status.success(), "musl-gcc: {}", String::from_utf8_lossy(&output.stderr));
    fs::read(path).unwrap()
}
