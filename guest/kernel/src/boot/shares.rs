//! The shares: mounting them, what they count, what is left to do at the end; and what the machine does for their file system.

use super::{images, options};
use crate::drivers::fs::{FsDevice, by_tag, tags};
use crate::fs::devices;
use crate::mm::{forget, frames, losses, reclaim, revoke};
use crate::{report, stats, task, time};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use diolkos_common::cmdline::{Access, Share};
use diolkos_vfs::overlay::{Mappings, Overlay, OverlayConfig};
use diolkos_vfs::{Inode, InodeId, MountSpec};
use diolkos_virtiofs::{Frames, INODES, Mount, MountOptions, Platform, mount as mount_share};
use spin::Mutex;

/// Every mounted share, for the counters and the end.
static SHARES: Mutex<Vec<Arc<Mount>>> = Mutex::new(Vec::new());

/// Their root directories, by tag: the same share may be mounted in several places.
static ROOTS: Mutex<Vec<(String, Arc<dyn Inode>)>> = Mutex::new(Vec::new());

/// What the file system needs of the machine.
pub struct Machine;

impl Platform for Machine {
    fn now_ns(&self) -> u64 {
        time::monotonic_ns()
    }

    fn revoke(&self, phys: u64, len: u64) {
        revoke::revoke(phys, len);
    }

    fn losses(&self) -> u64 {
        losses::sequence()
    }

    fn heed_losses(&self) -> u64 {
        losses::heeded()
    }

    fn frames(&self) -> Option<&dyn Frames> {
        Some(self)
    }

    fn pause(&self) {
        task::pause();
    }
}

impl Mappings for Machine {
    fn forget(&self, file: InodeId, from: u64, to: u64) {
        forget::forget(file, from, to);
    }
}

/// Files of an overlaid share up to this size are copied to memory whole when they are first changed; of larger ones only
/// the pages that change. Most files that programs rewrite in part are smaller, and no longer depend on the host then.
const COPIED_WHOLE: u64 = 128 << 10;

// SAFETY: frames come from the allocator of physical memory, which gives each to one user, never frame 0, and are mapped in
// the direct map for ever.
unsafe impl Frames for Machine {
    fn allocate(&self, order: usize) -> Option<u64> {
        reclaim::allocate_for_cache(order)
    }

    fn release(&self, phys: u64, order: usize) {
        reclaim::release_from_cache(phys, order);
    }

    fn at(&self, phys: u64) -> NonNull<u8> {
        NonNull::new(frames::pointer(phys)).expect("the direct map does not begin at 0")
    }

    fn revoke(&self, frames: &[u64]) {
        revoke::revoke_frames(frames);
    }
}

/// Has the shares, and then the images, give back memory, one after the other.
pub fn give_back(pages: usize, may_wait: bool) -> usize {
    let mut given = 0;
    for mount in shares() {
        given += mount.reclaim(pages - given, may_wait);
        if given >= pages {
            return given;
        }
    }
    given + images::give_back(pages - given)
}

/// How a share appears among the mounts.
pub fn spec(share: &Share) -> MountSpec {
    let fs_type = if share.access == Access::Overlay { "overlay" } else { "virtiofs" };
    MountSpec {
        source: share.tag.clone(),
        fs_type: fs_type.to_string(),
        options: "relatime".to_string(),
        read_only: share.access == Access::ReadOnly,
    }
}

/// The root directory of a share: of its device, mounted now, or of the mount that it has already.
///
/// # Errors
/// One line that names the share.
pub fn root_of(share: &Share, dev: u64) -> Result<Arc<dyn Inode>, String> {
    if let Some((_, root)) = ROOTS.lock().iter().find(|(tag, _)| *tag == share.tag) {
        return Ok(root.clone());
    }
    let root = mount(share, dev)?;
    ROOTS.lock().push((share.tag.clone(), root.clone()));
    Ok(root)
}

