//! A connected pair of local stream sockets: two pipes, one each way.

use super::anon::{AnonInode, now, owner};
use super::{devices, waiting};
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use diolkos_vfs::pipe::{PipeEnd, pipe};
use diolkos_vfs::{Errno, File, FileType, Inode, OpenFlags, Poll, Result, Sink, Source};
use spin::Mutex;

/// One end.
pub struct End {
    inode: Arc<dyn Inode>,
    /// Where its bytes come from and go to; `None` after shutdown(2) of that direction.
    input: Mutex<Option<Arc<PipeEnd>>>,
    output: Mutex<Option<Arc<PipeEnd>>>,
}

/// Both ends, each with what `/proc/self/fd` shows for it.
pub fn pair() -> [(End, String); 2] {
    let one_way = || pipe(devices::PIPES, owner(), &now, &waiting::new_queue, OpenFlags::empty());
    let ((first_in, second_out), (second_in, first_out)) = (one_way(), one_way());
    [(first_in, first_out), (second_in, second_out)].map(|(input, output)| {
        let inode = AnonInode::new(FileType::Socket.mode_bits() | 0o777, 0);
        let shown = format!("socket:[{}]", inode.number());
        (End { inode, input: Mutex::new(Some(input)), output: Mutex::new(Some(output)) }, shown)
    })
}

impl End {
    /// Ends one direction or both. What the peer has sent can still be read until it ends its own.
    pub fn shutdown(&self, reading: bool, writing: bool) {
        // Let go of outside the locks: the peer is woken by it.
        let _input = reading.then(|| self.input.lock().take());
        let _output = writing.then(|| self.output.lock().take());
    }

    fn input(&self) -> Option<Arc<PipeEnd>> {
        self.input.lock().clone()
    }

    fn output(&self) -> Option<Arc<PipeEnd>> {
        self.output.lock().clone()
    }

    /// Bytes that can be read without waiting.
    pub fn available(&self) -> usize {
        self.input().map_or(0, |input| input.available())
    }
}

impl File for End {
    fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    fn read_at(&self, _offset: u64, sink: &mut dyn Sink) -> Result<usize> {
        match self.input() {
            Some(input) => input.read_at(0, sink),
            None => Ok(0),
        }
    }

    fn write_at(&self, _offset: u64, source: &mut dyn Source) -> Result<usize> {
        self.output().ok_or(Errno::EPIPE)?.write_at(0, source)
    }

    fn fsync(&self, _data_only: bool) -> Result<()> {
        Err(Errno::EINVAL)
    }

    fn set_nonblocking(&self, on: bool) {
        for end in [self.input(), self.output()].into_iter().flatten() {
            end.set_nonblocking(on);
        }
    }

    fn is_stream(&self) -> bool {
        true
    }

    fn poll(&self) -> Poll {
        // A reader's end of file shows as readable on a socket (recv(2) gives 0), and a gone reader as an error to write.
        let input = self.input().map_or(Poll::IN | Poll::HUP, |input| input.poll());
        let output = self.output().map_or(Poll::OUT, |output| output.poll());
        let mut ready = (input | output) & (Poll::IN | Poll::OUT);
        if input.contains(Poll::HUP) {
            ready |= Poll::IN;
        }
        if output.contains(Poll::ERR) {
            ready |= Poll::OUT;
        }
        ready.set(Poll::HUP, input.contains(Poll::HUP) && output.contains(Poll::ERR));
        ready
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
