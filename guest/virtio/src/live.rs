//! A device in service: its registers, its queues, and the buffers that belong to the driver.
//!
//! Kept together because they must end together: first the device is reset, then memory is freed. A device
//! that cannot be reset keeps its memory for ever; a leak is better than a device that writes into
//! what has become somebody else's.

use crate::features::Status;
use crate::queue::QueuePlan;
use crate::{Device, DmaPages, Error, Features, Hal, VirtQueue};
use alloc::vec::Vec;
use core::mem;

/// A device that was started. `T` is what owns a chain's buffers.
#[derive(Debug)]
pub(crate) struct LiveDevice<H: Hal, T> {
    device: Device<H>,
    /// In the order of the plan.
    pub(crate) queues: Vec<VirtQueue<H, T>>,
    /// Buffers of the driver's own.
    pub(crate) pools: Vec<DmaPages<H>>,
}

impl<H: Hal, T> LiveDevice<H, T> {
    /// Brings a device of the wanted type into service: negotiates, asks `plan` which queues to set up (it is
    /// given the device and the features, and may read its configuration), sets them up, and starts it.
    /// On any error the device is marked as failed.
    pub(crate) fn start(
        mut device: Device<H>,
        device_type: u16,
        wanted: Features,
        plan: impl FnOnce(&Device<H>, Features) -> Result<Vec<QueuePlan>, Error>,
    ) -> Result<Self, Error> {
        let found = device.device_type();
        if found != device_type {
            return Err(Error::WrongType { found, wanted: device_type });
        }
        match set_up(&mut device, wanted, plan) {
            Ok(queues) => Ok(Self { device, queues, pools: Vec::new() }),
            Err(error) => {
                device.set_status(Status::FAILED);
                Err(error)
            }
        }
    }

    /// Adds zeroed memory of at least `bytes` bytes, and returns its place in `pools`.
    pub(crate) fn add_pool(&mut self, bytes: usize) -> Result<usize, Error> {
        self.pools.push(DmaPages::new(&self.device.hal, bytes).ok_or(Error::NoMemory)?);
        Ok(self.pools.len() - 1)
    }

    pub(crate) fn device(&self) -> &Device<H> {
        &self.device
    }

    /// Resets the device and hands back the owners of everything it had. The queues are of no use after.
    pub(crate) fn stop(&mut self) -> Result<Vec<T>, Error> {
        self.device.reset()?;
        Ok(self.queues.iter_mut().flat_map(VirtQueue::abandon).collect())
    }
}

fn set_up<H: Hal, T>(
    device: &mut Device<H>,
    wanted: Features,
    plan: impl FnOnce(&Device<H>, Features) -> Result<Vec<QueuePlan>, Error>,
) -> Result<Vec<VirtQueue<H, T>>, Error> {
    let features = device.negotiate(wanted)?;
    let plans = plan(device, features)?;
    let mut queues = Vec::with_capacity(plans.len());
    for (n, plan) in plans.into_iter().enumerate() {
        let plan = QueuePlan { vector: device.vector(n), ..plan };
        queues.push(device.set_up_queue(plan, features)?);
    }
    device.set_status(Status::DRIVER_OK);
    Ok(queues)
}

impl<H: Hal, T> Drop for LiveDevice<H, T> {
    fn drop(&mut self) {
        if self.device.reset().is_err() {
            mem::forget(mem::take(&mut self.queues));
            mem::forget(mem::take(&mut self.pools));
        }
    }
}
