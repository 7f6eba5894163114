//! What scripts and interpreters expect of Linux: files and names, pipes, odd arguments, threads, and the run times
//! that ask most of a kernel.

use crate::data;
use crate::each_platform;
use crate::linux_sources::scripts;
use crate::platform::Platform;
use crate::tools;

const PYTHON: &str = "/usr/bin/python3";

/// Runs a script of `tests/programs` and the module it needs with `arguments`, on both sides.
fn same_python(on: Platform, name: &str, arguments: &[&str]) {
    let folder = scripts(&["check.py", name]);
    // -B: nothing is written beside the module, which the machine may only read.
    let command = [&[PYTHON, "-B", name], arguments].concat();
    on.run(&command).data(folder.path()).same_as_host().expect_status(0);
}

/// The same, in a folder of the host that both sides write to.
fn same_python_in_a_share(on: Platform, name: &str) {
    let folder = scripts(&["check.py", name]);
    let command = [PYTHON, "-B", name, "."];
    on.run(&command).writable_data(folder.path()).same_as_host().expect_status(0);
}

/// Whether `program` is installed; `.ci/run` installs it.
fn is_here(program: &str) -> bool {
    tools::here(program.into()).is_some()
}

each_platform! {
    fn file_contents_in_memory(on) { same_python(on, "file_contents.py", &["/tmp"]); }

    fn file_contents_in_a_share(on) { same_python_in_a_share(on, "file_contents.py"); }

    fn file_names_in_memory(on) { same_python(on, "file_names.py", &["/tmp"]); }

    fn file_names_in_a_share(on) { same_python_in_a_share(on, "file_names.py"); }

    fn pipes_and_waiting_for_them(on) { same_python(on, "pipes.py", &[]); }

    fn bad_arguments_have_linuxs_errors(on) { same_python(on, "bad_arguments.py", &[]); }

    fn timers_and_segments(on) { same_python(on, "timers_and_segments.py", &[]); }

    fn threads_and_asyncio(on) { same_python(on, "concurrency.py", &[]); }

    fn node_runs(on) {
        if is_here("/usr/bin/node") {
            let folder = scripts(&["script.js"]);
            on.run(&["/usr/bin/node", "script.js", "an argument"]).data(folder.path()).same_as_host().expect_status(0);
        }
    }

    fn perl_runs(on) {
        if is_here("/usr/bin/perl") {
            let folder = scripts(&["script.pl"]);
            on.run(&["/usr/bin/perl", "script.pl"]).data(folder.path()).same_as_host().expect_status(3);
        }
    }

    fn sqlite_keeps_a_database(on) {
        if is_here("/usr/bin/sqlite3") {
            let folder = scripts(&["script.sql"]);
            let sql = std::fs::read(folder.path().join("script.sql")).unwrap();
            let file = format!("/tmp/diolkos-{}-{on:?}.db", std::process::id());
            for database in [&file, ":memory:"] {
                on.run(&["/usr/bin/sqlite3", "-batch", database]).input(sql.clone()).same_as_host().expect_status(0);
            }
            std::fs::remove_file(file).unwrap();
        }
    }

    fn busybox_applets_run(on) {
        let folder = data::folder();
        let text: String = (0..2000).map(|i| format!("{} line {}\n", i * 7919 % 2000, i % 13)).collect();
        data::file(folder.path(), "text", text.as_bytes());
        let commands: [&[&str]; 10] = [
            &["sort", "-n", "text"],
            &["grep", "-c", "line 7", "text"],
            &["awk", "{ sum[$3] += $1 } END { for (i = 0; i < 13; i++) print i, sum[i] }", "text"],
            &["sed", "-n", "s/line \\(1.\\)$/<\\1>/p", "text"],
            &["sha512sum", "text"],
            &["gzip", "-c", "text"],
            &["tr", "a-z", "A-Z"],
            &["expr", "6", "*", "7"],
            &["stat", "-c", "%s %a %F %N", "text"],
            &["sh", "-c", "while read number rest; do [ $number -gt 1990 ] && echo $rest; done < text; exit 9"],
        ];
        for command in commands {
            let command = [&["/bin/busybox"], command].concat();
            on.run(&command).data(folder.path()).input("some words\n").same_as_host();
        }
    }
}
