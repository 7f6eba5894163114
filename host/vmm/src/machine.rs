//! Building a machine: one short function a part, then one that reads as a list.

use crate::boot::{self, BootError, Loaded};
use crate::bus::Bus;
use crate::config::{DiskConfig, MAX_CPUS, MachineConfig, ShareConfig};
use crate::confine::{self, ConfineError, Confined, Directory, Front};
use crate::initrd::{self, Initrd};
use crate::keeper;
use crate::kvm::posted::PostedWrites;
use crate::kvm::vcpu::Vcpu;
use crate::kvm::{Host, Hypervisor, KvmError, Vm, cpu};
use crate::layout::{ECAM, LOSSES, Layout, LayoutError, MAX_DEVICES, READ_ONLY_SIZE, START_INFO, WindowPlace};
use crate::losses::{Mended, Mender};
use crate::memory::{MemoryError, Ram};
use crate::moments::Moments;
use crate::pci::{PciDevice, PciRoot};
use crate::shadow::Shadow;
use crate::stop::Stopper;
use crate::virtio::blk::disk::{Disk, OpenError};
use crate::virtio::blk::{Blk, MAX_QUEUES};
use crate::virtio::console::{Console, Stdio};
use crate::virtio::fs::requests::Requests;
use crate::virtio::fs::server::FileServer;
use crate::virtio::fs::share::{Share, ShareError, check_tags};
use crate::virtio::fs::window::{DaxWindow, MAX_RUNS, Window};
use crate::virtio::fs::{Fs, MAX_REQUEST_QUEUES};
use crate::virtio::interrupt::Interrupter;
use crate::virtio::pci::{Attachment, VirtioPci};
use crate::virtio::rng::Rng;
use diolkos_common::cmdline::{BootOptions, ClockSample, SEED};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use thiserror::Error;

