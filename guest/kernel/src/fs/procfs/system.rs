//! The root of `/proc` and what it tells of the machine.

use super::process::Maker;
use super::subject::{Place, Subject, asker};
use super::system_text::{self, Activity, Memory, MountFacts};
use super::{cpuinfo, descriptors};
use crate::arch::processors;
use crate::boot::options;
use crate::drivers::rng;
use crate::fs::anon::now;
use crate::fs::block_device;
use crate::fs::devices;
use crate::fs::fd_table::MAX_LIMIT;
use crate::fs::pty::pair;
use crate::fs::stat::split_device;
use crate::linux::process::MAX_THREADS;
use crate::linux::system as linux;
use crate::mm::{USER_MIN, areas, frames};
use crate::{stats, time};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::arch::x86_64::__cpuid_count;
use diolkos_vfs::generated::{Listed, Tree};
use diolkos_vfs::notify;
use diolkos_vfs::{Errno, FileType, Inode, Lookup, Namespace, Result};
use spin::Once;

/// `PROC_SUPER_MAGIC`.
const MAGIC: u64 = 0x9fa0;
/// Largest process number (`/proc/sys/kernel/pid_max`).
const PID_MAX: u32 = 1 << 22;

/// Fixed entries: name and node.
type Entries = Vec<(&'static str, Arc<dyn Inode>)>;

struct Builder {
    tree: Arc<Tree>,
}

impl Builder {
    fn text(&self, content: impl Fn() -> String + Send + Sync + 'static) -> Arc<dyn Inode> {
        self.tree.node(0o444).file(move || Ok(content().into_bytes()))
    }

    fn fixed(&self, content: &'static str) -> Arc<dyn Inode> {
        self.tree.node(0o444).file(move || Ok(content.into()))
    }

    fn number(&self, value: u64) -> Arc<dyn Inode> {
        self.text(move || format!("{value}\n"))
    }

    fn dir(&self, entries: Entries) -> Arc<dyn Inode> {
        self.tree.node(0o555).dir(entries)
    }

    fn link(&self, target: &'static str) -> Arc<dyn Inode> {
        self.tree.node(0o777).link(move || Ok(target.into()))
    }
}

/// The root of `/proc`.
pub fn root(namespace: &Arc<Namespace>) -> Arc<dyn Inode> {
    let tree = Tree::new(devices::PROC, MAGIC, now());
    let build = Builder { tree: tree.clone() };
    let entries = machine_entries(&build);
    let maker = Maker { tree: tree.clone(), namespace: Arc::downgrade(namespace) };
    let listed: Vec<Listed> = (0..)
        .zip(&entries)
        .map(|(key, (name, inode))| Listed {
            key,
            name: String::from(*name),
            file_type: inode.file_type(),
            ino: inode.metadata().map_or(1, |metadata| metadata.ino),
        })
        .collect();
    tree.node(0o555).computed_dir(
        move || {
            let mut all = listed.clone();
            if let Ok(thread) = asker() {
                let pid = thread.process.pid;
                let ino = Place::Process(pid).ino(255);
                // Process numbers come after all fixed entries.
                let key = 1000 + u64::from(pid);
                all.push(Listed { key, name: format!("{pid}"), file_type: FileType::Directory, ino });
            }
            Ok(all)
        },
        move |name| {
            if let Some((_, inode)) = entries.iter().find(|(known, _)| known.as_bytes() == name.as_bytes()) {
                return Ok(inode.clone());
            }
            let pid = descriptors::number(name)?;
            let subject = Subject { pid, tid: pid };
            subject.process().map_err(|_| Errno::ENOENT)?;
            Ok(maker.process(subject))
        },
    )
}

fn machine_entries(build: &Builder) -> Entries {
    vec![
        ("cmdline", build.text(|| format!("{}\n", options().encode()))),
        ("cpuinfo", build.text(|| cpuinfo::cpuinfo(processors::count(), time::tsc_khz(), cpuid))),
        ("filesystems", build.fixed("nodev\tsysfs\nnodev\tproc\nnodev\ttmpfs\nnodev\tdevtmpfs\nnodev\tvirtiofs\n")),
        ("loadavg", build.text(loadavg)),
        ("meminfo", build.text(meminfo)),
        ("mounts", build.link("self/mounts")),
        ("partitions", build.text(block_device::partitions)),
        ("self", build.tree.node(0o777).link(|| Ok(format!("{}", Subject::asker()?.pid).into_bytes()))),
        ("stat", build.text(stat)),
        ("swaps", build.fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")),
        ("sys", sys(build)),
        ("thread-self", build.tree.node(0o777).link(thread_self)),
        ("uptime", build.text(|| system_text::uptime(time::monotonic_ns(), 0))),
        ("version", build.text(|| format!("{} version {} {}\n", linux::SYSNAME, linux::RELEASE, linux::VERSION))),
    ]
}

fn thread_self() -> Result<Vec<u8>> {
    let Subject { pid, tid } = Subject::asker()?;
    Ok(format!("{pid}/task/{tid}").into_bytes())
}

fn cpuid(leaf: u32, sub: u32) -> cpuinfo::Leaf {
    let found = __cpuid_count(leaf, sub);
    [found.eax, found.ebx, found.ecx, found.edx]
}

fn meminfo() -> String {
    let (free, total) = frames::usage();
    let cached = crate::mm::reclaim::cached();
    let anonymous = asker().map_or(0, |thread| thread.process.space().usage().owned);
    system_text::meminfo(&Memory { total, free, cached: cached.min(total - free), anonymous })
}

fn loadavg() -> String {
    let threads = asker().map_or(0, |thread| thread.process.thread_count());
    let last = asker().map_or(0, |thread| thread.tid);
    format!("0.00 0.00 0.00 1/{threads} {last}\n")
}

fn stat() -> String {
    let up_ns = time::monotonic_ns();
    system_text::stat(&Activity {
        cpus: processors::count(),
        up_ns,
        interrupts: stats::INTERRUPTS.get(),
        switches: stats::SWITCHES.get(),
        boot_time: time::wall_ns().saturating_sub(up_ns) / 1_000_000_000,
        made: asker().map_or(1, |thread| thread.process.threads().last().map_or(1, |last| last.tid.into())),
    })
}

/// `/proc/self/mountinfo`.
pub fn mountinfo(namespace: &Namespace) -> Result<Vec<u8>> {
    let root = namespace.root();
    let facts: Vec<_> = namespace
        .mounts()
        .iter()
        .map(|mount| {
            let (target, spec) = (mount.target(), mount.spec());
            let device = namespace.find(&root, &target, Lookup::FOLLOW).and_then(|place| place.metadata());
            MountFacts {
                id: mount.id(),
                device: split_device(device.map_or(0, |metadata| metadata.dev)),
                target,
                fs_type: spec.fs_type.clone(),
                source: spec.source.clone(),
                options: spec.options.clone(),
                read_only: spec.read_only,
            }
        })
        .collect();
    Ok(system_text::mountinfo(&facts).into_bytes())
}

fn random_uuid() -> String {
    let mut bytes = [0; 16];
    rng::fill(&mut bytes);
    system_text::uuid(bytes)
}

fn boot_id() -> String {
    static BOOT_ID: Once<String> = Once::new();
    BOOT_ID.call_once(random_uuid).clone()
}

fn sys(build: &Builder) -> Arc<dyn Inode> {
    let random = vec![
        ("boot_id", build.text(boot_id)),
        ("entropy_avail", build.number(256)),
        ("poolsize", build.number(256)),
        ("uuid", build.text(random_uuid)),
    ];
    let terminals =
        vec![("max", build.number(pair::MOST as u64)), ("nr", build.text(|| format!("{}\n", pair::numbers().len())))];
    let kernel = vec![
        ("cap_last_cap", build.number(40)),
        ("core_pattern", build.fixed("core\n")),
        ("domainname", build.fixed("(none)\n")),
        ("hostname", build.text(|| format!("{}\n", linux::hostname()))),
        ("ngroups_max", build.number(65536)),
        ("osrelease", build.text(|| format!("{}\n", linux::RELEASE))),
        ("ostype", build.text(|| format!("{}\n", linux::SYSNAME))),
        ("overflowgid", build.number(65534)),
        ("overflowuid", build.number(65534)),
        ("pid_max", build.number(PID_MAX.into())),
        ("pty", build.dir(terminals)),
        ("random", build.dir(random)),
        ("randomize_va_space", build.number(2)),
        ("threads-max", build.number(MAX_THREADS as u64)),
        ("version", build.text(|| format!("{}\n", linux::VERSION))),
    ];
    let vm = vec![
        ("max_map_count", build.number(areas::MOST as u64)),
        ("mmap_min_addr", build.number(USER_MIN)),
        ("overcommit_memory", build.number(1)),
        ("overcommit_ratio", build.number(50)),
        ("swappiness", build.number(60)),
    ];
    let inotify = vec![
        ("max_queued_events", build.number(notify::MAX_QUEUED as u64)),
        ("max_user_instances", build.number(notify::MAX_INSTANCES as u64)),
        ("max_user_watches", build.number(notify::MAX_WATCHES as u64)),
    ];
    let fs = vec![
        ("file-max", build.number(MAX_LIMIT.into())),
        ("file-nr", build.text(file_nr)),
        ("inotify", build.dir(inotify)),
        ("nr_open", build.number(MAX_LIMIT.into())),
        ("pipe-max-size", build.number(diolkos_vfs::pipe::CAPACITY as u64)),
    ];
    build.dir(vec![("fs", build.dir(fs)), ("kernel", build.dir(kernel)), ("vm", build.dir(vm))])
}

fn file_nr() -> String {
    let open = asker().map_or(0, |thread| thread.process.files.numbers().len());
    format!("{open}\t0\t{MAX_LIMIT}\n")
}
