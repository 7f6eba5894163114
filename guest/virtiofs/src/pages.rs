//! The page cache of a mount, for files that no window shows: what it needs of the machine and of the host.

use crate::Platform;
use crate::counters::Tally;
use crate::file::Handle;
use crate::ops::data::Write;
use crate::session::Session;
use alloc::sync::Arc;
use alloc::vec::Vec;
use diolkos_pages::{Count, Frames, Pages, Surroundings, Writer};
use diolkos_vfs::{Errno, MemBytes, Result};

/// What is around the cache of a mount.
struct Around {
    platform: Arc<dyn Platform>,
    session: Arc<Session>,
}

/// A cache; `None` on a machine without memory for one.
pub(crate) fn cache(platform: &Arc<dyn Platform>, session: &Arc<Session>) -> Option<Arc<Pages>> {
    platform.frames()?;
    Some(Pages::new(Arc::new(Around { platform: platform.clone(), session: session.clone() })))
}

impl Surroundings for Around {
    fn frames(&self) -> &dyn Frames {
        self.platform.frames().expect("a cache is made only where there is memory for it")
    }

    fn pause(&self) {
        self.platform.pause();
    }

    fn count(&self, what: Count, pages: u64) {
        let tally = match what {
            Count::Dropped => Tally::PagesDropped,
            Count::Written => Tally::PagesWritten,
        };
        self.session.counters.add(tally, pages);
    }
}

impl Writer for Handle {
    fn owner(&self) -> u64 {
        self.node.serial
    }

    fn size(&self) -> u64 {
        self.node.last_known().size
    }

    fn write(&self, mut offset: u64, data: &[MemBytes<'_>]) -> Result<()> {
        let fs = &self.node.fs;
        let mut left = data.to_vec();
        while !left.is_empty() {
            let mut room = fs.agreement.max_write as usize;
            let mut now = Vec::new();
            for piece in left.iter().take(fs.session.most_pieces()) {
                now.push(piece.split_at(room).0);
                room -= now.last().map_or(0, |piece| piece.len());
            }
            now.retain(|piece| !piece.is_empty());
            let bytes = fs.session.call(&Write { file: self.open, offset, data: &now, append: false })?;
            if bytes == 0 {
                return Err(Errno::EIO);
            }
            fs.session.counters.add(Tally::MessageWritten, bytes as u64);
            offset += bytes as u64;
            let mut done = bytes;
            left.retain_mut(|piece| {
                let (written, rest) = piece.split_at(done);
                done -= written.len();
                *piece = rest;
                !rest.is_empty()
            });
        }
        self.node.touched();
        Ok(())
    }
}