/// Why there is no machine.
#[derive(Debug, Error)]
pub enum Error {
    /// A KVM call failed.
    #[error(transparent)]
    Kvm(#[from] KvmError),
    /// Sizes that do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The kernel or the command line.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A shared directory.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A disk.
    #[error(transparent)]
    Disk(#[from] OpenError),
    /// More processors than there can be, or none.
    #[error("{count} processors: this machine can have 1 to {most}")]
    Processors {
        /// What was asked for.
        count: u32,
        /// What KVM and the kernel can do.
        most: u32,
    },
    /// The host gives no thread or descriptor.
    #[error("cannot make the machine's {what}: {source}")]
    Host {
        /// What was to be made.
        what: &'static str,
        /// The host's reason.
        source: io::Error,
    },
}

/// A share as the machine counts it.
pub(crate) struct ShareHandle {
    pub tag: String,
    pub directory: OwnedFd,
    pub writable: bool,
    pub requests: Arc<Requests>,
    pub window: Option<(WindowPlace, Arc<Window>)>,
}

/// A machine that has not started.
pub struct Machine {
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) bus: Arc<Bus>,
    pub(crate) vm: Arc<Vm>,
    pub(crate) ram: Arc<Ram>,
    pub(crate) layout: Layout,
    pub(crate) boot: BootOptions,
    pub(crate) command_line: u64,
    pub(crate) initrd: Option<Initrd>,
    pub(crate) shares: Vec<ShareHandle>,
    pub(crate) disks: Vec<Arc<Disk>>,
    pub(crate) interrupters: Vec<Arc<Interrupter>>,
    /// Cares for accesses to lost window pages, if the guest can be told of them.
    pub(crate) mender: Option<Mender>,
    pub(crate) stopper: Stopper,
    pub(crate) posted: Option<PostedWrites>,
    pub(crate) moments: Moments,
}

impl Machine {
    /// Builds the machine on `hypervisor`. No thread is started and no guest instruction run yet, so the caller may still
    /// confine the process; every file the machine needs from outside is open, `/proc/self/fd` apart.
    ///
    /// # Errors
    /// [`enum@Error`] names the option or file at fault.
    pub fn new(hypervisor: Hypervisor, config: MachineConfig) -> Result<Self, Error> {
        let mut moments = Moments::default();
        check_tags(config.shares.iter().map(|share| share.tag.as_str()))?;
        let devices = config.shares.len() + config.disks.len();
        if devices > MAX_DEVICES {
            return Err(LayoutError::TooManyDevices(devices).into());
        }
        let Hypervisor { host, vm } = hypervisor;
        let vm = Arc::new(vm);
        let most = host.max_cpus().min(MAX_CPUS);
        if config.cpus == 0 || config.cpus > most {
            return Err(Error::Processors { count: config.cpus, most });
        }
        let sizes: Vec<_> = config.shares.iter().map(|share| (share.tag.as_str(), share.window)).collect();
        let layout = Layout::plan(config.memory, &sizes, cpu::phys_bits(host.cpuid()))?;
        let ram = Arc::new(Ram::new(&layout.ram)?);
        let kernel = boot::load(ram.memory(), layout.ram[0].len, &config.kernel)?;
        moments.pass("kernel in memory");

        let shadow = Shadow::new()?;
        let mut parts = Parts { vm: vm.clone(), ram: ram.clone(), shadow: shadow.clone(), devices: Vec::new() };
        let mut shares = Vec::with_capacity(config.shares.len());
        for (share, place) in config.shares.iter().zip(&layout.windows) {
            shares.push(parts.share(share, *place, &config)?);
        }
        let disk = |disk| parts.disk(disk, config.cpus);
        let disks = config.disks.iter().map(disk).collect::<Result<_, _>>()?;
        parts.console(config.stdio)?;
        parts.attach(Box::new(Rng::default()), None)?;

        moments.pass("devices made");

        let record_is_memory = map_memory(&vm, &ram, &shadow)?;
        // Now, since after writes are posted and while a processor runs KVM takes milliseconds for a slot of any size: it
        // waits for a grace period of SRCU then (`kvm_swap_active_memslots` in virt/kvm/kvm_main.c).
        shares.iter().filter_map(|share| share.window.as_ref()).for_each(|(_, window)| window.show());
        moments.pass("memory shown to KVM");
        let interrupters: Vec<_> = parts.devices.iter().map(VirtioPci::interrupter).collect();
        let mender = record_is_memory.then(|| mender(&shares, &interrupters, &shadow));
        let posted: Vec<_> = parts.devices.iter().flat_map(VirtioPci::posted).collect();
        let devices = parts.devices.into_iter().map(|device| Box::new(device) as Box<dyn PciDevice>).collect();
        let windows = layout.windows.iter().flatten().map(|place| place.base..place.base + place.len).collect();
        let bus = Arc::new(Bus::new(PciRoot::new(shadow, devices), ram.clone(), windows, config.on_record));
        let (vcpus, mut boot) = processors(&vm, &host, &kernel, config.cpus, config.boot)?;
        let posted = PostedWrites::new(&vm, vcpus[0].fd(), &posted)?;
        boot.losses = mender.is_some().then_some(LOSSES);
        let command_line = boot::place_command_line(boot.encode().len(), &kernel, layout.ram[0].len)?;
        let initrd = config.initrd.as_deref().map(|path| {
            // Whatever was placed before it lies below: the kernel, and a command line that is too long for its usual place.
            let floor = (command_line + boot.encode().len() as u64 + 1).max(kernel.end);
            initrd::load(ram.memory(), floor, layout.ram[0].len, path)
        });
        let initrd = initrd.transpose()?;
        let stopper = Stopper::new().map_err(|source| Error::Host { what: "stop signal", source })?;
        moments.pass("machine built");
        Ok(Self {
            vcpus,
            bus,
            vm,
            ram,
            layout,
            boot,
            command_line,
            initrd,
            shares,
            disks,
            interrupters,
            mender,
            stopper,
            posted,
            moments,
        })
    }

    /// Confines the process to what the machine needs from now on: its shares, its open files, and the system calls it
    /// makes. Nothing of it can be undone, and the calling thread must be the process' only one. What takes the machine down
    /// when the process has ended, `keeper`, is started before.
    ///
    /// # Errors
    /// [`ConfineError`].
    pub fn confine(&self) -> Result<Confined, ConfineError> {
        let directories: Vec<_> = self
            .shares
            .iter()
            .map(|share| Directory { fd: share.directory.as_fd(), writable: share.writable })
            .collect();
        if let Err(error) = keeper::start() {
            tracing::debug!("the end of this process will wait for the machine's: {error}");
        }
        confine::confine(&directories, Front::Machine)
    }

    /// Something that stops the machine, from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

/// What devices are made of, and the devices so far.
struct Parts {
    vm: Arc<Vm>,
    ram: Arc<Ram>,
    shadow: Arc<Shadow>,
    devices: Vec<VirtioPci>,
}

impl Parts {
    fn attach(&mut self, device: Box<dyn crate::virtio::Device>, window: Option<WindowPlace>) -> Result<(), Error> {
        let at = Attachment {
            slot: self.devices.len() + 1,
            ram: self.ram.clone(),
            shadow: self.shadow.clone(),
            platform: self.vm.clone(),
            window,
        };
        let device = VirtioPci::new(device, at).map_err(|source| Error::Host { what: "doorbells", source })?;
        self.devices.push(device);
        Ok(())
    }

