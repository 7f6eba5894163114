//! Language run times, servers and tools with a workload, as Debian packages them: what docs/programs.md says of each.
//!
//! What a run time prints is compared with what it prints on the host; Python's own test suite and fio judge by
//! themselves. Slow ones run on KVM only.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::data;
use crate::each_platform;
use crate::linux_sources::scripts;
use crate::outcome::Outcome;
use crate::platform::Platform;
use crate::tools;

/// Whether all of `programs` are installed; `.ci/run` installs them.
fn are_here(programs: &[&str]) -> bool {
    programs.iter().all(|program| tools::here(program.into()).is_some())
}

/// Runs a compiler, or something else that makes programs, on the host.
fn compile(folder: &Path, command: &[&str]) {
    let mut compiler = Command::new(command[0]);
    // Go keeps what it has built below the home directory, or where it is told.
    compiler.args(&command[1..]).env("CGO_ENABLED", "0").env("GOCACHE", folder.join("cache"));
    let output = compiler.current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program in Java, compiled.
fn java() -> Option<(Platform, TempDir)> {
    let on = Platform::Kvm.here()?;
    if !are_here(&["/usr/bin/java", "/usr/bin/javac"]) {
        return None;
    }
    let folder = scripts(&["Load.java"]);
    compile(folder.path(), &["/usr/bin/javac", "Load.java"]);
    Some((on, folder))
}

#[test]
fn java_says_its_version() {
    if let Some((on, folder)) = java() {
        on.run(&["/usr/bin/java", "-version"]).data(folder.path()).same_as_host().expect_status(0);
    }
}

#[test]
fn java_survives_null_pointers_deep_stacks_and_a_heap_that_is_always_full() {
    let Some((on, folder)) = java() else { return };
    for collector in ["-XX:+UseSerialGC", "-XX:+UseG1GC", "-XX:+UseZGC"] {
        let command = ["/usr/bin/java", collector, "-Xmx64m", "Load"];
        on.run(&command).data(folder.path()).same_as_host().expect_status(3);
    }
}

#[test]
fn nodes_workers_share_memory_and_files() {
    let Some(on) = Platform::Kvm.here() else { return };
    if are_here(&["/usr/bin/node"]) {
        let folder = scripts(&["workers.js"]);
        on.run(&["/usr/bin/node", "workers.js"]).data(folder.path()).same_as_host().expect_status(4);
    }
}

#[test]
fn two_thousand_threads_have_room() {
    if let Some(on) = Platform::Kvm.here() {
        let folder = scripts(&["many_threads.py"]);
        on.run(&["/usr/bin/python3", "many_threads.py"]).data(folder.path()).same_as_host().expect_status(0);
    }
}

/// Runs modules of Python's own suite in one machine; those that need a process of their own are left out by name. The
/// suite works in `/tmp`, which is memory, and may change nothing of the host's.
fn python_suite(modules: &[&str]) {
    let Some(on) = Platform::Kvm.here() else { return };
    if !are_here(&["/usr/lib/python3.11/test/test_mmap.py"]) {
        return;
    }
    let folder = scripts(&["python_skipped.txt"]);
    let command = [
        &["/usr/bin/python3", "-B", "-m", "test", "--fail-env-changed", "--ignorefile", "python_skipped.txt"],
        modules,
    ]
    .concat();
    let run = on.run(&command).data(folder.path()).option(&["--overlay"]).env("TMPDIR", "/tmp");
    let outcome = run.patience(Duration::from_secs(300)).outcome().expect_status(0);
    let verdict = format!("All {} tests OK.", modules.len());
    assert!(outcome.out().contains(&verdict), "'{verdict}' expected: {}", outcome.out());
}

#[test]
fn pythons_own_tests_of_files_memory_time_and_formats() {
    python_suite(&["test_os", "test_fileio", "test_mmap", "test_time", "test_random", "test_json", "test_zlib"]);
}

#[test]
fn pythons_own_tests_of_threads_signals_and_waiting() {
    python_suite(&["test_thread", "test_threading", "test_signal", "test_select", "test_epoll"]);
}

/// What tests of that suite would have another Python run, in a machine of its own each.
#[test]
fn scripts_of_pythons_own_tests_run_as_on_the_host() {
    let Some(on) = Platform::Kvm.here() else { return };
    if !are_here(&["/usr/lib/python3.11/test/test_signal.py"]) {
        return;
    }
    const WRITER: &str = "python_children.py";
    let folder = scripts(&[WRITER]);
    compile(folder.path(), &["/usr/bin/python3", "-B", WRITER, "test_signal", "test_threading", "test_io"]);
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: Vec<String> = files.filter(|name| name.starts_with("test_")).collect();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        let command = ["/usr/bin/python3", "-I", "-X", "faulthandler", &name];
        let (guest, host) = on.run(&command).data(folder.path()).on_both();
        // Addresses are among the complaints of some.
        assert_eq!((guest.status, guest.out()), (host.status, host.out()), "{name}: {}", guest.err());
    }
}

/// These take minutes: `cargo test -p diolkos --test end_to_end -- --ignored python`.
#[test]
#[ignore = "takes minutes"]
fn pythons_own_slow_tests() {
    python_suite(&["test_io", "test_selectors", "test_asyncio"]);
}

