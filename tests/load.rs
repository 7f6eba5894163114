//! Programs that work files hard: trees that are walked, packed, copied and compiled, many readers in a small window, a
//! database. What they print and what they leave is what they print and leave on the host.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::linux_sources::scripts;
use crate::observation::figure;
use crate::platform::Platform;

each_platform! {
    fn du_counts_what_it_counts_on_the_host(on) { on.same_as_host(&["/usr/bin/du", "-a", &library()]); }

    fn tar_packs_the_same_bytes(on) {
        on.same_as_host(&["/bin/tar", "--create", "--sort=name", "--file=-", "--directory", &library(), "."]);
    }

    fn a_tree_is_copied_from_share_to_share_with_all_it_has(on) {
        let (from, to) = (tree(), data::folder());
        let vm = on.run(&["/bin/cp", "--archive", "/from/tree", "/to"]);
        let vm = vm.volume(from.path(), "/from:ro").volume(to.path(), "/to");
        vm.outcome().expect_status(0).expect_out("");
        assert!(packed(from.path(), "tree") == packed(to.path(), "tree"), "content, names, modes, owners or times differ");
    }

    fn git_sees_no_change_where_there_is_none_and_finds_the_one_there_is(on) {
        let folder = repository();
        let status = ["/usr/bin/env", "git", "-C", "tree", "status", "--porcelain", "--untracked-files=all"];
        let vm = on.run(&status).env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
        let vm = vm.env("GIT_CONFIG_VALUE_0", "*").writable_data(folder.path());
        vm.outcome().expect_status(0).expect_out("");
        data::file(folder.path(), "tree/new", b"file\n");
        fs::write(folder.path().join("tree/__init__.py"), b"changed\n").unwrap();
        // A hard link shows the change under its other name, too.
        vm.outcome().expect_status(0).expect_out(" M __init__.py\n M hard\n?? new\n");
    }

    fn python_compiles_a_tree_into_the_same_files(on) {
        let (here, there) = (tree(), tree());
        let compile = ["/usr/bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "tree"];
        let vm = |folder: &TempDir| on.run(&compile).writable_data(folder.path());
        vm(&here).on_host().expect_status(0);
        vm(&there).outcome().expect_status(0).expect_out("");
        let list = |folder: &TempDir| {
            let mut names: Vec<_> = fs::read_dir(folder.path().join("tree/__pycache__")).unwrap().flatten().collect();
            names.sort_by_key(fs::DirEntry::file_name);
            names.into_iter().map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect::<Vec<_>>()
        };
        assert!(list(&here).len() > 10 && list(&here) == list(&there), "not the same files");
    }

    fn a_database_is_filled_as_on_the_host(on) {
        let rows = if on == Platform::Kvm { "60000" } else { "4000" };
        let command = ["/usr/bin/python3", "sqlite_import.py", rows];
        let run = |on_host: bool| {
            let folder = scripts(&["sqlite_import.py"]);
            let vm = on.run(&command).writable_data(folder.path()).option(windows(on)[0]);
            if on_host { vm.on_host() } else { vm.outcome() }
        };
        run(false).expect_same(&run(true).expect_status(0));
    }

    fn many_readers_find_the_same_bytes_however_small_the_window(on) {
        let folder = tree();
        let readers = scripts(&["readers.py"]);
        fs::copy(readers.path().join("readers.py"), folder.path().join("readers.py")).unwrap();
        let big = if on == Platform::Kvm { 24 << 20 } else { 2 << 20 };
        data::random_file(&folder.path().join("tree"), "big", big);
        let host = on.run(&READERS).data(folder.path()).on_host().expect_status(0);
        for window in windows(on) {
            let vm = on.run(&READERS).data(folder.path()).option(window);
            vm.outcome().expect_same(&host);
            // The statistics are another run's: they must not be in the way of the comparison.
            let block = vm.option(&["--stats"]).outcome().expect_status(0).err();
            let expected = on == Platform::Kvm && !window.contains(&"0");
            assert_eq!(figure(&block, "evictions") > 0, expected, "{window:?}: {block}");
        }
    }
}

const READERS: [&str; 3] = ["/usr/bin/python3", "readers.py", "8"];

/// Windows far smaller than what is read, and none.
fn windows(on: Platform) -> &'static [&'static [&'static str]] {
    match on {
        Platform::Kvm => &[&["--dax-window", "16M", "--dax-io", "window"], &["--dax-window", "0"]],
        Platform::Qemu => &[&[]],
    }
}

/// A tree of some dozen files, some of them compiled, that every Debian with Python has.
fn library() -> String {
    let names = fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path().join("asyncio"));
    let found = names.filter(|path| path.to_string_lossy().contains("/python3.")).find(|path| path.is_dir());
    found.expect("/usr/lib/python3.*/asyncio; .ci/run names the packages that tests need").to_str().unwrap().to_owned()
}

/// A folder with a copy of [`library`] named `tree`, without what Python compiled, and with a link and old times in it.
fn tree() -> TempDir {
    let folder = data::folder();
    let copy = folder.path().join("tree");
    succeed(Command::new("/bin/cp").args(["--archive", &library()]).arg(&copy));
    let _ = fs::remove_dir_all(copy.join("__pycache__"));
    std::os::unix::fs::symlink("__init__.py", copy.join("link")).unwrap();
    fs::hard_link(copy.join("__init__.py"), copy.join("hard")).unwrap();
    folder
}

/// The same as a repository with everything committed, always at the same time, so that the commit has the same name.
pub fn repository() -> TempDir {
    let folder = tree();
    let author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"];
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(folder.path().join("tree")).env("GIT_CONFIG_GLOBAL", "/dev/null").args(author);
        git.env("GIT_AUTHOR_DATE", "2000-01-01T00:00:00Z").env("GIT_COMMITTER_DATE", "2000-01-01T00:00:00Z");
        git
    };
    succeed(git().args(["init", "--quiet"]));
    succeed(git().args(["add", "--all"]));
    succeed(git().args(["commit", "--quiet", "--message", "all"]));
    folder
}

/// What lies at `path` in a folder, as tar has it: names, kinds, owners, modes, times of modification, content.
pub fn packed(folder: &Path, path: &str) -> Vec<u8> {
    let mut tar = Command::new("/bin/tar");
    tar.args(["--create", "--format=posix", "--pax-option=delete=atime,delete=ctime", "--xattrs", "--sort=name"]);
    tar.args(["--file=-", "--directory"]).arg(folder).arg(path);
    succeed(&mut tar)
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
