//! Running a machine: its processors' threads, and the order in which everything ends.
//!
//! First the processors stop, so that nothing is added any more; then the devices hand over what the guest had given
//! them (output above all); then everything is stopped. A [`Stopper`](crate::Stopper) cuts each of these short.

use crate::boot;
use crate::bus::{Bus, memory_fault};
use crate::kvm::cpu;
use crate::kvm::posted::PostedWrites;
use crate::kvm::vcpu::{Exit, Vcpu};
use crate::losses::{Mender, Patience};
use crate::machine::{Error, Machine, ShareHandle};
use crate::outcome::{Finished, MachineStats, MemoryFault, Outcome, ShareStats};
use crate::remains::Remains;
use crate::worker::{borrow, eventfd, install_handler, interrupt, wait_readable};
use diolkos_common::cmdline::ClockSample;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use vmm_sys_util::eventfd::EventFd;

/// What the processors' threads share with the one that waits for them.
struct Shared {
    bus: Arc<Bus>,
    mender: Option<Mender>,
    halt: AtomicBool,
    over: EventFd,
    outcome: Mutex<Option<Outcome>>,
    posted: Option<Mutex<Posted>>,
    first_entry: OnceLock<Instant>,
}

/// Register writes without an exit, and how many there were.
struct Posted {
    writes: PostedWrites,
    count: u64,
}

impl Shared {
    /// Lets the devices see what was written to their registers before the exit that is about to be handled.
    fn apply_posted(&self) {
        let Some(posted) = &self.posted else { return };
        // Held while the writes are applied: another processor's exit must not overtake them.
        let mut posted = posted.lock().unwrap_or_else(PoisonError::into_inner);
        posted.count += posted.writes.apply(|address, data| self.bus.posted(address, data));
    }

    /// The first outcome counts.
    fn finish(&self, outcome: Outcome) {
        let mut slot = self.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        slot.get_or_insert(outcome);
        let _ = self.over.write(1);
    }
}

type Exits = BTreeMap<&'static str, u64>;

impl Machine {
    /// Runs the machine to its end.
    ///
    /// # Errors
    /// When it could not be started; a machine that started always has an [`Outcome`].
    pub fn run(self) -> Result<Finished, Error> {
        install_handler();
        let over = eventfd().map_err(|source| Error::Host { what: "end signal", source })?;
        self.write_boot_information()?;
        let Self { vcpus, bus, vm, shares, disks, interrupters, mender, stopper, posted, mut moments, .. } = self;
        let shared = Arc::new(Shared {
            bus: bus.clone(),
            mender,
            halt: AtomicBool::new(false),
            over,
            outcome: Mutex::default(),
            posted: posted.map(|writes| Mutex::new(Posted { writes, count: 0 })),
            first_entry: OnceLock::new(),
        });
        let mut threads = Vec::with_capacity(vcpus.len());
        for (id, vcpu) in vcpus.into_iter().enumerate() {
            threads.push(start(id, vcpu, shared.clone())?);
        }
        if !stopper.requested() {
            wait_for_end(&shared, stopper.fd(), !vm.fails_at_once());
        }
        if stopper.requested() {
            shared.finish(Outcome::Stopped);
        }
        shared.halt.store(true, Ordering::Release);
        let exits = join(threads, &shared);
        if let Some(first_entry) = shared.first_entry.get() {
            moments.passed("processor started", *first_entry);
        }
        moments.pass("processors stopped");

        bus.pci.slots().for_each(|mut device| device.drain());
        while !stopper.requested() && !bus.pci.slots().all(|mut device| device.drained()) {
            wait_readable(stopper.fd(), Duration::from_micros(100));
        }
        moments.pass("output handed over");
        bus.pci.slots().for_each(|mut device| device.stop());
        moments.pass("machine gone");

        let outcome = shared.outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        let outcome = match (bus.end(), outcome) {
            // What the kernel said counts for more than how the machine then came to its end.
            (Some(end), _) => Outcome::Ended(end),
            (None, outcome) => locate(outcome.unwrap_or(Outcome::Stopped), &shares),
        };
        let mut exits = exits;
        if bus.unclaimed() > 0 {
            exits.insert("unclaimed", bus.unclaimed());
        }
        let posted = shared.posted.as_ref().map(|posted| posted.lock().unwrap_or_else(PoisonError::into_inner).count);
        let stats = MachineStats {
            exits,
            interrupts: interrupters.iter().map(|interrupter| interrupter.sent()).sum(),
            shares: shares.iter().map(share_stats).collect(),
            disks: disks.iter().map(|disk| (disk.name().to_string(), disk.stats())).collect(),
            posted: posted.unwrap_or(0),
            moments,
        };
        let windows = shares.into_iter().filter_map(|share| Some(share.window?.1)).collect();
        Ok(Finished { outcome, stats, remains: Remains::new(bus, vm, windows) })
    }

