//! What changes names. The lower file system is asked first, without a lock; under the lock of names its answer is
//! checked against the tables, and if somebody was faster it all starts over.

use super::node::{Node, Place, Shown};
use super::table::Found;
use super::{Fs, Known};
use crate::ramfs::{self, Body, SGID};
use crate::{Errno, File, FileType, Inode, Name, OpenFlags, RenameFlags, Result};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// What a change of names let go of, to be dropped when no lock is held.
#[derive(Default)]
struct Dropped {
    nodes: Vec<Arc<Node>>,
    places: Vec<Place>,
    known: Vec<Known>,
}

/// A name in a directory, with what is known of it.
struct At<'a> {
    dir: &'a Node,
    upper: Arc<ramfs::Node>,
    name: Name<'a>,
    found: Found,
    /// Hard links of what was found, as the lower counts them.
    links: u32,
    /// Whether it is a directory with anything in it, as far as the lower knows.
    full: bool,
}

impl<'a> At<'a> {
    /// Looks up a name in a directory that is about to be changed. `replaced`: what is there is to go.
    fn look(dir: &'a Node, name: Name<'a>, replaced: bool) -> Result<Self> {
        let found = dir.find(name)?;
        let mut at = Self { dir, upper: dir.raise()?, name, found, links: 0, full: false };
        if let Some(node) = at.found.node.as_ref().filter(|_| replaced) {
            match node.kind {
                FileType::Directory => at.full = node.lower_is_full()?,
                _ => at.links = node.lower_links()?,
            }
        }
        Ok(at)
    }

    /// Whether it is still so. The caller holds the lock of names.
    fn holds(&self) -> bool {
        self.dir.state.lock().table.agrees(self.name.as_bytes(), &self.found)
    }

    /// Entries that [`At::set`], or [`At::clear`] if it is `cleared`, will add: the caller takes room for them before.
    fn needed(&self, cleared: bool) -> usize {
        usize::from(!self.found.named && (self.found.below || !cleared))
    }

    /// Makes the name lead to `node`.
    fn set(&self, node: Option<Arc<Node>>, dropped: &mut Dropped) {
        dropped.nodes.extend(self.dir.state.lock().table.set(self.name.as_bytes(), node, self.found.below));
    }

    /// Makes the name lead nowhere.
    fn clear(&self, dropped: &mut Dropped) {
        if self.found.below {
            return self.set(None, dropped);
        }
        let before = self.dir.state.lock().table.remove(self.name.as_bytes());
        if let Some(entry) = before {
            self.dir.fs.release_entry();
            dropped.nodes.extend(entry.node);
        }
    }

    /// What was found has lost this name, and with it what goes along.
    fn bury(&self, dropped: &mut Dropped) {
        let Some(node) = &self.found.node else { return };
        if node.kind == FileType::Directory {
            self.upper.add_links(-1);
            let mut state = node.state.lock();
            state.table.dead = true;
            (0..state.table.len()).for_each(|_| node.fs.release_entry());
        } else {
            dropped.places.push(node.lose_place());
            dropped.known.extend(node.count_links(-1, self.links));
        }
    }

    fn is_full(&self) -> bool {
        self.full || self.found.node.as_ref().is_some_and(|node| node.state.lock().table.present() > 0)
    }
}

impl Fs {
    /// Takes room for entries.
    fn take_entries(&self, count: usize) -> Result<()> {
        for taken in 0..count {
            if let Err(errno) = self.charge_entry() {
                (0..taken).for_each(|_| self.release_entry());
                return Err(errno);
            }
        }
        Ok(())
    }
}

impl Node {
    /// Hard links of a node without attributes of its own, as the lower counts them.
    fn lower_links(&self) -> Result<u32> {
        match self.shown()? {
            Shown::Lower(lower) => Ok(lower.metadata()?.nlink),
            Shown::Upper(_) => Ok(0),
        }
    }

