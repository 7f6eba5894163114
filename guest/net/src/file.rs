//! The socket as a file: read(2) is recv(2) without flags, write(2) is send(2) without flags.

use crate::{ReceiveFlags, SendFlags, Socket};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, File, Inode, Poll, Result, Sink, Source};

impl File for Socket {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        self.receive(sink, ReceiveFlags::empty()).map(|received| received.copied)
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        self.send(source, None, Vec::new(), SendFlags::empty())
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn set_nonblocking(&self, on: bool) {
        self.nonblocking.store(on, Ordering::Relaxed);
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        self.readiness()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
