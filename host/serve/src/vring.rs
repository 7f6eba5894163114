//! One queue: what the front-end has said of it, and, while it runs, the thread that serves it.
//!
//! A queue runs from the moment the front-end has given its doorbell (and enabled it, where that was agreed upon) until it asks
//! for the queue's position back. Position, doorbells and thread are all there is to hand over; requests are served
//! one by one, so none is ever in between.

use crate::memory::Memory;
use crate::shmem::ShmemWindow;
use diolkos_vmm::fs::FileServer;
use diolkos_vmm::polling::Polling;
use diolkos_vmm::worker::{Control, Mode, Worker};
use rustix::event::PollFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use thiserror::Error;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryMmap};

/// Largest queue: what a guest may have waiting at once.
pub const MAX_SIZE: u16 = 1024;

/// How long a queue that is to stop may wait for the front-end's answer to a mapping. Whoever asks for a stop and does not
/// answer meanwhile waits for us as we wait for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a queue does not do what it is told.
#[derive(Debug, Error)]
pub enum VringError {
    /// A size that is not a power of two up to [`MAX_SIZE`].
    #[error("a queue of {0} entries: must be a power of two up to {MAX_SIZE}")]
    Size(u32),
    /// A position beyond a ring's.
    #[error("a queue's position is {0:#x}")]
    Base(u32),
    /// It runs.
    #[error("a queue is changed while it runs")]
    Running,
    /// An address outside the memory lent, or not aligned.
    #[error("a queue's {0} is at {1:#x}, outside the guest's memory")]
    Address(&'static str, u64),
    /// A ring that ends outside the memory lent.
    #[error("a queue leaves the guest's memory")]
    Outside,
    /// Something is missing.
    #[error("a queue is started before its memory and its addresses are known")]
    Early,
    /// A doorbell that is none.
    #[error("a queue without a doorbell cannot be served")]
    NoDoorbell,
    /// The host gives no thread.
    #[error("cannot start a queue's thread: {0}")]
    Thread(io::Error),
    /// See [`PATIENCE`].
    #[error("the front-end stops a queue and does not answer the request this queue waits for")]
    Deadlock,
}

/// Where the front-end has the three parts of a ring, in its own addresses.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// Descriptor table.
    pub descriptors: u64,
    /// Available ring.
    pub available: u64,
    /// Used ring.
    pub used: u64,
}

/// A descriptor that the front-end may replace while the queue runs.
#[derive(Debug, Default)]
struct Signal(Mutex<Option<File>>);

impl Signal {
    fn set(&self, file: Option<File>) {
        *self.lock() = file;
    }

    fn lock(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one to the eventfd. That nobody hears it is nothing we could mend.
    fn raise(&self) {
        if let Some(file) = &*self.lock() {
            let _ = rustix::io::write(file, &1u64.to_ne_bytes());
        }
    }
}

/// What all queues have in common.
pub struct Common {
    /// The file server.
    pub server: Arc<FileServer>,
    /// The window behind it.
    pub window: Option<Arc<ShmemWindow>>,
    /// The memory lent last; queues look at every request, so it can change while they run.
    pub memory: Mutex<Option<Arc<Memory>>>,
    /// Says something to the user.
    pub say: fn(&str),
}

impl Common {
    /// The memory lent last.
    pub fn memory(&self) -> Option<Arc<Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A queue.
pub struct Vring {
    size: u16,
    base: u16,
    addresses: Option<Addresses>,
    kick: Option<Arc<File>>,
    call: Arc<Signal>,
    error: Arc<Signal>,
    enabled: bool,
    running: Option<Running>,
}

struct Running {
    worker: Worker,
    /// The position, as far as the worker has come.
    next: Arc<AtomicU16>,
}

impl Vring {
    /// A queue of which nothing is known.
    pub fn new() -> Self {
        Self {
            size: MAX_SIZE,
            base: 0,
            addresses: None,
            kick: None,
            call: Arc::default(),
            error: Arc::default(),
            enabled: false,
            running: None,
        }
    }

    fn still(&self) -> Result<(), VringError> {
        if self.running.is_some() { Err(VringError::Running) } else { Ok(()) }
    }

