//! A driver for tests: sets a device up through its registers and talks to it through queues in RAM, without KVM.

use super::Device;
use super::interrupt::Platform;
use super::pci::{Attachment, VirtioPci};
use crate::kvm::KvmError;
use crate::layout::{ECAM, MIB, REGISTERS, RamRange, WindowPlace};
use crate::memory::Ram;
use crate::pci::PciDevice;
use crate::pci::msix::Message;
use crate::shadow::Shadow;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

/// Entries of each queue.
pub const SIZE: u16 = 16;
const SLOT: usize = 1;
const QUEUES: u64 = 0x1_0000;
const EACH_QUEUE: u64 = 0x1000;
const BUFFERS: u64 = 0x10_0000;
const BUFFERS_END: u64 = 4 * MIB;

/// Takes messages and doorbells down.
#[derive(Default)]
pub struct FakePlatform {
    pub messages: Mutex<Vec<Message>>,
    pub doorbells: Mutex<Vec<u64>>,
}

impl Platform for FakePlatform {
    fn send(&self, message: Message) {
        self.messages.lock().unwrap().push(message);
    }
    fn doorbell(&self, address: u64, _fd: &EventFd) -> Result<(), KvmError> {
        self.doorbells.lock().unwrap().push(address);
        Ok(())
    }
}

/// A buffer of a chain: bytes for the device, or room for its own.
pub enum Part<'a> {
    Out(&'a [u8]),
    In(u32),
}

#[derive(Clone, Default)]
struct Queue {
    available: u16,
    used: u16,
    /// Places of the writable buffers of each chain, by its head.
    rooms: Vec<Vec<(u64, u32)>>,
}

/// The driver and its device.
pub struct Driver {
    pub pci: VirtioPci,
    pub ram: Arc<Ram>,
    pub platform: Arc<FakePlatform>,
    shadow: Arc<Shadow>,
    queues: Vec<Queue>,
    next_buffer: u64,
    next_descriptor: u16,
}

impl Driver {
    pub fn new(device: impl Device + 'static, window: Option<WindowPlace>) -> Self {
        let ram = Arc::new(Ram::new(&[RamRange { base: 0, len: 4 * MIB }]).unwrap());
        let (shadow, platform) = (Shadow::new().unwrap(), Arc::new(FakePlatform::default()));
        let queues = vec![Queue { rooms: vec![Vec::new(); SIZE.into()], ..Queue::default() }; device.queues().len()];
        let at =
            Attachment { slot: SLOT, ram: ram.clone(), shadow: shadow.clone(), platform: platform.clone(), window };
        let pci = VirtioPci::new(Box::new(device), at).unwrap();
        Self { pci, ram, platform, shadow, queues, next_buffer: BUFFERS, next_descriptor: 0 }
    }

