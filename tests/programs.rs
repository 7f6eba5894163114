//! Programs of the distribution and of other tool chains, unmodified.

use crate::data;
use crate::each_platform;

each_platform! {
    fn ls_lists_a_directory(on) { on.same_as_host(&["/bin/ls", "-l", "/etc"]); }

    fn find_walks_a_tree(on) { on.same_as_host(&["/usr/bin/find", "/usr/share", "-type", "f", "-name", "*.txt"]); }

    fn a_name_is_looked_up_along_the_path(on) { on.same_as_host(&["ls", "/usr"]); }

    fn a_symbolic_link_is_followed(on) { on.same_as_host(&["/usr/bin/readlink", "-f", "/proc/self/cwd/../bin/sh"]); }

    fn the_status_is_the_programs(on) {
        on.same_as_host(&["/bin/sh", "-c", "exit 7"]);
        on.same_as_host(&["/bin/true"]);
        on.same_as_host(&["/bin/false"]);
    }

    fn a_static_program_runs(on) { on.same_as_host(&["/bin/busybox", "ls", "-la", "/usr"]); }

    fn python_runs(on) {
        on.same_as_host(&["/usr/bin/python3", "-c", "import json,sys,zlib,hashlib; print(sys.version)"]);
    }

    fn python_counts_as_on_the_host(on) {
        let script = "import hashlib,zlib,json; d=bytes(range(256))*4096; \
                      print(json.dumps([hashlib.sha256(d).hexdigest(), zlib.crc32(zlib.compress(d)), 2**300, 0.1+0.2]))";
        on.same_as_host(&["/usr/bin/python3", "-c", script]);
    }

    fn arguments_arrive_byte_for_byte(on) {
        on.same_as_host(&["/usr/bin/printf", "[%s]\\n", "a b", "", "--", "-x", "tab\tand\nnewline", "%20", "grüß"]);
    }

    fn a_shell_script_runs_without_children(on) {
        let script = "i=0; while [ $i -lt 1000 ]; do i=$((i+1)); done; echo $i; cd /usr && pwd; type ls; echo /etc/host*";
        on.same_as_host(&["/bin/sh", "-c", script]);
    }

    fn a_musl_static_pie_runs(on) {
        let folder = data::folder();
        let source = r#"
            #include <stdio.h>
            #include <stdlib.h>
            int counter = 5; int *pointer = &counter;
            int main(int argc, char **argv) {
                char *block = malloc(3 << 20);
                for (int i = 0; i < 3 << 20; i += 4096) block[i] = (char)i;
                printf("%d arguments, first %s, relocated %d, home %s\n", argc, argv[1], *pointer, getenv("HOME"));
                return 42;
            }"#;
        data::compile(folder.path(), "hello", "musl-gcc", &["-static-pie", "-fPIE"], source);
        on.run(&["./hello", "x"]).data(folder.path()).same_as_host().expect_status(42);
    }

    fn a_glibc_program_with_constructors_and_threads_storage_runs(on) {
        let folder = data::folder();
        let source = r#"
            #include <stdio.h>
            #include <math.h>
            static __thread int own = 7;
            static int built;
            __attribute__((constructor)) static void build(void) { built = 3; }
            __attribute__((destructor)) static void leave(void) { puts("left"); }
            int main(void) { printf("%d %d %.12f\n", own, built, cos(built)); return 0; }"#;
        data::compile(folder.path(), "parts", "gcc", &["-lm"], source);
        on.run(&["./parts"]).data(folder.path()).same_as_host();
    }

    // Its heap and its notes lie at addresses of its own choice, terabytes of them.
    fn a_program_with_an_address_sanitizer_runs(on) {
        let folder = data::folder();
        let source = r#"
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            int main(int argc, char **argv) {
                char *block = malloc(100);
                memset(block, 7, 100);
                printf("%d\n", block[argc]);
                fflush(stdout);
                free(block);
                return argc > 1 ? block[5] : 0;
            }"#;
        data::compile(folder.path(), "checked", "gcc", &["-O1", "-w", "-fsanitize=address"], source);
        // Looking for leaks takes a second process.
        let run = |command: &[&'static str]| on.run(command).env("ASAN_OPTIONS", "detect_leaks=0").data(folder.path());
        run(&["./checked"]).same_as_host().expect_status(0);
        let caught = run(&["./checked", "after-free"]).outcome().expect_status(1);
        assert!(caught.err().contains("heap-use-after-free"), "{}", caught.err());
    }

    // The local APIC's timer reaches 4.3 seconds ahead.
    fn a_sleep_longer_than_the_timer_reaches_ends(on) { on.run(&["/bin/sleep", "4.5"]).outcome().expect_status(0); }

    fn the_wall_clock_is_the_hosts(on) {
        let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let outcome = on.run(&["/bin/date", "+%s"]).outcome().expect_status(0);
        let after = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seen: u64 = outcome.out().trim().parse().unwrap();
        // The guest may start its clock up to a second late (see the QEMU platform), never early.
        assert!((before.saturating_sub(1)..=after).contains(&seen), "{seen} is not within {before}..={after}");
    }

    fn the_machine_has_a_name(on) { on.run(&["/bin/uname", "-n"]).outcome().expect_status(0).expect_out("diolkos\n"); }
}
