//! The open directory.
//!
//! `.` and `..` come from here, first: some servers list them and some do not, and those who do cannot know the
//! directory above the root of a share. Every other entry, cookie included, is the host's.

use crate::attrs::deadline;
use crate::bare::Bare;
use crate::dentry::{Source, Target};
use crate::fs::Fs;
use crate::node::Node;
use crate::ops::Opcode;
use crate::ops::data::{DIRECTORY, FSync, OpenNode, Release};
use crate::ops::dir::{Listed, Listing, ReadDir};
use crate::ops::init::Features;
use crate::ops::name::Entry;
use crate::posted::{Landing, post};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use core::sync::atomic::Ordering::Relaxed;
use diolkos_vfs::{DirEntry, DirSink, Errno, File, FileType, ForeignLock, Inode, InodeId, LockRequest, Name, Result};
use spin::Mutex;

/// The cookies after `.` and after `..`. A host's cookie could be anything, but these lie where ext4's hashes,
/// the only ones that large, have no entry but the end, which is all ones.
const AFTER_DOT: u64 = 0x7fff_ffff_0000_0001;
const AFTER_DOTS: u64 = 0x7fff_ffff_0000_0002;

/// An open directory.
pub(crate) struct OpenDir {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    open: OpenNode,
    /// The host has said that there is nothing after this cookie, and nobody has heard of it yet.
    end: Mutex<Option<u64>>,
}

/// A listing under way.
struct Progress<'a, 'b> {
    sink: &'a mut DirSink<'b>,
    /// The host's cookie to go on from.
    cookie: u64,
    /// The cookie of what was accepted last. If anything was, errors are swallowed.
    last: Option<u64>,
    declined: bool,
}

impl Progress<'_, '_> {
    fn offer(&mut self, entry: &DirEntry<'_>) {
        if (self.sink)(entry) {
            self.last = Some(entry.next);
        } else {
            self.declined = true;
        }
    }
}

impl OpenDir {
    pub(crate) fn new(node: Arc<Node>, open: OpenNode) -> Self {
        Self { inode: node.clone(), node, open, end: Mutex::new(None) }
    }

    fn offer_dots(&self, from: u64, progress: &mut Progress<'_, '_>) {
        let kind = Some(FileType::Directory);
        if from == 0 {
            let (ino, id) = (self.node.last_known().ino, Some(self.inode.id()));
            progress.offer(&DirEntry { ino, next: AFTER_DOT, file_type: kind, name: b".", id });
        }
        if !progress.declined && (from == 0 || from == AFTER_DOT) {
            let ino = self.node.parent_ino.load(Relaxed);
            progress.offer(&DirEntry { ino, next: AFTER_DOTS, file_type: kind, name: b"..", id: None });
        }
    }

    /// Whether attributes should come with the listing: at its start if names that were listed lately were looked up, and
    /// later, by Linux' rule, if those of this listing were. (Linux' starts always have them.)
    fn wants_plus(&self, from: u64) -> bool {
        let fs = &self.node.fs;
        let advised = self.node.looked_up.swap(false, Relaxed);
        if !fs.lists_with_attributes() {
            return false;
        }
        let advised = if from == 0 { fs.dentries.lock().luck.is_hinted_at() } else { advised };
        advised || !fs.agreement.features.contains(Features::READDIRPLUS_AUTO)
    }

    /// Asks for a piece of the listing and offers what is in it. `Ok(false)` at the end.
    fn piece<const PLUS: bool>(&self, progress: &mut Progress<'_, '_>) -> Result<bool> {
        list_piece::<PLUS>(&self.node, self.open, progress.cookie, self.node.fs.limits.listing, |listed, id| {
            if progress.declined {
                return;
            }
            progress.cookie = listed.next;
            if !listed.is_dot() {
                let Listed { ino, next, kind, name, .. } = *listed;
                if !PLUS {
                    self.node.bare.lock().listed(name);
                    self.node.fs.dentries.lock().luck.listed();
                }
                progress.offer(&DirEntry { ino, next, file_type: kind, name, id });
            }
        })
    }

