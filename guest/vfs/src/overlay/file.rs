//! The open regular file.
//!
//! As long as nothing was changed every call goes to the lower file as it is: through its window, with its messages. The
//! first change, through whatever descriptor, turns all open files of the inode to [`Changed`] content.

use super::content::Changed;
use super::node::Node;
use crate::ramfs::PAGE;
use crate::{Access, Allocation, Errno, File, Inode, MappedRun, OpenFlags, Result, Sink, Sought, Source};
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering;
use spin::Mutex;

/// An open regular file.
pub(super) struct RegularFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    flags: OpenFlags,
    /// The lower file, open for reading, once it was needed.
    lower: Mutex<Option<Arc<dyn File>>>,
}

impl RegularFile {
    /// Opens a node. The lower file is opened along with it if it still shows, so that an open(2) the host refuses fails.
    pub(super) fn open(node: Arc<Node>, flags: OpenFlags) -> Result<Arc<Self>> {
        let shows = match &*node.state.lock() {
            state if state.upper.is_some() => !state.shown.is_empty(),
            _ => true,
        };
        let lower = if shows { Some(node.open_lower()?) } else { None };
        Ok(Arc::new(Self { inode: node.clone(), node, flags, lower: Mutex::new(lower) }))
    }

    fn lower(&self) -> Result<Arc<dyn File>> {
        if let Some(lower) = &*self.lower.lock() {
            return Ok(lower.clone());
        }
        let opened = self.node.open_lower()?;
        // Whatever loses here is dropped after the lock.
        let (winner, _loser) = match &mut *self.lower.lock() {
            Some(other) => (other.clone(), Some(opened)),
            empty => (empty.insert(opened).clone(), None),
        };
        Ok(winner)
    }

    /// The content, if there was a change; else the lower file has it.
    fn changed<R>(&self, work: impl FnOnce(&Changed<'_>) -> Result<R>) -> Option<Result<R>> {
        let upper = self.node.upper()?;
        Some(work(&Changed { node: &self.node, upper: &upper, lower: &|| self.lower() }))
    }

    /// Does something that changes the content.
    fn change<R>(&self, work: impl FnOnce(&Changed<'_>) -> Result<R>) -> Result<R> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        let upper = self.node.raise()?;
        work(&Changed { node: &self.node, upper: &upper, lower: &|| self.lower() })
    }

    /// The memory of the lower file for a page that shows; `None` if it has none, or the page was changed meanwhile.
    fn map_shown(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        let page = offset / PAGE as u64;
        let Some(run) = self.lower()?.map(page * PAGE as u64, access)? else { return Ok(None) };
        // Mapping may have waited for the host, and a page of the run may have been changed meanwhile. One that changes
        // after this look is taken out of page tables by `Mappings::forget`, whose caller has changed `shown` before.
        let shown = {
            let state = self.node.state.lock();
            match state.upper {
                None => return Ok(Some(run)),
                Some(_) => state.shown.around(page),
            }
        };
        let Some(shown) = shown else { return Ok(None) };
        let start = (shown.start * PAGE as u64).max(run.offset);
        let end = shown.end.saturating_mul(PAGE as u64).min(run.offset.saturating_add(run.len));
        let phys = run.phys + (start - run.offset);
        Ok(Some(MappedRun { offset: start, phys, len: end.saturating_sub(start), ..run }))
    }
}

impl File for RegularFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        if !self.flags.reads() {
            return Err(Errno::EBADF);
        }
        let read = self.changed(|file| {
            let n = file.read(offset, sink)?;
            if !self.flags.contains(OpenFlags::NOATIME) {
                file.upper.touch_access();
            }
            Ok(n)
        });
        match read {
            Some(read) => read,
            None => self.lower()?.read_at(offset, sink),
        }
    }

    fn write_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        self.change(|file| file.write(offset, source))
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        self.change(|file| file.append(source))
    }

    fn map(&self, offset: u64, access: Access) -> Result<Option<MappedRun>> {
        let writes = matches!(access, Access::Write | Access::WriteLater);
        if !self.flags.reads() || writes && !self.flags.writes() {
            return Err(Errno::EACCES);
        }
        self.node.mapped.store(true, Ordering::Relaxed);
        let page = offset / PAGE as u64;
        if access == Access::Write {
            self.change(|file| file.begin())?;
        }
        loop {
            let upper = self.node.upper();
            let shows = upper.is_none() || self.node.state.lock().shown.contains(page);
            if let Some(upper) = upper.as_ref().filter(|_| !shows) {
                return upper.map_page(offset);
            }
            if access != Access::Write {
                // Pages that the kernel would copy for itself go stale at the next change; so once there was one, or may
                // be one through this mapping, the lower file is asked for memory in earnest.
                let wanted = if upper.is_none() && access == Access::Copy { access } else { Access::Read };
                let run = self.map_shown(offset, wanted)?;
                // Without a change the kernel makes pages of its own from what it reads.
                if run.is_some() || !writes && upper.is_none() && self.node.upper().is_none() {
                    return Ok(run);
                }
            }
            let Some(upper) = upper else {
                if writes {
                    self.change(|file| file.begin())?;
                }
                continue;
            };
            self.node.copy_pages(&upper, &*self.lower()?, page..page + 1)?;
        }
    }

    fn allocate(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        self.change(|file| file.allocate(what, offset, len))
    }

    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        match self.changed(|file| file.seek(what, offset)) {
            Some(sought) => sought,
            None => self.lower()?.seek(what, offset),
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
