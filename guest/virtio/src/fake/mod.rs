//! A machine made of fakes: memory, a PCI bus, and devices that the tests play by hand.
//!
//! The driver under test meets it at its two seams, [`Hal`] with [`Registers`] and [`ConfigRegionAccess`], and
//! so runs unchanged, from the bus scan to the last used entry. Registers react as section 4.1.4.3 says and
//! count accesses; rings are walked in real memory, from the device's side.

mod device;
mod memory;
mod ring;

pub(crate) use device::{BAR_REGISTERS, BAR_SHARED, COMMON, FakeDevice, MSIX_TABLE, NOTIFY, cap};
pub(crate) use ring::{FakeChain, FakeQueue};

use crate::pci::{MmioSpace, scan};
use crate::{ConfigRegionAccess, Device, DmaBuf, Error, Hal, MsiMessage, PciAddress, PhysAddr, PhysRange, Registers};
use memory::Memory;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};
use std::vec::Vec;

#[derive(Debug, Default)]
struct State {
    memory: Memory,
    /// In slot n of bus 0.
    devices: Vec<FakeDevice>,
}

/// The machine; clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Machine(Arc<Mutex<State>>);

/// The interrupt that tests give their device.
pub(crate) const MESSAGE: MsiMessage = MsiMessage { address: 0xfee0_1000, data: 0xe2 };

impl Machine {
    /// A machine with one device.
    pub(crate) fn with(device: FakeDevice) -> Self {
        let machine = Self::default();
        machine.add(device);
        machine
    }

    pub(crate) fn add(&self, device: FakeDevice) {
        self.state().devices.push(device);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A test that failed while it held the lock has said why already.
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at, or meddles with, the device in slot 0.
    pub(crate) fn device<R>(&self, look: impl FnOnce(&mut FakeDevice) -> R) -> R {
        self.device_at(0, look)
    }

    pub(crate) fn device_at<R>(&self, slot: usize, look: impl FnOnce(&mut FakeDevice) -> R) -> R {
        look(&mut self.state().devices[slot])
    }

    /// Finds and opens the device in slot 0, with one interrupt.
    pub(crate) fn open(&self) -> Result<Device<Self>, Error> {
        self.open_with(&[MESSAGE])
    }

    pub(crate) fn open_with(&self, messages: &[MsiMessage]) -> Result<Device<Self>, Error> {
        let functions = scan(self, &mut MmioSpace::new(PhysRange::new(0xc000_0000, 0x1000_0000), None));
        Device::open(self.clone(), self, &functions[0], messages)
    }

    /// Pages that the driver has not given back.
    pub(crate) fn pages(&self) -> usize {
        self.state().memory.pages()
    }

    /// Makes memory run out after so many more pages.
    pub(crate) fn limit_memory(&self, pages: usize) {
        self.state().memory.left = Some(pages);
    }

    /// A buffer with content.
    pub(crate) fn buffer(&self, content: &[u8]) -> DmaBuf {
        let mut state = self.state();
        let (phys, _) = state.memory.alloc(content.len().div_ceil(4096).max(1)).unwrap();
        state.memory.write(phys, content);
        DmaBuf { addr: PhysAddr(phys), len: content.len() as u32 }
    }

    /// What is in a buffer.
    pub(crate) fn content(&self, buffer: DmaBuf) -> Vec<u8> {
        self.state().memory.read(buffer.addr.0, buffer.len as usize)
    }

    fn with_queue<R>(&self, queue: u16, act: impl FnOnce(&mut FakeQueue, &mut Memory, bool) -> R) -> R {
        let state = &mut *self.state();
        let device = &mut state.devices[0];
        let event_idx = device.accepted & (1 << 29) != 0;
        act(&mut device.queues[usize::from(queue)], &mut state.memory, event_idx)
    }

    /// The device takes the next chain, if there is one.
    pub(crate) fn take(&self, queue: u16) -> Option<FakeChain> {
        self.with_queue(queue, |q, memory, event_idx| q.take(memory, event_idx))
    }

    /// The device returns a chain with a reply. True if an interrupt is due.
    pub(crate) fn answer(&self, queue: u16, chain: FakeChain, reply: &[u8]) -> bool {
        self.with_queue(queue, |q, memory, event_idx| {
            chain.fill(memory, reply);
            q.give(memory, event_idx, chain.head.into(), reply.len() as u32)
        })
    }

    /// The device makes a claim, true or not.
    pub(crate) fn claim(&self, queue: u16, id: u32, len: u32) {
        self.with_queue(queue, |q, memory, event_idx| q.give(memory, event_idx, id, len));
    }

    /// The device moves its used index and says no more.
    pub(crate) fn jump(&self, queue: u16, by: u16) {
        self.with_queue(queue, |q, memory, _| q.jump(memory, by));
    }

    /// The device says whether it polls (without event index).
    pub(crate) fn set_no_notify(&self, queue: u16, on: bool) {
        self.with_queue(queue, |q, memory, _| q.set_no_notify(memory, on));
    }
}

// SAFETY: 1. `Memory::alloc` gives zeroed pages of its own, contiguous at a made-up address that only the
// fakes use; 2. `phys_of` looks them up; 3. `map_mmio` reaches fake devices, not memory.
unsafe impl Hal for Machine {
    type Registers = FakeRegisters;

