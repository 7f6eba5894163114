//! Copying up: attributes at the first change of anything, pages before their own first change.

use super::content::pages_of;
use super::node::Node;
use super::ranges::Ranges;
use crate::ramfs::{self, Body, Content, PAGE, Page};
use crate::{Errno, File, FileType, Inode, OpenFlags, Result, SliceSink, XATTR_LIST_MAX, XATTR_SIZE_MAX, XattrName};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

/// Pages read from the lower file at a time.
const BATCH: u64 = 32;

impl Node {
    /// The memory node, made if there is none yet: attributes and extended attributes are copied, content is not.
    ///
    /// # Errors
    /// `ENOSPC`, and what the lower file system says.
    pub(super) fn raise(&self) -> Result<Arc<ramfs::Node>> {
        if let Some(upper) = self.upper() {
            return Ok(upper);
        }
        let lower = self.lower().ok_or(Errno::EIO)?;
        let metadata = lower.metadata()?;
        let mut size = 0;
        let body = match self.kind {
            FileType::Regular => {
                size = metadata.size.min(Content::MAX);
                Body::Regular(Content { size, ..Content::default() })
            }
            FileType::Directory => Body::directory(),
            FileType::Symlink => Body::Symlink(lower.readlink()?),
            _ => Body::Special,
        };
        let node = ramfs::Node::taking_over(&self.fs.memory, &metadata, metadata.nlink, body)?;
        copy_xattrs(&*lower, &node)?;
        self.keep()?;
        let upper = {
            let mut state = self.state.lock();
            if state.upper.is_none() {
                self.ino.store(metadata.ino, Ordering::Relaxed);
                node.set_links(metadata.nlink.saturating_add_signed(state.links));
                state.shown = Ranges::up_to(pages_of(size));
                state.lower_size = metadata.size;
                state.alone = metadata.nlink == 1 && state.links == 0;
                self.fs.held.fetch_add(1, Ordering::Relaxed);
                state.upper = Some(node);
            }
            state.upper.clone().ok_or(Errno::EIO)?
        };
        let before = (upper.links() > 0).then(|| self.hold_by_id(true));
        drop(before);
        if self.kind == FileType::Regular && size <= self.fs.whole && self.fs.holds_many() {
            // Only to hold one less: where that fails the file goes on showing the lower's content.
            let _ = self.open_lower().and_then(|lower| self.copy_pages(&upper, &*lower, 0..pages_of(size)));
        }
        self.let_go_of_lower();
        Ok(upper)
    }

    /// Opens the lower file, to read what still shows of it.
    pub(super) fn open_lower(&self) -> Result<Arc<dyn File>> {
        self.lower().ok_or(Errno::EIO)?.open(OpenFlags::LARGEFILE)
    }

    /// Copies those of `pages` that still show.
    ///
    /// # Errors
    /// `ENOSPC`, `EIO` when the lower file has become shorter, and what reading it gives.
    pub(super) fn copy_pages(&self, upper: &ramfs::Node, lower: &dyn File, pages: Range<u64>) -> Result<()> {
        let mut buffer = Vec::new();
        let mut at = pages.start;
        while at < pages.end {
            let shown = self.state.lock().shown.first_from(at).filter(|range| range.start < pages.end);
            let Some(shown) = shown else { break };
            let (start, end) = (shown.start.max(at), shown.end.min(pages.end));
            let end = end.min(start + BATCH);
            buffer.resize(((end - start) as usize) * PAGE, 0);
            self.read_shown(upper, lower, start, &mut buffer)?;
            for (number, bytes) in (start..end).zip(buffer.chunks_exact(PAGE)) {
                let page = Page::new(upper.shared())?;
                page.fill(bytes);
                self.cover(upper, number, page)?;
            }
            self.forget(start * PAGE as u64, end * PAGE as u64);
            at = end;
        }
        Ok(())
    }

    /// Reads shown pages from page `start` on; past the end of the file come zeros.
    fn read_shown(&self, upper: &ramfs::Node, lower: &dyn File, start: u64, buffer: &mut [u8]) -> Result<()> {
        let start = start * PAGE as u64;
        let left = upper.content(|content| content.size)?.saturating_sub(start);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let mut done = 0;
        while done < wanted {
            match lower.read_at(start + done as u64, &mut SliceSink::new(&mut buffer[done..wanted]))? {
                0 => return Err(Errno::EIO),
                n => done += n,
            }
        }
        buffer[wanted..].fill(0);
        Ok(())
    }

    /// Puts a page of the file in place of one that shows; one that was copied or cut off meanwhile stays as it is.
    fn cover(&self, upper: &ramfs::Node, number: u64, page: Arc<Page>) -> Result<()> {
        let mut state = self.state.lock();
        if state.shown.contains(number) {
            upper.content(|content| content.pages.insert(number, page))?;
            state.shown.remove(number..number + 1);
        }
        Ok(())
    }

    /// Has programs that have the file mapped look again at what lies between two offsets.
    pub(super) fn forget(&self, from: u64, to: u64) {
        if self.mapped.load(Ordering::Relaxed) {
            self.fs.mappings.forget(self.id, from, to);
        }
    }
}

/// Copies the extended attributes that memory can have; access control lists are none of them.
fn copy_xattrs(lower: &dyn Inode, node: &ramfs::Node) -> Result<()> {
    let length = match lower.list_xattrs(&mut []) {
        Ok(0) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
        length => length?.min(XATTR_LIST_MAX),
    };
    let mut names = vec![0; length];
    let length = lower.list_xattrs(&mut names)?;
    names.truncate(length);
    let mut value = vec![0; XATTR_SIZE_MAX];
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = XattrName::new(name)?;
        match lower.xattr(name, &mut value) {
            Ok(length) => node.take_xattr(name, value.get(..length).ok_or(Errno::EIO)?)?,
            // Gone meanwhile, or not for us to see.
            Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
