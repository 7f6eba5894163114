//! System calls that have become jumps: that programs cannot tell, and that `--no-patch` leaves them alone.

use crate::each_platform;
use crate::linux_sources::{Libc, compiled};
use crate::observation::figure;

each_platform! {
    fn programs_cannot_tell_a_jump_from_a_trap(on) {
        for libc in [Libc::Glibc, Libc::Musl] {
            let folder = compiled("patched", libc);
            let vm = on.run(&["./patched"]).data(folder.path()).option(&["--stats"]);
            let host = vm.on_host().expect_status(0);
            let outcome = vm.outcome().expect_status(0);
            assert_eq!(outcome.out(), host.out());
            let block = outcome.err();
            // By far the most are of the loops.
            assert!(figure(&block, "direct") > figure(&block, "total") / 4, "{block}");
            assert!(figure(&block, "patched") >= 8, "{block}");
        }
    }

    fn without_patches_every_call_traps(on) {
        let folder = compiled("patched", Libc::Glibc);
        let vm = on.run(&["./patched"]).data(folder.path()).option(&["--stats", "--no-patch"]);
        let host = vm.on_host().expect_status(0);
        let outcome = vm.outcome().expect_status(0);
        assert_eq!(outcome.out(), host.out());
        let block = outcome.err();
        assert_eq!((figure(&block, "direct"), figure(&block, "patched")), (0, 0), "{block}");
    }
}
