//! Mounting a share and taking it down again.

use crate::counters::Counters;
use crate::dentry::Dentries;
use crate::file::Recent;
use crate::fs::Fs;
use crate::inode::root;
use crate::limits::Limits;
use crate::node::{Node, Table};
use crate::ops::Opcode;
use crate::ops::init::{Agreement, Destroy, Init};
use crate::session::{Session, TraceLine};
use crate::window::Manager;
use crate::window::fuse::FuseWindow;
use crate::window::policy::policy;
use crate::window::range::Geometry;
use crate::{Platform, Transport, WindowMemory};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use diolkos_common::cmdline::{CacheMode, DaxIo, DaxPolicy};
use diolkos_vfs::{Inode, Result};
use spin::Mutex;

/// How a share is to be mounted.
#[derive(Debug, Clone)]
pub struct MountOptions {
    /// The share's tag, for traces.
    pub tag: String,
    /// The device number its files show, one per mount.
    pub dev: u64,
    /// Whether anything may be changed. The host has its own opinion.
    pub writable: bool,
    /// How long names and attributes may be believed.
    pub cache: CacheMode,
    /// How many inodes may be kept known to the host without need: names that are remembered, and what waits to be
    /// forgotten. More than [`crate::INODES`] counts as that.
    pub inodes: usize,
    /// Who manages the window, if there is one.
    pub dax: DaxPolicy,
    /// Which of reads and writes go through it.
    pub dax_io: DaxIo,
    /// User and group that requests are made as.
    pub ids: (u32, u32),
    /// Receives a line for each request. Called without a lock.
    pub trace: Option<TraceLine>,
}

/// Why a mount does not use a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoDax {
    /// The device has none.
    NoWindow,
    /// It was not asked for.
    SwitchedOff,
    /// The window has no room for a chunk of 2 MiB.
    TooSmall,
    /// The server wants mappings aligned to more than a chunk.
    Alignment,
    /// The server does not know SETUPMAPPING.
    Unsupported,
}

impl core::fmt::Display for NoDax {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoWindow => "the device has no DAX window",
            Self::SwitchedOff => "the window is switched off",
            Self::TooSmall => "the window is smaller than 2 MiB",
            Self::Alignment => "the server wants mappings aligned to more than a chunk of the window",
            Self::Unsupported => "the server does not support SETUPMAPPING",
        })
    }
}

/// A mounted share. [`Mount::unmount`] takes it down; dropping it does the same.
pub struct Mount {
    fs: Arc<Fs>,
    root: Arc<Node>,
    no_dax: Option<NoDax>,
    down: AtomicBool,
}

/// Mounts the share behind `transport`.
///
/// # Errors
/// What the transport or the host says; `EIO` when the host speaks no protocol we know; `ENOTDIR` when the share
/// is no directory.
pub fn mount(
    transport: Arc<dyn Transport>,
    platform: Arc<dyn Platform>,
    window: Option<WindowMemory>,
    options: MountOptions,
) -> Result<Mount> {
    let limits = Limits::new(options.inodes);
    let session = Session::new(transport, options.tag, options.ids, limits.forgets, options.trace);
    let session = Arc::new(session);
    let agreement = session.call(&Init)?;
    let manager = window_manager(&session, &platform, window, (options.dax, options.dax_io), &agreement);
    let no_dax = manager.as_ref().err().copied();
    let buffer = limits.listing.max(agreement.max_read.max(agreement.max_write) as usize);
    let pages = crate::pages::cache(&platform, &session);
    let fs = Arc::new(Fs {
        pages,
        session,
        platform,
        agreement,
        dev: options.dev,
        writable: options.writable,
        cache: options.cache,
        window: manager.ok(),
        table: Mutex::new(Table::default()),
        limits,
        dentries: Mutex::new(Dentries::new(limits.names)),
        recent: Mutex::new(Recent::new(limits.open)),
        buffers: crate::bounce::Pool::new(buffer),
        fills: crate::file::Underway::default(),
        serials: AtomicU64::new(1),
        doubted: AtomicU64::new(0),
    });
    let root = root(&fs)?;
    Ok(Mount { fs, root, no_dax, down: AtomicBool::new(false) })
}

