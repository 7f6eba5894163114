//! One port: bytes in, bytes out, and what the host says of its end.
//!
//! Buffers are allocated when they are first needed, by the first read or write: a program that never
//! reads its standard input takes nothing from it.

use super::Received;
use crate::live::LiveDevice;
use crate::{Error, Hal};

/// Receive buffers, and the bytes in each.
const RX_SLOTS: u16 = 8;
const RX_SLOT: usize = 4096;
/// Transmit buffers, and the bytes in each.
pub(super) const TX_SLOTS: u16 = 4;
pub(super) const TX_SLOT: usize = 16 * 1024;

/// Descriptors a port's queues need.
pub(super) const RX_QUEUE: u16 = RX_SLOTS;
pub(super) const TX_QUEUE: u16 = TX_SLOTS;
/// The same for a port for input alone, whose bytes are few.
pub(super) const SHORT_QUEUE: u16 = 2;

/// The host's end of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostEnd {
    /// Nothing heard: neither data nor end of data.
    Unknown,
    Open,
    Closed,
}

/// Received bytes that nobody has taken yet: a part of a slot.
#[derive(Debug)]
struct Chunk {
    slot: u16,
    start: usize,
    end: usize,
}

#[derive(Debug)]
pub(super) struct Port {
    pub(super) id: u32,
    pub(super) host: HostEnd,
    /// The host was told that we are ready for it.
    pub(super) announced: bool,
    /// Places in `LiveDevice::queues`.
    rx_queue: usize,
    /// Of a port for input alone there is none.
    tx_queue: Option<usize>,
    /// Places in `LiveDevice::pools`, once allocated.
    rx_pool: Option<usize>,
    tx_pool: Option<usize>,
    chunk: Option<Chunk>,
    /// Transmit slots that are free, a bit each.
    tx_free: u32,
    /// Somebody waits for a transmit slot to come back,
    tx_waiting: bool,
    /// and one has, which `service` has not reported yet.
    tx_returned: bool,
}

impl Port {
    pub(super) fn new(id: u32, rx_queue: usize, host: HostEnd) -> Self {
        Self {
            id,
            host,
            announced: false,
            rx_queue,
            tx_queue: Some(rx_queue + 1),
            rx_pool: None,
            tx_pool: None,
            chunk: None,
            tx_free: 0,
            tx_waiting: false,
            tx_returned: false,
        }
    }

    /// A port without a transmit queue.
    pub(super) fn for_input(id: u32, rx_queue: usize) -> Self {
        Self { tx_queue: None, ..Self::new(id, rx_queue, HostEnd::Unknown) }
    }

    pub(super) fn is_input_alone(&self) -> bool {
        self.tx_queue.is_none()
    }

    fn tx_queue(&self) -> usize {
        self.tx_queue.expect("outputs are joined to ports with both queues only")
    }

    fn post<H: Hal>(&self, live: &mut LiveDevice<H, u16>, pool: usize, slot: u16) -> Result<(), Error> {
        let buffer = live.pools[pool].buffer(usize::from(slot) * RX_SLOT, RX_SLOT);
        // SAFETY: the pool lives until the device was reset, and a slot is posted when nobody reads it:
        // at first, and when its chunk has been consumed.
        unsafe { live.queues[self.rx_queue].submit(&[], &[buffer], slot) }.map_err(|refused| refused.reason)?;
        Ok(())
    }

    /// Posts receive buffers, the first time. Allocates then.
    pub(super) fn listen<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> Result<(), Error> {
        if self.rx_pool.is_some() {
            return Ok(());
        }
        // The device may have allowed a smaller queue than we asked for.
        let slots = RX_SLOTS.min(live.queues[self.rx_queue].size());
        let pool = live.add_pool(usize::from(slots) * RX_SLOT)?;
        self.rx_pool = Some(pool);
        for slot in 0..slots {
            self.post(live, pool, slot)?;
        }
        live.queues[self.rx_queue].kick();
        Ok(())
    }

    /// Whether a read would not wait: bytes or the end are there. Only right after [`Port::listen`].
    pub(super) fn input_pending<H: Hal>(&self, live: &LiveDevice<H, u16>) -> bool {
        self.host == HostEnd::Closed || self.has_bytes(live)
    }

    /// Whether bytes are there. Only right after [`Port::listen`].
    pub(super) fn has_bytes<H: Hal>(&self, live: &LiveDevice<H, u16>) -> bool {
        self.chunk.is_some() || live.queues[self.rx_queue].has_used()
    }

