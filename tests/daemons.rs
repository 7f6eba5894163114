//! The guest's file system with every virtio-fs daemon there is, on QEMU: ours, QEMU's own in C, the virtio-fs project's in
//! Rust; with each rule of caching, and with and without READDIRPLUS.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::data;
use crate::exerciser::exercise;
use crate::observation::figure;
use crate::platform::Platform;
use crate::tools;

/// A daemon, and its own options for listings with attributes and for such without.
struct Daemon {
    program: PathBuf,
    with: &'static str,
    without: &'static str,
}

#[test]
fn our_own() {
    let Some(on) = Platform::Qemu.here() else { return };
    for cache in CACHES {
        works(on, &["--fs-daemon", "builtin", "--cache", cache], cache != "none");
    }
}

#[test]
fn qemus() {
    let Some(program) = tools::here(tools::QEMUS_DAEMON.into()) else { return };
    works_in_every_mode(&Daemon { program, with: "-o readdirplus", without: "-o no_readdirplus" });
}

#[test]
fn upstreams() {
    let Some(program) = tools::here(tools::folder().join("bin/virtiofsd")) else { return };
    works_in_every_mode(&Daemon { program, with: "", without: "--no-readdirplus" });
}

const CACHES: [&str; 3] = ["none", "auto", "always"];

fn works_in_every_mode(daemon: &Daemon) {
    let Some(on) = Platform::Qemu.here() else { return };
    let folder = data::folder();
    let [with, without] = [daemon.with, daemon.without].map(|words| wrapper(folder.path(), &daemon.program, words));
    for cache in CACHES {
        works(on, &["--fs-daemon", &with, "--cache", cache], cache != "none");
        works(on, &["--fs-daemon", &without, "--cache", cache], false);
    }
}

/// A daemon that has `words` on its command line whatever else is there.
fn wrapper(folder: &Path, program: &Path, words: &str) -> String {
    let name = format!("daemon{}", words.replace(' ', "-"));
    let script = format!("#!/bin/sh\nexec {} \"$@\" {words}\n", program.display());
    let path = data::file(folder, &name, script.as_bytes());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.into_os_string().into_string().unwrap()
}

/// Exercises a machine with `options`; `plus` says whether listings come with attributes.
fn works(on: Platform, options: &[&str], plus: bool) {
    exercise(on, options, "script");
    let changes = if options.contains(&"none") { "ask=20" } else { "" };
    exercise(on, options, &format!("random seed=7 operations=300 mappings=private {changes}"));

    let folder = data::folder();
    for inner in ["a", "a/b", "c"].map(|name| folder.path().join(name)) {
        fs::create_dir(&inner).unwrap();
        (0..60).for_each(|number| drop(fs::File::create(inner.join(format!("f{number}"))).unwrap()));
    }
    let find = on.run(&["/usr/bin/find", ".", "-type", "f", "-size", "0"]).option(options).data(folder.path());
    let (mut guest, host) = (find.clone().option(&["--stats"]).outcome(), find.on_host());
    let block = String::from_utf8(std::mem::take(&mut guest.stderr)).unwrap();
    guest.expect_same(&host);
    let listings = ["READDIRPLUS", "READDIR"].map(|name| figure(&block, name) > 0);
    assert_eq!(listings[0], plus, "{options:?}: {block}");
    assert!(listings[0] || listings[1], "{options:?}: {block}");
}
