//! A QEMU at work: its daemons, its streams, its report, and what its end means.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diolkos_common::cmdline::ClockSample;
use diolkos_common::report::{Decoder, End, Record};
use diolkos_vmm::Moments;
use rustix::fs::{MemfdFlags, memfd_create};

use super::child::{Child, Killer};
use super::command::Parts;
use super::daemon::Daemon;
use super::streams::Relays;
use super::tools::{Accelerator, Tools};
use crate::clock::Reading;
use crate::descriptors;
use crate::disk::Disk;
use crate::kernel;
use crate::plan::Plan;
use crate::platform::{Finished, Running};
use crate::report::Listener;
use crate::stats::Section;
use crate::verdict::Ending;

/// How long QEMU may take to end after the kernel's last word.
const PATIENCE: Duration = Duration::from_secs(5);

/// Devices for shares and disks that QEMU's bus has room for beside its own.
const MOST_DEVICES: usize = 28;

/// A running QEMU and what belongs to it.
pub struct Machine {
    qemu: Child,
    daemons: Vec<(PathBuf, Child)>,
    relays: Relays,
    report: UnixStream,
    listener: Listener,
    moments: Moments,
}

impl Machine {
    /// Starts the daemons and QEMU. `began` is a reading of the clocks from some time ago.
    ///
    /// # Errors
    /// One line that names the program or directory at fault.
    pub fn start(
        tools: &Tools,
        accelerator: Accelerator,
        mut plan: Plan,
        listener: Listener,
        signals: UnixStream,
        began: Reading,
    ) -> Result<Self, String> {
        let devices = plan.shares.len() + plan.disks.len();
        if devices > MOST_DEVICES {
            return Err(format!("shares and disks: {devices} are too many, QEMU has room for {MOST_DEVICES}"));
        }
        // Their locks are the open files', which QEMU inherits: they last as long as it does.
        let open =
            |disk: &Disk| diolkos_vmm::Disk::open(&disk.source, disk.writable).map_err(|error| error.to_string());
        let disks = plan.disks.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let ours = |error: io::Error| format!("cannot prepare QEMU's files: {error}");
        let open = |path: &PathBuf| File::open(path).map_err(|error| format!("initrd {}: {error}", path.display()));
        let initrd = plan.initrd.as_ref().map(open).transpose()?;
        let serve = |share| Daemon::start(&tools.daemon, share);
        let daemons = plan.shares.iter().map(serve).collect::<Result<Vec<_>, _>>()?;
        let mut moments = Moments::default();
        moments.pass("file servers started");
        let kernel = kernel_file().map_err(ours)?;
        let (report, report_far) = UnixStream::pair().map_err(ours)?;
        let (relays, streams) = Relays::start().map_err(ours)?;
        // Each share has a daemon of its own.
        plan.boot.inodes = Some(descriptors::inodes(descriptors::limit(), 1));
        // As late as possible: the one gets better with time, and the other older.
        plan.boot.tsc_khz = began.khz_since();
        plan.boot.clock = Some(clock_sample());
        let append = plan.boot.encode();
        let parts = Parts {
            qemu: &tools.qemu,
            firmware: tools.firmware.as_deref(),
            accelerator,
            cpus: plan.boot.cpus,
            memory: plan.memory,
            kernel: kernel.as_fd(),
            append: &append,
            shares: plan
                .shares
                .iter()
                .map(|share| &*share.tag)
                .zip(daemons.iter().map(|daemon| &daemon.client))
                .collect(),
            several_queues: tools.daemon.serves_several_queues(),
            disks: disks.iter().map(|disk| (disk.as_fd(), disk.is_writable())).collect(),
            initrd: initrd.as_ref().map(AsFd::as_fd),
            ports: [("stdin", &streams[0]), ("stdout", &streams[1]), ("stderr", &streams[2]), ("signals", &signals)],
            report: &report_far,
        };
        let (command, inherited) = parts.command()?;
        let qemu = Child::start(command, &inherited)
            .map_err(|error| format!("cannot start {}: {error}", tools.qemu.display()))?;
        moments.pass("qemu started");
        let sources = plan.shares.iter().map(|share| share.source.clone());
        let daemons = sources.zip(daemons.into_iter().map(|daemon| daemon.child)).collect();
        Ok(Self { qemu, daemons, relays, report, listener, moments })
    }
}

