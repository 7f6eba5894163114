//! File systems in images: what is on a disk, and mounting it.

use super::root::Found;
use super::shares;
use crate::drivers::blk::{self, Disk};
use crate::fs::block_device;
use crate::fs::stat::join_device;
use crate::task;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_common::image::{HEAD, Image, recognise};
use diolkos_erofs::Mount;
use diolkos_pages::{Frames, Surroundings};
use diolkos_vfs::MountSpec;
use diolkos_vfs::block::Block;
use spin::Mutex;

/// Every mounted image, so that each can give memory back.
static MOUNTED: Mutex<Vec<Arc<Mount>>> = Mutex::new(Vec::new());

/// The first disk that holds a file system of this kind, `erofs` or `ext4`.
///
/// # Errors
/// What each disk holds instead, or why that one cannot be mounted.
pub fn first(fs_type: &str) -> Result<Found, String> {
    let disks = blk::all();
    if disks.is_empty() {
        return Err("there is no disk".to_string());
    }
    let mut others = Vec::new();
    for disk in disks {
        match kind(&disk) {
            Ok(found) if found == fs_type => return on_disk(disk, fs_type),
            Ok(found) => others.push(format!("{} holds {found}", disk.name())),
            Err(why) => others.push(format!("{}: {why}", disk.name())),
        }
    }
    Err(others.join(", "))
}

/// What a disk holds, in a word.
///
/// # Errors
/// It cannot be read.
fn kind(disk: &Disk) -> Result<&'static str, String> {
    let mut head = vec![0; HEAD.min(disk.bytes() as usize)];
    disk.read(0, &mut head).map_err(|errno| format!("it cannot be read: {errno}"))?;
    Ok(recognise(&head).map_or("nothing that is known", Image::name))
}

/// Mounts the file system that a disk is said to hold, `erofs` or `ext4`.
///
/// # Errors
/// It holds something else, or what is wrong with it.
pub fn on_disk(disk: Arc<Disk>, fs_type: &str) -> Result<Found, String> {
    let name = disk.name();
    let held = kind(&disk).map_err(|why| format!("{name}: {why}"))?;
    if held != fs_type {
        return Err(format!("{name} holds {held}"));
    }
    if fs_type != "erofs" {
        return Err(format!("{name}: {fs_type} cannot be mounted by this kernel yet"));
    }
    // As on Linux it bears the disk's number.
    let (major, minor) = block_device::number(&disk);
    let mount = Mount::new(disk, Arc::new(Memory), join_device(major, minor));
    let mount = mount.map_err(|error| format!("{name}: {error}"))?;
    let root = mount.root().map_err(|errno| format!("{name}: its root directory cannot be read: {errno}"))?;
    MOUNTED.lock().push(mount);
    let spec = MountSpec {
        source: format!("/dev/{name}"),
        fs_type: fs_type.to_string(),
        options: "relatime".to_string(),
        read_only: true,
    };
    Ok(Found { root, spec })
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
    let mounted = MOUNTED.lock().clone();
    let mut given = 0;
    for mount in mounted {
        if given >= pages {
            break;
        }
        given += mount.reclaim(pages - given);
    }
    given
}
