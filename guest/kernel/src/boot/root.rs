//! The tree the program sees: which file system is its root, and what is mounted on that.

use super::{images, initrd, mounts, shares};
use crate::arch::rdtsc;
use crate::fs::{devfs, devices, procfs, sysfs, tty, waiting};
use crate::mm::reclaim;
use crate::stats;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_common::cmdline::{Access, BootOptions, Share};
use diolkos_common::image::Image;
use diolkos_common::root::Root;
use diolkos_vfs::{Inode, MountSpec, Namespace, NamespaceConfig};
use spin::Mutex;

/// A file system that can be mounted.
pub struct Found {
    /// Its root directory.
    pub root: Arc<dyn Inode>,
    /// How it appears among the mounts.
    pub spec: MountSpec,
}

/// What became of each kind of root that was tried, for the counters.
static TRIED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The order in which kinds are tried when none was asked for.
const IN_TURN: [Root; 4] = [Root::Virtiofs(None), Root::Rofs, Root::Ext4, Root::Ramfs];

/// Mounts the root, the memory file systems, the other shares, and what `/etc/fstab` and the command line want.
///
/// # Errors
/// One line that names what is at fault.
pub fn mount(options: &BootOptions) -> Result<Arc<Namespace>, String> {
    let config = NamespaceConfig {
        scaffold_dev: devices::SCAFFOLD,
        clock: Arc::new(crate::fs::anon::now),
        wait_queues: Arc::new(waiting::new_queue),
    };
    reclaim::init(shares::give_back);
    let mut found = find(options)?;
    stats::FUSE.set(rdtsc());
    if options.root_overlay {
        let dev = found.root.id().dev;
        found.root = shares::overlay(found.root, dev).map_err(|errno| format!("the root: no overlay: {errno}"))?;
        found.spec.fs_type = "overlay".to_string();
        found.spec.read_only = false;
    }
    let source = found.spec.source.clone();
    let namespace =
        Namespace::new(found.root, found.spec, config).map_err(|errno| format!("the root, {source}: {errno}"))?;
    let namespace = Arc::new(namespace);
    mount_memory(&namespace, options)?;
    let root_tag = root_share(options).map(|share| &share.tag);
    for share in options.shares.iter().filter(|share| share.target != b"/" && Some(&share.tag) != root_tag) {
        let found = share_found(options, &share.tag)?;
        let target = String::from_utf8_lossy(&share.target).into_owned();
        namespace
            .mount(&share.target, found.root, found.spec)
            .map_err(|errno| format!("share '{}' cannot be mounted at {target}: {errno}", share.tag))?;
    }
    if !options.no_fstab {
        mounts::from_list(&namespace, options);
    }
    mounts::as_told(&namespace, options)?;
    Ok(namespace)
}

/// The root that was asked for, or the first that is there.
fn find(options: &BootOptions) -> Result<Found, String> {
    if options.root != Root::Auto {
        return attempt(options, &options.root);
    }
    let mut refusals = Vec::new();
    for kind in &IN_TURN {
        let name = kind.name();
        match attempt(options, kind) {
            Ok(found) => {
                note(format!("root: {name} ({}), the first that is there", found.spec.source));
                return Ok(found);
            }
            Err(why) => {
                note(format!("no {name}: {why}"));
                refusals.push(format!("{name}: {why}"));
            }
        }
    }
    Err(format!("there is no root file system: {}", refusals.join("; ")))
}

/// Tells of a decision, now if the user wants to hear of it, and with the counters at the end.
fn note(line: String) {
    crate::verbose!("{line}");
    TRIED.lock().push(line);
}

fn attempt(options: &BootOptions, kind: &Root) -> Result<Found, String> {
    match kind {
        Root::Auto | Root::Virtiofs(_) => {
            let share = match kind.tag() {
                None => options.shares.iter().find(|share| share.target == b"/").map(|share| share.tag.as_str()),
                tag => tag,
            };
            share_found(options, share.ok_or("there is no share to mount at /")?)
        }
        Root::Rofs => images::first(Image::Erofs).map_err(|why| format!("no EROFS image to be the root: {why}")),
        Root::Ext4 => images::first(Image::Ext4).map_err(|why| format!("no ext4 image to be the root: {why}")),
        Root::Ramfs => {
            let root = initrd::unpack(options.ids)?;
            let memory_options = "relatime".to_string();
            // As on Linux, where it is called so; it is memory, and may be written to.
            let fs_type = "rootfs".to_string();
            let spec = MountSpec { source: fs_type.clone(), fs_type, options: memory_options, read_only: false };
            Ok(Found { root, spec })
        }
    }
}

/// The share that is the root, if one is.
fn root_share(options: &BootOptions) -> Option<&Share> {
    let tag = options.root.tag()?;
    options.shares.iter().find(|share| share.tag == tag)
}

/// The share of this tag. One of which nothing was said is read-only.
///
/// # Errors
/// One line that names it.
pub fn share_found(options: &BootOptions, tag: &str) -> Result<Found, String> {
    let position = options.shares.iter().position(|share| share.tag == tag);
    let untold = || Share { tag: tag.into(), target: Vec::new(), access: Access::ReadOnly, cache: Default::default() };
    let share = position.map_or_else(untold, |position| options.shares[position].clone());
    let number = position.unwrap_or_else(|| options.shares.len() + shares::count());
    let root = shares::root_of(&share, devices::FIRST_SHARE + number as u64)?;
    Ok(Found { root, spec: shares::spec(&share) })
}

/// `/dev`, `/dev/shm`, `/proc`, `/sys`, `/tmp` and `/run`.
fn mount_memory(namespace: &Arc<Namespace>, options: &BootOptions) -> Result<(), String> {
    const STICKY: u32 = 0o1777;
    let memory = |dev, mode| devices::memory_fs(dev, options.ids, mode).root();
    let terminal = tty::console().and_then(|console| console.terminal());
    let mounts: [(&str, &str, Arc<dyn Inode>); 6] = [
        ("dev", "devtmpfs", devfs::root(terminal)),
        ("dev/shm", "tmpfs", memory(devices::SHM, STICKY)),
        ("proc", "proc", procfs::root(namespace)),
        ("sys", "sysfs", sysfs::root()),
        ("tmp", "tmpfs", memory(devices::TMP, STICKY)),
        ("run", "tmpfs", memory(devices::RUN, 0o755)),
    ];
    for (name, fs_type, root) in mounts {
        let options = "nosuid,nodev,relatime".to_string();
        let spec = MountSpec { source: fs_type.to_string(), fs_type: fs_type.to_string(), options, read_only: false };
        let mounted = match name.contains('/') {
            false => namespace.cover(name.as_bytes(), root, spec),
            true => namespace.mount(format!("/{name}").as_bytes(), root, spec),
        };
        mounted.map_err(|errno| format!("/{name} cannot be mounted: {errno}"))?;
    }
    Ok(())
}

/// Adds what was decided about the root.
pub fn write_counters(out: &mut String) {
    for line in TRIED.lock().iter() {
        stats::line(out, &format!("root.{line}"), 1);
    }
}