/// The kernel as a file without a name.
fn kernel_file() -> io::Result<File> {
    let mut file = File::from(memfd_create("diolkos-kernel", MemfdFlags::CLOEXEC)?);
    file.write_all(kernel::ELF)?;
    Ok(file)
}

/// QEMU starts the guest's counter at zero, some milliseconds from now; the guest's clock is late by those.
fn clock_sample() -> ClockSample {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    ClockSample { wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX), host_tsc: 0 }
}

impl Running for Machine {
    fn stopper(&self) -> Box<dyn Fn() + Send> {
        // The daemons go when their client does.
        let killer: Killer = self.qemu.killer();
        Box::new(move || killer.kill())
    }

    fn wait(mut self: Box<Self>) -> Finished {
        let heard = hear(&mut self.report, &self.listener);
        if heard.is_err() {
            self.qemu.killer().kill();
        }
        let status = self.qemu.wait_within(PATIENCE);
        self.moments.pass("qemu gone");
        let ending = match (heard, status) {
            (Ok(Some(end)), _) => Ending::Told(end),
            (Err(why), _) => Ending::Failed(why),
            (Ok(None), Err(error)) => Ending::Failed(format!("cannot wait for QEMU: {error}")),
            (Ok(None), Ok(status)) => self.explain(status),
        };
        // A guest that was killed has nothing more to say, and stdout may be what it was stuck on.
        if matches!(ending, Ending::Told(_)) {
            self.relays.drain();
        }
        self.moments.pass("machine gone");
        Finished { ending, sections: Vec::<Section>::new(), moments: self.moments, remains: None }
    }
}

impl Machine {
    /// What it means that QEMU ended and the kernel had not said so.
    fn explain(&mut self, status: std::process::ExitStatus) -> Ending {
        for (source, daemon) in &mut self.daemons {
            // Its client is gone, so it is going.
            let failed = daemon.wait_within(PATIENCE).is_ok_and(|status| !status.success());
            if let (true, Some(last)) = (failed, daemon.complaints().pop()) {
                let last = last.strip_prefix("diolkos: ").unwrap_or(&last);
                return Ending::Failed(format!("the virtio-fs daemon of {} failed: {last}", source.display()));
            }
        }
        let complaints = self.qemu.complaints();
        let serious = complaints.iter().rfind(|line| !line.contains("warning:"));
        match (serious, status.code()) {
            (Some(line), _) => Ending::Failed(format!("QEMU failed: {line}")),
            // With -no-reboot a triple fault is a quiet end.
            (None, Some(0)) => Ending::TripleFault,
            (None, _) => {
                Ending::Failed(format!("QEMU ended without a word ({status}), and the guest kernel had not finished"))
            }
        }
    }
}

/// Reads the report to its end record, or to the end of QEMU.
///
/// # Errors
/// What arrives is not a report.
fn hear(report: &mut impl Read, listener: &Listener) -> Result<Option<End>, String> {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 4096];
    loop {
        let count = match report.read(&mut buffer) {
            Ok(0) => return Ok(None),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(format!("cannot read the guest's report: {error}")),
        };
        let records =
            decoder.feed(&buffer[..count]).map_err(|error| format!("the guest's report makes no sense: {error}"))?;
        for record in records {
            match record {
                Record::End(end) => return Ok(Some(end)),
                other => listener.hear(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_read_to_its_end_record_and_no_further() {
        let mut wire = Record::Counters("fuse.READ=1".into()).encode();
        wire.extend(Record::End(End::Exited(3)).encode());
        let behind = Record::Counters("fuse.READ=2".into()).encode();
        // In one piece the decoder sees both; the end still is the end.
        wire.extend(&behind);
        let listener = Listener::default();
        assert_eq!(hear(&mut wire.as_slice(), &listener), Ok(Some(End::Exited(3))));
        assert_eq!(listener.counters().unwrap().text, "fuse.READ=1");
    }

    #[test]
    fn silence_and_nonsense_are_told_apart() {
        assert_eq!(hear(&mut io::empty(), &Listener::default()), Ok(None));
        assert!(hear(&mut &[99, 0, 0, 0, 0][..], &Listener::default()).unwrap_err().contains("tag 99"));
    }
}
