//! Mounts beside the root: those that `/etc/fstab` lists, and those that the machine is told of (`--mount`).
//!
//! A list that lies in a root was often written for another machine, with devices that are not here. What cannot be ours
//! (other file systems, other kinds of sources) is passed over, which `--verbose` tells; what could be but is not here is
//! told of, unless the list says `nofail`. What the machine itself is told of must be there.

use super::images;
use super::root::{Found, share_found};
use crate::drivers::blk;
use crate::fs::devices;
use crate::fs::fstab::{self, Options};
use crate::report;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_common::cmdline::BootOptions;
use diolkos_common::image::Image;
use diolkos_common::root::MountRequest;
use diolkos_vfs::{Errno, FileType, Lookup, MountSpec, Namespace, OpenFlags, Result, SliceSink};

/// Bytes of `/etc/fstab` that are read.
const LONGEST_LIST: usize = 64 << 10;

/// Why there is nothing to mount.
enum Refusal {
    /// Its kind of file system or source is none that a machine of ours has.
    NotOurs(String),
    /// It could be, but is not.
    Failed(String),
}

/// Mounts what `/etc/fstab` of the root lists.
pub fn from_list(namespace: &Namespace, boot: &BootOptions) {
    let text = match read_list(namespace) {
        Ok(text) => text,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return,
        Err(errno) => return report::warning(format_args!("/etc/fstab cannot be read: {errno}")),
    };
    for entry in fstab::parse(&text) {
        let options = Options::parse(&entry.options);
        // The root is there, and swap space and the like have no place.
        if options.noauto || entry.target == b"/" || !entry.target.starts_with(b"/") {
            continue;
        }
        let shown = format!("/etc/fstab: {} at {}", entry.source, String::from_utf8_lossy(&entry.target));
        let request =
            MountRequest { fs_type: entry.fs_type, source: entry.source, target: entry.target, options: String::new() };
        match mount(namespace, boot, &request, &options) {
            Ok(()) if wants_to_write(&request, &options) => {
                report::warning(format_args!("{shown}: mounted read-only, as {} always is here", request.fs_type));
            }
            Ok(()) => crate::verbose!("{shown}: mounted"),
            Err(Refusal::NotOurs(why)) => crate::verbose!("{shown}: passed over: {why}"),
            Err(Refusal::Failed(why)) if options.nofail => crate::verbose!("{shown}: {why}"),
            Err(Refusal::Failed(why)) => report::warning(format_args!("{shown}: {why}")),
        }
    }
}

fn read_list(namespace: &Namespace) -> Result<Vec<u8>> {
    let place = namespace.find(&namespace.root(), b"/etc/fstab", Lookup::FOLLOW)?;
    if place.inode().file_type() != FileType::Regular {
        return Err(Errno::ENOENT);
    }
    let mut text = vec![0; LONGEST_LIST];
    let file = place.inode().clone().open(OpenFlags::empty())?;
    let len = file.read_at(0, &mut SliceSink::new(&mut text))?;
    text.truncate(len);
    Ok(text)
}

/// Mounts what the machine was told to mount.
///
/// # Errors
/// One line that names the mount at fault.
pub fn as_told(namespace: &Namespace, boot: &BootOptions) -> core::result::Result<(), String> {
    for request in &boot.mounts {
        let target = String::from_utf8_lossy(&request.target);
        let shown = format!("--mount {}:{}:{target}", request.fs_type, request.source);
        let options = Options::parse(&request.options);
        if let Some(word) = options.unknown.first() {
            return Err(format!("{shown}: option '{word}' is not known"));
        }
        if wants_to_write(request, &options) {
            return Err(format!("{shown}: {} is only read here; leave out 'rw'", request.fs_type));
        }
        match mount(namespace, boot, request, &options) {
            Ok(()) => {}
            Err(Refusal::NotOurs(why) | Refusal::Failed(why)) => return Err(format!("{shown}: {why}")),
        }
    }
    Ok(())
}

fn mount(
    namespace: &Namespace,
    boot: &BootOptions,
    request: &MountRequest,
    options: &Options,
) -> core::result::Result<(), Refusal> {
    let mut found = find(boot, request, options)?;
    found.spec.read_only |= options.read_only == Some(true);
    match namespace.mount(&request.target, found.root, found.spec) {
        Ok(_) => Ok(()),
        // `/tmp` and its like are what a list would have them be, already.
        Err(Errno::EBUSY) if request.fs_type == "tmpfs" => Err(Refusal::NotOurs("something is mounted there".into())),
        Err(Errno::EBUSY) => Err(Refusal::Failed("something is mounted there".into())),
        Err(errno) => Err(Refusal::Failed(format!("it cannot be mounted: {errno}"))),
    }
}

fn find(boot: &BootOptions, request: &MountRequest, options: &Options) -> core::result::Result<Found, Refusal> {
    match request.fs_type.as_str() {
        "tmpfs" => Ok(memory(boot, request, options)),
        "virtiofs" => share_found(boot, &request.source).map_err(Refusal::Failed),
        fs_type => {
            let kinds = "the file systems are virtiofs, erofs, ext4, ext3, ext2 and tmpfs";
            let image = image(fs_type).ok_or_else(|| Refusal::NotOurs(kinds.into()))?;
            let Some(name) = request.source.strip_prefix("/dev/vd") else {
                return Err(Refusal::NotOurs("only /dev/vda and on can be mounted".into()));
            };
            let disk = blk::all().into_iter().find(|disk| disk.name().strip_prefix("vd") == Some(name));
            let disk = disk.ok_or_else(|| Refusal::Failed("there is no such disk".into()))?;
            let mut found = images::on_disk(disk, image).map_err(Refusal::Failed)?;
            found.spec.fs_type = request.fs_type.clone();
            Ok(found)
        }
    }
}

/// The kind of image that a file system of this name is in.
fn image(fs_type: &str) -> Option<Image> {
    match fs_type {
        "erofs" => Some(Image::Erofs),
        "ext4" | "ext3" | "ext2" => Some(Image::Ext4),
        _ => None,
    }
}

/// Whether a mount asks in words for what file systems in images cannot do.
fn wants_to_write(request: &MountRequest, options: &Options) -> bool {
    options.read_only == Some(false) && image(&request.fs_type).is_some()
}

/// A new file system in memory. Each has a device number of its own.
fn memory(boot: &BootOptions, request: &MountRequest, options: &Options) -> Found {
    static NEXT: AtomicU64 = AtomicU64::new(devices::FIRST_FURTHER);
    let dev = NEXT.fetch_add(1, Ordering::Relaxed);
    // Of those made by mount(8) everybody may use the root (tmpfs(5)).
    let root = devices::memory_fs(dev, boot.ids, options.mode.unwrap_or(0o1777)).root();
    let options = "nosuid,nodev,relatime".to_string();
    let spec = MountSpec { source: request.source.clone(), fs_type: "tmpfs".to_string(), options, read_only: false };
    Found { root, spec }
}
