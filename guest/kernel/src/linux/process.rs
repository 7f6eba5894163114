//! The process and its threads, as Linux sees them.
//!
//! There is one process, number 1, until fork comes; nothing here relies on it. What can be shared is reached through
//! `Arc`s and short spin locks; none is held across anything that sleeps or touches user memory.

use super::fd::FdTable;
use super::fs_context::FsContext;
use super::identity::Credentials;
use super::limits::Limits;
use super::policy::Schedule;
use super::posix_timer::ProcessTimers;
use super::signal::state::{ProcessSignals, ThreadSignals};
use crate::arch::Frame;
use crate::mm::AddressSpace;
use crate::task::{Thread, WaitQueue};
use crate::time;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use diolkos_vfs::{Caller, Errno, Location, Result, WriteDenial};
use spin::Mutex;

/// Most threads a process may have (`/proc/sys/kernel/threads-max`): each costs a kernel stack.
pub const MAX_THREADS: usize = 4096;

/// What was executed last; never changed, only replaced.
#[derive(Default)]
pub struct Program {
    /// The file (`/proc/self/exe`).
    pub exe: Option<Location>,
    /// Keeps others from writing it.
    pub _denial: Option<WriteDenial>,
    /// Arguments as given to exec.
    pub args: Vec<Vec<u8>>,
    /// Environment as given to exec.
    pub env: Vec<Vec<u8>>,
    /// The auxiliary vector.
    pub auxv: Vec<(u64, u64)>,
    /// Addresses of the argument strings and of the environment's on the stack.
    pub arg_range: (u64, u64),
    /// As above.
    pub env_range: (u64, u64),
    /// First and last address of code and of data, for `/proc/self/stat`.
    pub code_range: (u64, u64),
    /// As above.
    pub data_range: (u64, u64),
    /// The stack pointer it started with.
    pub stack_start: u64,
}

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
    /// What it runs.
    pub program: Mutex<Arc<Program>>,
    /// As whom it runs.
    pub credentials: Mutex<Credentials>,
    /// Its resource limits.
    pub limits: Mutex<Limits>,
    /// Its signal actions and what is pending for any of its threads.
    pub signals: Mutex<ProcessSignals>,
    /// Its interval and POSIX timers.
    pub timers: ProcessTimers,
    /// Whether the program may be traced, by prctl(2)'s `PR_SET_DUMPABLE`; only remembered.
    pub dumpable: AtomicU32,
    /// `PR_SET_NO_NEW_PRIVS`; only remembered, there are no privileges to gain.
    pub no_new_privs: AtomicBool,
    /// What it announced to membarrier(2), as commands.
    pub barriers: AtomicU32,
    /// Monotonic time of its start, nanoseconds.
    pub started_ns: u64,
    /// Processor time of threads that have ended, nanoseconds.
    ended_ns: AtomicU64,
    /// Rung whenever a thread has ended.
    pub ended_bell: WaitQueue,
    threads: Mutex<BTreeMap<u32, Arc<UserThread>>>,
    next_tid: AtomicU32,
}

impl Process {
    /// A process without threads.
    pub fn new(pid: u32, space: Arc<AddressSpace>, fs: Arc<FsContext>, credentials: Credentials) -> Arc<Self> {
        Arc::new(Self {
            pid,
            space: Mutex::new(space),
            files: Arc::new(FdTable::new()),
            fs,
            program: Mutex::default(),
            credentials: Mutex::new(credentials),
            limits: Mutex::new(Limits::default()),
            signals: Mutex::new(ProcessSignals::default()),
            timers: ProcessTimers::default(),
            dumpable: AtomicU32::new(1),
            no_new_privs: AtomicBool::new(false),
            barriers: AtomicU32::new(0),
            started_ns: time::monotonic_ns(),
            ended_ns: AtomicU64::new(0),
            ended_bell: WaitQueue::new(),
            threads: Mutex::default(),
            next_tid: AtomicU32::new(pid + 1),
        })
    }

    /// The present address space.
    pub fn space(&self) -> Arc<AddressSpace> {
        self.space.lock().clone()
    }

    /// What it runs.
    pub fn program(&self) -> Arc<Program> {
        self.program.lock().clone()
    }

    /// Replaces what it runs.
    pub fn set_program(&self, program: Program) {
        let program = Arc::new(program);
        // The old one is dropped after the lock: its file may have something to tell the host.
        let _old = core::mem::replace(&mut *self.program.lock(), program);
    }

    /// The thread with this number.
    pub fn thread(&self, tid: u32) -> Option<Arc<UserThread>> {
        self.threads.lock().get(&tid).cloned()
    }

    /// All threads, by number.
    pub fn threads(&self) -> Vec<Arc<UserThread>> {
        self.threads.lock().values().cloned().collect()
    }

    /// How many threads there are.
    pub fn thread_count(&self) -> usize {
        self.threads.lock().len()
    }

    /// Enters a thread that is about to start; the first one has the process' number.
    ///
    /// # Errors
    /// `EAGAIN` over [`MAX_THREADS`].
    pub fn add_thread(self: &Arc<Self>, signals: ThreadSignals, name: [u8; 16]) -> Result<Arc<UserThread>> {
        let tid = if self.thread_count() == 0 { self.pid } else { self.next_tid.fetch_add(1, Ordering::Relaxed) };
        self.add_numbered(tid, signals, name)
    }