    fn write_boot_information(&self) -> Result<(), Error> {
        let mut boot = self.boot.clone();
        // The two readings belong together: nothing comes between them, and the guest's first instruction soon after.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let host_tsc = cpu::host_tsc();
        boot.clock = Some(ClockSample { wall_ns: wall.as_nanos() as u64, host_tsc });
        Ok(boot::write_information(
            self.ram.memory(),
            &self.layout.ram,
            self.command_line,
            &boot.encode(),
            self.initrd,
        )?)
    }
}

/// How often a machine is looked after whose failed accesses are not reported.
const PATROL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Waits until the machine is over or is to stop; looks after its windows meanwhile if it has to be `patrolled`.
fn wait_for_end(shared: &Shared, stop: BorrowedFd<'_>, patrolled: bool) {
    let mut fds = [stop, borrow(&shared.over)].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let mender = shared.mender.as_ref().filter(|_| patrolled);
    loop {
        match (poll(&mut fds, mender.map(|_| &PATROL)), mender) {
            (Ok(0), Some(mender)) => mender.patrol(),
            (Ok(_), _) => return,
            (Err(_), _) => {}
        }
    }
}

fn start(id: usize, mut vcpu: Vcpu, shared: Arc<Shared>) -> Result<JoinHandle<Exits>, Error> {
    let body = move || {
        let guard = FinishOnPanic(shared);
        let shared = &guard.0;
        let mut exits = Exits::new();
        let mut patience = Patience::default();
        if id == 0 {
            let _ = shared.first_entry.set(Instant::now());
        }
        while !shared.halt.load(Ordering::Acquire) {
            let exit = vcpu.run();
            *exits.entry(exit.name()).or_default() += 1;
            shared.apply_posted();
            let outcome = match exit {
                Exit::MemoryFault(address) => {
                    let mended = shared.mender.as_ref().map(|mender| mender.mend(address));
                    if mended.is_some_and(|mended| patience.allows(mended, vcpu.registers())) {
                        continue;
                    }
                    Some(memory_fault(address))
                }
                exit => shared.bus.handle(exit),
            };
            if let Some(mut outcome) = outcome {
                if let Outcome::MemoryFault(fault) = &mut outcome {
                    fault.position = vcpu.position();
                }
                shared.finish(outcome);
                break;
            }
        }
        exits
    };
    std::thread::Builder::new()
        .name(format!("vcpu-{id}"))
        .spawn(body)
        .map_err(|source| Error::Host { what: "processor thread", source })
}

/// A processor's thread that panics must not leave the machine waiting for ever.
struct FinishOnPanic(Arc<Shared>);

impl Drop for FinishOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.finish(Outcome::Failed("a processor's thread panicked".into()));
        }
    }
}

fn join(threads: Vec<JoinHandle<Exits>>, shared: &Shared) -> Exits {
    let mut all = Exits::new();
    for thread in threads {
        while !thread.is_finished() {
            interrupt(&thread);
            std::thread::sleep(Duration::from_micros(50));
        }
        match thread.join() {
            Ok(exits) => exits.into_iter().for_each(|(name, count)| *all.entry(name).or_default() += count),
            Err(_) => shared.finish(Outcome::Failed("a processor's thread panicked".into())),
        }
    }
    all
}

/// Says in which window a memory fault was.
fn locate(outcome: Outcome, shares: &[ShareHandle]) -> Outcome {
    let Outcome::MemoryFault(MemoryFault { address: Some(address), position, .. }) = outcome else { return outcome };
    let window = shares.iter().find_map(|share| {
        let (place, _) = share.window.as_ref()?;
        let offset = address.checked_sub(place.base).filter(|offset| *offset < place.len)?;
        Some((share.tag.clone(), offset))
    });
    Outcome::MemoryFault(MemoryFault { address: Some(address), window, position })
}

fn share_stats(share: &ShareHandle) -> ShareStats {
    ShareStats {
        tag: share.tag.clone(),
        requests: share.requests.by_name(),
        window: share.window.as_ref().map(|(_, window)| window.stats()),
    }
}
