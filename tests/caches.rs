//! What the machine keeps of shared files: bounded, and no staler than the rule says.

use std::fs;
use std::process::Command;

use crate::data;
use crate::each_platform;
use crate::outcome::Outcome;

/// Files for each descriptor that diolkos may have: on KVM as many as in a tree of 200,000 files with 1,024 descriptors.
fn files_per_descriptor(on: crate::platform::Platform) -> usize {
    match on {
        crate::platform::Platform::Kvm => 195,
        crate::platform::Platform::Qemu => 50,
    }
}

/// Descriptors allowed to diolkos and everything it starts.
const DESCRIPTORS: usize = 160;

each_platform! {
    fn a_tree_with_far_more_files_than_descriptors_is_walked(on) {
        let folder = data::folder();
        let (folders, files) = (50, DESCRIPTORS * files_per_descriptor(on) / 50);
        for number in 0..folders {
            let inner = folder.path().join(format!("d{number}"));
            fs::create_dir(&inner).unwrap();
            for file in 0..files {
                fs::File::create(inner.join(format!("f{file}"))).unwrap();
            }
        }
        let vm = on.run(&["/usr/bin/find", ".", "-type", "f", "-size", "0"]).data(folder.path());
        let run = vm.command();
        let mut command = Command::new("/usr/bin/prlimit");
        command.arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}")).arg(run.get_program()).args(run.get_args());
        let outcome = Outcome::of(vm.watched(command), on.patience()).expect_status(0);
        assert_eq!(outcome.err(), "");
        assert_eq!(outcome.out().lines().count(), folders * files);
    }
}
