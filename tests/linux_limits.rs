//! Where the machine is not Linux or must hold: no second process, no more memory than there is, a kernel in reach.

use crate::each_platform;
use crate::linux_sources::{Libc, compiled};

each_platform! {
    fn other_processes_are_refused_and_that_is_said_once(on) {
        let folder = compiled("no_processes", Libc::Glibc);
        let outcome = on.run(&["./no_processes"]).data(folder.path()).outcome().expect_status(0);
        let said: Vec<_> = outcome.err().lines().map(String::from).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("clone: the program tried to start another process"), "{said:?}");
    }

    fn who_needs_more_memory_than_there_is_is_killed(on) {
        let folder = compiled("exhaust", Libc::Glibc);
        for way in ["store", "populate", "read", "malloc"] {
            let vm = on.run(&["./exhaust", way]).option(&["--memory", "64M"]).data(folder.path());
            let outcome = vm.outcome().expect_status(128 + 9);
            assert!(outcome.err().contains("the program needs more memory than the machine has"), "{}", outcome.err());
        }
    }

    fn no_page_of_the_kernel_is_written_and_executed(on) {
        let folder = compiled("kernel_image", Libc::Glibc);
        on.run(&["./kernel_image"]).data(folder.path()).outcome().expect_status(0);
    }
}
