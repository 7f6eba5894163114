//! Writing over a share that stays as it is (`--overlay`, `:overlay`): programs find what they would find in a copy of the
//! directory, and afterwards the host's directory is what it was, byte for byte.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::linux_sources::scripts;
use crate::load::{packed, repository};
use crate::observation::figure;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::vm::{Vm, diolkos};

const PYTHON: &str = "/usr/bin/python3";

/// Runs `vm` with an overlay over `folder`, which must be the same afterwards.
fn over(vm: Vm<'_>, folder: &Path) -> Outcome {
    let before = packed(folder, ".");
    let outcome = vm.overlaid_data(folder).outcome();
    assert!(packed(folder, ".") == before, "the host's directory has changed");
    outcome
}

/// Runs a command on the host in a folder that `make` makes, and in the machine over another such folder.
fn as_in_a_copy(on: Platform, command: &[&str], options: &[&str], make: impl Fn() -> TempDir) {
    let host = on.run(command).writable_data(make().path()).on_host().expect_status(0);
    over(on.run(command).option(options), make().path()).expect_same(&host);
}

/// A folder with a script and a tree for it to change.
fn tree() -> TempDir {
    let folder = scripts(&["check.py", "overlay.py"]);
    let tree = folder.path().join("tree");
    for inner in ["d/deep", "moved", "empty", "many"] {
        fs::create_dir_all(tree.join(inner)).unwrap();
    }
    let big: Vec<u8> = (0..3_000_123_u32).flat_map(|i| (i ^ i >> 7).to_le_bytes()).take(3_000_123).collect();
    data::file(&tree, "big", &big);
    fs::hard_link(tree.join("big"), tree.join("hard")).unwrap();
    symlink("big", tree.join("link to big")).unwrap();
    for name in ["small", "cut", "d/x", "d/y", "d/deep/z"] {
        data::file(&tree, name, name.repeat(3).as_bytes());
    }
    fs::set_permissions(tree.join("small"), fs::Permissions::from_mode(0o640)).unwrap();
    rustix::fs::setxattr(tree.join("small"), "user.colour", b"red", rustix::fs::XattrFlags::empty()).unwrap();
    for index in 0..300 {
        data::file(&tree, &format!("many/n{index}"), b"");
    }
    folder
}

/// Runs the script inside its tree.
const IN_TREE: [&str; 4] =
    [PYTHON, "-B", "-c", "import os, sys; sys.path.insert(0, os.getcwd()); os.chdir('tree'); import overlay"];

/// With a window, without one, and with one too small for the files.
fn windows(on: Platform) -> &'static [&'static [&'static str]] {
    match on {
        Platform::Kvm => &[&[], &["--dax-window", "4M", "--dax-io", "window"], &["--dax-window", "0"]],
        Platform::Qemu => &[&[]],
    }
}