    /// Sets the number of entries.
    ///
    /// # Errors
    /// [`VringError::Size`], [`VringError::Running`].
    pub fn set_size(&mut self, size: u32) -> Result<(), VringError> {
        self.still()?;
        let valid = u16::try_from(size).ok().filter(|size| size.is_power_of_two() && *size <= MAX_SIZE);
        self.size = valid.ok_or(VringError::Size(size))?;
        Ok(())
    }

    /// Sets the position from which to go on.
    ///
    /// # Errors
    /// [`VringError::Base`], [`VringError::Running`].
    pub fn set_base(&mut self, base: u32) -> Result<(), VringError> {
        self.still()?;
        self.base = u16::try_from(base).map_err(|_| VringError::Base(base))?;
        Ok(())
    }

    /// Sets where the rings lie; they are looked up when the queue starts.
    ///
    /// # Errors
    /// [`VringError::Running`].
    pub fn set_addresses(&mut self, addresses: Addresses) -> Result<(), VringError> {
        self.still()?;
        self.addresses = Some(addresses);
        Ok(())
    }

    /// Sets the way to interrupt the guest; none if it is not to be interrupted.
    pub fn set_call(&mut self, file: Option<File>) {
        self.call.set(file);
    }

    /// Sets the way to tell that the queue is broken.
    pub fn set_error(&mut self, file: Option<File>) {
        self.error.set(file);
    }

    /// Sets the doorbell, and starts the queue if it may run.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn set_kick(&mut self, kick: Option<File>, common: &Arc<Common>, event_index: bool) -> Result<(), VringError> {
        let kick = kick.ok_or(VringError::NoDoorbell)?;
        self.pause(common.window.as_deref())?;
        self.kick = Some(Arc::new(kick));
        self.start(common, event_index)
    }

    /// Lets the queue run, or not.
    ///
    /// # Errors
    /// Why it cannot be started or stopped.
    pub fn enable(&mut self, enable: bool, common: &Arc<Common>, event_index: bool) -> Result<(), VringError> {
        self.enabled = enable;
        if enable { self.start(common, event_index) } else { self.pause(common.window.as_deref()) }
    }

    /// Starts the thread if everything is there and nothing forbids it.
    fn start(&mut self, common: &Arc<Common>, event_index: bool) -> Result<(), VringError> {
        let (Some(kick), true, None) = (&self.kick, self.enabled, &self.running) else { return Ok(()) };
        let (Some(memory), Some(addresses)) = (common.memory(), self.addresses) else {
            return Err(VringError::Early);
        };
        let queue = self.queue(&memory, addresses, event_index)?;
        let next = Arc::new(AtomicU16::new(self.base));
        let mut ring = Ring {
            queue,
            kick: kick.clone(),
            call: self.call.clone(),
            error: self.error.clone(),
            common: common.clone(),
            next: next.clone(),
        };
        let worker = Worker::spawn("vhost-user-fs", move |control| ring.run(control)).map_err(VringError::Thread)?;
        self.running = Some(Running { worker, next });
        Ok(())
    }

    fn queue(&self, memory: &Memory, addresses: Addresses, event_index: bool) -> Result<Queue, VringError> {
        let entries = u64::from(self.size);
        let guest = memory.guest();
        // Section 2.7: an entry of the descriptor table has 16 bytes, of the available ring 2, of the used ring 8; each
        // ring has 6 more.
        let place = |what, address, align: u64, len: u64| {
            let at = memory.translate(address).filter(|at| at.0.is_multiple_of(align));
            let at = at.ok_or(VringError::Address(what, address))?;
            if guest.check_range(at, len as usize) { Ok(at) } else { Err(VringError::Outside) }
        };
        let descriptors = place("descriptor table", addresses.descriptors, 16, 16 * entries)?;
        let available = place("available ring", addresses.available, 2, 6 + 2 * entries)?;
        let used = place("used ring", addresses.used, 4, 6 + 8 * entries)?;
        let halves = |at: GuestAddress| (Some(at.0 as u32), Some((at.0 >> 32) as u32));
        let mut queue = Queue::new(MAX_SIZE).expect("MAX_SIZE is a power of two");
        queue.set_size(self.size);
        let (low, high) = halves(descriptors);
        queue.set_desc_table_address(low, high);
        let (low, high) = halves(available);
        queue.set_avail_ring_address(low, high);
        let (low, high) = halves(used);
        queue.set_used_ring_address(low, high);
        queue.set_event_idx(event_index);
        queue.set_next_avail(self.base);
        // The front-end hands over one position only; the other is in the ring.
        let used = queue.used_idx(guest, Ordering::Acquire).map_err(|_| VringError::Outside)?;
        queue.set_next_used(used.0);
        queue.set_ready(true);
        Ok(queue)
    }

