//! The whole client against a real server on a real directory.

mod lifetimes;
mod listing;
mod names;
mod reading;
#[path = "../server/mod.rs"]
mod server;
mod window;
mod writing;

use diolkos_common::cmdline::{CacheMode, DaxPolicy};
use diolkos_vfs::{
    Access, Errno, FileType, LockFamily, LockMode, LockRequest, OpenFlags, RenameFlags, SetMetadata, SetTime, Timespec,
};
use diolkos_virtiofs::Tally;
use server::*;
use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Arc;

const RDONLY: OpenFlags = OpenFlags::empty();
