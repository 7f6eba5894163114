//! The front-end's messages, and what they do to the queues.

use crate::memory::Memory;
use crate::shmem::ShmemWindow;
use crate::vring::{Addresses, Common, Vring, VringError};
use diolkos_vmm::fs::{FileServer, MAX_TAG};
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use vhost::VhostUserMemoryRegionBase;
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight, VhostUserLog,
    VhostUserMemoryRegion, VhostUserShMemConfig, VhostUserSharedMsg, VhostUserSingleMemoryRegion,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Backend as Channel, Error, GpuBackend, Result, VhostUserBackendReqHandlerMut,
    VhostUserProtocolFeatures as Protocol, VhostUserVirtioFeatures,
};

/// Most queues, the one for urgent requests among them. Each that runs has a thread, and five descriptors of those that the
/// file server leaves to the process (256).
pub const QUEUES: usize = 32;

/// `VIRTIO_F_RING_INDIRECT_DESC`, `VIRTIO_F_RING_EVENT_IDX` and `VIRTIO_F_VERSION_1`.
const INDIRECT_DESC: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;

/// The device, as the front-end sees it.
pub struct Backend {
    common: Arc<Common>,
    vrings: Vec<Vring>,
    tag: Option<String>,
    features: u64,
    protocol: Protocol,
    /// A way to the front-end that we have nothing to say on. QEMU complains if it ends before the connection does.
    unused: Option<Channel>,
    /// A thread could not be stopped.
    deadlocked: bool,
}

/// An error of the protocol that says why.
fn refuse(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::ReqHandlerError(io::Error::other(why))
}

/// What this device does not offer, and so may not be asked.
fn not_offered<T>() -> Result<T> {
    Err(Error::InvalidOperation("this was not offered"))
}

impl Backend {
    /// A device before `server`, whose window is `window`.
    pub fn new(server: Arc<FileServer>, window: Option<Arc<ShmemWindow>>, tag: Option<String>, say: fn(&str)) -> Self {
        let common = Common { server, window, memory: Mutex::default(), say };
        let vrings = std::iter::repeat_with(Vring::new).take(QUEUES).collect();
        Self {
            common: Arc::new(common),
            vrings,
            tag,
            features: 0,
            protocol: Protocol::empty(),
            unused: None,
            deadlocked: false,
        }
    }

    fn offered(&self) -> u64 {
        INDIRECT_DESC | EVENT_IDX | VERSION_1 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits()
    }

    fn vring(&mut self, index: u32) -> Result<&mut Vring> {
        let known = usize::try_from(index).ok().and_then(|index| self.vrings.get_mut(index));
        known.ok_or_else(|| refuse(format!("there is no queue {index}; the last is {}", QUEUES - 1)))
    }

    /// Whether the front-end keeps a window for us. Without an answer to each request nobody would know what is mapped.
    fn shmem(&self) -> bool {
        let needed = Protocol::SHMEM | Protocol::BACKEND_REQ | Protocol::BACKEND_SEND_FD | Protocol::REPLY_ACK;
        self.common.window.is_some() && self.protocol.contains(needed)
    }

    /// Whether a queue could not be stopped, because the front-end does not answer it.
    pub fn deadlocked(&self) -> bool {
        self.deadlocked
    }

    /// Stops all queues.
    ///
    /// # Errors
    /// One waits for the front-end and the front-end for us.
    pub fn stop(&mut self) -> Result<()> {
        // All of them, whatever becomes of one.
        let results: Vec<_> = (0..QUEUES).map(|index| self.stop_one(index)).collect();
        results.into_iter().try_for_each(|result| result.map(|_| ()))
    }

    fn stop_one(&mut self, index: usize) -> Result<u16> {
        let stopped = self.vrings[index].stop(self.common.window.as_deref());
        self.heard(stopped)
    }

    fn heard<T>(&mut self, result: std::result::Result<T, VringError>) -> Result<T> {
        self.deadlocked |= matches!(result, Err(VringError::Deadlock));
        result.map_err(refuse)
    }
}

impl VhostUserBackendReqHandlerMut for Backend {
    fn set_owner(&mut self) -> Result<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> Result<()> {
        self.stop()
    }