each_platform! {
    fn whatever_a_program_does_to_a_tree_is_as_in_a_copy(on) {
        for options in windows(on) {
            as_in_a_copy(on, &IN_TREE, options, tree);
        }
    }

    fn git_works_in_a_repository(on) {
        let changed = || {
            let folder = repository();
            data::file(folder.path(), "tree/new", b"file\n");
            fs::write(folder.path().join("tree/__init__.py"), b"changed\n").unwrap();
            folder
        };
        let author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-c", "safe.directory=*"];
        let git = [&["/usr/bin/env", "git", "-C", "tree"], &author[..], &["-c", "maintenance.auto=false"]].concat();
        for words in [
            &["init", "other"][..],
            &["add", "--verbose", "--all"],
            &["commit", "--all", "--message", "more", "--date", "2001-01-01T00:00:00Z"],
            &["rm", "--quiet", "--force", "-r", "."],
            &["status", "--porcelain"],
        ] {
            let command = [&git, words].concat();
            let vm = || {
                let vm = on.run(&command).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
                // What a commit is called depends on its time.
                vm.env("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z")
            };
            let (here, there) = (changed(), changed());
            let host = vm().writable_data(here.path()).on_host().expect_status(0);
            let mut guest = over(vm(), there.path()).expect_status(0);
            if words[0] == "init" {
                // It tells the place, which is another one.
                guest.stdout = guest.out().replace("/data/", &format!("{}/", here.path().display())).into();
            }
            guest.expect_same(&host);
        }
    }

    fn python_keeps_its_bytecode_beside_the_modules(on) {
        let make = || {
            let folder = data::folder();
            data::file(folder.path(), "module.py", b"value = 42\n");
            folder
        };
        let script = "import sys; sys.path.insert(0, ''); import module, os; print(module.value, os.listdir('__pycache__'))";
        as_in_a_copy(on, &[PYTHON, "-c", script], &[], make);
    }

    fn a_database_is_filled(on) {
        let rows = if on == Platform::Kvm { "20000" } else { "2000" };
        as_in_a_copy(on, &[PYTHON, "-B", "sqlite_import.py", rows], &[], || scripts(&["sqlite_import.py"]));
    }

    fn a_database_that_is_there_is_changed(on) {
        let make = || {
            let folder = data::folder();
            let mut sqlite = Command::new("/usr/bin/sqlite3");
            sqlite.arg(folder.path().join("db")).arg("create table t (n, text); \
                with recursive c(n) as (select 1 union all select n + 1 from c where n < 20000) \
                insert into t select n, hex(n * n) from c;");
            assert!(sqlite.status().unwrap().success());
            folder
        };
        for journal in ["delete", "wal"] {
            let sql = format!("pragma journal_mode = {journal}; update t set text = text || '!' where n % 7 = 0; \
                               select count(*), sum(length(text)) from t; pragma integrity_check;");
            as_in_a_copy(on, &["/usr/bin/sqlite3", "db", &sql], &[], make);
        }
    }

    fn file_names_and_contents(on) {
        for script in ["file_names.py", "file_contents.py"] {
            as_in_a_copy(on, &[PYTHON, "-B", script, "."], &[], || scripts(&["check.py", script]));
        }
    }

    fn the_root_can_be_written_everywhere(on) {
        let script = "import os\n\
            for name in ('/etc/diolkos-test', '/usr/bin/diolkos-test', '/new'):\n\
            \x20 with open(name, 'x') as file: file.write(name)\n\
            \x20 print(open(name).read(), os.stat(name).st_dev == os.stat('/').st_dev)\n\
            os.rename('/usr/share', '/usr/shared'); print(os.path.exists('/usr/share'), os.path.isdir('/usr/shared/doc'))\n\
            open('/etc/passwd', 'a').write('nobody2:x:1:1::/:/bin/false\\n'); print(open('/etc/passwd').read()[-8:])\n\
            print(os.access('/etc', os.W_OK), os.statvfs('/').f_flag & 1, [line.split()[2] for line in open('/proc/mounts') if line.split()[1] == '/'])";
        let passwd = fs::read("/etc/passwd").unwrap();
        let outcome = on.run(&[PYTHON, "-c", script]).option(&["--overlay"]).outcome().expect_status(0);
        outcome.expect_out(
            "/etc/diolkos-test True\n/usr/bin/diolkos-test True\n/new True\nFalse True\nn/false\n\nTrue 0 ['overlay']\n",
        );
        for name in ["/etc/diolkos-test", "/usr/bin/diolkos-test", "/new"] {
            assert!(!Path::new(name).exists(), "{name} is on the host");
        }
        assert!(fs::read("/etc/passwd").unwrap() == passwd && Path::new("/usr/share").exists());
    }

    fn reading_costs_what_it_costs_without_an_overlay(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "big", 24 << 20);
        let command = ["/usr/bin/sha256sum", "big"];
        for options in windows(on) {
            let run = |mode: &str| {
                let vm = on.run(&command).option(options).option(&["--stats", "--workdir", "/data"]);
                vm.volume(folder.path(), &format!("/data:{mode}")).outcome().expect_status(0)
            };
            let (plain, overlaid) = (run("ro"), run("overlay"));
            assert_eq!(plain.out(), overlaid.out());
            // What comes by message and what through a window is a matter of prices, which are learned from the clock.
            let read = (on == Platform::Qemu || !options.is_empty()).then_some("READ");
            for label in read.into_iter().chain(["LOOKUP", "OPEN", "GETATTR", "SETUPMAPPING", "mappings", "evictions"]) {
                let [plain, overlaid] = [&plain, &overlaid].map(|outcome| figure(&outcome.err(), label));
                // Attributes that are believed for a second may be asked for once more or less.
                assert!(plain.abs_diff(overlaid) <= 2, "{options:?}: {label}: {plain}, {overlaid} over an overlay");
            }
        }
    }

    fn a_byte_of_a_file_larger_than_memory_is_changed(on) {
        let folder = data::folder();
        let size = on.big_file();
        let path = data::random_file(folder.path(), "big", size);
        let script = "import os\nf = os.open('big', os.O_RDWR)\nos.pwrite(f, b'diolkos', 12345678)\nos.execv('/usr/bin/sha256sum', ['sha256sum', 'big'])";
        let memory = if on == Platform::Kvm { "192M" } else { "128M" };
        let guest = over(on.run(&[PYTHON, "-c", script]).option(&["--memory", memory]), folder.path()).expect_status(0);
        OpenOptions::new().write(true).open(&path).unwrap().write_all_at(b"diolkos", 12_345_678).unwrap();
        on.run(&["/usr/bin/sha256sum", "big"]).data(folder.path()).on_host().expect_status(0).expect_out(&guest.out());
    }

    fn full_memory_is_an_error_that_goes_away(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "lower", 100 << 20);
        let script = "import os, errno\n\
            def fill(name):\n\
            \x20 f = os.open(name, os.O_RDWR | os.O_CREAT)\n\
            \x20 at = 0\n\
            \x20 try:\n\
            \x20   while True: at += os.pwrite(f, b'x' * 100000, at)\n\
            \x20 except OSError as e: print(name, errno.errorcode[e.errno], at > 10000000, os.fstat(f).st_size >= at)\n\
            \x20 os.close(f)\n\
            fill('new'); free = os.statvfs('.').f_bfree\n\
            try: os.mkdir('d'); os.write(os.open('d/f', os.O_CREAT | os.O_WRONLY), b'x')\n\
            except OSError as e: print(errno.errorcode[e.errno])\n\
            f = open('lower', 'rb'); print(free, sum(map(len, iter(lambda: f.read(1 << 20), b''))))\n\
            os.unlink('new'); print(os.statvfs('.').f_bfree > 2000)\n\
            fill('lower'); print(os.stat('lower').st_size)\n\
            os.truncate('lower', 5); print(open('lower').read(), os.statvfs('.').f_bfree > 2000)";
        let outcome = over(on.run(&[PYTHON, "-c", script]).option(&["--memory", "128M"]), folder.path()).expect_status(0);
        outcome.expect_out(&format!(
            "new ENOSPC True True\nENOSPC\n0 {size}\nTrue\nlower ENOSPC True True\n{size}\nxxxxx True\n",
            size = 100 << 20
        ));
    }

    fn far_more_files_than_descriptors_are_changed(on) {
        let folder = data::folder();
        let files = if on == Platform::Kvm { 2000 } else { 1000 };
        for number in 0..files {
            data::file(folder.path(), &format!("f{number:04}"), b"lower");
        }
        let before = packed(folder.path(), ".");
        let script = "import os\n\
            for i, name in enumerate(sorted(os.listdir('.'))):\n\
            \x20 if i % 2: os.chmod(name, 0o600)\n\
            \x20 else: os.rename(name, 'r' + name)\n\
            names = os.listdir('.')\n\
            print(len(names), sum(os.stat(name).st_mode & 0o777 == 0o600 for name in names))\n\
            print({open(name).read() for name in names})";
        let vm = on.run(&[PYTHON, "-c", script]).overlaid_data(folder.path());
        let (run, mut command) = (vm.command(), Command::new("/usr/bin/prlimit"));
        command.arg("--nofile=300:300").arg(run.get_program()).args(run.get_args());
        let outcome = Outcome::of(vm.watched(command), on.patience()).expect_status(0);
        outcome.expect_out(&format!("{files} {}\n{{'lower'}}\n", files / 2));
        assert!(packed(folder.path(), ".") == before, "the host's directory has changed");
    }

    fn what_was_not_changed_follows_the_host(on) {
        let folder = data::folder();
        let (kept, followed) = (data::file(folder.path(), "kept", b"old"), data::file(folder.path(), "followed", b"old"));
        data::file(folder.path(), "gone", b"old");
        let script = "import os, sys\n\
            def tell(): print([(name, open(name).read()) for name in sorted(os.listdir('.'))], flush=True)\n\
            open('kept', 'a').write('+'); os.unlink('gone'); open('mine', 'w').write('mine'); tell()\n\
            sys.stdin.readline(); tell()";
        let vm = on.run(&[PYTHON, "-c", script]).option(&["--cache", "none"]).overlaid_data(folder.path());
        let mut child = vm.start();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "[('followed', 'old'), ('kept', 'old+'), ('mine', 'mine')]\n");
        for path in [&kept, &followed] {
            fs::write(path, b"new").unwrap();
        }
        for name in ["gone", "mine", "added"] {
            data::file(folder.path(), name, b"host's");
        }
        to.write_all(b"\n").unwrap();
        line.clear();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "[('added', \"host's\"), ('followed', 'new'), ('kept', 'old+'), ('mine', 'mine')]\n");
        drop(to);
        Outcome::of(child, on.patience()).expect_status(0);
    }

    fn a_changed_file_that_the_host_cuts_ends_there(on) {
        let folder = data::folder();
        let path = data::file(folder.path(), "big", &vec![b'b'; 8 << 20]);
        let script = "import mmap, os, sys\n\
            f = os.open('big', os.O_RDWR); m = mmap.mmap(f, 0, prot=mmap.PROT_READ)\n\
            os.pwrite(f, b'!', 6 << 20); print(m[5 << 20], flush=True)\n\
            sys.stdin.readline()\n\
            print(len(os.pread(f, 4 << 20, 1 << 20)), os.pread(f, 1, 6 << 20), m[6 << 20], os.fstat(f).st_size)\n\
            try: os.pwrite(f, b'!', 4 << 20)\n\
            except OSError as e: print(e.errno, flush=True)\n\
            m[3 << 20]; print('not here')";
        let vm = on.run(&[PYTHON, "-c", script]).option(&["--cache", "none"]).overlaid_data(folder.path());
        let mut child = vm.start();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "98\n");
        OpenOptions::new().write(true).open(&path).unwrap().set_len(2 << 20).unwrap();
        to.write_all(b"\n").unwrap();
        let mut rest = String::new();
        from.read_line(&mut rest).unwrap();
        from.read_line(&mut rest).unwrap();
        assert_eq!(rest, format!("{} b'!' 33 {}\n5\n", 1 << 20, 8 << 20));
        drop(to);
        Outcome::of(child, on.patience()).expect_status(128 + 7);
    }
}

#[test]
fn an_overlay_and_writing_to_the_host_exclude_each_other() {
    let folder = data::folder();
    let volume = format!("{}:/data:rw:overlay", folder.path().display());
    for (words, expected) in
        [(&["--rw", "--overlay"][..], &["--rw", "--overlay"][..]), (&["--volume", &volume], &["--volume", "overlay"])]
    {
        let mut command = diolkos();
        command.arg("run").args(words).args(["/", "/bin/true"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let outcome = Outcome::of(command.spawn().unwrap(), Duration::from_secs(20));
        outcome.expect_status(125).expect_line(expected).expect_out("");
    }
}
