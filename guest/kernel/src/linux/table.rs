//! System call number to handler: the whole table, gathered from the families.

use super::Handler;
use syscalls::Sysno;

/// What a family contributes.
pub type Calls = &'static [(Sysno, Handler)];

/// Every family. A number listed twice is a mistake that the build refuses.
const FAMILIES: &[Calls] = &[
    super::advice::CALLS,
    super::attributes::CALLS,
    super::clock::CALLS,
    super::copy::CALLS,
    super::descriptors::CALLS,
    super::directory::CALLS,
    super::epoll::CALLS,
    super::exec::CALLS,
    super::futex::CALLS,
    super::identity::CALLS,
    super::inotify::CALLS,
    super::ioctl::CALLS,
    super::ipc::messages::CALLS,
    super::ipc::segments::CALLS,
    super::ipc::semaphores::CALLS,
    super::limits::CALLS,
    super::locks::CALLS,
    super::membarrier::CALLS,
    super::memory::CALLS,
    super::names::CALLS,
    super::open::CALLS,
    super::pidfd::CALLS,
    super::pipe::CALLS,
    super::policy::CALLS,
    super::poll::CALLS,
    super::posix_timer::CALLS,
    super::prctl::CALLS,
    super::process_vm::CALLS,
    super::read_write::CALLS,
    super::scheduling::CALLS,
    super::session::CALLS,
    super::signal::calls::CALLS,
    super::signal::fd::CALLS,
    super::socket::CALLS,
    super::space::CALLS,
    super::splice::CALLS,
    super::stat::CALLS,
    super::sync::CALLS,
    super::system::CALLS,
    super::thread::CALLS,
    super::timerfd::CALLS,
    super::usage::CALLS,
    super::xattr::CALLS,
];

const SIZE: usize = 512;

static TABLE: [Option<Handler>; SIZE] = {
    let mut table: [Option<Handler>; SIZE] = [None; SIZE];
    let mut f = 0;
    while f < FAMILIES.len() {
        let mut c = 0;
        while c < FAMILIES[f].len() {
            let (number, handler) = FAMILIES[f][c];
            let slot = number as usize;
            assert!(table[slot].is_none(), "a system call has two handlers");
            table[slot] = Some(handler);
            c += 1;
        }
        f += 1;
    }
    table
};

/// The handler of a system call number, if it has one.
pub fn handler(number: u64) -> Option<Handler> {
    TABLE.get(usize::try_from(number).ok()?).copied().flatten()
}
