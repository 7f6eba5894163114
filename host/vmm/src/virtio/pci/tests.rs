use crate::layout::{DOORBELLS, REGISTERS, WindowPlace};
use crate::pci::PciDevice;
use crate::pci::msix::Message;
use crate::virtio::rng::Rng;
use crate::virtio::testing::{Driver, Part, SIZE};
use crate::virtio::{F_EVENT_IDX, F_INDIRECT_DESC};
use std::collections::BTreeMap;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};

fn driver() -> Driver {
    Driver::new(Rng::default(), None)
}

fn dword(driver: &Driver, at: usize) -> u32 {
    u32::from_le_bytes(driver.pci.config().bytes()[at..at + 4].try_into().unwrap())
}

/// The vendor capabilities by type: bar, offset, length.
fn capabilities(driver: &Driver) -> BTreeMap<u8, (u8, u32, u32)> {
    let bytes = driver.pci.config().bytes();
    let (mut at, mut found) = (bytes[0x34] as usize, BTreeMap::new());
    while at != 0 {
        if bytes[at] == 9 {
            found.insert(bytes[at + 3], (bytes[at + 4], dword(driver, at + 8), dword(driver, at + 12)));
        }
        at = bytes[at + 1] as usize;
    }
    found
}

#[test]
fn capabilities_lead_to_the_registers() {
    let driver = Driver::new(Rng::default(), Some(WindowPlace { base: 8 << 30, len: 3 << 30, bar: 4 << 30 }));
    assert_eq!(dword(&driver, 0), 0x1044_1af4);
    assert_eq!((dword(&driver, 0x10), dword(&driver, 0x14)), ((REGISTERS + 4096) as u32, (DOORBELLS + 4096) as u32));
    assert_eq!((dword(&driver, 0x18), dword(&driver, 0x1c)), (0xc, 2));
    let found = capabilities(&driver);
    assert_eq!(found[&1], (0, 0, 56));
    assert_eq!(found[&2], (1, 0, 4));
    assert_eq!(found[&3], (0, 0x80, 1));
    assert_eq!(found[&8], (2, 0, 0xc000_0000));
    assert!(!found.contains_key(&4), "no device configuration");
    let (msix, table) = (driver.msix(), 0x800);
    assert_eq!((dword(&driver, msix) >> 16, dword(&driver, msix + 4), dword(&driver, msix + 8)), (1, table, 0xf00));
}

#[test]
fn a_request_is_served_and_interrupts_by_its_own_vector() {
    let mut driver = driver();
    driver.start(0);
    assert_eq!(driver.status(), 15);
    let first = driver.call(0, &[Part::In(32), Part::In(300)]);
    assert_eq!(first.len(), 332);
    assert_ne!(first[..32], [0; 32], "this is noise");
    let message = Message { address: 0xfee0_0000, data: 1 };
    driver.wait("an interrupt", |driver| *driver.platform.messages.lock().unwrap() == [message]);
    for _ in 0..3 * SIZE {
        assert_eq!(driver.call(0, &[Part::In(8)]).len(), 8);
    }
}

#[test]
fn reset_stops_the_device_and_it_can_start_again() {
    let mut driver = driver();
    for _ in 0..3 {
        driver.start(F_EVENT_IDX);
        assert_eq!(driver.call(0, &[Part::In(8)]).len(), 8);
        driver.reset();
        assert_eq!(driver.status(), 0);
        driver.add(0, &[Part::In(8)]);
        driver.ring(0);
        assert_eq!(driver.try_used(0, Duration::from_millis(30)), None, "a device that was reset is quiet");
        driver.reset();
    }
}