each_platform! {
    fn python_speaks_tls_and_sql_from_threads(on) {
        const CERTIFICATE: &str = "/usr/lib/python3.11/test/keycert.pem";
        if are_here(&[CERTIFICATE]) {
            let folder = scripts(&["check.py", "libraries.py"]);
            let command = ["/usr/bin/python3", "-B", "libraries.py", CERTIFICATE];
            on.run(&command).data(folder.path()).same_as_host().expect_status(0);
        }
    }

    fn lua_runs(on) {
        if are_here(&["/usr/bin/lua5.4"]) {
            let folder = scripts(&["script.lua"]);
            on.run(&["/usr/bin/lua5.4", "script.lua"]).data(folder.path()).same_as_host().expect_status(6);
        }
    }

    fn goroutines_run(on) {
        if are_here(&["/usr/bin/go"]) {
            let folder = scripts(&["goroutines.go"]);
            compile(folder.path(), &["/usr/bin/go", "build", "goroutines.go"]);
            on.run(&["./goroutines", "/usr/lib/python3.11/json"]).data(folder.path()).same_as_host().expect_status(5);
        }
    }

    fn sqlite_does_a_days_work(on) {
        if are_here(&["/usr/bin/sqlite3"]) {
            // Each side has a database of its own, and they are the same to the byte in the end.
            let folders = [scripts(&["workload.sql"]), scripts(&["workload.sql"])];
            let sql = fs::read(folders[0].path().join("workload.sql")).unwrap();
            let run = |folder: &TempDir| {
                on.run(&["/usr/bin/sqlite3", "-batch", "cargo.db"]).writable_data(folder.path()).input(sql.clone())
            };
            let host = run(&folders[0]).on_host().expect_status(0);
            run(&folders[1]).outcome().expect_same(&host);
            let [host, guest] = folders.map(|folder| fs::read(folder.path().join("cargo.db")).unwrap());
            assert!(host == guest, "the databases differ");
        }
    }

    fn what_fio_writes_it_finds_again(on) {
        if are_here(&["/usr/bin/fio"]) {
            for engine in ["psync", "pvsync2", "mmap"] {
                for pattern in ["write", "randrw"] {
                    fio_verifies(on, engine, pattern);
                }
            }
        }
    }

    fn redis_loads_its_data_and_shuts_down_on_sigterm(on) {
        if are_here(&["/usr/bin/redis-server"]) {
            let folder = data::folder();
            save_with_redis(folder.path(), 2000);
            let before = fs::read(folder.path().join("dump.rdb")).unwrap();
            let command = ["/usr/bin/redis-server", "--port", "0", "--unixsocket", "/tmp/redis", "--save", "", "--dir", "/data"];
            let mut server = on.run(&command).writable_data(folder.path()).start();
            let log = read_until(&mut server, "ready to accept connections at");
            assert!(log.contains("Done loading RDB, keys loaded: 2000, keys expired: 0."), "{log}");
            kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
            let rest = read_until(&mut server, "Redis is now ready to exit, bye bye...");
            assert!(rest.contains("Received SIGTERM scheduling shutdown..."), "{rest}");
            Outcome::of(server, on.patience()).expect_status(0);
            assert!(fs::read(folder.path().join("dump.rdb")).unwrap() == before, "nothing was to be saved");
        }
    }
}

/// Three threads write files of their own and read them back; then fio on the host does.
fn fio_verifies(on: Platform, engine: &str, pattern: &str) {
    let folder = data::folder();
    let size = if on == Platform::Kvm { "--size=8M" } else { "--size=1M" };
    let (name, engine, pattern) =
        (format!("--name={engine}"), format!("--ioengine={engine}"), format!("--rw={pattern}"));
    let mut command = vec!["/usr/bin/fio", "--thread", "--numjobs=3", "--bs=16k", "--directory=.", size];
    command.extend([
        &*name,
        &engine,
        &pattern,
        "--verify=crc32c",
        "--verify_fatal=1",
        "--end_fsync=1",
        "--verify_state_save=0",
    ]);
    command.extend(["--group_reporting", "--output-format=terse", "--terse-version=3"]);
    // The error, and how much was read, in KiB (fio(1), terse output).
    let judged = |outcome: &Outcome| [4, 5].map(|field| outcome.out().split(';').nth(field).map(str::to_owned));
    let guest = on.run(&command).writable_data(folder.path()).outcome().expect_status(0);
    command.push("--verify_only");
    let host = on.run(&command).writable_data(folder.path()).on_host().expect_status(0);
    assert_eq!(judged(&guest)[0].as_deref(), Some("0"), "{}", guest.out());
    assert_eq!(judged(&guest), judged(&host), "{} and then {}", guest.out(), host.out());
}

/// Has a server on the host make a `dump.rdb` of so many keys.
fn save_with_redis(folder: &Path, keys: usize) {
    let socket = folder.join("socket");
    let mut server = Command::new("/usr/bin/redis-server")
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut connection = loop {
        match UnixStream::connect(&socket) {
            Ok(connection) => break connection,
            Err(error) => assert!(Instant::now() < deadline, "redis-server: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let sets: String = (0..keys).map(|key| format!("SET key:{key} value-{key}\r\n")).collect();
    connection.write_all(sets.as_bytes()).unwrap();
    let mut answers = vec![0; keys * "+OK\r\n".len()];
    connection.read_exact(&mut answers).unwrap();
    assert_eq!(String::from_utf8_lossy(&answers), "+OK\r\n".repeat(keys));
    connection.write_all(b"SHUTDOWN SAVE\r\n").unwrap();
    assert!(server.wait().unwrap().success());
    let _ = fs::remove_file(socket);
}

/// What the program prints up to a line with `word`.
fn read_until(child: &mut Child, word: &str) -> String {
    // Byte by byte: what comes after is for the next call.
    let mut reader = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    let mut text = String::new();
    while !text.contains(word) {
        let read = reader.read_line(&mut text).unwrap();
        assert!(read > 0, "'{word}' expected: {text}");
    }
    text
}
