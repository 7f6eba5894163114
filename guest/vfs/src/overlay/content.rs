//! The content of a changed regular file: pages of the lower file that still show, and a memory node for the rest.
//!
//! A page is copied before its first change; a page that is cut off or punched is not, it just shows no longer. The last
//! page of the lower file is special: what the host has behind the end must not come to light when the file grows. So it
//! is copied before the file grows, or is cut within a page.

use super::node::Node;
use crate::ramfs::{self, Content, PAGE, in_steps, split};
use crate::{Allocation, Errno, File, Filled, Result, Sink, Sought, Source};
use core::ops::Range;

/// Most pieces that the unchanged part of a file may be cut into by punching: it bounds memory that no limit counts.
const MOST_PIECES: usize = 1 << 16;

/// How many pages `size` bytes take.
pub(super) fn pages_of(size: u64) -> u64 {
    size.div_ceil(PAGE as u64)
}

/// A sink for at most so many bytes.
struct Limited<'a> {
    sink: &'a mut dyn Sink,
    left: usize,
}

impl Sink for Limited<'_> {
    fn room(&self) -> usize {
        self.left.min(self.sink.room())
    }

    fn put(&mut self, bytes: crate::MemBytes<'_>) -> Result<usize> {
        let n = self.sink.put(bytes.split_at(self.left).0)?;
        self.left -= n;
        Ok(n)
    }

    fn put_zeros(&mut self, n: usize) -> Result<usize> {
        let n = self.sink.put_zeros(n.min(self.left))?;
        self.left -= n;
        Ok(n)
    }

    fn lend(&mut self, len: usize, most: usize, device: &mut Filled<'_>) -> Option<Result<usize>> {
        let filled = self.sink.lend(len.min(self.left), most, device)?;
        self.left -= filled.unwrap_or(0);
        Some(filled)
    }
}

/// A changed file that is being used: its parts, and a way to the lower file.
pub(super) struct Changed<'a> {
    pub(super) node: &'a Node,
    pub(super) upper: &'a ramfs::Node,
    pub(super) lower: &'a dyn Fn() -> Result<alloc::sync::Arc<dyn File>>,
}

