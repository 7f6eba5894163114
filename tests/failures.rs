//! Programs that cannot start, and programs that die.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::data;
use crate::each_platform;

each_platform! {
    fn a_program_that_is_not_there(on) {
        on.run(&["/no/such/program"]).outcome().expect_status(127).expect_line(&["/no/such/program"]);
        on.run(&["no-such-program"]).outcome().expect_status(127).expect_line(&["no-such-program"]);
    }

    fn a_file_that_is_not_executable(on) {
        on.run(&["/etc/passwd"]).outcome().expect_status(126).expect_line(&["/etc/passwd"]);
    }

    fn a_directory_is_not_executable(on) { on.run(&["/usr"]).outcome().expect_status(126).expect_line(&["/usr"]); }

    fn an_interpreter_that_is_missing_is_named(on) {
        let folder = data::folder();
        data::compile(folder.path(), "lost", "gcc", &["-Wl,--dynamic-linker=/no/such/ld.so"], "int main(void){return 0;}");
        let outcome = on.run(&["./lost"]).data(folder.path()).outcome().expect_line(&["/no/such/ld.so"]);
        assert!(matches!(outcome.status, 126 | 127), "status {}", outcome.status);
    }

    fn a_program_of_another_architecture(on) {
        let folder = data::folder();
        // e_machine (offset 18 of the ELF header): 183 is AArch64.
        patched_program(folder.path(), |bytes| bytes[18..20].copy_from_slice(&183_u16.to_le_bytes()));
        on.run(&["./program"]).data(folder.path()).outcome().expect_status(126).expect_line(&["program"]);
    }

    fn corrupt_programs_are_refused(on) {
        let patches: [fn(&mut Vec<u8>); 4] = [
            |bytes| bytes.truncate(40),
            // e_phoff, far behind the end.
            |bytes| bytes[32..40].copy_from_slice(&(u64::MAX - 8).to_le_bytes()),
            // p_filesz of every program header.
            |bytes| (0..4).for_each(|i| bytes[64 + 56 * i + 32..64 + 56 * i + 40].fill(0xff)),
            |bytes| bytes.clear(),
        ];
        for patch in patches {
            let folder = data::folder();
            patched_program(folder.path(), patch);
            on.run(&["./program"]).data(folder.path()).outcome().expect_status(126).expect_line(&["program"]);
        }
    }

    fn a_segmentation_fault_is_signal_11(on) {
        let folder = data::folder();
        data::compile(folder.path(), "crash", "gcc", &[], "int main(void){ volatile int *p = (int *)8; return *p; }");
        let outcome = on.run(&["./crash"]).data(folder.path()).outcome();
        outcome.expect_status(139).expect_line(&["SIGSEGV"]).expect_out("");
    }

    fn other_deaths_have_their_signals(on) {
        let folder = data::folder();
        let source = r#"
            #include <signal.h>
            #include <stdlib.h>
            int main(int argc, char **argv) {
                volatile int zero = argc - 2;
                switch (argv[1][0]) {
                case 'a': abort();
                case 'd': return argc / zero;
                case 'i': __builtin_trap();
                default: return raise(SIGTERM);
                }
            }"#;
        data::compile(folder.path(), "die", "gcc", &[], source);
        for (way, signal) in [("a", "SIGABRT"), ("d", "SIGFPE"), ("i", "SIGILL"), ("t", "SIGTERM")] {
            let vm = on.run(&["./die", way]).data(folder.path());
            let host = vm.on_host();
            vm.outcome().expect_status(host.status).expect_line(&[signal]);
        }
    }

    fn a_program_that_wants_more_memory_than_there_is_gets_an_error(on) {
        let script = "import sys\ntry:\n  b = bytearray(1 << 40)\nexcept MemoryError:\n  print('refused')";
        on.run(&["/usr/bin/python3", "-c", script]).option(&["--memory", "512M"]).outcome().expect_status(0).expect_out("refused\n");
    }
}

/// A copy of /bin/true with `patch` applied.
fn patched_program(folder: &std::path::Path, patch: impl Fn(&mut Vec<u8>)) {
    let mut bytes = fs::read("/bin/true").unwrap();
    patch(&mut bytes);
    let path = data::file(folder, "program", &bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