#[test]
fn indirect_descriptors_are_followed() {
    let mut driver = driver();
    driver.start(F_INDIRECT_DESC);
    let memory = driver.ram.memory();
    for (i, at) in [0x20_0000u64, 0x20_1000].into_iter().enumerate() {
        let entry = GuestAddress(0x30_0000 + 16 * i as u64);
        memory.write_obj(at, entry).unwrap();
        memory.write_obj(16u32, GuestAddress(entry.0 + 8)).unwrap();
        memory.write_obj(2u16 | u16::from(i == 0), GuestAddress(entry.0 + 12)).unwrap();
        memory.write_obj(1u16, GuestAddress(entry.0 + 14)).unwrap();
    }
    driver.add_raw(0, &[(0x30_0000, 32, 4)]);
    driver.ring(0);
    driver.wait("both buffers are filled", |driver| {
        let read = |at| driver.ram.memory().read_obj::<u128>(GuestAddress(at)).unwrap();
        read(0x20_0000) != 0 && read(0x20_1000) != 0
    });
}

#[test]
fn event_indices_hold_interrupts_back() {
    let mut driver = driver();
    driver.start(F_EVENT_IDX);
    // used_event, at the end of the driver area: no interrupt before the third used chain.
    driver.ram.memory().write_obj(2u16, GuestAddress(0x1_0000 + 0x404 + 2 * u64::from(SIZE))).unwrap();
    for expected in [0, 0, 1] {
        driver.call(0, &[Part::In(8)]);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(driver.platform.messages.lock().unwrap().len(), expected);
    }
}

#[test]
fn hostile_rings_fail_the_device_and_not_the_machine() {
    let mut driver = driver();
    driver.start(0);
    driver.set_available(0, 1000);
    driver.ring(0);
    driver.wait("the device says that it needs a reset", |driver| driver.status() & 64 != 0);
    driver.reset();
    driver.start(0);
    // Buffers that are nowhere, wrap around, are too long, or loop.
    for (address, len) in [(1 << 40, 8), (u64::MAX - 3, 8), (0x10_0000, u32::MAX), ((4 << 20) - 4, 8)] {
        driver.add_raw(0, &[(address, len, 2)]);
        driver.ring(0);
        driver.used(0);
    }
    let head = driver.add_raw(0, &[(0x20_0000, 8, 2)]);
    let descriptor = 0x1_0000 + 16 * u64::from(head);
    driver.ram.memory().write_obj(3u16, GuestAddress(descriptor + 12)).unwrap();
    driver.ram.memory().write_obj(head, GuestAddress(descriptor + 14)).unwrap();
    driver.ring(0);
    driver.used(0);
    assert_eq!(driver.status(), 15);
}

#[test]
fn queues_that_are_nowhere_are_refused() {
    for areas in
        [[1 << 40, 0x1000, 0x2000], [0x1008, 0x2000, 0x3000], [0x1000, u64::MAX - 1, 0x3000], [0, 0, 0x3f_fffc]]
    {
        let mut driver = driver();
        driver.negotiate(0);
        for (at, area) in [32, 40, 48].into_iter().zip(areas) {
            driver.write(at, &area.to_le_bytes());
        }
        driver.write(28, &1u16.to_le_bytes());
        driver.write(20, &[15]);
        assert_eq!(driver.status() & 64, 64, "{areas:x?}");
    }
}

#[test]
fn registers_survive_writes_of_every_size_and_place() {
    let mut driver = driver();
    for offset in 0..4096 {
        for len in [1, 2, 4, 8] {
            driver.write(offset, &[0xff; 8][..len]);
        }
    }
    for offset in (0..4096).chain([u64::MAX]) {
        driver.pci.write_doorbell(offset, &[0xff; 8]);
        driver.pci.write_config(offset as usize, &[0xff; 4]);
    }
    let mut data = [0; 4];
    driver.pci.read_doorbell(0, &mut data);
    assert_eq!(data, [0xff; 4]);
}

#[test]
fn a_busy_doorbell_becomes_an_ioeventfd_once() {
    let mut driver = driver();
    driver.start(0);
    for _ in 0..600 {
        driver.ring(0);
    }
    assert_eq!(*driver.platform.doorbells.lock().unwrap(), [DOORBELLS + 4096]);
}
