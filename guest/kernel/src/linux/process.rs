//! The process and its threads, as Linux sees them.

use super::fd::FdTable;
use super::fs_context::FsContext;
use crate::mm::AddressSpace;
use alloc::sync::Arc;
use spin::Mutex;

/// A process: what its threads share.
pub struct Process {
    /// Its number; 1 for the program the machine was started for.
    pub pid: u32,
    /// Its memory. Replaced by exec.
    pub space: Mutex<Arc<AddressSpace>>,
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Its place in the file tree: root, working directory, umask.
    pub fs: Arc<FsContext>,
}

/// The program's side of a thread.
pub struct UserThread {
    /// Thread number; the first thread's is the process'.
    pub tid: u32,
    /// Its process.
    pub process: Arc<Process>,
}