    fn list(&self, from: u64, progress: &mut Progress<'_, '_>) -> Result<()> {
        self.node.check()?;
        let end = self.end.lock().take();
        if from == 0 {
            *self.node.bare.lock() = Bare::default();
        } else if end == Some(from) {
            return Ok(());
        }
        self.offer_dots(from, progress);
        let mut plus = self.wants_plus(from);
        while !progress.declined {
            let more = if plus { self.piece::<true>(progress) } else { self.piece::<false>(progress) };
            match more {
                Ok(true) => {}
                Ok(false) => {
                    // Who gets names now asks once more, to hear that there are none.
                    *self.end.lock() = progress.last;
                    break;
                }
                Err(Errno::ENOSYS) if plus => plus = false,
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// Asks for up to `size` bytes of the listing of `dir`, open as `open`, from a cookie on, takes in the nodes that come with
/// them, and tells `each` of every entry. `Ok(false)` at the end.
pub(crate) fn list_piece<const PLUS: bool>(
    dir: &Node,
    open: OpenNode,
    cookie: u64,
    size: usize,
    mut each: impl FnMut(&Listed<'_>, Option<InodeId>),
) -> Result<bool> {
    let fs = &dir.fs;
    let (changes, stamp) = (dir.changes.load(Relaxed), fs.session.stamp());
    let mut buffer = fs.buffers.take();
    let request = ReadDir::<PLUS> { dir: open, cookie, size: size as u32 };
    let n = fs.session.fetch(&request, &mut buffer[..size])?;
    for listed in Listing::new(&buffer[..n], PLUS) {
        let nonsense = |what| fs.session.nonsense(Opcode::FUSE_READDIR, what);
        let listed = listed.map_err(|_| nonsense(format_args!("malformed entry")))?;
        // Every entry that names a node counts a lookup, whether anybody wants it or not.
        let id = adopt(dir, &listed, changes, stamp)?;
        if matches!(listed.next, 0 | AFTER_DOT | AFTER_DOTS) {
            return Err(nonsense(format_args!("cookie {:#x}", listed.next)));
        }
        each(&listed, id);
    }
    Ok(n != 0)
}

/// Takes in the node that READDIRPLUS gives with an entry, and its name.
fn adopt(dir: &Node, listed: &Listed<'_>, changes: u64, stamp: u64) -> Result<Option<InodeId>> {
    let fs = &dir.fs;
    let Some(out) = listed.entry.filter(|out| out.nodeid != 0 && !listed.is_dot()) else {
        return Ok(None);
    };
    let nonsense = || fs.session.nonsense(Opcode::FUSE_READDIRPLUS, format_args!("impossible entry"));
    let entry = Entry::parse(&out).ok_or_else(nonsense)?;
    let name = Name::new(listed.name).map_err(|_| nonsense())?;
    let node = fs.adopt(dir, &entry, stamp)?;
    let id = node.id();
    let until = deadline(fs.cache, fs.platform.now_ns(), entry.valid);
    fs.remember(dir, name, Target::Node(node), until, changes, Source::Listed);
    Ok(Some(id))
}

impl File for OpenDir {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        let host_cookie = if matches!(cookie, AFTER_DOT | AFTER_DOTS) { 0 } else { cookie };
        let mut progress = Progress { sink: entries, cookie: host_cookie, last: None, declined: false };
        match self.list(cookie, &mut progress) {
            Err(errno) if progress.last.is_none() => Err(errno),
            _ => Ok(()),
        }
    }

    fn fsync(&self, data_only: bool) -> Result<()> {
        match self.node.fs.session.call(&FSync::<DIRECTORY> { file: self.open, data_only }) {
            Err(Errno::ENOSYS) => Ok(()),
            result => result,
        }
    }

    fn set_lock(&self, lock: &LockRequest) -> Result<()> {
        self.node.set_lock(self.open, lock)
    }

    fn find_lock(&self, lock: &LockRequest) -> Result<Option<ForeignLock>> {
        self.node.find_lock(self.open, lock)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        close(&self.node.fs, self.open);
    }
}

/// Has the host close a directory, and does not wait until it has.
pub(crate) fn close(fs: &Fs, directory: OpenNode) {
    post(&fs.session, vec![(Release::<DIRECTORY> { file: directory }, Box::new(Closed([0; 8])))]);
}

/// Gets the reply to a RELEASEDIR, which nobody waits for: nothing comes of it. The memory is for a body that there is not.
struct Closed([u8; 8]);

impl Landing for Closed {
    fn memory(&mut self) -> &mut [u8] {
        &mut self.0
    }

    fn landed(self: Box<Self>, _: Result<usize>) {}
}