    /// Whether the lower directory has a name that was not taken away here.
    fn lower_is_full(&self) -> Result<bool> {
        let Some(lower) = self.lower_dir() else { return Ok(false) };
        let file = lower.open(OpenFlags::DIRECTORY | OpenFlags::LARGEFILE)?;
        let mut full = false;
        file.readdir(0, &mut |entry| {
            let known = || self.state.lock().table.get(entry.name).is_some();
            full = !matches!(entry.name, b"." | b"..") && !known();
            !full
        })?;
        Ok(full)
    }

    /// Whether this directory is `ancestor` or lies below it. The caller holds the lock of names.
    fn lies_in(&self, ancestor: &Node, dropped: &mut Dropped) -> Result<bool> {
        let mut at = self.itself()?;
        loop {
            if at.id == ancestor.id {
                return Ok(true);
            }
            let parent = at.parent()?;
            let top = Arc::ptr_eq(&parent, &at);
            dropped.nodes.push(core::mem::replace(&mut at, parent));
            if top {
                return Ok(false);
            }
        }
    }

    /// Gives `name` to a node that has attributes of its own, unless the name is taken or `check` refuses.
    fn enter(&self, name: Name<'_>, node: &Arc<Node>, check: impl Fn() -> Result<()>) -> Result<()> {
        let mut dropped = Dropped::default();
        loop {
            let at = At::look(self, name, false)?;
            if self.is_dead() {
                return Err(Errno::ENOENT);
            }
            if at.found.node.is_some() {
                return Err(Errno::EEXIST);
            }
            check()?;
            let _names = self.fs.names.lock();
            if !at.holds() {
                continue;
            }
            if self.is_dead() {
                return Err(Errno::ENOENT);
            }
            self.fs.take_entries(at.needed(false))?;
            at.set(Some(node.clone()), &mut dropped);
            match node.kind {
                FileType::Directory => at.upper.add_links(1),
                _ => dropped.known.extend(node.count_links(1, 0)),
            }
            at.upper.touch_content();
            return Ok(());
        }
    }

    /// Makes a node in this directory.
    pub(super) fn make(&self, name: Name<'_>, mode: u32, rdev: u64, body: Body) -> Result<Arc<Node>> {
        self.need_directory()?;
        let (gid, inherits) = self.raise()?.group_for_new();
        let is_dir = matches!(body, Body::Directory(_));
        let mode = if inherits && is_dir { mode | SGID } else { mode };
        let upper = ramfs::Node::new(&self.fs.memory, mode, gid, rdev, body)?;
        if !is_dir {
            // Its name is counted when it is entered.
            upper.unname(false);
        }
        let node = Node::fresh(&self.fs, upper, self.this.clone());
        self.enter(name, &node, || Ok(()))?;
        Ok(node)
    }

    /// Makes a regular file without a name.
    pub(super) fn make_unnamed(&self, mode: u32, flags: OpenFlags) -> Result<Arc<Node>> {
        self.need_directory()?;
        if self.is_dead() {
            return Err(Errno::ENOENT);
        }
        let (gid, _) = match self.upper() {
            Some(upper) => upper.group_for_new(),
            None => self.raise()?.group_for_new(),
        };
        let upper = ramfs::Node::new(&self.fs.memory, mode, gid, 0, Body::Regular(ramfs::Content::default()))?;
        upper.unname(!flags.contains(OpenFlags::EXCL));
        Ok(Node::fresh(&self.fs, upper, self.this.clone()))
    }

    /// link(2).
    pub(super) fn add_name(&self, name: Name<'_>, node: &Arc<Node>) -> Result<()> {
        // It is changed by that, and so is its time.
        let upper = if node.kind == FileType::Directory { None } else { Some(node.raise()?) };
        self.enter(name, node, || upper.as_ref().map_or(Err(Errno::EPERM), |upper| upper.check_linkable()))?;
        if let Some(upper) = upper {
            upper.forbid_linking();
        }
        Ok(())
    }

