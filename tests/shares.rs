//! The root, the volumes, what may be written, and where and with what environment a program starts.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};

use crate::data;
use crate::each_platform;
use crate::outcome::Outcome;

each_platform! {
    fn the_root_is_read_only(on) {
        let root = data::folder();
        data::file(root.path(), "kept", b"as it was\n");
        data::compile(root.path(), "try", "gcc", &["-static"], TRY_TO_CHANGE);
        let outcome = on.run(&["/try", "kept"]).root(root.path()).outcome().expect_status(0);
        assert_eq!(outcome.out(), "30 30 30 30 30\n", "every attempt must give EROFS");
        assert_eq!(fs::read(root.path().join("kept")).unwrap(), b"as it was\n");
        let names = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(names, 3, "try, try.c and kept, and nothing new");
    }

    fn a_read_only_volume_cannot_be_changed(on) {
        let folder = data::folder();
        data::file(folder.path(), "kept", b"as it was\n");
        data::compile(folder.path(), "try", "gcc", &["-static"], TRY_TO_CHANGE);
        let outcome = on.run(&["./try", "kept"]).data(folder.path()).outcome().expect_status(0);
        assert_eq!(outcome.out(), "30 30 30 30 30\n", "every attempt must give EROFS");
        assert_eq!(fs::read(folder.path().join("kept")).unwrap(), b"as it was\n");
    }

    fn a_writable_volume_is_written(on) {
        let folder = data::folder();
        let script = "echo hello > new; echo more >> new";
        on.run(&["/bin/sh", "-c", script]).writable_data(folder.path()).outcome().expect_status(0);
        assert_eq!(fs::read_to_string(folder.path().join("new")).unwrap(), "hello\nmore\n");
    }

    fn rw_makes_the_root_writable(on) {
        let root = data::folder();
        fs::copy("/bin/busybox", root.path().join("busybox")).unwrap();
        on.run(&["/busybox", "sh", "-c", "echo hello > /new"]).option(&["--rw"]).root(root.path()).outcome().expect_status(0);
        assert_eq!(fs::read_to_string(root.path().join("new")).unwrap(), "hello\n");
    }

    fn volumes_appear_where_they_are_told(on) {
        let (a, b) = (data::folder(), data::folder());
        data::file(a.path(), "name", b"first ");
        data::file(b.path(), "name", b"second\n");
        let vm = on.run(&["/bin/cat", "/mnt/a/name", "/new/deep/b/name"]);
        let outcome = vm.volume(a.path(), "/mnt/a:ro").volume(b.path(), "/new/deep/b").outcome();
        outcome.expect_status(0).expect_out("first second\n");
    }

    fn another_root_has_only_its_own_files(on) {
        let root = data::folder();
        fs::copy("/bin/busybox", root.path().join("busybox")).unwrap();
        let outcome = on.run(&["/busybox", "ls", "/etc"]).root(root.path()).outcome().expect_status(1);
        assert!(outcome.err().contains("No such file"), "{}", outcome.err());
    }

    fn a_directory_that_disappears_is_an_error_to_the_program_and_no_more(on) {
        let folder = data::folder();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        data::file(&shared, "a", b"content");
        let vm = on.run(&["/usr/bin/python3", "-c", LOSE_A_DIRECTORY]).volume(&shared, "/data").option(&["--cache", "none"]);
        let mut child = vm.start();
        let (mut to, mut from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        fs::remove_dir_all(&shared).unwrap();
        to.write_all(b"\n").unwrap();
        let mut rest = String::new();
        from.read_to_string(&mut rest).unwrap();
        // What is open stays, what is gone cannot be opened, and an empty directory may still be listed.
        let lines: Vec<_> = rest.lines().collect();
        assert_eq!(lines[..3], ["content", "gone", "gone"], "{rest}");
        assert!(["[]", "gone"].contains(&lines[3]), "{rest}");
        let outcome = Outcome::of(child, on.patience()).expect_status(0);
        assert_eq!(outcome.err(), "");
    }

    fn temporary_files_are_the_machines_own(on) {
        let name = format!("/tmp/diolkos-test-{}", std::process::id());
        let script = format!("echo inside > {name} && read line < {name} && echo $line");
        on.run(&["/bin/sh", "-c", &script]).outcome().expect_status(0).expect_out("inside\n");
        assert!(!std::path::Path::new(&name).exists());
    }

    fn the_working_directory_is_as_asked(on) {
        on.run(&["/bin/pwd"]).option(&["--workdir", "/usr/share"]).outcome().expect_status(0).expect_out("/usr/share\n");
    }

    fn a_working_directory_that_is_not_there_is_named(on) {
        let outcome = on.run(&["/bin/pwd"]).option(&["--workdir", "/no/such"]).outcome();
        outcome.expect_status(125).expect_line(&["/no/such"]);
    }

    fn the_environment_is_small_and_as_asked(on) {
        on.run(&["/usr/bin/printenv", "PATH", "HOME", "COLOUR", "EMPTY"]).env("COLOUR", "deep blue").env("EMPTY", "").same_as_host();
        // Cargo gave the test, and so diolkos, a good many more.
        let names = "import os; print(sorted(set(os.environ) - {'TERM', 'TZ', 'LC_CTYPE'}))";
        on.run(&["/usr/bin/python3", "-c", names]).outcome().expect_status(0).expect_out("['HOME', 'PATH']\n");
    }
}

/// Prints the errno of every way to change the directory or the file named by the first argument.
const TRY_TO_CHANGE: &str = r#"
    #include <errno.h>
    #include <fcntl.h>
    #include <stdio.h>
    #include <sys/stat.h>
    #include <unistd.h>
    static int code(int result) { return result < 0 ? errno : 0; }
    int main(int argc, char **argv) {
        (void)argc;
        int write = code(open(argv[1], O_WRONLY)), create = code(open("new", O_CREAT | O_WRONLY, 0644));
        int make = code(mkdir("folder", 0755)), remove = code(unlink(argv[1])), mode = code(chmod(argv[1], 0600));
        printf("%d %d %d %d %d\n", write, create, make, remove, mode);
        return 0;
    }"#;

/// Opens a file, waits for a line, and then tries what is left of its directory. ENOENT and ESTALE both mean "gone".
const LOSE_A_DIRECTORY: &str = "
import os, sys
f = os.open('/data/a', os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
print(os.pread(f, 9, 0).decode())
for act in (lambda: open('/data/a'), lambda: open('/data/b'), lambda: os.listdir('/data')):
    try:
        print(act())
    except OSError as error:
        print('gone' if error.errno in (2, 116) else error)
";
