//! Ranges of a file: space, holes, and copies that the host makes.
//!
//! What the window shows stays right by itself. Punching, zeroing, copying and moving content change the host's page cache,
//! which the window is a view of: the host takes the old pages out of every mapping before it answers, and the next access
//! finds the new ones. Only collapsing makes a file shorter: the chunks past the new end are given back then.

use super::OpenFile;
use crate::ops::data::Read;
use crate::ops::range::{CopyRange, FAllocate, LSeek};
use alloc::sync::Arc;
use alloc::vec;
use diolkos_vfs::{Allocation, Errno, File, Result, Sought};

/// Longest copy asked for in one message: the reply has 32 bits, and Linux' transfers end there (`MAX_RW_COUNT`).
const MAX_COPY: u64 = 0x7fff_f000;

impl OpenFile {
    pub(super) fn allocate_range(&self, what: Allocation, offset: u64, len: u64) -> Result<()> {
        self.need_writing()?;
        let end = offset.checked_add(len).filter(|end| i64::try_from(*end).is_ok()).ok_or(Errno::EFBIG)?;
        let changed = if what.moves() { u64::MAX } else { end };
        self.node.write_back(offset, changed);
        let turn = self.node.turn();
        let result = self.node.fs.session.call(&FAllocate { file: self.open, what, offset, len });
        if result.is_ok() && (what.zeroes() || what.moves()) {
            self.node.replaced(offset, changed, &|_, len| what.zeroes().then(|| vec![0; len]));
        }
        drop(turn);
        match result {
            Ok(()) if what.grows() => self.node.wrote(end),
            Ok(()) if what.moves() => self.moved()?,
            Ok(()) => self.node.touched(),
            Err(Errno::ENOSYS) => return Err(Errno::EOPNOTSUPP),
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// The size is another, and what was at one offset is at another now.
    fn moved(&self) -> Result<()> {
        self.node.touched();
        let size = self.node.refresh(Some(self.open))?.size;
        self.node.drop_chunks_from(size);
        Ok(())
    }

    pub(super) fn seek_range(&self, what: Sought, offset: u64) -> Result<u64> {
        self.node.check()?;
        self.node.write_back(0, u64::MAX);
        match self.node.fs.session.call(&LSeek { file: self.open, what, offset }) {
            // A server that knows no holes: everything up to the end is data.
            Err(Errno::ENOSYS) => match (what, self.node.refresh(Some(self.open))?.size) {
                (_, size) if offset >= size => Err(Errno::ENXIO),
                (Sought::Data, _) => Ok(offset),
                (Sought::Hole, size) => Ok(size),
            },
            result => result,
        }
    }

    pub(super) fn copy_on_host(&self, offset: u64, to: &dyn File, to_offset: u64, len: u64) -> Result<usize> {
        let to = to.as_any().downcast_ref::<Self>().ok_or(Errno::EXDEV)?;
        if !Arc::ptr_eq(&self.node.fs, &to.node.fs) {
            return Err(Errno::EXDEV);
        }
        if !self.flags.reads() {
            return Err(Errno::EBADF);
        }
        self.node.check()?;
        to.need_writing()?;
        let len = len.min(MAX_COPY) as u32;
        let call = CopyRange { from: self.open, offset, to: to.open, to_offset, len };
        self.node.write_back(offset, offset.saturating_add(len.into()));
        let to_end = to_offset.saturating_add(len.into());
        to.node.write_back(to_offset, to_end);
        let turn = to.node.turn();
        let result = self.node.fs.session.call(&call);
        if let Ok(n) = result {
            let copied = |at: u64, len| {
                let mut bytes = vec![0; len];
                let read = Read { file: self.open, offset: offset + (at - to_offset), size: len as u32 };
                let n = self.node.fs.session.fetch(&read, &mut bytes);
                (n == Ok(len)).then_some(bytes)
            };
            to.node.replaced(to_offset, to_offset.saturating_add(n as u64), &copied);
        }
        drop(turn);
        match result {
            Ok(0) => Ok(0),
            Ok(n) => {
                to.node.wrote(to_offset.saturating_add(n as u64));
                Ok(n)
            }
            Err(Errno::ENOSYS) => Err(Errno::EOPNOTSUPP),
            Err(errno) => Err(errno),
        }
    }
}
