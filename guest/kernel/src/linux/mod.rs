//! The Linux ABI: what a program asks by `syscall`, decoded here and handed to the room it concerns.
//!
//! A handler is thin: decode to domain types, refuse with the exact errno, call a subsystem, encode. Number to
//! handler is data: each family lists its calls, [`table`] gathers them. A number nobody lists returns `ENOSYS`
//! and is counted.

pub mod attributes;
pub mod copy;
pub mod descriptors;
pub mod directory;
pub mod epoll;
pub mod fd;
pub mod fs_context;
pub mod ioctl;
pub mod locks;
pub mod names;
pub mod open;
pub mod open_file;
pub mod pipe;
pub mod poll;
pub mod position;
pub mod process;
pub mod read_write;
pub mod socket;
pub mod stat;
pub mod sync;
pub mod table;
pub mod timeout;
pub mod xattr;

use crate::arch::Frame;
use alloc::sync::Arc;
use diolkos_vfs::Result;
use process::{Process, UserThread};

/// One system call in progress.
pub struct Call<'a> {
    /// The six arguments as the program left them in rdi, rsi, rdx, r10, r8, r9.
    pub args: [u64; 6],
    /// The program's registers.
    pub frame: &'a mut Frame,
    /// The thread that called.
    pub thread: &'a Arc<UserThread>,
    /// Its process.
    pub process: &'a Arc<Process>,
}

/// The function behind a system call number. `Ok` is what rax gets.
pub type Handler = fn(&mut Call<'_>) -> Result<u64>;
