//! The programs of `tests/programs`, copied or compiled into a folder of a test's own and run on both sides.
//!
//! They print a line per check, the same everywhere, and end with a status of their own: 0 if all checks held. So a
//! wrong expectation shows on the host, a wrong answer of the machine as a difference.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::data;
use crate::platform::Platform;

/// The C library of a compiled program, and with it how the program is linked.
#[derive(Debug, Clone, Copy)]
pub enum Libc {
    /// Dynamically, as most programs are.
    Glibc,
    /// Into a static PIE.
    Musl,
}

/// A folder with program `name` of `name.c`.
pub fn compiled(name: &str, libc: Libc) -> TempDir {
    let folder = data::folder();
    copy("check.h", folder.path());
    copy("stress.h", folder.path());
    let source = fs::read_to_string(source(&format!("{name}.c"))).unwrap();
    let (compiler, flags): (_, &[&str]) = match libc {
        Libc::Glibc => ("gcc", &["-lpthread"]),
        Libc::Musl => ("musl-gcc", &["-static-pie", "-fPIE"]),
    };
    data::compile(folder.path(), name, compiler, flags, &source);
    folder
}

/// Compiles `name.c` and runs it on both sides with every C library.
pub fn same_c(on: Platform, name: &str) {
    for libc in [Libc::Glibc, Libc::Musl] {
        let folder = compiled(name, libc);
        on.run(&[&format!("./{name}")]).data(folder.path()).same_as_host().expect_status(0);
    }
}

/// The same for a program that changes its working directory: each side has one of its own.
pub fn same_c_in_own_folders(on: Platform, name: &str) {
    same_c_in_own_folders_with(on, name, &[]);
}

/// The same with `options` for the machine.
pub fn same_c_in_own_folders_with(on: Platform, name: &str, options: &[&str]) {
    for libc in [Libc::Glibc, Libc::Musl] {
        let folders = [compiled(name, libc), compiled(name, libc)];
        let command = [&*format!("./{name}")];
        let [host, guest] = folders.each_ref().map(|folder| on.run(&command).writable_data(folder.path()));
        let host = host.on_host().expect_status(0);
        guest.option(options).outcome().expect_same(&host);
    }
}

/// The same, in the machine over a folder that stays as it is.
pub fn same_c_on_an_overlay(on: Platform, name: &str) {
    let folders = [compiled(name, Libc::Glibc), compiled(name, Libc::Glibc)];
    let command = [&*format!("./{name}")];
    let host = on.run(&command).writable_data(folders[0].path()).on_host().expect_status(0);
    on.run(&command).overlaid_data(folders[1].path()).outcome().expect_same(&host);
}

/// The same in memory: below /dev/shm on the host, in /tmp in the machine.
pub fn same_c_in_memory(on: Platform, name: &str) {
    let folder = compiled(name, Libc::Glibc);
    let shm = data::folder_in_memory();
    let run = |program: &Path, work: &Path| {
        let script = format!("cd {} && exec {}", work.display(), program.display());
        let vm = on.run(&["/bin/sh", "-c", &script]).data(folder.path());
        if work == shm.path() { vm.on_host() } else { vm.outcome() }
    };
    let host = run(&folder.path().join(name), shm.path()).expect_status(0);
    run(&Path::new("/data").join(name), Path::new("/tmp")).expect_same(&host);
}

/// A folder with copies of the scripts `names`.
pub fn scripts(names: &[&str]) -> TempDir {
    let folder = data::folder();
    names.iter().for_each(|name| copy(name, folder.path()));
    folder
}

fn copy(name: &str, folder: &Path) {
    let from = source(name);
    fs::copy(&from, folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/programs").join(name)
}
