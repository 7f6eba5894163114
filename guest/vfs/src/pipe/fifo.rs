//! Named pipes (fifo(7)): the file system keeps the name, the bytes are here, whatever file system it is.

use super::end::PipeInode;
use super::{Channel, PipeEnd};
use crate::{Errno, File, Inode, InodeId, OpenFlags, Result, WaitQueues};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use spin::Mutex;

/// The channels of the named pipes that are open.
pub struct Fifos {
    open: Mutex<BTreeMap<InodeId, Weak<Channel>>>,
    queues: Arc<dyn WaitQueues>,
}

impl Fifos {
    /// None yet.
    pub fn new(queues: Arc<dyn WaitQueues>) -> Self {
        Self { open: Mutex::default(), queues }
    }

    fn channel(&self, id: InodeId) -> Arc<Channel> {
        let fresh = Channel::new(self.queues.wait_queue());
        let mut open = self.open.lock();
        open.retain(|_, channel| channel.strong_count() > 0);
        match open.get(&id).and_then(Weak::upgrade) {
            Some(channel) => channel,
            None => {
                open.insert(id, Arc::downgrade(&fresh));
                fresh
            }
        }
    }

    /// Opens a FIFO, waiting for the other end as fifo(7) says.
    ///
    /// # Errors
    /// `ENXIO` for writing with `NONBLOCK` when nobody reads; `EINTR`.
    pub fn open(&self, inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn File>> {
        if inode.as_any().is::<PipeInode>() {
            return inode.clone().open(flags);
        }
        let channel = self.channel(inode.id());
        let (reads, writes) = (flags.reads(), flags.writes());
        let nonblocking = flags.contains(OpenFlags::NONBLOCK);
        if writes && !reads && nonblocking && channel.state.lock().readers == 0 {
            return Err(Errno::ENXIO);
        }
        let (end, before) = PipeEnd::meeting(inode.clone(), channel.clone(), flags);
        if let Some(before) = before.filter(|_| !nonblocking && reads != writes) {
            // Who opens while we sleep counts, even when it has closed again before we look.
            channel.when(false, |state| {
                let met = if reads { state.writer_opens != before.writer } else { state.reader_opens != before.reader };
                met.then_some(Ok(()))
            })?;
        }
        Ok(end)
    }
}
