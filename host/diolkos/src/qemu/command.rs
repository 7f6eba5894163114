//! QEMU's command line: the same machine as our own, as far as QEMU has it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use diolkos_common::ports;

use super::tools::Accelerator;

/// Longest single argument that Linux passes to a program, with its NUL (MAX_ARG_STRLEN, execve(2)); in bytes.
const LONGEST_ARGUMENT: usize = 128 * 1024;

/// Queues of a disk, or of a share for requests: one a processor up to this.
const MOST_QUEUES: usize = 4;

/// What QEMU is started with.
pub struct Parts<'a> {
    /// The program.
    pub qemu: &'a Path,
    /// The firmware, if not QEMU's usual one.
    pub firmware: Option<&'a Path>,
    /// What runs the guest's instructions.
    pub accelerator: Accelerator,
    /// Processors.
    pub cpus: usize,
    /// Memory in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// A file with the kernel.
    pub kernel: BorrowedFd<'a>,
    /// The kernel's command line.
    pub append: &'a str,
    /// Tag and daemon of each share.
    pub shares: Vec<(&'a str, &'a UnixStream)>,
    /// Whether the daemons serve several queues for requests.
    pub several_queues: bool,
    /// The file of each disk, and whether it may be written to.
    pub disks: Vec<(BorrowedFd<'a>, bool)>,
    /// The archive that the kernel finds in memory.
    pub initrd: Option<BorrowedFd<'a>>,
    /// The console's ports: each by its name.
    pub ports: [(&'static str, &'a UnixStream); 4],
    /// The report.
    pub report: &'a UnixStream,
}

impl<'a> Parts<'a> {
    /// The command, and the descriptors that it must inherit.
    ///
    /// # Errors
    /// The kernel's command line is longer than a program can be given.
    pub fn command(&self) -> Result<(Command, Vec<BorrowedFd<'a>>), String> {
        if self.append.len() >= LONGEST_ARGUMENT {
            return Err(format!(
                "arguments and environment take {} bytes when quoted for the kernel; QEMU passes at most {LONGEST_ARGUMENT}",
                self.append.len()
            ));
        }
        let mut line = Line { command: Command::new(self.qemu), inherited: vec![self.kernel] };
        self.machine(&mut line);
        self.console(&mut line);
        self.file_systems(&mut line);
        self.disks(&mut line);
        Ok((line.command, line.inherited))
    }

    fn machine(&self, line: &mut Line<'a>) {
        let mebibytes = self.memory >> 20;
        line.add("-nodefaults -no-user-config -no-reboot -display none");
        // Cores of one socket: their APICs are numbered from 0 without gaps, as the kernel expects.
        line.add(&format!("-smp {0},sockets=1,cores={0},threads=1", self.cpus));
        // Nothing in QEMU needs to start programs or gain rights once it runs.
        line.add("-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
        line.add("-machine q35,memory-backend=memory,usb=off,smbus=off,sata=off,hpet=off,vmport=off,graphics=off");
        // The daemons write into guest memory, so it must be shared with them. Pages come when they are touched.
        line.add(&format!(
            "-m {mebibytes}M -object memory-backend-memfd,id=memory,size={mebibytes}M,share=on,reserve=off"
        ));
        line.add(match self.accelerator {
            Accelerator::Kvm => "-accel kvm -cpu host",
            // The emulator takes a step for each byte that `rep movsb` moves. Programs that think it fast (ERMS) fill and copy
            // memory at a fiftieth of the speed of those that use vectors.
            Accelerator::Tcg => "-accel tcg -cpu max,-erms",
        });
        if let Some(firmware) = self.firmware {
            line.command.arg("-bios").arg(firmware);
        }
        line.add(&format!("-kernel /proc/self/fd/{} -append", self.kernel.as_raw_fd()));
        line.command.arg(self.append);
        if let Some(file) = self.initrd {
            line.add(&format!("-initrd /proc/self/fd/{}", file.as_raw_fd()));
            line.inherited.push(file);
        }
        line.socket("report", self.report);
        line.add(&format!("-device isa-debugcon,chardev=report,iobase={}", ports::REPORT));
        line.add(&format!("-device isa-debug-exit,iobase={},iosize=1", ports::POWER_OFF));
        line.add("-device virtio-rng-pci,disable-legacy=on");
    }

    fn console(&self, line: &mut Line<'a>) {
        line.add("-device virtio-serial-pci,id=console,max_ports=5,disable-legacy=on");
        for (number, (name, stream)) in (1..).zip(self.ports) {
            line.socket(name, stream);
            line.add(&format!("-device virtserialport,bus=console.0,nr={number},chardev={name},name={name}"));
        }
    }

    fn file_systems(&self, line: &mut Line<'a>) {
        let queues = if self.several_queues { self.cpus.min(MOST_QUEUES) } else { 1 };
        for (tag, client) in &self.shares {
            let id = format!("fs-{tag}");
            line.socket(&id, client);
            line.add(&format!("-device vhost-user-fs-pci,chardev={id},tag={tag},num-request-queues={queues}"));
        }
    }

    /// The files are locked already, which is as good as QEMU's own locks, and those could not be had of block devices.
    fn disks(&self, line: &mut Line<'a>) {
        let queues = self.cpus.min(MOST_QUEUES);
        for (number, (file, writable)) in self.disks.iter().enumerate() {
            let (fd, read_only) = (file.as_raw_fd(), if *writable { "off" } else { "on" });
            line.add(&format!("-add-fd fd={fd},set={number}"));
            line.inherited.push(*file);
            line.add(&format!(
                "-blockdev driver=file,node-name=file{number},filename=/dev/fdset/{number},read-only={read_only},discard=unmap,locking=off"
            ));
            line.add(&format!(
                "-blockdev driver=raw,node-name=disk{number},file=file{number},read-only={read_only},discard=unmap"
            ));
            line.add(&format!("-device virtio-blk-pci,drive=disk{number},num-queues={queues},disable-legacy=on"));
        }
    }
}

struct Line<'a> {
    command: Command,
    inherited: Vec<BorrowedFd<'a>>,
}

impl<'a> Line<'a> {
    /// Adds words that hold no user's text, so that spaces can part them.
    fn add(&mut self, words: &str) {
        self.command.args(words.split(' '));
    }

    fn socket(&mut self, id: &str, stream: &'a UnixStream) {
        self.add(&format!("-chardev socket,id={id},fd={}", stream.as_raw_fd()));
        self.inherited.push(stream.as_fd());
    }
}