impl Changed<'_> {
    fn size(&self) -> Result<u64> {
        self.upper.content(|content| content.size)
    }

    fn shows(&self, page: u64) -> bool {
        self.node.state.lock().shown.contains(page)
    }

    /// Copies those of `pages` that still show.
    fn copy(&self, pages: Range<u64>) -> Result<()> {
        let shows = self.node.state.lock().shown.first_from(pages.start).is_some_and(|range| range.start < pages.end);
        if !shows { Ok(()) } else { self.node.copy_pages(self.upper, &*(self.lower)()?, pages) }
    }

    /// What is to be done before any change of the content but truncation: a small file is copied whole.
    pub(super) fn begin(&self) -> Result<()> {
        let size = self.size()?;
        if size <= self.node.fs.whole {
            self.copy(0..pages_of(size))?;
            self.node.let_go_of_lower();
        }
        Ok(())
    }

    /// Reads from `offset` on.
    pub(super) fn read(&self, offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        in_steps(offset, |at| {
            if sink.room() == 0 {
                return Ok(0);
            }
            let (size, shown) = (self.size()?, self.node.state.lock().shown.around(at / PAGE as u64));
            let Some(shown) = shown.filter(|_| at < size) else { return self.upper.read_page(at, sink) };
            let end = shown.end.saturating_mul(PAGE as u64).min(size);
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            // 0, where the host has cut it short, ends reading here as it does without an overlay.
            (self.lower)()?.read_at(at, &mut Limited { sink, left })
        })
    }

    /// Writes all the source has from `offset` on.
    pub(super) fn write(&self, offset: u64, source: &mut dyn Source) -> Result<usize> {
        let end = offset.saturating_add(source.remaining() as u64).min(Content::MAX);
        self.begin()?;
        self.settle_end(end)?;
        let done = in_steps(offset, |at| {
            if source.remaining() == 0 {
                return Ok(0);
            }
            let page = at / PAGE as u64;
            if self.shows(page) {
                // The copy goes on for as long as this write does, to read the lower in larger pieces.
                self.copy(page..pages_of(end).min(page + 32).max(page + 1))?;
            }
            self.upper.write_page(at, source)
        })?;
        if done > 0 {
            self.upper.touch_content();
        }
        Ok(done)
    }

    /// Writes at the end, and returns where that then is. The range is taken first, so that two never meet in it.
    pub(super) fn append(&self, source: &mut dyn Source) -> Result<(usize, u64)> {
        let wanted = source.remaining() as u64;
        let (start, end) = loop {
            self.begin()?;
            self.settle_end(u64::MAX)?;
            let state = self.node.state.lock();
            let taken = self.upper.content(|content| {
                let start = content.size;
                if start % PAGE as u64 != 0 && state.shown.contains(start / PAGE as u64) {
                    return None;
                }
                content.size = start.saturating_add(wanted).min(Content::MAX);
                Some((start, content.size))
            })?;
            if let Some(taken) = taken {
                break taken;
            }
        };
        let written = self.write(start, source);
        let reached = start + written.unwrap_or(0) as u64;
        if reached < end {
            let _cut = self.upper.content(|content| match content.size == end {
                true => content.resize(reached).ok(),
                false => None,
            })?;
        }
        written.map(|n| (n, reached))
    }

    /// Before the file grows to `end`: the page its end lies in is no longer the lower file's.
    fn settle_end(&self, end: u64) -> Result<()> {
        loop {
            let size = self.size()?;
            let (page, within) = split(size);
            if end <= size || within == 0 || !self.shows(page) {
                return Ok(());
            }
            self.copy(page..page + 1)?;
        }
    }

    /// Cuts the file, or makes it longer.
    pub(super) fn resize(&self, size: u64) -> Result<()> {
        if size > Content::MAX {
            return Err(Errno::EFBIG);
        }
        loop {
            self.settle_end(size)?;
            let (page, within) = split(size);
            if within != 0 && size < self.size()? && self.shows(page) {
                self.copy(page..page + 1)?;
            }
            let mut state = self.node.state.lock();
            let old = self.size()?;
            let (page, within) = split(size.min(old));
            if within != 0 && size != old && state.shown.contains(page) {
                continue;
            }
            let _cut = self.upper.content(|content| content.resize(size))??;
            state.shown.remove(pages_of(size)..u64::MAX);
            drop(state);
            self.node.let_go_of_lower();
            self.node.forget(size.next_multiple_of(PAGE as u64), u64::MAX);
            break;
        }
        self.upper.touch_content();
        Ok(())
    }

    /// fallocate(2).
    pub(super) fn allocate(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|end| *end <= Content::MAX).ok_or(Errno::EFBIG)?;
        match what {
            Allocation::Reserve { .. } | Allocation::Punch => {}
            Allocation::Zero { keep_size } => {
                // What is to be zeroed is not copied first. Without room for the pages it reads as zeros all the same.
                self.allocate(Allocation::Punch, offset, len)?;
                return self.allocate(Allocation::Reserve { keep_size }, offset, len);
            }
            // tmpfs does not know these either.
            Allocation::Unshare { .. } | Allocation::Collapse | Allocation::Insert => return Err(Errno::EOPNOTSUPP),
        }
        self.begin()?;
        let (first, last) = (offset / PAGE as u64, pages_of(end));
        let inner = offset.div_ceil(PAGE as u64)..end / PAGE as u64;
        if what == Allocation::Punch {
            // Whole pages just show no longer; those at the ends keep a part.
            for page in [first, last.saturating_sub(1)] {
                if !inner.contains(&page) {
                    self.copy(page..page + 1)?;
                }
            }
        } else {
            // What is reserved must never be refused later, so it is copied now.
            self.copy(first..last)?;
            if what.grows() {
                self.settle_end(end)?;
            }
        }
        let _gone = {
            let mut state = self.node.state.lock();
            if what == Allocation::Punch {
                if state.shown.count() >= MOST_PIECES {
                    return Err(Errno::ENOSPC);
                }
                state.shown.remove(inner.start..inner.end.max(inner.start));
            }
            self.upper.content(|content| content.allocate(what, offset, end, self.upper.shared()))??
        };
        if what == Allocation::Punch {
            self.node.forget(offset, end);
        }
        self.upper.touch_content();
        Ok(())
    }

    /// lseek(2)'s data and holes: what shows is data.
    pub(super) fn seek(&self, what: Sought, offset: u64) -> Result<u64> {
        let size = self.size()?;
        if offset >= size {
            return Err(Errno::ENXIO);
        }
        let own = |at: u64| self.upper.content(|content| content.seek(what, at))?;
        let shown = |at: u64| self.node.state.lock().shown.first_from(at / PAGE as u64);
        if what == Sought::Data {
            let lower = shown(offset).map(|range| (range.start * PAGE as u64).max(offset)).filter(|at| *at < size);
            return match (own(offset), lower) {
                (Ok(own), Some(lower)) => Ok(own.min(lower)),
                (own, None) => own,
                (Err(_), Some(lower)) => Ok(lower),
            };
        }
        // A hole is where neither has anything.
        let mut at = offset;
        loop {
            let hole = own(at)?;
            match shown(hole).filter(|range| range.contains(&(hole / PAGE as u64))) {
                Some(range) if range.end * (PAGE as u64) < size => at = range.end * PAGE as u64,
                Some(_) => return Ok(size),
                None => return Ok(hole),
            }
        }
    }
}