fn window_manager(
    session: &Arc<Session>,
    platform: &Arc<dyn Platform>,
    window: Option<WindowMemory>,
    (dax, io): (DaxPolicy, DaxIo),
    agreement: &Agreement,
) -> core::result::Result<Arc<Manager>, NoDax> {
    let memory = window.ok_or(NoDax::NoWindow)?;
    if dax == DaxPolicy::Off {
        return Err(NoDax::SwitchedOff);
    }
    let geometry = Geometry::new(memory.len()).map_err(|_| NoDax::TooSmall)?;
    if agreement.map_alignment.is_none_or(|alignment| alignment > geometry.chunk()) {
        return Err(NoDax::Alignment);
    }
    let policy = policy(dax, geometry.slots()).ok_or(NoDax::SwitchedOff)?;
    let backing = Box::new(FuseWindow(session.clone()));
    Ok(Arc::new(Manager::new(memory, geometry, policy, io, backing, platform.clone(), session.clone())))
}

impl Mount {
    /// The root directory.
    pub fn root(&self) -> Arc<dyn Inode> {
        self.root.clone()
    }

    /// The share's tag.
    pub fn tag(&self) -> &str {
        self.fs.session.tag()
    }

    /// What the mount has done so far.
    pub fn counters(&self) -> &Counters {
        &self.fs.session.counters
    }

    /// Why no window is used; `None` when one is.
    pub fn no_dax(&self) -> Option<NoDax> {
        let refused = !self.fs.session.has(Opcode::FUSE_SETUPMAPPING);
        self.no_dax.or(refused.then_some(NoDax::Unsupported))
    }

    /// The guest-physical range shows its files no longer, because the host has cut them short: what of it lies in the
    /// window is taken out of page tables and never read again, and no size that is known is believed.
    ///
    /// May be called from an interrupt handler that has interrupted no kernel code: it takes spin locks, but neither
    /// waits for the host nor drops anything.
    pub fn lose(&self, phys: u64, len: u64) {
        if let Some(window) = &self.fs.window
            && window.lose(phys, len)
        {
            self.fs.distrust_attributes();
        }
    }

    /// Gives `pages` pages of memory back or more, and says how many: what was not looked at lately and the host has too
    /// goes first. With `may_wait`, stores that the host does not know are written back if that is not enough;
    /// without, it waits for nobody. No spin lock may be held that [`Frames::revoke`](crate::Frames::revoke) takes.
    pub fn reclaim(&self, pages: usize, may_wait: bool) -> usize {
        self.fs.pages.as_ref().map_or(0, |cache| cache.reclaim(pages, may_wait))
    }

    /// Sends what waits to be sent (forgotten inodes): for a machine with nothing else to do.
    pub fn idle(&self) {
        self.fs.session.flush_forgets();
    }

    /// Has the host take over whatever mappings have stored. May wait for it.
    pub fn write_back(&self) {
        if let Some(pages) = &self.fs.pages {
            pages.write_back_all();
        }
    }

    /// Takes the share down: empties the window, forgets every name, says DESTROY. What is still open fails with
    /// `EIO` from then on. A second call does nothing. May wait for the host.
    pub fn unmount(&self) {
        if self.down.swap(true, Relaxed) {
            return;
        }
        self.write_back();
        let names = self.fs.dentries.lock().clear();
        drop(names);
        let files = self.fs.recent.lock().clear();
        drop(files);
        if let Some(window) = &self.fs.window {
            window.clear();
        }
        self.fs.session.flush_forgets();
        // Some servers do not answer; the share is gone either way.
        let _ = self.fs.session.fetch(&Destroy, &mut []);
        self.fs.session.close();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
    }
}
