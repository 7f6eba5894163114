//! Mistakes on the command line: one line that names what is wrong, status 125, and nothing started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::outcome::Outcome;
use crate::vm::diolkos;

/// Runs diolkos with `words` and expects one line on stderr that holds all of `expected`.
fn refused(words: &[&str], expected: &[&str]) {
    let mut command = diolkos();
    command.args(words);
    finish(command).expect_status(125).expect_line(expected).expect_out("");
}

fn finish(mut command: Command) -> Outcome {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Outcome::of(command.spawn().unwrap(), Duration::from_secs(20))
}

#[test]
fn commands_and_options_that_do_not_exist() {
    refused(&[], &["diolkos run --help"]);
    refused(&["walk"], &["'walk'"]);
    refused(&["run"], &["<ROOT>", "<PROGRAM>"]);
    refused(&["run", "/"], &["<PROGRAM>"]);
    refused(&["run", "--colour", "/", "ls"], &["--colour"]);
}

#[test]
fn what_cannot_be_served() {
    refused(&["serve", "/"], &["--socket", "diolkos serve --help"]);
    refused(&["serve", "--socket", "/tmp/a", "--fd", "3", "/"], &["--socket", "--fd"]);
    refused(&["serve", "--fd", "1000", "/"], &["--fd 1000"]);
    refused(&["serve", "--socket", "/no/such/place", "/"], &["--socket /no/such/place", "No such file"]);
    refused(&["serve", "--socket", "/etc/passwd", "/"], &["--socket /etc/passwd", "in use"]);
    refused(&["serve", "--socket", "/tmp/a", "/no/such/directory"], &["/no/such/directory", "no such directory"]);
    refused(&["serve", "--socket", "/tmp/a", "/etc/passwd"], &["/etc/passwd", "not a directory"]);
    refused(&["serve", "--socket", "/tmp/a", "--tag", &"x".repeat(37), "/"], &["tag", "36"]);
    refused(&["serve", "--socket", "/tmp/a", "--dax-window", "3M", "/"], &["--dax-window 3M", "multiple"]);
}

#[test]
fn daemons_that_are_none() {
    refused(&["run", "--platform", "qemu", "--fs-daemon", "/no/such", "/", "ls"], &["--fs-daemon /no/such"]);
    refused(
        &["run", "--platform", "qemu", "--fs-daemon", "/bin/true", "/", "ls"],
        &["--fs-daemon /bin/true", "virtiofsd"],
    );
}

#[test]
fn directories_that_cannot_be_shared() {
    refused(&["run", "/no/such/directory", "ls"], &["/no/such/directory", "no such directory"]);
    refused(&["run", "/etc/passwd", "ls"], &["/etc/passwd", "not a directory"]);
    refused(&["run", "--volume", "/no/such:/data", "/", "ls"], &["--volume /no/such", "no such directory"]);
    refused(&["run", "--volume", "/etc/passwd:/data", "/", "ls"], &["--volume /etc/passwd", "not a directory"]);
}

#[test]
fn a_directory_that_cannot_be_read() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let secret = place.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        // Root can read everything, so somebody else must try, with a copy that they can reach.
        let copy = place.path().join("diolkos");
        fs::copy(env!("CARGO_BIN_EXE_diolkos"), &copy).unwrap();
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(copy);
        command
    } else {
        diolkos()
    };
    command.arg("run").arg(&secret).arg("ls");
    finish(command).expect_status(125).expect_line(&["secret", "permission denied"]);
}

#[test]
fn volumes_that_make_no_sense() {
    refused(&["run", "--volume", "/etc", "/", "ls"], &["--volume", "HOST:GUEST"]);
    refused(&["run", "--volume", "/etc:data", "/", "ls"], &["--volume", "start with '/'"]);
    refused(&["run", "--volume", "/etc:/", "/", "ls"], &["--volume", "DIR"]);
    refused(&["run", "--volume", "/etc:/a", "--volume", "/usr:/a/", "/", "ls"], &["--volume", "/a"]);
    refused(&["run", "--volume", "/etc:/a:readonly", "/", "ls"], &["--volume", "'readonly'", "dax=SIZE"]);
    refused(&["run", "--volume", "/etc:/a:ro:dax=3M", "/", "ls"], &["--volume /etc:/a:dax=3M", "multiple"]);
}

#[test]
fn sizes_that_cannot_work() {
    refused(&["run", "--memory", "1M", "/", "ls"], &["--memory 1M", "64M"]);
    refused(&["run", "--memory", "lots", "/", "ls"], &["--memory", "lots"]);
    refused(&["run", "--memory", "999999999G", "/", "ls"], &["--memory"]);
    refused(&["run", "--dax-window", "1M", "/", "ls"], &["--dax-window 1M", "2M"]);
    refused(&["run", "--dax-window", "3M", "/", "ls"], &["--dax-window 3M", "multiple"]);
    refused(&["run", "--dax-window", "100000T", "/", "ls"], &["--dax-window", "too large"]);
}

#[test]
fn names_that_are_not_on_the_list() {
    refused(&["run", "--dax-policy", "best", "/", "ls"], &["--dax-policy", "best", "clock"]);
    refused(&["run", "--cache", "some", "/", "ls"], &["--cache", "some", "auto"]);
    refused(&["run", "--platform", "xen", "/", "ls"], &["--platform", "xen", "qemu"]);
    refused(&["run", "--trace", "syscalls,all", "/", "ls"], &["--trace", "all", "fuse"]);
}

#[test]
fn paths_and_variables_that_cannot_be_used() {
    refused(&["run", "--workdir", "home", "/", "ls"], &["--workdir home", "start with '/'"]);
    refused(&["run", "--env", "=x", "/", "ls"], &["--env"]);
    refused(&["run", "--env", "SURELY_NOT_SET_ANYWHERE", "/", "ls"], &["--env SURELY_NOT_SET_ANYWHERE"]);
}

#[test]
fn a_missing_hypervisor_is_named_with_its_package() {
    let mut command = diolkos();
    command.args(["run", "--platform", "qemu", "/", "ls"]).env("PATH", "/no/such/directory");
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let outcome = Outcome::of(command.spawn().unwrap(), Duration::from_secs(20));
    outcome.expect_status(125).expect_line(&["--platform qemu", "qemu-system-x86"]);
}

#[test]
fn help_and_version_are_no_mistakes() {
    for (words, expected) in
        [(&["--help"][..], "Examples:"), (&["run", "--help"], "Exit status:"), (&["--version"], "diolkos ")]
    {
        let output = diolkos().args(words).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains(expected) && output.stderr.is_empty(), "{words:?}: {text}");
    }
}
