//! A file opened with O_PATH.

use crate::node::Node;
use alloc::sync::Arc;
use core::any::Any;
use diolkos_vfs::{Access, DirSink, Errno, File, Inode, MappedRun, Result, Sink, Source};

/// A place in the tree, with nothing open on the host.
pub(crate) struct PathOnly(Arc<dyn Inode>);

impl PathOnly {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self(node)
    }
}

impl File for PathOnly {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.0
    }

    fn read_at(&self, _offset: u64, _sink: &mut dyn Sink) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn write_at(&self, _offset: u64, _source: &mut dyn Source) -> Result<usize> {
        Err(Errno::EBADF)
    }

    fn readdir(&self, _cookie: u64, _entries: &mut DirSink<'_>) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn map(&self, _offset: u64, _access: Access) -> Result<Option<MappedRun>> {
        Err(Errno::EBADF)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EBADF)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