    fn reset_device(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_features(&mut self) -> Result<u64> {
        Ok(self.offered())
    }

    fn set_features(&mut self, features: u64) -> Result<()> {
        let unknown = features & !self.offered();
        if unknown != 0 {
            return Err(refuse(format!("features {unknown:#x} were not offered")));
        }
        self.features = features;
        // Without the protocol's own features there is no message that enables a queue: they are enabled from the start.
        if features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0 {
            let event_index = features & EVENT_IDX != 0;
            for vring in &mut self.vrings {
                vring.enable(true, &self.common, event_index).map_err(refuse)?;
            }
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
        _: Option<bool>,
    ) -> Result<Option<Vec<VhostUserMemoryRegionBase>>> {
        let memory = Arc::new(Memory::new(regions, files).map_err(refuse)?);
        *self.common.memory.lock().unwrap_or_else(PoisonError::into_inner) = Some(memory);
        Ok(None)
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> Result<()> {
        self.vring(index)?.set_size(num).map_err(refuse)
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        flags: VhostUserVringAddrFlags,
        descriptors: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> Result<()> {
        if !flags.is_empty() {
            // The log of changed memory, for migration.
            return not_offered();
        }
        self.vring(index)?.set_addresses(Addresses { descriptors, available, used }).map_err(refuse)
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> Result<()> {
        self.vring(index)?.set_base(base).map_err(refuse)
    }

    fn get_vring_base(&mut self, index: u32) -> Result<VhostUserVringState> {
        self.vring(index)?;
        let base = self.stop_one(index as usize)?;
        Ok(VhostUserVringState::new(index, base.into()))
    }

    fn set_vring_kick(&mut self, index: u8, file: Option<File>) -> Result<()> {
        let (common, event_index) = (self.common.clone(), self.features & EVENT_IDX != 0);
        let started = self.vring(index.into())?.set_kick(file, &common, event_index);
        self.heard(started)
    }

    fn set_vring_call(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_call(file);
        Ok(())
    }

    fn set_vring_err(&mut self, index: u8, file: Option<File>) -> Result<()> {
        self.vring(index.into())?.set_error(file);
        Ok(())
    }

    fn get_protocol_features(&mut self) -> Result<Protocol> {
        let mut offered = Protocol::MQ | Protocol::REPLY_ACK | Protocol::BACKEND_REQ | Protocol::BACKEND_SEND_FD;
        offered.set(Protocol::SHMEM, self.common.window.is_some());
        offered.set(Protocol::CONFIG, self.tag.is_some());
        Ok(offered)
    }

    fn set_protocol_features(&mut self, features: u64) -> Result<()> {
        let offered = self.get_protocol_features()?;
        let accepted = Protocol::from_bits(features).filter(|features| offered.contains(*features));
        self.protocol =
            accepted.ok_or_else(|| refuse(format!("protocol features {features:#x} were not all offered")))?;
        Ok(())
    }

    fn get_queue_num(&mut self) -> Result<u64> {
        Ok(QUEUES as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> Result<()> {
        let (common, event_index) = (self.common.clone(), self.features & EVENT_IDX != 0);
        let done = self.vring(index)?.enable(enable, &common, event_index);
        self.heard(done)
    }

    /// `struct virtio_fs_config` (section 5.11.4): the tag, and how many queues for ordinary requests there are.
    fn get_config(&mut self, offset: u32, size: u32, _: VhostUserConfigFlags) -> Result<Vec<u8>> {
        let mut config = [0; MAX_TAG + 4];
        let tag = self.tag.as_deref().unwrap_or_default().as_bytes();
        config[..tag.len()].copy_from_slice(tag);
        config[MAX_TAG..].copy_from_slice(&(QUEUES as u32 - 1).to_le_bytes());
        let start = usize::try_from(offset).ok();
        let end = offset.checked_add(size).and_then(|end| usize::try_from(end).ok());
        let asked = start.zip(end).and_then(|(start, end)| config.get(start..end));
        asked.map(<[u8]>::to_vec).ok_or_else(|| refuse(format!("no configuration at {offset}, {size} bytes")))
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> Result<()> {
        Err(refuse("the configuration cannot be written"))
    }

    fn set_backend_req_fd(&mut self, channel: Channel) {
        match &self.common.window {
            Some(window) if self.shmem() => {
                channel.set_reply_ack_flag(true);
                channel.set_shmem_flag(true);
                window.open(channel);
            }
            _ => self.unused = Some(channel),
        }
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> Result<()> {
        not_offered()
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> Result<File> {
        not_offered()
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
        not_offered()
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> Result<()> {
        not_offered()
    }

    fn get_max_mem_slots(&mut self) -> Result<u64> {
        not_offered()
    }

    fn add_mem_region(
        &mut self,
        _: &VhostUserSingleMemoryRegion,
        _: File,
        _: Option<bool>,
    ) -> Result<Option<VhostUserMemoryRegionBase>> {
        not_offered()
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> Result<()> {
        not_offered()
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> Result<Option<File>> {
        not_offered()
    }

    fn check_device_state(&mut self) -> Result<()> {
        not_offered()
    }

    fn get_shmem_config(&mut self) -> Result<VhostUserShMemConfig> {
        let sizes: Vec<u64> = self.common.window.iter().filter(|_| self.shmem()).map(|window| window.bytes()).collect();
        Ok(VhostUserShMemConfig::new(sizes.len() as u32, &sizes))
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> Result<()> {
        not_offered()
    }
}
