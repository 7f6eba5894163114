//! `/sys`: the few files that libraries read to learn how many processors and memory nodes there are.
//!
//! It also covers the host's own `/sys`, which a shared root directory may contain and which describes another machine.

use super::anon::now;
use super::devices::SYS;
use super::procfs::system_text::{processor_list, processor_mask};
use crate::arch::percpu::MAX_CPUS;
use crate::arch::processors;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::Inode;
use diolkos_vfs::generated::Tree;

/// `SYSFS_MAGIC`.
const MAGIC: u64 = 0x6265_6572;

type Entries<'a> = Vec<(&'a str, Arc<dyn Inode>)>;

/// The root of `/sys`.
pub fn root() -> Arc<dyn Inode> {
    let tree = Tree::new(SYS, MAGIC, now());
    let dir = |entries: Entries<'_>| tree.node(0o755).dir(entries);
    let text = |content: &str| file(&tree, format!("{content}\n"));
    let list = || text(&processor_list(processors::all()));
    let one = |cpu: usize| dir(vec![("topology", dir(topology(&tree, cpu)))]);
    let names: Vec<_> = (0..processors::count()).map(|cpu| format!("cpu{cpu}")).collect();
    let mut cpu = vec![
        ("kernel_max", text(&format!("{}", MAX_CPUS - 1))),
        ("online", list()),
        ("possible", list()),
        ("present", list()),
    ];
    cpu.extend(names.iter().enumerate().map(|(cpu, name)| (name.as_str(), one(cpu))));
    let cpu = dir(cpu);
    let node = dir(vec![("online", text("0")), ("possible", text("0"))]);
    let huge = dir(vec![("enabled", text("[always] madvise never")), ("hpage_pmd_size", text("2097152"))]);
    let kernel = dir(vec![("mm", dir(vec![("transparent_hugepage", huge)]))]);
    let system = dir(vec![("cpu", cpu), ("node", node)]);
    dir(vec![
        ("devices", dir(vec![("system", system)])),
        ("fs", dir(vec![("cgroup", dir(Vec::new()))])),
        ("kernel", kernel),
    ])
}

fn file(tree: &Arc<Tree>, content: String) -> Arc<dyn Inode> {
    tree.node(0o444).file(move || Ok(content.clone().into_bytes()))
}

/// Where a processor is: a core of its own, all in one package.
fn topology(tree: &Arc<Tree>, cpu: usize) -> Entries<'static> {
    let (own, all, count) = (1 << cpu, processors::all(), processors::count());
    let mut entries: Entries<'_> = [("physical_package_id", 0), ("die_id", 0), ("core_id", cpu)]
        .map(|(name, id)| (name, file(tree, format!("{id}\n"))))
        .into();
    // Each set under its old name and its new one.
    let sets = [
        ("thread_siblings", "thread_siblings_list", own),
        ("core_cpus", "core_cpus_list", own),
        ("core_siblings", "core_siblings_list", all),
        ("package_cpus", "package_cpus_list", all),
        ("die_cpus", "die_cpus_list", all),
    ];
    for (mask, list, set) in sets {
        entries.push((mask, file(tree, format!("{}\n", processor_mask(set, count)))));
        entries.push((list, file(tree, format!("{}\n", processor_list(set)))));
    }
    entries
}
