//! The way back to the guest: MSI-X messages, and word of a device that failed.

use crate::kvm::KvmError;
use crate::layout::REGISTERS_EACH;
use crate::pci::msix::{ENTRY, Message, MsixTable};
use crate::shadow::Shadow;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vmm_sys_util::eventfd::EventFd;

/// The virtual machine around a device: KVM, or a test.
pub trait Platform: Send + Sync {
    /// Delivers one message to the guest.
    fn send(&self, message: Message);

    /// Makes a guest's write at `address` signal `fd` without an exit.
    ///
    /// # Errors
    /// When the host cannot; the write then goes on being an exit.
    fn doorbell(&self, address: u64, fd: &EventFd) -> Result<(), KvmError>;
}

/// Offset of the MSI-X table in a device's registers.
pub const TABLE: u64 = 0x800;
/// Offset of the pending bits.
pub const PENDING: u64 = 0xf00;
const _: () = assert!(PENDING + 8 <= REGISTERS_EACH);

/// One device's interrupts.
///
/// # Locking
/// The table's lock is held while the guest's view of the table is stored, never while a message is sent.
pub struct Interrupter {
    table: Mutex<MsixTable>,
    shadow: Arc<Shadow>,
    registers: u64,
    platform: Arc<dyn Platform>,
    config_vector: AtomicU16,
    broken: AtomicBool,
    sent: AtomicU64,
}

impl Interrupter {
    /// Interrupts for the device whose registers are at guest-physical `registers`.
    pub fn new(vectors: usize, shadow: Arc<Shadow>, registers: u64, platform: Arc<dyn Platform>) -> Self {
        let interrupter = Self {
            table: Mutex::new(MsixTable::new(vectors)),
            shadow,
            registers,
            platform,
            config_vector: AtomicU16::new(crate::pci::msix::NO_VECTOR),
            broken: AtomicBool::new(false),
            sent: AtomicU64::new(0),
        };
        interrupter.publish(&interrupter.table());
        interrupter
    }

    fn table(&self) -> MutexGuard<'_, MsixTable> {
        // The table is plain data, whole after every step.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, table: &MsixTable) {
        for (i, bytes) in (0..).map_while(|i| Some((i, table.entry_bytes(i)?))) {
            self.shadow.store(self.registers + TABLE + (i * ENTRY) as u64, &bytes);
        }
        self.publish_pending(table);
    }

    fn publish_pending(&self, table: &MsixTable) {
        self.shadow.store(self.registers + PENDING, &table.pending().to_le_bytes());
    }

    fn send(&self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            self.platform.send(message);
            self.sent.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Interrupts by `vector`; nothing happens for [`NO_VECTOR`](crate::pci::msix::NO_VECTOR).
    pub fn trigger(&self, vector: u16) {
        let message = {
            let mut table = self.table();
            let message = table.trigger(vector);
            if message.is_none() {
                self.publish_pending(&table);
            }
            message
        };
        self.send(message);
    }

    /// A guest's write to the table.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        let messages = {
            let mut table = self.table();
            let messages = table.write(offset as usize, data);
            self.publish(&table);
            messages
        };
        self.send(messages);
    }

    /// A guest's write to the capability's control word.
    pub fn control(&self, word: u16) {
        let messages = {
            let mut table = self.table();
            let messages = table.control(word);
            self.publish_pending(&table);
            messages
        };
        self.send(messages);
    }

    /// The vector for configuration changes.
    pub fn set_config_vector(&self, vector: u16) {
        self.config_vector.store(vector, Ordering::Release);
    }

    /// The device cannot go on: tells the driver (`DEVICE_NEEDS_RESET`, section 2.1.2).
    pub fn fail(&self, why: &dyn std::fmt::Display) {
        tracing::warn!("virtio device at {:#x} failed: {why}", self.registers);
        self.broken.store(true, Ordering::Release);
        let at = self.registers + super::common::STATUS;
        let mut status = [0];
        self.shadow.load(at, &mut status);
        self.shadow.store(at, &[status[0] | super::common::NEEDS_RESET]);
        self.trigger(self.config_vector.load(Ordering::Acquire));
    }

    /// Whether it failed since the last reset.
    pub fn failed(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Reset: the failure is forgotten, and so is the configuration vector. The table stays, it belongs to PCI.
    pub fn reset(&self) {
        self.broken.store(false, Ordering::Release);
        self.set_config_vector(crate::pci::msix::NO_VECTOR);
    }

    /// Messages sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}
