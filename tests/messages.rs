//! Content in READ and WRITE messages: that it moves without copies, and that the memory it moves to stays the program's.

use crate::data;
use crate::each_platform;
use crate::linux_sources::{Libc, compiled};
use crate::observation::figure;
use crate::platform::Platform;

/// The options with which all content goes by message and none is kept.
fn by_message(on: Platform) -> Vec<&'static str> {
    let windowless: &[_] = if on == Platform::Kvm { &["--dax-window", "0"] } else { &[] };
    [&["--cache", "none"], windowless].concat()
}

each_platform! {
    fn large_reads_go_straight_to_the_programs_memory(on) {
        let folder = data::folder();
        data::random_file(folder.path(), "f", 8 << 20);
        let vm = on.run(&["/bin/dd", "if=f", "of=/dev/null", "bs=1M"]).data(folder.path()).option(&by_message(on));
        let block = vm.option(&["--stats"]).outcome().expect_status(0).err();
        // --stats says bytes in the unit that fits.
        assert!(block.lines().any(|line| line.split_whitespace().eq("bytes without copy 8.0 MiB".split(' '))), "{block}");
        assert!(figure(&block, "READ") <= 8 + 40, "{block}");
    }

    fn memory_of_any_shape_is_lent_to_messages_and_may_be_taken_away_meanwhile(on) {
        let folders = [compiled("lent", Libc::Glibc), compiled("lent", Libc::Musl)];
        for folder in &folders {
            let host = on.run(&["./lent"]).writable_data(folder.path()).on_host().expect_status(0);
            on.run(&["./lent"]).writable_data(folder.path()).option(&by_message(on)).outcome().expect_same(&host);
        }
    }
}

#[test]
fn memory_on_loan_may_be_taken_away_on_another_processor() {
    let Some(on) = Platform::Kvm.here() else { return };
    let folder = compiled("lent", Libc::Glibc);
    let vm = on.run(&["./lent"]).writable_data(folder.path()).option(&by_message(on)).option(&["--cpus", "2"]);
    vm.outcome().expect_status(0);
}
