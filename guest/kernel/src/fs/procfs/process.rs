//! `/proc/PID`: what there is to know of a process and its threads.

use super::process_text::{self, AreaFacts, ProcessFacts};
use super::subject::{Place, Subject};
use super::{descriptors, system};
use crate::abi::signal_set::Signal;
use crate::arch::processors;
use crate::fs::devices;
use crate::fs::stat::split_device;
use crate::linux::identity::Ids;
use crate::linux::limits;
use crate::linux::process::{Process, UserThread};
use crate::linux::signal::state::Disposition;
use crate::mm::user::UserPtr;
use crate::mm::vma::{Prot, VmaInfo};
use crate::time;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_vfs::generated::{Listed, Tree};
use diolkos_vfs::{Errno, FileType, Inode, Location, Name, Namespace, Result};

/// What a process' or thread's directory holds.
enum Entry {
    Text(fn(Subject) -> Result<Vec<u8>>),
    /// A text about the whole tree of files.
    TreeText(fn(&Namespace) -> Result<Vec<u8>>),
    Link(fn(Subject) -> Result<Location>),
    Descriptors,
    DescriptorInfos,
    /// The threads; only in a process' directory.
    Threads,
}

use Entry::{DescriptorInfos, Descriptors, Link, Text, Threads, TreeText};

/// Name, permissions, content.
const ENTRIES: [(&str, u32, Entry); 29] = [
    ("auxv", 0o400, Text(auxv)),
    ("cgroup", 0o444, Text(|_| Ok(b"0::/\n".to_vec()))),
    ("cmdline", 0o444, Text(cmdline)),
    ("comm", 0o444, Text(comm)),
    ("cwd", 0o777, Link(|subject| Ok(subject.process()?.fs.working_dir()))),
    ("environ", 0o400, Text(environ)),
    ("exe", 0o777, Link(|subject| subject.process()?.program().exe.clone().ok_or(Errno::ENOENT))),
    ("fd", 0o500, Descriptors),
    ("fdinfo", 0o555, DescriptorInfos),
    ("gid_map", 0o444, Text(id_map)),
    ("limits", 0o444, Text(limits_text)),
    ("loginuid", 0o444, Text(|_| Ok(b"4294967295".to_vec()))),
    ("maps", 0o444, Text(maps)),
    ("mountinfo", 0o444, TreeText(system::mountinfo)),
    ("mounts", 0o444, TreeText(|namespace| Ok(namespace.proc_mounts()))),
    ("oom_adj", 0o444, Text(|_| Ok(b"0\n".to_vec()))),
    ("oom_score", 0o444, Text(|_| Ok(b"0\n".to_vec()))),
    ("oom_score_adj", 0o444, Text(|_| Ok(b"0\n".to_vec()))),
    ("personality", 0o400, Text(|_| Ok(b"00000000\n".to_vec()))),
    ("root", 0o777, Link(|subject| Ok(subject.process()?.fs.namespace().root()))),
    ("sessionid", 0o444, Text(|_| Ok(b"4294967295".to_vec()))),
    ("setgroups", 0o444, Text(|_| Ok(b"allow\n".to_vec()))),
    ("stat", 0o444, Text(|subject| Ok(process_text::stat(&facts(subject)?).into_bytes()))),
    ("statm", 0o444, Text(|subject| Ok(process_text::statm(&facts(subject)?).into_bytes()))),
    ("status", 0o444, Text(|subject| Ok(process_text::status(&facts(subject)?).into_bytes()))),
    ("timerslack_ns", 0o444, Text(|_| Ok(b"50000\n".to_vec()))),
    ("uid_map", 0o444, Text(id_map)),
    ("wchan", 0o444, Text(|_| Ok(b"0".to_vec()))),
    ("task", 0o555, Threads),
];

/// What all nodes are made with.
#[derive(Clone)]
pub struct Maker {
    /// The tree of `/proc`.
    pub tree: Arc<Tree>,
    /// The tree of files; not kept alive by being shown in itself.
    pub namespace: alloc::sync::Weak<Namespace>,
}

/// Number of the directory itself among its entries' numbers.
const SELF_INDEX: usize = 255;

/// Whether `inode` is the directory of process `pid`.
pub fn is_directory_of(inode: &dyn Inode, pid: u32) -> bool {
    let id = inode.id();
    (id.dev, id.node) == (devices::PROC, Place::Process(pid).ino(SELF_INDEX))
}

impl Maker {
    /// The directory of a process.
    pub fn process(&self, subject: Subject) -> Arc<dyn Inode> {
        self.directory(subject, Place::Process(subject.pid), true)
    }

