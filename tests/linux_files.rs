//! What the kernel does with files beyond opening, reading and writing them: inotify(7) and splice(2).

use crate::each_platform;
use crate::linux_sources::{same_c_in_memory, same_c_in_own_folders};

each_platform! {
    fn notifications_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "inotify"); }

    fn notifications_are_linuxs_in_memory(on) { same_c_in_memory(on, "inotify"); }

    fn splices_are_linuxs_on_a_share(on) { same_c_in_own_folders(on, "splice"); }

    fn splices_are_linuxs_in_memory(on) { same_c_in_memory(on, "splice"); }
}
