//! File systems in images: what is on a disk, and mounting it.

use super::root::Found;
use super::shares;
use crate::drivers::blk::{self, Disk};
use crate::fs::block_device;
use crate::fs::stat::join_device;
use crate::report;
use crate::task;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_common::image::{HEAD, Image, recognise};
use diolkos_erofs::Erofs;
use diolkos_ext4::Ext4;
use diolkos_images::{Format, Mount};
use diolkos_pages::{Frames, Pages, Surroundings};
use diolkos_vfs::block::Block;
use diolkos_vfs::{Inode, MountSpec};
use spin::Mutex;

/// The page cache of every mounted image, so that each can give memory back.
static CACHES: Mutex<Vec<Arc<Pages>>> = Mutex::new(Vec::new());

/// The first disk that holds such an image.
///
/// # Errors
/// What each disk holds instead, or why that one cannot be mounted.
pub fn first(wanted: Image) -> Result<Found, String> {
    let disks = blk::all();
    if disks.is_empty() {
        return Err("there is no disk".to_string());
    }
    let mut others = Vec::new();
    for disk in disks {
        match kind(&disk) {
            Ok(Some(found)) if found == wanted => return on_disk(disk, wanted),
            Ok(found) => others.push(format!("{} holds {}", disk.name(), named(found))),
            Err(why) => others.push(format!("{}: {why}", disk.name())),
        }
    }
    Err(others.join(", "))
}

/// What a disk holds.
///
/// # Errors
/// It cannot be read.
fn kind(disk: &Disk) -> Result<Option<Image>, String> {
    let mut head = vec![0; HEAD.min(disk.bytes() as usize)];
    disk.read(0, &mut head).map_err(|errno| format!("it cannot be read: {errno}"))?;
    Ok(recognise(&head))
}

/// The same in words.
fn named(image: Option<Image>) -> &'static str {
    image.map_or("nothing that is known", Image::name)
}

/// Mounts the file system that a disk is said to hold.
///
/// # Errors
/// It holds something else, or what is wrong with it.
pub fn on_disk(disk: Arc<Disk>, wanted: Image) -> Result<Found, String> {
    let name = disk.name();
    let held = kind(&disk).map_err(|why| format!("{name}: {why}"))?;
    if held != Some(wanted) {
        return Err(format!("{name} holds {}", named(held)));
    }
    let fs_type = wanted.name();
    let root = match wanted {
        Image::Erofs => Erofs::open(disk.clone()).and_then(|fs| mount(fs, &disk, fs_type)),
        Image::Ext4 => Ext4::open(disk.clone()).and_then(|fs| mount(fs, &disk, fs_type)),
        Image::Cpio => return Err(format!("{name} holds an archive, which is unpacked and not mounted")),
    };
    let root = root.map_err(|error| format!("{name}, {fs_type}: {error}"))?;
    let spec = MountSpec {
        source: format!("/dev/{name}"),
        fs_type: fs_type.to_string(),
        options: "relatime".to_string(),
        read_only: true,
    };
    Ok(Found { root, spec })
}

/// Mounts a file system, and gives its root directory.
fn mount<F: Format>(fs: F, disk: &Disk, fs_type: &'static str) -> diolkos_images::Result<Arc<dyn Inode>> {
    // As on Linux it bears the disk's number.
    let (major, minor) = block_device::number(disk);
    let name = disk.name();
    let tell = Box::new(move |what: &str| report::warning(format_args!("{name}, {fs_type}: {what}")));
    let mount = Mount::new(fs, Arc::new(Memory), join_device(major, minor), tell)?;
    CACHES.lock().push(mount.pages().clone());
    mount.root()
}

/// What is around an image's page cache.
struct Memory;

impl Surroundings for Memory {
    fn frames(&self) -> &dyn Frames {
        &shares::Machine
    }

    fn pause(&self) {
        task::pause();
    }
}

/// Has the images give back up to `pages` pages, and says how many they gave.
pub fn give_back(pages: usize) -> usize {
    let caches = CACHES.lock().clone();
    let mut given = 0;
    for cache in caches {
        if given >= pages {
            break;
        }
        given += cache.reclaim(pages - given, false);
    }
    given
}