    fn directory(&self, subject: Subject, place: Place, is_process: bool) -> Arc<dyn Inode> {
        // The list of threads is the last entry, and a thread has none.
        let count = ENTRIES.len() - usize::from(!is_process);
        let maker = self.clone();
        self.tree.node(0o555).ino(place.ino(SELF_INDEX)).computed_dir(
            move || {
                subject.thread()?;
                let listed = |(key, (name, _, entry)): (usize, &(&str, u32, Entry))| Listed {
                    key: key as u64,
                    name: String::from(*name),
                    file_type: entry.file_type(),
                    ino: place.ino(key),
                };
                Ok(ENTRIES[..count].iter().enumerate().map(listed).collect())
            },
            move |name| {
                subject.thread().map_err(|_| Errno::ENOENT)?;
                let found = ENTRIES[..count].iter().position(|(known, ..)| known.as_bytes() == name.as_bytes());
                Ok(maker.entry(subject, place, found.ok_or(Errno::ENOENT)?))
            },
        )
    }

    fn entry(&self, subject: Subject, place: Place, index: usize) -> Arc<dyn Inode> {
        let (_, permissions, entry) = &ENTRIES[index];
        let node = self.tree.node(*permissions).ino(place.ino(index));
        match entry {
            Text(text) => {
                let text = *text;
                node.file(move || text(subject))
            }
            TreeText(text) => {
                let (text, namespace) = (*text, self.namespace.clone());
                node.file(move || text(&*namespace.upgrade().ok_or(Errno::ENOENT)?))
            }
            Link(link) => {
                let link = *link;
                node.magic_link(move || link(subject))
            }
            Descriptors => descriptors::fd(&self.tree, node, subject),
            DescriptorInfos => descriptors::fdinfo(&self.tree, node, subject),
            Threads => self.threads(node, subject.pid),
        }
    }

    fn threads(&self, node: diolkos_vfs::generated::NodeBuilder, pid: u32) -> Arc<dyn Inode> {
        let maker = self.clone();
        node.computed_dir(
            move || {
                let threads = Subject { pid, tid: pid }.process()?.threads();
                let listed = |thread: &Arc<UserThread>| Listed {
                    key: thread.tid.into(),
                    name: format!("{}", thread.tid),
                    file_type: FileType::Directory,
                    ino: Place::Thread(thread.tid).ino(SELF_INDEX),
                };
                Ok(threads.iter().map(listed).collect())
            },
            move |name: Name<'_>| {
                let subject = Subject { pid, tid: descriptors::number(name)? };
                subject.thread().map_err(|_| Errno::ENOENT)?;
                Ok(maker.directory(subject, Place::Thread(subject.tid), false))
            },
        )
    }
}

impl Entry {
    fn file_type(&self) -> FileType {
        match self {
            Text(_) | TreeText(_) => FileType::Regular,
            Link(_) => FileType::Symlink,
            Descriptors | DescriptorInfos | Threads => FileType::Directory,
        }
    }
}

fn auxv(subject: Subject) -> Result<Vec<u8>> {
    let program = subject.process()?.program();
    let ended = program.auxv.last().is_some_and(|(key, _)| *key == 0);
    let end = if ended { None } else { Some(&(0, 0)) };
    Ok(program.auxv.iter().chain(end).flat_map(|(key, value)| [*key, *value]).flat_map(u64::to_le_bytes).collect())
}

/// Longest argument or environment area looked at: what exec allows at most.
const STRINGS_MAX: u64 = 8 << 20;

/// The strings as they are in the program's memory now, since programs rename themselves there; what exec was
/// given if they have gone.
fn strings((start, end): (u64, u64), given: &[Vec<u8>]) -> Vec<u8> {
    let len = end.saturating_sub(start).min(STRINGS_MAX) as usize;
    match UserPtr::<u8>::new(start).read_vec(len) {
        Ok(bytes) if len > 0 => bytes,
        _ => given.iter().flat_map(|string| string.iter().copied().chain([0])).collect(),
    }
}

fn cmdline(subject: Subject) -> Result<Vec<u8>> {
    let program = subject.process()?.program();
    Ok(strings(program.arg_range, &program.args))
}

fn environ(subject: Subject) -> Result<Vec<u8>> {
    let program = subject.process()?.program();
    Ok(strings(program.env_range, &program.env))
}

fn comm(subject: Subject) -> Result<Vec<u8>> {
    let mut name = subject.thread()?.name_bytes();
    name.push(b'\n');
    Ok(name)
}