    /// Stops the thread when it has finished the request it is at, and keeps the position.
    fn pause(&mut self, window: Option<&ShmemWindow>) -> Result<(), VringError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        running.worker.drain();
        while !running.worker.finishes_within(PATIENCE) {
            if window.is_some_and(ShmemWindow::waits) {
                // Dropping a worker waits for it, and this one waits for somebody who waits for us. The process is about to end.
                std::mem::forget(running.worker);
                return Err(VringError::Deadlock);
            }
            // A doorbell that blocks is none: a pipe, say, that nobody reads.
            running.worker.interrupt();
        }
        self.base = running.next.load(Ordering::Acquire);
        Ok(())
    }

    /// Stops the queue for good and returns its position.
    ///
    /// # Errors
    /// [`VringError::Deadlock`].
    pub fn stop(&mut self, window: Option<&ShmemWindow>) -> Result<u16, VringError> {
        self.pause(window)?;
        self.kick = None;
        self.set_call(None);
        Ok(self.base)
    }
}

/// A queue at work, on its thread.
struct Ring {
    queue: Queue,
    kick: Arc<File>,
    call: Arc<Signal>,
    error: Arc<Signal>,
    common: Arc<Common>,
    next: Arc<AtomicU16>,
}

impl Ring {
    fn run(&mut self, control: &Control) {
        let mut polling = Polling::default();
        while control.mode() == Mode::Run {
            if let Err(error) = self.serve(control, &mut polling) {
                (self.common.say)(&format!("a queue of the guest makes no sense ({error}); it is not served any more"));
                self.error.raise();
                return;
            }
            let began = Instant::now();
            control.wait([(self.kick.as_fd(), PollFlags::IN)]);
            polling.slept(began.elapsed());
            if control.mode() == Mode::Run && !self.clear_kick() {
                // Nobody can ring any more. The front-end will tell us more.
                return;
            }
        }
    }

    /// Whether the driver has made a chain available. A ring that makes no sense has one: to take it will say so.
    fn is_ready(&self, guest: &GuestMemoryMmap) -> bool {
        let next = self.queue.next_avail();
        self.queue.avail_idx(guest, Ordering::Acquire).map_or(true, |available| available.0 != next)
    }

    /// Takes the doorbell's events out. False when it is not a doorbell any more.
    fn clear_kick(&self) -> bool {
        let mut count = [0; 8];
        matches!(rustix::io::read(&*self.kick, &mut count), Ok(1..) | Err(Errno::AGAIN | Errno::INTR))
    }

    /// Serves what there is, and what comes while it is worth looking for. Afterwards the driver rings for more.
    fn serve(&mut self, control: &Control, polling: &mut Polling) -> Result<(), virtio_queue::Error> {
        loop {
            // A copy of the handle, not a lock: the front-end may lend other memory while it is answering us.
            let Some(memory) = self.common.memory() else { return Ok(()) };
            let guest = memory.guest();
            if control.mode() != Mode::Run {
                return Ok(());
            }
            let Some(chain) = self.queue.iter(guest)?.next() else {
                if polling.spin(|| control.mode() != Mode::Run || self.is_ready(guest)) {
                    continue;
                }
                if self.queue.enable_notification(guest)? {
                    continue;
                }
                return Ok(());
            };
            let written = self.common.server.serve(guest, &chain);
            self.queue.add_used(guest, chain.head_index(), written)?;
            self.next.store(self.queue.next_avail(), Ordering::Release);
            if self.queue.needs_notification(guest)? {
                self.call.raise();
            }
        }
    }
}
