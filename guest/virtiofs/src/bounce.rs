//! Buffers for file content on its way through messages, kept for the next one: they are large, and
//! `Sink` and `Source` cannot be handed to a device.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};
use spin::Mutex;

/// Buffers kept when nobody uses them.
const KEPT: usize = 2;

/// A place to take buffers of one length from.
pub(crate) struct Pool {
    len: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    pub(crate) fn new(len: usize) -> Self {
        Self { len, free: Mutex::new(Vec::new()) }
    }

    /// A buffer; what is in it is left over from before.
    pub(crate) fn take(&self) -> Bounce<'_> {
        let buffer = self.free.lock().pop();
        Bounce { pool: self, buffer: buffer.unwrap_or_else(|| vec![0; self.len]) }
    }
}

/// A buffer that goes back when dropped.
pub(crate) struct Bounce<'a> {
    pool: &'a Pool,
    buffer: Vec<u8>,
}

impl Deref for Bounce<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Bounce<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Bounce<'_> {
    fn drop(&mut self) {
        let buffer = core::mem::take(&mut self.buffer);
        let mut free = self.pool.free.lock();
        if free.len() < KEPT {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_used_again_and_not_hoarded() {
        let pool = Pool::new(16);
        let first = pool.take().as_ptr();
        assert_eq!(pool.take().as_ptr(), first);
        drop([pool.take(), pool.take(), pool.take()]);
        assert_eq!(pool.free.lock().len(), KEPT);
    }
}
