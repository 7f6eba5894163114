//! What programs in C expect of files: the rules of opening, naming and changing them, inotify(7), splice(2).

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::data;
use crate::each_platform;
use crate::linux_sources::{Libc, compiled, same_c_in_memory, same_c_in_own_folders, same_c_on_an_overlay};

each_platform! {
    fn notifications_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "inotify"); }

    fn notifications_are_linuxs_in_memory(on) { same_c_in_memory(on, "inotify"); }

    fn the_rules_of_files_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "file_rules"); }

    fn the_rules_of_files_are_linuxs_in_memory(on) { same_c_in_memory(on, "file_rules"); }

    fn appending_is_linuxs_on_a_share(on) { same_c_in_own_folders(on, "appending"); }

    fn appending_is_linuxs_in_memory(on) { same_c_in_memory(on, "appending"); }

    fn other_users_may_what_they_may_on_linux_on_a_share(on) { same_c_in_own_folders(on, "credentials"); }

    fn other_users_may_what_they_may_on_linux_in_memory(on) { same_c_in_memory(on, "credentials"); }

    fn other_users_may_what_they_may_on_linux_on_an_overlay(on) { same_c_on_an_overlay(on, "credentials"); }

    fn a_read_only_share_refuses_every_change_as_linux_does(on) {
        let folder = compiled("read_only", Libc::Glibc);
        data::file(folder.path(), "f", b"content");
        fs::create_dir(folder.path().join("d")).unwrap();
        data::file(&folder.path().join("d"), "x", b"");
        symlink("f", folder.path().join("l")).unwrap();
        assert!(Command::new("mkfifo").arg(folder.path().join("p")).status().unwrap().success());
        // The host has no such file system to compare with: the expectations are in the program.
        on.run(&["./read_only"]).data(folder.path()).outcome().expect_status(0);
    }

    fn splices_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "splice"); }

    fn splices_are_linuxs_in_memory(on) { same_c_in_memory(on, "splice"); }
}
