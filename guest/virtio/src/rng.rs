//! The entropy device (section 5.4): one queue, whose buffers the device fills with random bytes.

#[cfg(test)]
mod tests;

use crate::live::LiveDevice;
use crate::pci::device_type;
use crate::queue::QueuePlan;
use crate::{Device, Error, Features, Hal, PAGE_SIZE};

/// Most bytes asked for at a time.
pub const MAX_REQUEST: usize = PAGE_SIZE;

/// An entropy device in service. It works on one request at a time.
#[derive(Debug)]
pub struct VirtioRng<H: Hal> {
    live: LiveDevice<H, ()>,
}

impl<H: Hal> VirtioRng<H> {
    /// Starts the device.
    ///
    /// # Errors
    /// Says at which step it failed.
    pub fn new(device: Device<H>) -> Result<Self, Error> {
        let mut live = LiveDevice::start(device, device_type::RNG, Features::empty(), |_, _| {
            Ok([QueuePlan { index: 0, max_size: 2, max_buffers: 1, vector: None }].into())
        })?;
        live.add_pool(MAX_REQUEST)?;
        Ok(Self { live })
    }

    /// Asks for up to `len` bytes (at most [`MAX_REQUEST`]), unless a request is under way. Interrupt-safe.
    ///
    /// # Errors
    /// When the device broke its queue.
    pub fn request(&mut self, len: usize) -> Result<(), Error> {
        let queue = &mut self.live.queues[0];
        queue.check_alive()?;
        if queue.outstanding() > 0 {
            return Ok(());
        }
        let buffer = self.live.pools[0].buffer(0, len.clamp(1, MAX_REQUEST));
        // SAFETY: the pool lives until the device was reset, and is touched only when nothing is outstanding.
        unsafe { queue.submit(&[], &[buffer], ()) }.map_err(|refused| refused.reason)?;
        queue.kick();
        Ok(())
    }

    /// Takes the bytes of the request that was under way, as many as fit and the device gave, and returns how
    /// many; the rest is thrown away. `None` while it is not done. An interrupt follows the next
    /// completion. Interrupt-safe.
    ///
    /// # Errors
    /// When the device broke its queue.
    pub fn take(&mut self, out: &mut [u8]) -> Result<Option<usize>, Error> {
        let mut len = None;
        self.live.queues[0].drain(|used| len = Some(used.len as usize))?;
        let Some(len) = len else { return Ok(None) };
        let n = len.min(out.len());
        self.live.pools[0].copy_out(0, &mut out[..n]);
        // Random bytes are secrets: none stay behind.
        self.live.pools[0].copy_in(0, &[0; MAX_REQUEST][..len]);
        Ok(Some(n))
    }
}