    fn alloc_pages(&self, pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
        self.state().memory.alloc(pages).map(|(phys, start)| (PhysAddr(phys), start))
    }

    unsafe fn free_pages(&self, phys: PhysAddr, start: NonNull<u8>, pages: usize) {
        self.state().memory.free(phys.0, start, pages);
    }

    fn phys_of(&self, start: NonNull<u8>, len: usize) -> Option<PhysAddr> {
        self.state().memory.find(start, len).map(PhysAddr)
    }

    fn map_mmio(&self, range: PhysRange) -> Option<FakeRegisters> {
        let state = self.state();
        let (slot, bar, offset) = state
            .devices
            .iter()
            .enumerate()
            .find_map(|(slot, device)| device.decode(range.start().0).map(|(bar, offset)| (slot, bar, offset)))?;
        Some(FakeRegisters { machine: self.clone(), slot, bar, offset, len: range.len() as usize })
    }
}

impl ConfigRegionAccess for Machine {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        assert_eq!((address.segment(), address.bus()), (0, 0));
        if address.function() != 0 {
            return !0;
        }
        self.state().devices.get(usize::from(address.device())).map_or(!0, |device| device.config_read(offset))
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        assert_eq!((address.segment(), address.bus(), address.function()), (0, 0, 0));
        self.state().devices[usize::from(address.device())].config_write(offset, value);
    }
}

/// A mapped part of a fake device's BAR.
#[derive(Debug, Clone)]
pub(crate) struct FakeRegisters {
    machine: Machine,
    slot: usize,
    bar: u8,
    offset: usize,
    len: usize,
}

impl FakeRegisters {
    fn at(&self, offset: usize, width: usize) -> usize {
        assert!(offset + width <= self.len && offset.is_multiple_of(width), "an access of {width} at {offset:#x}");
        assert_eq!(self.bar, BAR_REGISTERS, "registers are in BAR {BAR_REGISTERS}");
        self.offset + offset
    }

    fn read(&self, offset: usize, width: usize) -> u32 {
        let at = self.at(offset, width);
        self.machine.device_at(self.slot, |device| device.read(at, width))
    }

    fn write(&self, offset: usize, width: usize, value: u32) {
        let at = self.at(offset, width);
        self.machine.device_at(self.slot, |device| device.write(at, width, value));
    }
}

impl Registers for FakeRegisters {
    fn read8(&self, offset: usize) -> u8 {
        self.read(offset, 1) as u8
    }
    fn read16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }
    fn read32(&self, offset: usize) -> u32 {
        self.read(offset, 4)
    }
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, 1, value.into());
    }
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, 2, value.into());
    }
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, 4, value);
    }
}