    fn share(
        &mut self,
        config: &ShareConfig,
        place: Option<WindowPlace>,
        machine: &MachineConfig,
    ) -> Result<ShareHandle, Error> {
        let share = Share::open(&config.source)?;
        let directory = share.directory().map_err(|source| Error::Host { what: "share", source })?;
        let window = match place {
            Some(place) => {
                let window = Window::new(place.len, config.writable, MAX_RUNS / machine.shares.len())?;
                let (vm, slot, mapping) =
                    (self.vm.clone(), WINDOW_SLOT + self.devices.len() as u32, window.mapping().clone());
                let show = move || vm.map(slot, place.base, place.len, &mapping, false);
                Some((place, Arc::new(window.shown_by(show))))
            }
            None => None,
        };
        let served = window.as_ref().map(|(_, window)| window.clone() as Arc<dyn DaxWindow>);
        let server = FileServer::new(share, config.writable, config.cache, served)
            .map_err(|source| ShareError::Server { path: config.source.clone(), source })?;
        let requests = server.requests();
        // A queue for each processor, as for disks.
        let queues = machine.cpus.min(MAX_REQUEST_QUEUES.into()) as u16;
        self.attach(Box::new(Fs::new(&config.tag, server, queues)), place)?;
        Ok(ShareHandle { tag: config.tag.clone(), directory, writable: config.writable, requests, window })
    }

    fn disk(&mut self, config: &DiskConfig, cpus: u32) -> Result<Arc<Disk>, Error> {
        let disk = Arc::new(Disk::open(&config.source, config.writable)?);
        // A queue for each processor: each asks for its own, and none waits for another's.
        let queues = cpus.min(MAX_QUEUES.into()) as u16;
        self.attach(Box::new(Blk::new(disk.clone(), queues)), None)?;
        Ok(disk)
    }

    fn console(&mut self, stdio: Stdio) -> Result<(), Error> {
        let console = Console::new(stdio).map_err(|source| Error::Host { what: "console", source })?;
        self.attach(Box::new(console), None)
    }
}

/// The devices of the shares are the first on the bus, in the same order.
fn mender(shares: &[ShareHandle], interrupters: &[Arc<Interrupter>], shadow: &Arc<Shadow>) -> Mender {
    let windows = shares.iter().zip(interrupters).filter_map(|(share, interrupter)| {
        let (place, window) = share.window.as_ref()?;
        Some(Mended { base: place.base, window: window.clone(), interrupter: interrupter.clone() })
    });
    Mender::new(windows.collect(), shadow.clone())
}

/// The memory slot of the first share's window; those of RAM and registers come before.
const WINDOW_SLOT: u32 = 8;

/// Fills the machine's memory slots, but those of the windows. Returns whether the guest reads registers as
/// memory.
fn map_memory(vm: &Vm, ram: &Ram, shadow: &Shadow) -> Result<bool, KvmError> {
    let mut slot = 0..;
    let mut next = || slot.next().unwrap_or(u32::MAX);
    for (range, mapping) in ram.mappings() {
        vm.map(next(), range.base, range.len, mapping, false)?;
    }
    // Without it the same bytes are read by exits: slower, not different.
    let mut readable = vm.has_read_only_memory();
    if !readable {
        tracing::info!("KVM has no read-only memory: device registers are read by exits");
    } else if let Err(error) = vm.map(next(), ECAM, READ_ONLY_SIZE, shadow.mapping(), true) {
        tracing::info!("device registers are read by exits: {error}");
        readable = false;
    }
    Ok(readable)
}

/// Random bytes for the kernel: they cost a system call, and those of the entropy device a third of a millisecond. `None` when the
/// host has none at once; the kernel asks the device then.
fn seed() -> Option<[u8; SEED]> {
    let mut seed = [0; SEED];
    // Up to 256 bytes getrandom(2) does not stop short.
    (getrandom(&mut seed, GetRandomFlags::NONBLOCK) == Ok(SEED)).then_some(seed)
}

/// The processors, and what the kernel is told about them and about time. All but the first wait until the kernel starts
/// them. (The clock is a placeholder of the greatest length: it is read as late as can be, and its length must be known
/// before.)
fn processors(
    vm: &Arc<Vm>,
    host: &Host,
    kernel: &Loaded,
    count: u32,
    mut boot: BootOptions,
) -> Result<(Vec<Vcpu>, BootOptions), KvmError> {
    let mut vcpus = Vec::new();
    for id in 0..count {
        let fd = vm.create_vcpu(id)?;
        cpu::describe(&fd, host, id, count)?;
        if id == 0 {
            cpu::set_up(&fd, kernel.entry, START_INFO as u32)?;
        }
        cpu::share_tsc(&fd);
        boot.tsc_khz = cpu::tsc_khz(&fd);
        vcpus.push(Vcpu::new(fd, vm.clone()));
    }
    boot.cpus = count as usize;
    boot.ecam = Some(ECAM);
    boot.report_memory = true;
    boot.seed = seed();
    boot.clock = Some(ClockSample { wall_ns: u64::MAX, host_tsc: u64::MAX });
    Ok((vcpus, boot))
}