    /// unlink(2), or with `directory` rmdir(2).
    pub(super) fn remove_name(&self, name: Name<'_>, directory: bool) -> Result<()> {
        self.need_directory()?;
        let mut dropped = Dropped::default();
        loop {
            let at = At::look(self, name, true)?;
            let node = at.found.node.as_ref().ok_or(Errno::ENOENT)?;
            match (node.kind == FileType::Directory, directory) {
                (true, false) => return Err(Errno::EISDIR),
                (false, true) => return Err(Errno::ENOTDIR),
                _ => {}
            }
            let _names = self.fs.names.lock();
            if !at.holds() {
                continue;
            }
            if at.is_full() {
                return Err(Errno::ENOTEMPTY);
            }
            self.fs.take_entries(at.needed(true))?;
            at.clear(&mut dropped);
            at.bury(&mut dropped);
            at.upper.touch_content();
            return Ok(());
        }
    }

    /// renameat2(2).
    pub(super) fn move_name(&self, name: Name<'_>, to: &Node, new: Name<'_>, flags: RenameFlags) -> Result<()> {
        if flags.contains(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE) {
            return Err(Errno::EINVAL);
        }
        self.need_directory()?;
        to.need_directory()?;
        let mut dropped = Dropped::default();
        loop {
            let exchange = flags.contains(RenameFlags::EXCHANGE);
            let source = At::look(self, name, false)?;
            let target = At::look(to, new, !exchange)?;
            // What moves is changed by that, and so is its time.
            let exchanged = target.found.node.iter().filter(|_| exchange);
            for moving in source.found.node.iter().chain(exchanged) {
                moving.raise()?;
            }
            let _names = self.fs.names.lock();
            if !source.holds() || !target.holds() {
                continue;
            }
            let Some(moving) = rename_checked(&source, &target, flags, &mut dropped)? else { return Ok(()) };
            self.fs.take_entries(source.needed(!exchange) + target.needed(false))?;
            match target.found.node.clone().filter(|_| exchange) {
                Some(other) => {
                    source.set(Some(other.clone()), &mut dropped);
                    other.moved(&target, &source, &mut dropped);
                }
                None => {
                    target.bury(&mut dropped);
                    source.clear(&mut dropped);
                }
            }
            target.set(Some(moving.clone()), &mut dropped);
            moving.moved(&source, &target, &mut dropped);
            source.upper.touch_content();
            target.upper.touch_content();
            return Ok(());
        }
    }

    /// This node came from one directory to another: its place and the directories' link counts.
    fn moved(&self, from: &At<'_>, to: &At<'_>, dropped: &mut Dropped) {
        let place = Place::Kept(to.dir.this.clone());
        dropped.places.push(core::mem::replace(&mut self.state.lock().place, place));
        if self.kind == FileType::Directory {
            from.upper.add_links(-1);
            to.upper.add_links(1);
        }
        if let Some(upper) = self.upper() {
            upper.touch_change();
        }
    }
}

/// The checks of rename(2) in Linux' order; gives the node that moves, or `None` when both names lead to the same inode
/// already and nothing is to be done.
fn rename_checked(
    source: &At<'_>,
    target: &At<'_>,
    flags: RenameFlags,
    dropped: &mut Dropped,
) -> Result<Option<Arc<Node>>> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    let moving = source.found.node.clone().ok_or(Errno::ENOENT)?;
    if target.dir.is_dead() {
        return Err(Errno::ENOENT);
    }
    match &target.found.node {
        Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
        None if exchange => return Err(Errno::ENOENT),
        _ => {}
    }
    let is_dir = moving.kind == FileType::Directory;
    if is_dir && target.dir.lies_in(&moving, dropped)? {
        return Err(Errno::EINVAL);
    }
    let Some(other) = &target.found.node else { return Ok(Some(moving)) };
    let other_is_dir = other.kind == FileType::Directory;
    if other_is_dir && source.dir.lies_in(other, dropped)? {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    if moving.id == other.id {
        return Ok(None);
    }
    match (is_dir, other_is_dir) {
        _ if exchange => {}
        (true, false) => return Err(Errno::ENOTDIR),
        (false, true) => return Err(Errno::EISDIR),
        (true, true) if target.is_full() => return Err(Errno::ENOTEMPTY),
        _ => {}
    }
    Ok(Some(moving))
}

/// What [`Inode::create`] and its like give.
pub(super) type Made = (Arc<dyn Inode>, Arc<dyn File>);