    /// Reads `N` bytes of the registers, as the guest would.
    pub fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut bytes = [0; N];
        self.shadow.load(REGISTERS + SLOT as u64 * 4096 + offset, &mut bytes);
        bytes
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.pci.write_registers(offset, bytes);
    }

    pub fn status(&self) -> u8 {
        self.read::<1>(20)[0]
    }

    /// Negotiates `features` and `VERSION_1`, enables every queue with MSI-X vector 1 + its number, and starts.
    pub fn start(&mut self, features: u64) {
        self.negotiate(features);
        for index in 0..self.queues.len() as u16 {
            self.enable_queue(index);
        }
        self.write(20, &[15]);
    }

    pub fn negotiate(&mut self, features: u64) {
        self.pci.write_config(self.msix() + 2, &0x8000u16.to_le_bytes());
        for vector in 0..=self.queues.len() as u64 {
            self.write(0x800 + 16 * vector, &0xfee0_0000u64.to_le_bytes());
            self.write(0x808 + 16 * vector, &(vector as u32).to_le_bytes());
            self.write(0x80c + 16 * vector, &0u32.to_le_bytes());
        }
        self.write(20, &[3]);
        for (half, bits) in [(0u32, features as u32), (1, (features >> 32) as u32 | 1)] {
            self.write(8, &half.to_le_bytes());
            self.write(12, &bits.to_le_bytes());
        }
        self.write(20, &[11]);
        assert_eq!(self.status(), 11);
        self.write(16, &0u16.to_le_bytes());
    }

    pub fn msix(&self) -> usize {
        let bytes = self.pci.config().bytes();
        let mut at = bytes[0x34] as usize;
        while bytes[at] != 0x11 {
            at = bytes[at + 1] as usize;
        }
        at
    }

    fn enable_queue(&mut self, index: u16) {
        let base = QUEUES + u64::from(index) * EACH_QUEUE;
        self.write(22, &index.to_le_bytes());
        self.write(24, &SIZE.to_le_bytes());
        self.write(26, &(index + 1).to_le_bytes());
        for (at, area) in [(32, base), (40, base + 0x400), (48, base + 0x800)] {
            self.write(at, &area.to_le_bytes());
        }
        self.write(28, &1u16.to_le_bytes());
    }

    /// Starts over after a reset of the device.
    pub fn reset(&mut self) {
        self.write(20, &[0]);
        for index in 0..self.queues.len() {
            let base = QUEUES + index as u64 * EACH_QUEUE;
            self.ram.memory().write_slice(&[0; EACH_QUEUE as usize], GuestAddress(base)).unwrap();
            self.queues[index] = Queue { rooms: vec![Vec::new(); SIZE.into()], ..Queue::default() };
        }
    }

    /// Memory for a buffer; older buffers are overwritten some time.
    fn buffer(&mut self, len: u64) -> u64 {
        if self.next_buffer + len > BUFFERS_END {
            self.next_buffer = BUFFERS;
        }
        let at = self.next_buffer;
        self.next_buffer += len.next_multiple_of(16);
        at
    }

    /// Makes a chain of `parts` available in `queue`, without ringing. Returns its head.
    pub fn add(&mut self, queue: usize, parts: &[Part<'_>]) -> u16 {
        let mut descriptors = Vec::new();
        let mut rooms = Vec::new();
        for part in parts {
            match part {
                Part::Out(bytes) => {
                    let at = self.buffer(bytes.len() as u64);
                    self.ram.memory().write_slice(bytes, GuestAddress(at)).unwrap();
                    descriptors.push((at, bytes.len() as u32, 0));
                }
                Part::In(len) => {
                    let at = self.buffer((*len).into());
                    rooms.push((at, *len));
                    descriptors.push((at, *len, 2));
                }
            }
        }
        let head = self.add_raw(queue, &descriptors);
        self.queues[queue].rooms[usize::from(head)] = rooms;
        head
    }

    /// As [`Driver::add`], of descriptors as they are: address, length, flags without NEXT.
    pub fn add_raw(&mut self, queue: usize, descriptors: &[(u64, u32, u16)]) -> u16 {
        let base = QUEUES + queue as u64 * EACH_QUEUE;
        let memory = self.ram.memory();
        let head = self.next_descriptor % SIZE;
        for (i, (at, len, flags)) in descriptors.iter().enumerate() {
            let index = self.next_descriptor % SIZE;
            self.next_descriptor = (index + 1) % SIZE;
            let next = i + 1 < descriptors.len();
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&at.to_le_bytes());
            bytes[8..12].copy_from_slice(&len.to_le_bytes());
            bytes[12..14].copy_from_slice(&(flags | u16::from(next)).to_le_bytes());
            bytes[14..].copy_from_slice(&self.next_descriptor.to_le_bytes());
            memory.write_slice(&bytes, GuestAddress(base + 16 * u64::from(index))).unwrap();
        }
        let ring = &mut self.queues[queue];
        let slot = base + 0x404 + 2 * u64::from(ring.available % SIZE);
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        ring.available = ring.available.wrapping_add(1);
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        memory.write_obj(ring.available, GuestAddress(base + 0x402)).unwrap();
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        head
    }

    /// Claims that chains up to `index` are available.
    pub fn set_available(&mut self, queue: usize, index: u16) {
        let at = QUEUES + queue as u64 * EACH_QUEUE + 0x402;
        self.ram.memory().write_obj(index, GuestAddress(at)).unwrap();
    }

    pub fn ring(&mut self, queue: usize) {
        self.pci.write_doorbell(4 * queue as u64, &(queue as u16).to_le_bytes());
    }

    /// Waits for the next used chain and returns its head and the bytes the device wrote.
    pub fn used(&mut self, queue: usize) -> (u16, Vec<u8>) {
        self.try_used(queue, Duration::from_secs(10)).expect("the device answers")
    }

    pub fn try_used(&mut self, queue: usize, limit: Duration) -> Option<(u16, Vec<u8>)> {
        let base = QUEUES + queue as u64 * EACH_QUEUE + 0x800;
        let end = Instant::now() + limit;
        let memory = self.ram.memory();
        while memory.read_obj::<u16>(GuestAddress(base + 2)).unwrap() == self.queues[queue].used {
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        let entry = base + 4 + 8 * u64::from(self.queues[queue].used % SIZE);
        self.queues[queue].used = self.queues[queue].used.wrapping_add(1);
        let head = memory.read_obj::<u32>(GuestAddress(entry)).unwrap() as u16;
        let mut left = memory.read_obj::<u32>(GuestAddress(entry + 4)).unwrap() as usize;
        let mut bytes = Vec::new();
        if self.queues[queue].rooms[usize::from(head)].is_empty() {
            return Some((head, bytes));
        }
        for (at, len) in &self.queues[queue].rooms[usize::from(head)] {
            let mut part = vec![0; left.min(*len as usize)];
            memory.read_slice(&mut part, GuestAddress(*at)).unwrap();
            left -= part.len();
            bytes.extend(part);
        }
        assert_eq!(left, 0, "the device claims to have written more than there was room for");
        Some((head, bytes))
    }

    /// A whole exchange.
    pub fn call(&mut self, queue: usize, parts: &[Part<'_>]) -> Vec<u8> {
        let head = self.add(queue, parts);
        self.ring(queue);
        let (used, bytes) = self.used(queue);
        assert_eq!(used, head);
        bytes
    }

    /// Waits until `condition` holds.
    pub fn wait(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < end, "{what}");
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// ECAM and registers share the shadow; a test that stores out of it would trip an assertion there.
const _: () = assert!(REGISTERS > ECAM);
