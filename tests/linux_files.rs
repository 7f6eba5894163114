//! What programs in C expect of files: the rules of opening, naming and changing them, inotify(7), splice(2).

use crate::each_platform;
use crate::linux_sources::{same_c_in_memory, same_c_in_own_folders};

each_platform! {
    fn notifications_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "inotify"); }

    fn notifications_are_linuxs_in_memory(on) { same_c_in_memory(on, "inotify"); }

    fn the_rules_of_files_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "file_rules"); }

    fn the_rules_of_files_are_linuxs_in_memory(on) { same_c_in_memory(on, "file_rules"); }

    fn appending_is_linuxs_on_a_share(on) { same_c_in_own_folders(on, "appending"); }

    fn appending_is_linuxs_in_memory(on) { same_c_in_memory(on, "appending"); }

    fn splices_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "splice"); }

    fn splices_are_linuxs_in_memory(on) { same_c_in_memory(on, "splice"); }
}