    /// Enters the thread that takes over from the only one there is, whose number is not the process', as exec has it.
    ///
    /// # Errors
    /// As [`Process::add_thread`].
    pub fn add_leader(self: &Arc<Self>, signals: ThreadSignals, name: [u8; 16]) -> Result<Arc<UserThread>> {
        self.add_numbered(self.pid, signals, name)
    }

    fn add_numbered(self: &Arc<Self>, tid: u32, signals: ThreadSignals, name: [u8; 16]) -> Result<Arc<UserThread>> {
        let thread = Arc::new(UserThread {
            tid,
            process: self.clone(),
            signals: Mutex::new(signals),
            signal_bell: WaitQueue::new(),
            name: Mutex::new(name),
            attention: AtomicBool::new(true),
            exiting: AtomicBool::new(false),
            clear_child_tid: AtomicU64::new(0),
            robust_list: AtomicU64::new(0),
            schedule: Mutex::new(Schedule::ORDINARY),
            asks_as: Mutex::new(None),
            start: Mutex::new(None),
            kernel: Mutex::new(Weak::new()),
        });
        let mut threads = self.threads.lock();
        if threads.len() >= MAX_THREADS {
            return Err(Errno::EAGAIN);
        }
        threads.insert(tid, thread.clone());
        Ok(thread)
    }

    /// Takes a thread out; returns how many are left.
    pub fn remove_thread(&self, tid: u32) -> usize {
        let (removed, left) = {
            let mut threads = self.threads.lock();
            (threads.remove(&tid), threads.len())
        };
        if let Some(thread) = removed {
            self.ended_ns.fetch_add(thread.ran_ns(), Ordering::Relaxed);
        }
        self.ended_bell.wake_all();
        left
    }

    /// Processor time of all its threads, in nanoseconds. What the kernel did for them is in it.
    pub fn ran_ns(&self) -> u64 {
        let running: u64 = self.threads().iter().map(|thread| thread.ran_ns()).sum();
        self.ended_ns.load(Ordering::Relaxed) + running
    }
}

/// With what registers a new thread begins.
pub struct Start {
    /// The general registers.
    pub frame: Frame,
    /// Base of fs.
    pub fs_base: u64,
    /// Extended state; empty for the initial one.
    pub xstate: Vec<u8>,
}

/// The program's side of a thread.
pub struct UserThread {
    /// Thread number; the first thread's is the process'.
    pub tid: u32,
    /// Its process.
    pub process: Arc<Process>,
    /// Its signal mask, alternate stack, and what is pending for it alone.
    pub signals: Mutex<ThreadSignals>,
    /// Rung whenever a signal is sent to it.
    pub signal_bell: WaitQueue,
    /// Its name (`PR_SET_NAME`), NUL-terminated.
    pub name: Mutex<[u8; 16]>,
    /// Set when something is due before it runs on in the program: a signal, a call to restart, its end.
    pub attention: AtomicBool,
    /// Set when it is to end before it runs on in the program.
    pub exiting: AtomicBool,
    /// Address to be cleared and woken at its end (set_tid_address(2)); 0 for none.
    pub clear_child_tid: AtomicU64,
    /// Address of its list of robust futexes; 0 for none.
    pub robust_list: AtomicU64,
    /// What it was told about its scheduling.
    pub schedule: Mutex<Schedule>,
    /// As whom it asks file systems for the length of a call, if not as its process.
    pub asks_as: Mutex<Option<Option<Arc<Caller>>>>,
    /// How it begins; taken when it does.
    pub start: Mutex<Option<Box<Start>>>,
    kernel: Mutex<Weak<Thread>>,
}

impl UserThread {
    /// Ties it to the kernel's thread that runs it, so that signals find it.
    pub fn attach(&self, kernel: &Arc<Thread>) {
        *self.kernel.lock() = Arc::downgrade(kernel);
    }

    /// The kernel's thread.
    pub fn kernel(&self) -> Option<Arc<Thread>> {
        self.kernel.lock().upgrade()
    }

    /// Processor time it has had, in nanoseconds.
    pub fn ran_ns(&self) -> u64 {
        self.kernel().map_or(0, |kernel| kernel.ran_ns())
    }

    /// Has it look for signals: at once if it sleeps interruptibly, else on its way back to the program.
    pub fn notify(&self) {
        self.attention.store(true, Ordering::SeqCst);
        self.signal_bell.wake_all();
        if let Some(kernel) = self.kernel() {
            kernel.interrupt();
        }
    }

    /// Whether something is due before it runs on in the program.
    pub fn is_due(&self) -> bool {
        self.attention.load(Ordering::SeqCst)
    }

    /// The name up to its NUL.
    pub fn name_bytes(&self) -> Vec<u8> {
        let name = *self.name.lock();
        name.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
    }
}

/// A thread's name from a file's: the last component, cut to 15 bytes (prctl(2)).
pub fn short_name(path: &[u8]) -> [u8; 16] {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let mut name = [0; 16];
    let len = last.len().min(15);
    name[..len].copy_from_slice(&last[..len]);
    name
}
