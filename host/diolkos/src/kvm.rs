//! Diolkos' own machine on /dev/kvm, as a [`Platform`].

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;

use diolkos_vmm::{
    Confined, DiskConfig, DiskStats, Files, Hypervisor, Machine, MachineConfig, MachineStats, MemoryFault, Moments,
    Outcome, ShareConfig, ShareStats, Stdio, Stopper,
};
use rustix::stdio::{stderr, stdin, stdout};

use crate::clock::Reading;
use crate::descriptors;
use crate::kernel;
use crate::plan::Plan;
use crate::platform::{Finished, Platform, Running};
use crate::report::Listener;
use crate::stats::{Section, bytes, count};
use crate::verdict::{Ending, say};

/// /dev/kvm, found to work.
pub struct Kvm(Hypervisor);

impl Kvm {
    /// # Errors
    /// Why /dev/kvm cannot be used.
    pub fn find() -> Result<Self, String> {
        Hypervisor::open().map(Self).map_err(|error| chain(&error))
    }
}

impl Platform for Kvm {
    fn name(&self) -> String {
        "kvm".to_owned()
    }

    fn no_window(&self) -> Option<&'static str> {
        None
    }

    fn start(
        self: Box<Self>,
        mut plan: Plan,
        listener: Listener,
        signals: UnixStream,
        _began: Reading,
    ) -> Result<Box<dyn Running>, String> {
        // One process serves them all.
        plan.boot.inodes = Some(descriptors::inodes(descriptors::limit(), plan.shares.len()));
        let share = |share: crate::plan::Share| ShareConfig {
            tag: share.tag,
            source: share.source,
            writable: share.writable,
            window: share.window,
            cache: share.cache,
        };
        let disk = |disk: crate::disk::Disk| DiskConfig { source: disk.source, writable: disk.writable };
        let verbose = plan.boot.verbose;
        let config = MachineConfig {
            cpus: plan.boot.cpus as u32,
            memory: plan.memory,
            kernel: Cow::Borrowed(kernel::ELF),
            shares: plan.shares.into_iter().map(share).collect(),
            disks: plan.disks.into_iter().map(disk).collect(),
            initrd: plan.initrd,
            boot: plan.boot,
            stdio: streams(signals).map_err(|error| format!("cannot take over the standard streams: {error}"))?,
            on_record: Box::new(move |record| listener.hear(record)),
        };
        let machine = Machine::new(self.0, config).map_err(|error| chain(&error))?;
        let confined = machine.confine().map_err(|error| chain(&error))?;
        if verbose {
            say(&format!("confinement: {}", describe_confinement(confined)));
        }
        Ok(Box::new(Run { stopper: machine.stopper(), machine }))
    }
}

/// What confinement came to, for the user.
pub fn describe_confinement(confined: Confined) -> &'static str {
    match confined.files {
        Files::Fully => "no new privileges, the shared directories, the system calls of a machine",
        Files::Partly => {
            "no new privileges, the system calls of a machine, the shared directories as far as this kernel's Landlock goes"
        }
        Files::NotAtAll => {
            "no new privileges, the system calls of a machine; not the shared directories: this kernel has no Landlock, or \
             its command line leaves it out (lsm=)"
        }
    }
}

/// Copies of our own, for the machine closes what it is given, and `signals`.
fn streams(signals: UnixStream) -> io::Result<Stdio> {
    Ok(Stdio {
        stdin: stdin().try_clone_to_owned()?,
        stdout: stdout().try_clone_to_owned()?,
        stderr: stderr().try_clone_to_owned()?,
        signals: signals.into(),
    })
}

struct Run {
    stopper: Stopper,
    machine: Machine,
}

impl Running for Run {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        let stopper = self.stopper.clone();
        Box::new(move || stopper.stop())
    }

    fn wait(self: Box<Self>) -> Finished {
        match self.machine.run() {
            Ok(finished) => Finished {
                ending: ending(finished.outcome),
                sections: sections(&finished.stats),
                moments: finished.stats.moments,
                remains: Some(finished.remains),
            },
            Err(error) => Finished {
                ending: Ending::Failed(chain(&error)),
                sections: Vec::new(),
                moments: Moments::default(),
                remains: None,
            },
        }
    }
}

fn ending(outcome: Outcome) -> Ending {
    match outcome {
        Outcome::Ended(end) => Ending::Told(end),
        Outcome::TripleFault => Ending::TripleFault,
        Outcome::Stopped => Ending::Stopped,
        Outcome::PoweredOff => Ending::Failed("the guest kernel turned the machine off and did not say why".to_owned()),
        Outcome::BadReport(error) => Ending::Failed(format!("the guest's report makes no sense: {error}")),
        Outcome::MemoryFault(fault) => Ending::Failed(describe(&fault)),
        Outcome::Failed(reason) => Ending::Failed(reason),
    }
}

fn describe(fault: &MemoryFault) -> String {
    let place = match (&fault.window, fault.address) {
        (Some((share, offset)), _) => format!(" at {offset:#x} of the window of share '{share}'"),
        (None, Some(address)) => format!(" at {address:#x}"),
        (None, None) => String::new(),
    };
    format!(
        "the guest touched memory{place} that the host cannot give: a mapped file was cut short on the host, or the host \
         is out of memory"
    )
}

/// An error with its causes. Messages that already contain their cause are not followed by it again.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

fn sections(stats: &MachineStats) -> Vec<Section> {
    let mut exits: Vec<_> = stats.exits.iter().filter(|(_, number)| **number != 0).collect();
    exits.sort_by(|a, b| b.1.cmp(a.1));
    let mut rows: Vec<_> = exits.into_iter().map(|(reason, number)| ((*reason).to_owned(), count(*number))).collect();
    if stats.posted != 0 {
        rows.push(("register writes that were none".to_owned(), count(stats.posted)));
    }
    rows.push(("interrupts sent".to_owned(), count(stats.interrupts)));
    let mut sections = vec![Section { title: "exits to the machine".to_owned(), rows }];
    sections.extend(stats.shares.iter().map(share_section));
    sections.extend(stats.disks.iter().map(|(name, stats)| disk_section(name, stats)));
    sections
}

/// What the host saw of a share: the window as it really is, and how many messages were served.
fn share_section(share: &ShareStats) -> Section {
    let mut rows = vec![("messages".to_owned(), count(share.requests.values().sum()))];
    if let Some(window) = share.window {
        rows.push(("ranges mapped".to_owned(), count(window.maps)));
        rows.push(("ranges unmapped".to_owned(), count(window.unmaps)));
        if window.lost != 0 {
            rows.push(("ranges lost under the guest".to_owned(), count(window.lost)));
        }
        rows.push(("mapped at the end".to_owned(), bytes(window.mapped_bytes)));
        rows.push(("mapped at most".to_owned(), bytes(window.peak_bytes)));
    }
    Section { title: format!("share '{}', as the host served it", share.tag), rows }
}

/// What was asked of a disk.
fn disk_section(name: &str, stats: &DiskStats) -> Section {
    let DiskStats { reads, read_bytes, writes, written_bytes, flushes, discards } = *stats;
    let counts = [("read requests", reads), ("write requests", writes), ("flushes", flushes), ("discards", discards)];
    let mut rows: Vec<_> =
        counts.into_iter().filter(|(_, n)| *n != 0).map(|(name, n)| (name.to_owned(), count(n))).collect();
    rows.push(("read".to_owned(), bytes(read_bytes)));
    rows.push(("written".to_owned(), bytes(written_bytes)));
    Section { title: format!("disk {name}"), rows }
}
