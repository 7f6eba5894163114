//! The file system device (section 5.11): a tag, queues for requests, and a window of shared memory.
//!
//! Requests and replies are buffers to this driver; what is in them is the business of whoever speaks FUSE.
//! Queue 0 of the device is for requests of high priority (FORGET, INTERRUPT), the others for all else.

#[cfg(test)]
mod tests;

use crate::live::LiveDevice;
use crate::pci::device_type;
use crate::queue::QueuePlan;
use crate::{Device, Error, Features, Hal, PhysRange, VirtQueue};
use alloc::string::String;
use alloc::vec::Vec;

/// Length of the tag field in bytes.
const TAG_LEN: usize = 36;
/// Offset of `num_request_queues` in the configuration.
const NUM_REQUEST_QUEUES: usize = 36;
/// Shared memory region of the DAX window (section 5.11.2.1: `VIRTIO_FS_SHMCAP_ID_CACHE`).
const WINDOW: u8 = 0;
/// FORGETs in flight: they are small and need no reply.
const HIPRIO_SIZE: u16 = 16;

/// What the kernel chooses.
#[derive(Debug, Clone, Copy)]
pub struct FsOptions {
    /// Request queues to set up at most; at least 1. Each costs about a dozen exits.
    pub request_queues: u16,
    /// Requests in flight in each at most (the device may allow fewer).
    pub queue_size: u16,
    /// Buffers of a request and its reply together at most; never more than the queue's size.
    pub max_buffers: u16,
}

impl Default for FsOptions {
    fn default() -> Self {
        Self { request_queues: 1, queue_size: 64, max_buffers: 64 }
    }
}

/// A file system device in service. `T` owns the buffers of a request in flight.
///
/// Dropping it resets the device, and only then drops the owners of what was in flight.
#[derive(Debug)]
pub struct VirtioFs<H: Hal, T> {
    live: LiveDevice<H, T>,
    tag: String,
}

impl<H: Hal, T> VirtioFs<H, T> {
    /// Starts the device.
    ///
    /// # Errors
    /// Says at which step it failed; the device is then marked as failed.
    pub fn new(device: Device<H>, options: FsOptions) -> Result<Self, Error> {
        let mut tag = String::new();
        let live = LiveDevice::start(device, device_type::FS, Features::empty(), |device, _| {
            tag = read_tag(device)?;
            // A device must have one (section 5.11.4); more are only worth asking for if wanted.
            let requests = match options.request_queues {
                0 | 1 => 1,
                most => device.config32(NUM_REQUEST_QUEUES)?.clamp(1, most.into()) as u16,
            };
            Ok((0..=requests)
                .map(|index| QueuePlan {
                    index,
                    max_size: if index == 0 { HIPRIO_SIZE } else { options.queue_size },
                    max_buffers: options.max_buffers,
                    vector: None,
                })
                .collect())
        })?;
        Ok(Self { live, tag })
    }

    /// The name of the share: 1 to 36 bytes.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The DAX window, when the device has one.
    pub fn window(&self) -> Option<PhysRange> {
        self.live.device().shared_memory(WINDOW)
    }

    /// The queue for FORGET, BATCH_FORGET and INTERRUPT.
    pub fn hiprio(&mut self) -> &mut VirtQueue<H, T> {
        &mut self.live.queues[0]
    }

    /// The queues for everything else, at least one.
    pub fn requests(&mut self) -> &mut [VirtQueue<H, T>] {
        &mut self.live.queues[1..]
    }

    /// Resets the device and hands back the owners of all requests in flight, which get no reply any more.
    /// The way out when a queue is broken. Allocates; not for interrupt handlers.
    ///
    /// # Errors
    /// [`Error::ResetTimeout`]: the device may still write to the buffers, so their owners stay where they are.
    pub fn abort(&mut self) -> Result<Vec<T>, Error> {
        self.live.stop()
    }
}

/// The tag ends at its first NUL or fills the field; what follows a NUL is padding and not read. Read in
/// words, not bytes, to save exits; it never changes, so the generation counter is not consulted.
fn read_tag<H: Hal>(device: &Device<H>) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(TAG_LEN);
    for offset in (0..TAG_LEN).step_by(4) {
        bytes.extend(device.config32(offset)?.to_le_bytes());
        if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
            break;
        }
    }
    String::from_utf8(bytes).ok().filter(|tag| !tag.is_empty()).ok_or(Error::BadTag)
}
