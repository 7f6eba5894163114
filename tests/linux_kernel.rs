//! What programs in C expect of Linux: signals, faults, timers, threads, memory, terminals, identity, and how they die.

use crate::each_platform;
use crate::linux_sources::{Libc, compiled, same_c};
use crate::platform::Platform;

each_platform! {
    fn signals_are_linuxs(on) { same_c(on, "signals"); }

    fn faults_are_linuxs(on) { same_c(on, "faults"); }

    fn calls_go_on_after_handlers_as_on_linux(on) { same_c(on, "restarting"); }

    fn what_handlers_are_told_and_may_change_is_linuxs(on) { same_c(on, "signal_context"); }

    fn timers_are_linuxs(on) { same_c(on, "timers"); }

    fn timers_of_every_kind_are_linuxs(on) { same_c(on, "timer_kinds"); }

    fn threads_are_linuxs(on) { same_c(on, "threads"); }

    fn futexes_are_linuxs(on) { same_c(on, "futexes"); }

    fn operations_of_futexes_are_linuxs(on) { same_c(on, "futex_operations"); }

    fn locks_with_priority_inheritance_are_linuxs(on) { same_c(on, "pi_futexes"); }

    fn pseudo_terminals_are_linuxs(on) { same_c(on, "pty"); }

    fn semaphores_and_messages_are_linuxs(on) { same_c(on, "sysv"); }

    fn shared_memory_segments_are_linuxs(on) { same_c(on, "shared_memory"); }

    fn futexes_bear_stress(on) { same_c(on, "futex_stress"); }

    fn signals_bear_stress(on) { same_c(on, "signal_stress"); }

    fn mappings_bear_stress(on) { same_c(on, "mmap_stress"); }

    fn sockets_are_linuxs(on) { same_c(on, "sockets"); }

    fn signal_descriptors_and_processor_timers_are_linuxs(on) { same_c(on, "signalfd"); }

    fn memory_is_linuxs(on) { same_c(on, "memory"); }

    fn areas_join_where_linuxs_do(on) { same_c(on, "maps"); }

    fn epoll_is_linuxs(on) { same_c(on, "epoll"); }

    fn the_process_is_linuxs(on) { same_c(on, "process"); }

    fn what_a_process_does_to_itself_is_linuxs(on) { same_c(on, "own_process"); }

    fn a_thread_may_execute_another_program(on) { same_c(on, "exec_from_thread"); }

    fn deaths_have_linuxs_status(on) {
        let folder = compiled("deaths", Libc::Glibc);
        let ways = [
            ("recursion", Some("SIGSEGV")),
            ("no-stack", Some("SIGSEGV")),
            ("overflow-with-handler", Some("SIGSEGV")),
            ("ignored-fault", Some("SIGSEGV")),
            ("blocked-fault", Some("SIGSEGV")),
            ("privileged", Some("SIGSEGV")),
            ("jump-to-null", Some("SIGSEGV")),
            ("jump-nowhere", Some("SIGSEGV")),
            ("jump-to-kernel", Some("SIGSEGV")),
            ("kill", Some("SIGKILL")),
            ("hangup", Some("SIGHUP")),
            // Without a name of its own.
            ("realtime", Some("37")),
            ("exit-300", None),
        ];
        for (way, signal) in ways {
            let vm = on.run(&["./deaths", way]).data(folder.path());
            let host = vm.on_host();
            assert_eq!(host.status > 128, signal.is_some(), "{way} on the host: status {}", host.status);
            let outcome = vm.outcome().expect_status(host.status).expect_out("");
            match signal {
                Some(signal) => drop(outcome.expect_line(&[signal])),
                None => assert_eq!(outcome.err(), "", "{way}"),
            }
        }
    }
}

#[test]
fn faults_of_vector_instructions_are_linuxs() {
    let Some(kvm) = Platform::Kvm.here() else { return };
    same_c(kvm, "vector_faults");
}
