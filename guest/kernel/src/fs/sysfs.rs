//! `/sys`: the few files that libraries read to learn how many processors and memory nodes there are.
//!
//! It also covers the host's own `/sys`, which a shared root directory may contain and which describes another machine.

use super::anon::now;
use super::devices::SYS;
use super::procfs::CPUS;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::Inode;
use diolkos_vfs::generated::Tree;

/// `SYSFS_MAGIC`.
const MAGIC: u64 = 0x6265_6572;

type Entries = Vec<(&'static str, Arc<dyn Inode>)>;

/// The root of `/sys`.
pub fn root() -> Arc<dyn Inode> {
    let tree = Tree::new(SYS, MAGIC, now());
    let dir = |entries: Entries| tree.node(0o755).dir(entries);
    let text = |content: &'static str| tree.node(0o444).file(move || Ok(content.into()));
    let list = || tree.node(0o444).file(|| Ok(range(CPUS).into_bytes()));
    let cpu = dir(vec![
        ("kernel_max", tree.node(0o444).file(|| Ok(format!("{}\n", CPUS - 1).into_bytes()))),
        ("online", list()),
        ("possible", list()),
        ("present", list()),
    ]);
    let node = dir(vec![("online", text("0\n")), ("possible", text("0\n"))]);
    let huge = dir(vec![("enabled", text("[always] madvise never\n")), ("hpage_pmd_size", text("2097152\n"))]);
    let kernel = dir(vec![("mm", dir(vec![("transparent_hugepage", huge)]))]);
    let system = dir(vec![("cpu", cpu), ("node", node)]);
    dir(vec![
        ("devices", dir(vec![("system", system)])),
        ("fs", dir(vec![("cgroup", dir(Vec::new()))])),
        ("kernel", kernel),
    ])
}

/// The first `count` numbers as the kernel writes a list of them.
fn range(count: usize) -> alloc::string::String {
    match count {
        0 | 1 => "0\n".into(),
        _ => format!("0-{}\n", count - 1),
    }
}
