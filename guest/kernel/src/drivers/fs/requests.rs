//! Requests whose reply the caller waits for.
//!
//! A request's buffers are borrowed from the caller, who does not return before the device is done with them: either
//! the reply came, or the device was reset. They may be the program's own pages ([`crate::mm::loans`]). Parts that the
//! device cannot reach where they are (on a stack), or that are too small to be worth a descriptor, travel through a
//! buffer of the request's own.
//!
//! A reply comes within tens of microseconds or not soon, so a caller first looks for it with interrupts off, for as long as
//! that has paid lately, then turns them on and sleeps.

use super::gather::Gather;
use super::{FsDevice, Owner};
use crate::arch::percpu;
use crate::{stats, time};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};
use diolkos_vfs::{Errno, MemBytes, Result};
use diolkos_virtio::{DmaBuf, QueueError};
use diolkos_virtiofs::Lent;

/// A request's state while the device has it: [`WAITING`], [`FAILED`], or the length of the reply.
pub(super) struct Pending(AtomicU64);

const WAITING: u64 = u64::MAX;
const FAILED: u64 = u64::MAX - 1;

impl Pending {
    /// The reply is there, of so many bytes.
    pub(super) fn answered(&self, len: u32) {
        self.0.store(len.into(), Ordering::Release);
    }

    /// There will be none.
    pub(super) fn fail(&self) {
        self.0.store(FAILED, Ordering::Release);
    }
}

impl FsDevice {
    /// Sends a request and waits for its reply ([`Transport::request`](diolkos_virtiofs::Transport::request)).
    pub(super) fn exchange(&self, request: &[&[u8]], reply: &mut [&mut [u8]], lent: Lent<'_>) -> Result<usize> {
        let mut readable: Vec<_> = request.iter().map(|part| (NonNull::from(*part).cast(), part.len())).collect();
        let mut writable: Vec<_> =
            reply.iter_mut().map(|part| (NonNull::from(&mut **part).cast(), part.len())).collect();
        match lent {
            Lent::Nothing => {}
            Lent::Sent(pieces) => {
                let part = |piece: &MemBytes<'_>| Some((NonNull::new(piece.as_ptr().cast_mut())?, piece.len()));
                readable.extend(pieces.iter().filter_map(part));
            }
            Lent::Wanted(pieces) => writable.extend(pieces.iter().map(|piece| (piece.as_ptr(), piece.len()))),
        }
        let (question, _) = Gather::build(&readable, true)?;
        let (answer, direct) = Gather::build(&writable, false)?;
        let pending = Arc::new(Pending(AtomicU64::new(WAITING)));
        let lane = percpu::cpu() % self.lanes.len();
        self.submit(lane, &question.buffers, &answer.buffers, &pending)?;
        let bytes = readable.iter().chain(&writable).map(|(_, len)| *len as u64).sum();
        let len = self.wait(lane, &pending, bytes)?;
        let mut at = 0;
        for ((start, len), phys) in writable.iter().zip(direct) {
            if phys.is_none() {
                let from = &answer.scratch[at..at + len];
                // SAFETY: the part is borrowed from the caller for writing so many bytes, or lent for that.
                unsafe { start.copy_from_nonoverlapping(NonNull::from(from).cast(), *len) };
                at += len;
            }
        }
        Ok(len)
    }

    /// Puts a request into a queue, waiting for room if need be.
    fn submit(&self, lane: usize, readable: &[DmaBuf], writable: &[DmaBuf], pending: &Arc<Pending>) -> Result<()> {
        loop {
            {
                let mut device = self.device.lock();
                let queue = &mut device.requests()[lane];
                // SAFETY: all buffers are borrowed by `exchange`, which returns only when the chain came back or the
                // device was reset.
                match unsafe { queue.submit(readable, writable, Owner::Request(pending.clone())) } {
                    Ok(_) => {
                        if queue.kick() {
                            stats::DOORBELLS.count();
                        }
                        self.lanes[lane].count_request();
                        return Ok(());
                    }
                    Err(refused) if refused.reason == QueueError::Full => {}
                    Err(_) => return Err(Errno::EIO),
                }
            }
            self.wait_for_room(lane)?;
        }
    }

    /// Waits for the reply to a request that carries so many bytes, there and back.
    fn wait(&self, lane: usize, pending: &Pending, bytes: u64) -> Result<usize> {
        let began = time::monotonic_ns();
        let done = || pending.0.load(Ordering::Acquire) != WAITING;
        let look = || {
            if self.device.lock().requests()[lane].has_used() {
                self.collect(lane, false);
            }
            done()
        };
        if self.lanes[lane].look_for(bytes, look) {
            stats::REPLIES_FOUND.count();
        } else {
            stats::REPLIES_SLEPT_FOR.count();
            self.sleep_until(lane, done)?;
        }
        self.lanes[lane].took(bytes, time::monotonic_ns().saturating_sub(began));
        match pending.0.load(Ordering::Acquire) {
            FAILED => Err(Errno::EIO),
            len => Ok(len as usize),
        }
    }
}