/// Mounts a share's device and gives its root directory.
fn mount(share: &Share, dev: u64) -> Result<Arc<dyn Inode>, String> {
    let device: Arc<FsDevice> = by_tag(&share.tag).ok_or_else(|| {
        format!("no file system device has the tag '{}'; the tags are: {}", share.tag, tags().join(", "))
    })?;
    let options = options();
    let window = device.window();
    let inodes = options.inodes.map_or(INODES, |inodes| inodes as usize);
    let mount_options = MountOptions {
        tag: share.tag.clone(),
        dev,
        writable: share.access.changes_host(),
        cache: share.cache,
        inodes,
        dax: options.dax,
        dax_io: options.dax_io,
        ids: options.ids,
        trace: options.trace.fuse.then_some(|line| report::trace(format!("{line}"))),
    };
    let mount = mount_share(device, Arc::new(Machine), window, mount_options)
        .map_err(|errno| format!("share '{}' cannot be mounted: {errno}", share.tag))?;
    if let Some(reason) = mount.no_dax() {
        crate::verbose!("share '{}': no DAX: {reason}", share.tag);
    }
    let root = mount.root();
    SHARES.lock().push(Arc::new(mount));
    if share.access != Access::Overlay {
        return Ok(root);
    }
    overlay(root, dev).map_err(|errno| format!("share '{}': no overlay: {errno}", share.tag))
}

/// An overlay of memory over a file system, whose device number it takes over.
///
/// # Errors
/// What the file system says.
pub fn overlay(lower: Arc<dyn Inode>, dev: u64) -> diolkos_vfs::Result<Arc<dyn Inode>> {
    let options = options();
    let memory = devices::memory_config(dev, options.ids, 0o755);
    // A quarter of what may be held without need: this is held with need, but for how long nobody knows.
    let held = options.inodes.map_or(INODES, |inodes| inodes as usize) as u64 / 4;
    let config = OverlayConfig { lower, memory, mappings: Arc::new(Machine), whole: COPIED_WHOLE, held };
    Ok(Overlay::new(config)?.root())
}

/// Has the host take over what it has not seen yet, at the machine's end. The rest of taking a share down (names, open files
/// and chunks given back, DESTROY) would be messages that change nothing: a server gives all of it up when its machine is gone.
pub fn write_back() {
    shares().iter().for_each(|mount| mount.write_back());
}

/// Guest-physical memory has lost its content: tells the shares, one of whose windows it is. Called with interrupts masked
/// and no lock held; nothing here waits.
pub fn lose(phys: u64, len: u64) {
    // The lock is only ever held for a moment, but a copy would allocate, and this may be an interrupt.
    for mount in SHARES.lock().iter() {
        mount.lose(phys, len);
    }
}

/// Adds the counters of all shares, summed; where there are several, what tells them apart; and for each share without
/// DAX why that is.
pub fn write_counters(out: &mut String) {
    let mut sums = BTreeMap::<String, u64>::new();
    let shares = shares();
    for mount in &shares {
        let (mut requests, mut own) = (0, BTreeMap::new());
        mount.counters().for_each(&mut |name, value| {
            *sums.entry(name.to_string()).or_default() += value;
            match name.strip_prefix("fuse.") {
                Some(bytes) if bytes.starts_with("bytes") => drop(own.insert(format!("message_{bytes}"), value)),
                Some(_) => requests += value,
                None => drop(own.insert(name.replace('.', "_"), value)),
            }
        });
        if shares.len() > 1 {
            own.insert("requests".to_string(), requests);
            own.into_iter()
                .for_each(|(name, value)| stats::line(out, &format!("share '{}', as used.{name}", mount.tag()), value));
        }
        if let Some(reason) = mount.no_dax() {
            *sums.entry(format!("dax.off.{}.{reason}", mount.tag())).or_default() += 1;
        }
    }
    for (name, value) in sums {
        stats::line(out, &name, value);
    }
}

/// How many shares are mounted.
pub fn count() -> usize {
    SHARES.lock().len()
}

/// The shares; a copy, since nobody may wait for the host with the lock held.
fn shares() -> Vec<Arc<Mount>> {
    SHARES.lock().clone()
}