/// Users are the same inside and outside.
fn id_map(_subject: Subject) -> Result<Vec<u8>> {
    Ok(format!("{:>10} {:>10} {:>10}\n", 0, 0, u32::MAX).into_bytes())
}

fn limits_text(subject: Subject) -> Result<Vec<u8>> {
    let process = subject.process()?;
    let limits = process.limits.lock();
    let all = core::array::from_fn::<_, { limits::COUNT }, _>(|number| limits.by_number(number).unwrap_or_default());
    drop(limits);
    Ok(process_text::limits(&all).into_bytes())
}

/// `ENOMEM` for more areas than the kernel can tell of in one piece.
fn maps(subject: Subject) -> Result<Vec<u8>> {
    let space = subject.process()?.space();
    let (mut text, mut at) = (String::new(), 0);
    loop {
        let areas = space.areas_from(at);
        let Some(last) = areas.last() else { return Ok(text.into_bytes()) };
        at = last.range.1;
        for area in &areas {
            let needed = area.name.len() * 4 + MAPS_LINE;
            if text.capacity() - text.len() < needed {
                // Not twice as much each time: the heap has little more in one piece than the longest of these texts.
                text.try_reserve_exact(needed.max(STEP)).map_err(|_| Errno::ENOMEM)?;
            }
            maps_line(&mut text, area);
        }
    }
}

/// Bytes by which the text grows.
const STEP: usize = 256 << 10;
/// Most bytes of a line of `/proc/self/maps` without its name.
const MAPS_LINE: usize = 160;

fn maps_line(text: &mut String, area: &VmaInfo) {
    let (offset, device, ino) = area.file.unwrap_or_default();
    let allowed = [Prot::READ, Prot::WRITE, Prot::EXEC].map(|right| area.prot.contains(right));
    let facts = AreaFacts {
        range: area.range,
        allowed,
        shared: area.shared,
        offset,
        device: split_device(device),
        ino,
        name: &area.name,
    };
    process_text::maps_line(text, &facts);
}

fn id_list(ids: &Ids) -> process_text::Ids {
    [ids.real, ids.effective, ids.saved, ids.fs]
}

/// Signals the process ignores and catches.
fn dispositions(process: &Process) -> (u64, u64) {
    let signals = process.signals.lock();
    let (mut ignored, mut caught) = (0, 0);
    for signal in (1..=64).filter_map(Signal::new) {
        let bit = 1 << (signal.number() - 1);
        match signals.action(signal).disposition() {
            Disposition::Ignore => ignored |= bit,
            Disposition::Default => {}
            _ => caught |= bit,
        }
    }
    (ignored, caught)
}

fn facts(subject: Subject) -> Result<ProcessFacts> {
    let (process, thread) = (subject.process()?, subject.thread()?);
    let (program, usage) = (process.program(), process.space().usage());
    let credentials = process.credentials.lock().clone();
    let (ignored, caught) = dispositions(&process);
    let shared_pending = process.signals.lock().pending.set().0;
    let (pending, blocked) = {
        let own = thread.signals.lock();
        (own.pending.set().0, own.mask.0)
    };
    let kernel = thread.kernel();
    Ok(ProcessFacts {
        name: String::from_utf8_lossy(&thread.name_bytes()).into_owned(),
        pid: process.pid,
        tid: thread.tid,
        running: kernel.as_ref().is_some_and(|kernel| kernel.running_on().is_some()),
        umask: process.fs.umask(),
        uids: id_list(&credentials.uid),
        gids: id_list(&credentials.gid),
        groups: credentials.groups,
        fd_size: process.files.numbers().last().map_or(64, |last| (*last as usize + 1).next_multiple_of(64)),
        mapped: usage.mapped,
        resident: usage.owned,
        locked: usage.locked,
        data: usage.data,
        stack: usage.stack,
        all_code: usage.code,
        threads: process.thread_count(),
        nice: thread.schedule.lock().nice(),
        pending,
        shared_pending,
        blocked,
        ignored,
        caught,
        capabilities: credentials.capabilities.effective,
        no_new_privs: process.no_new_privs.load(core::sync::atomic::Ordering::Relaxed),
        cpus: processors::count(),
        allowed: processors::all() & kernel.as_ref().map_or(u64::MAX, |kernel| kernel.affinity()),
        cpu: kernel.map_or(0, |kernel| kernel.last_cpu()),
        started_ns: process.started_ns,
        cpu_ns: time::monotonic_ns().saturating_sub(process.started_ns),
        code: program.code_range,
        data_range: program.data_range,
        heap_start: process.space().heap_start(),
        stack_start: program.stack_start,
        args: program.arg_range,
        env: program.env_range,
    })
}