    pub(super) fn receive<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>, out: &mut [u8]) -> Result<Received, Error> {
        self.listen(live)?;
        let pool = self.rx_pool.expect("listen has just seen to it");
        // Looked at before the ring: what the host sent before it closed was in the ring before we heard of it.
        let closed = self.host == HostEnd::Closed;
        let mut taken = 0;
        while taken < out.len() {
            let Some(mut chunk) = self.next_chunk(live)? else { break };
            let n = (chunk.end - chunk.start).min(out.len() - taken);
            let at = usize::from(chunk.slot) * RX_SLOT + chunk.start;
            live.pools[pool].copy_out(at, &mut out[taken..taken + n]);
            taken += n;
            chunk.start += n;
            if chunk.start < chunk.end {
                self.chunk = Some(chunk);
            } else {
                self.post(live, pool, chunk.slot)?;
            }
        }
        live.queues[self.rx_queue].kick();
        Ok(match taken {
            0 if out.is_empty() => Received::Bytes(0),
            0 if closed => Received::End,
            0 => Received::Empty,
            n => Received::Bytes(n),
        })
    }

    /// Received bytes in order; `None` when there are none, and then there will be an interrupt for the next.
    fn next_chunk<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> Result<Option<Chunk>, Error> {
        if let Some(chunk) = self.chunk.take() {
            return Ok(Some(chunk));
        }
        let queue = &mut live.queues[self.rx_queue];
        loop {
            match queue.pop_used()? {
                Some(used) => return Ok(Some(Chunk { slot: used.owner, start: 0, end: used.len as usize })),
                None if queue.enable_interrupts() => return Ok(None),
                None => {}
            }
        }
    }

    /// Takes back the slots that the device is done with.
    fn reclaim<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> Result<(), Error> {
        while let Some(used) = live.queues[self.tx_queue()].pop_used()? {
            self.tx_free |= 1 << used.owner;
            self.tx_returned = true;
        }
        Ok(())
    }

    /// Arms an interrupt for the next slot that comes back. `false`: one has come back already, reclaim it first.
    fn wait_for_return<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> bool {
        if !live.queues[self.tx_queue()].enable_interrupts() {
            return false;
        }
        // What somebody else is waiting for may have been reclaimed, but not reported yet.
        self.tx_returned &= self.tx_waiting;
        self.tx_waiting = true;
        true
    }

    /// Copies bytes into free slots and gives them to the device. Returns how many: if not all, an interrupt
    /// follows when there is room again. Allocates the first time.
    pub(super) fn transmit<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>, bytes: &[u8]) -> Result<usize, Error> {
        let pool = match self.tx_pool {
            Some(pool) => pool,
            None => {
                let slots = TX_SLOTS.min(live.queues[self.tx_queue()].size());
                let pool = live.add_pool(usize::from(slots) * TX_SLOT)?;
                self.tx_free = (1 << slots) - 1;
                live.queues[self.tx_queue()].disable_interrupts();
                *self.tx_pool.insert(pool)
            }
        };
        self.reclaim(live)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.tx_free == 0 {
                if self.wait_for_return(live) {
                    break;
                }
                self.reclaim(live)?;
                continue;
            }
            let slot = self.tx_free.trailing_zeros() as u16;
            let (now, later) = rest.split_at(rest.len().min(TX_SLOT));
            let at = usize::from(slot) * TX_SLOT;
            live.pools[pool].copy_in(at, now);
            let buffer = live.pools[pool].buffer(at, now.len());
            // SAFETY: the pool lives until the device was reset; the slot was free and is marked as taken
            // until it comes back.
            unsafe { live.queues[self.tx_queue()].submit(&[buffer], &[], slot) }.map_err(|refused| refused.reason)?;
            self.tx_free &= !(1 << slot);
            rest = later;
        }
        live.queues[self.tx_queue()].kick();
        Ok(bytes.len() - rest.len())
    }

    /// Buffers that the device has not used yet. If there are any, an interrupt follows when one comes back.
    pub(super) fn in_flight<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> Result<u16, Error> {
        loop {
            self.reclaim(live)?;
            let outstanding = live.queues[self.tx_queue()].outstanding();
            if outstanding == 0 || self.wait_for_return(live) {
                return Ok(outstanding);
            }
        }
    }

    /// Looks after the transmit queue at an interrupt; returns whether somebody waited for what came back.
    pub(super) fn service<H: Hal>(&mut self, live: &mut LiveDevice<H, u16>) -> Result<bool, Error> {
        if self.tx_pool.is_none() {
            return Ok(false);
        }
        loop {
            self.reclaim(live)?;
            if !self.tx_waiting {
                return Ok(false);
            }
            if self.tx_returned {
                self.tx_returned = false;
                self.tx_waiting = false;
                live.queues[self.tx_queue()].disable_interrupts();
                return Ok(true);
            }
            if live.queues[self.tx_queue()].enable_interrupts() {
                return Ok(false);
            }
        }
    }
}
