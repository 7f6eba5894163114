//! Open files of the memory file system.

use super::PAGE;
use super::content::{Content, split};
use super::node::{Body, Node};
use crate::{
    Access, Allocation, DirEntry, DirSink, Errno, File, Inode, MappedRun, MemBytes, Name, OpenFlags, Result, Sink,
    Sought, Source,
};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

/// An open regular file.
pub(super) struct RegularFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
    flags: OpenFlags,
}

impl Node {
    /// Does something with the content of this regular file.
    pub(crate) fn content<R>(&self, work: impl FnOnce(&mut Content) -> R) -> Result<R> {
        match &mut self.inner().body {
            Body::Regular(content) => Ok(work(content)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Reads what lies in one page, or in the hole where one would be; 0 at the end and for a full sink.
    pub(crate) fn read_page(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        let (number, start) = split(offset);
        let (page, left) = self.content(|c| (c.page(number), c.size.saturating_sub(offset)))?;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(PAGE - start).min(sink.room());
        match &page {
            _ if length == 0 => Ok(0),
            // SAFETY: `length` bytes from `start` lie in the page, which we hold until they are copied.
            Some(page) => sink.put(unsafe { MemBytes::new(page.at(start), length) }),
            None => sink.put_zeros(length),
        }
    }

    /// Copies what falls into one page, and makes the file as long as that.
    pub(crate) fn write_page(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        if offset >= Content::MAX {
            return Err(Errno::EFBIG);
        }
        let (number, start) = split(offset);
        let length = source.remaining().min(PAGE - start).min((Content::MAX - offset) as usize);
        let page = self.content(|content| content.page_or_new(number, self.shared()))??;
        // SAFETY: `length` bytes from `start` lie in the page, which we hold; its bytes are only ever copied raw.
        let n = unsafe { source.take_raw(page.at(start), length) }?;
        self.content(|content| content.size = content.size.max(offset + n as u64))?;
        Ok(n)
    }

    /// The page with byte `offset`, which lies in the file, for page tables; `None` if pages cannot be mapped.
    pub(crate) fn map_page(&self, offset: u64) -> Result<Option<MappedRun>> {
        let Some(source) = self.shared().config.pages else { return Ok(None) };
        let (number, _) = split(offset);
        // A hole gets its page even for reading: a later write has to be seen through the mapping.
        let page = self.content(|content| match offset < content.size {
            true => content.page_or_new(number, self.shared()),
            false => Err(Errno::EINVAL),
        })??;
        let phys = (source.physical)(page.at(0));
        let (offset, len) = (number * PAGE as u64, PAGE as u64);
        Ok(Some(MappedRun { offset, phys, len, writable: true, taken_back: false, pin: page }))
    }
}

/// Calls `step` with the offset to go on from until it moves nothing, and adds up what it moved. An error counts only if
/// nothing was moved.
pub(crate) fn in_steps(mut offset: u64, mut step: impl FnMut(u64) -> Result<usize>) -> Result<usize> {
    let mut done = 0;
    loop {
        match step(offset) {
            Ok(0) => return Ok(done),
            Ok(n) => {
                done += n;
                offset += n as u64;
            }
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
    }
}

impl RegularFile {
    pub(super) fn new(node: Arc<Node>, flags: OpenFlags) -> Arc<Self> {
        Arc::new(Self { inode: node.clone(), node, flags })
    }

    /// Copies from byte `offset` on, all that the source has, up to the largest size a file may have.
    fn copy_in(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        let done = in_steps(offset, |at| match source.remaining() {
            0 => Ok(0),
            _ => self.node.write_page(at, source),
        })?;
        if done > 0 {
            self.node.touch_content();
        }
        Ok(done)
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
        let done = in_steps(offset, |at| self.node.read_page(at, sink))?;
        if !self.flags.contains(OpenFlags::NOATIME) {
            self.node.touch_access();
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        self.copy_in(offset, source)
    }

    fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        // The range is taken first, so that two appends never meet in it; copying may sleep.
        let wanted = source.remaining() as u64;
        let (start, end) = self.node.content(|content| {
            let start = content.size;
            content.size = start.saturating_add(wanted).min(Content::MAX);
            (start, content.size)
        })?;
        let copied = self.copy_in(start, source);
        let reached = start + copied.unwrap_or(0) as u64;
        if reached < end {
            let _cut =
                self.node.content(|content| if content.size == end { content.resize(reached).ok() } else { None })?;
        }
        copied.map(|n| (n, reached))
    }

    fn map(&self, offset: u64, _access: Access) -> Result<Option<MappedRun>> {
        self.node.map_page(offset)
    }

    fn allocate(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        if !self.flags.writes() {
            return Err(Errno::EBADF);
        }
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let _gone = self.node.content(|content| content.allocate(what, offset, end, self.node.shared()))??;
        self.node.touch_content();
        Ok(())
    }

    fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        self.node.content(|content| content.seek(what, offset))?
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// An open directory.
pub(super) struct DirectoryFile {
    node: Arc<Node>,
    inode: Arc<dyn Inode>,
}

/// Entries copied out at a time, with no lock held while they are delivered.
const BATCH: usize = 64;

impl DirectoryFile {
    pub(super) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new(Self { inode: node.clone(), node })
    }

    fn dots(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<bool> {
        let parent = self.node.parent()?;
        for (at, name, node) in [(0, &b"."[..], &self.node), (1, b"..", &parent)] {
            let entry = DirEntry {
                ino: node.ino(),
                next: at + 1,
                file_type: Some(node.file_type()),
                name,
                id: Some(node.id()),
            };
            if cookie <= at && !entries(&entry) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl File for DirectoryFile {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn readdir(&self, cookie: u64, entries: &mut DirSink<'_>) -> Result<()> {
        // A removed directory is empty, without even its dots (readdir(3) finds the end at once).
        if self.node.is_dead() || !self.dots(cookie, entries)? {
            return Ok(());
        }
        let mut from = cookie;
        loop {
            let batch: Vec<_> = match &self.node.inner().body {
                Body::Directory(directory) => directory.after(from).take(BATCH).collect(),
                _ => return Err(Errno::ENOTDIR),
            };
            for (at, name, node) in &batch {
                debug_assert!(Name::new(name).is_ok());
                let entry = DirEntry {
                    ino: node.ino(),
                    next: at + 1,
                    file_type: Some(node.file_type()),
                    name,
                    id: Some(node.id()),
                };
                if !entries(&entry) {
                    return Ok(());
                }
                from = at + 1;
            }
            if batch.len() < BATCH {
                return Ok(());
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
