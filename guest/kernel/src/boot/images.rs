//! File systems in images: what is on a disk, and mounting it.

use super::root::Found;
use crate::drivers::blk::{self, Disk};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use diolkos_common::image::{HEAD, Image, recognise};
use diolkos_vfs::block::Block;

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
    Err(format!("{name}: {fs_type} cannot be mounted by this kernel yet"))
}
