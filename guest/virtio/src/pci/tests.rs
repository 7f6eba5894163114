//! Finding functions, reading what they claim, placing BARs, programming interrupts.

use super::*;
use crate::fake::{BAR_REGISTERS, BAR_SHARED, COMMON, FakeDevice, MESSAGE, MSIX_TABLE, Machine, cap};
use crate::{Device, MsiMessage};

fn space() -> MmioSpace {
    MmioSpace::new(PhysRange::new(0xc000_0000, 0x1000_0000), PhysRange::new(0x50_0000_0000, 1 << 36))
}

fn open_error(device: FakeDevice) -> Error {
    Machine::with(device).open().unwrap_err()
}

#[test]
fn every_virtio_function_of_the_bus_is_found() {
    let machine = Machine::with(FakeDevice::rng());
    machine.add(FakeDevice::fs(b"root"));
    machine.add(FakeDevice::console(4));
    let found = scan(&machine, &mut space());
    let found: Vec<_> = found.iter().map(|f| (f.address.device(), f.device_type)).collect();
    assert_eq!(found, [(0, device_type::RNG), (1, device_type::FS), (2, device_type::CONSOLE)]);
}

#[test]
fn an_empty_bus_has_no_functions() {
    assert!(scan(&Machine::default(), &mut space()).is_empty());
}

#[test]
fn bars_that_firmware_placed_stay_where_they_are() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    scan(&machine, &mut space());
    assert_eq!(machine.device(|d| (d.bar_address(BAR_REGISTERS), d.config_writes)), (0xfe00_0000, 0));
}

#[test]
fn bars_without_an_address_are_given_one() {
    let mut device = FakeDevice::fs(b"root");
    device.place(0, 0);
    device.add_cap(&cap::shared(BAR_SHARED, 0, 0, 1 << 30));
    let machine = Machine::with(device);
    let functions = scan(&machine, &mut space());
    let device = Device::open(machine.clone(), &machine, &functions[0], &[MESSAGE]).unwrap();
    // 64-bit BARs go above 4 GiB, aligned to their size.
    assert_eq!(machine.device(|d| d.bar_address(BAR_REGISTERS)), 0x50_0000_0000);
    assert_eq!(device.shared_memory(0), PhysRange::new(0x50_4000_0000, 1 << 30));
}

#[test]
fn memory_decoding_is_off_while_a_bar_is_sized() {
    let mut device = FakeDevice::fs(b"root");
    device.place(0xfe00_0000, 0);
    device.add_cap(&cap::shared(BAR_SHARED, 0, 0, 1 << 30));
    device.put_bytes(4, &[2]);
    let machine = Machine::with(device);
    // The fake device checks that no BAR moves while its function decodes memory.
    let functions = scan(&machine, &mut space());
    assert_eq!(machine.device(|d| d.command()), 0);
    Device::open(machine.clone(), &machine, &functions[0], &[MESSAGE]).unwrap();
    assert_eq!(machine.device(|d| d.command() & 2), 2);
}

#[test]
fn a_bar_that_was_sized_is_known_exactly() {
    let mut device = FakeDevice::fs(b"root");
    device.place(0, 0);
    device.add_cap(&cap::shared(BAR_SHARED, 0, 0, (1 << 30) + 1));
    let machine = Machine::with(device);
    let functions = scan(&machine, &mut space());
    let error = Device::open(machine.clone(), &machine, &functions[0], &[]).unwrap_err();
    assert_eq!(error, Error::BadCapability("shared memory"));
}

#[test]
fn placed_bars_keep_clear_of_each_other_and_of_those_that_were_there() {
    let machine = Machine::default();
    for registers in [0xc000_0000, 0, 0] {
        let mut device = FakeDevice::rng();
        device.place(registers, 0);
        machine.add(device);
    }
    let low_only = &mut MmioSpace::new(PhysRange::new(0xc000_0000, 0x10_0000), None);
    scan(&machine, low_only);
    let at = [0, 1, 2].map(|slot| machine.device_at(slot, |d| d.bar_address(BAR_REGISTERS)));
    assert_eq!(at, [0xc000_0000, 0xc000_4000, 0xc000_8000]);
}

#[test]
fn a_bar_that_finds_no_room_is_an_error_of_its_function_alone() {
    let machine = Machine::default();
    for _ in 0..2 {
        let mut device = FakeDevice::rng();
        device.place(0, 0);
        machine.add(device);
    }
    let functions = scan(&machine, &mut MmioSpace::new(PhysRange::new(0xc000_0000, 0x4000), None));
    assert!(Device::open(machine.clone(), &machine, &functions[0], &[]).is_ok());
    let error = Device::open(machine.clone(), &machine, &functions[1], &[]).unwrap_err();
    assert_eq!(error, Error::NoBarSpace { bar: 0, size: 0x4000 });
}

#[test]
fn opening_turns_on_memory_and_dma_and_turns_off_intx() {
    let machine = Machine::with(FakeDevice::rng());
    machine.open().unwrap();
    assert_eq!(machine.device(|d| d.command()), 0b100_0000_0110);
}

#[test]
fn interrupts_are_programmed_entry_by_entry() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let second = MsiMessage { address: 0x1_fee0_2000, data: 0xe4 };
    machine.open_with(&[MESSAGE, second]).unwrap();
    let expected = [0xfee0_1000, 0, 0xe2, 0, 0xfee0_2000, 1, 0xe4, 0, 0, 0, 0, 1, 0, 0, 0, 1];
    machine.device(|d| {
        assert_eq!(d.msix_table, expected);
        assert_eq!(d.msix_control(), 0x8003, "enabled, not masked, four entries");
    });
}

#[test]
fn more_interrupts_than_the_device_has_are_an_error() {
    let machine = Machine::with(FakeDevice::rng());
    assert_eq!(machine.open_with(&[MESSAGE; 5]).unwrap_err(), Error::TooFewVectors { wanted: 5, has: 4 });
}

#[test]
fn an_msix_table_beyond_its_bar_is_refused() {
    let mut device = FakeDevice::rng();
    device.clear_caps();
    device.add_cap(&cap::virtio(1, BAR_REGISTERS, 0, 0, 56, &[]));
    device.add_cap(&cap::virtio(2, BAR_REGISTERS, 0, 0x1000, 4, &[0]));
    device.add_cap(&cap::msix(2048, BAR_REGISTERS, 0xffff_fff8));
    assert_eq!(open_error(device), Error::BadCapability("MSI-X table"));
}

#[test]
fn a_device_without_msix_can_only_be_polled() {
    let mut device = FakeDevice::rng();
    device.clear_caps();
    device.add_cap(&cap::virtio(1, BAR_REGISTERS, 0, 0, 56, &[]));
    device.add_cap(&cap::virtio(2, BAR_REGISTERS, 0, 0x1000, 4, &[0]));
    let machine = Machine::with(device);
    assert_eq!(machine.open().unwrap_err(), Error::MissingCapability("MSI-X"));
    assert!(machine.open_with(&[]).is_ok());
}

#[test]
fn a_device_without_modern_capabilities_is_refused() {
    let mut device = FakeDevice::rng();
    device.clear_caps();
    assert_eq!(open_error(device), Error::MissingCapability("common configuration"));
}

#[test]
fn a_capability_list_that_runs_in_circles_is_refused() {
    let mut device = FakeDevice::rng();
    device.tie_last_cap_to(0x40);
    assert_eq!(open_error(device), Error::BadCapability("list of capabilities: a loop"));
}

#[test]
fn a_capability_in_the_header_is_refused() {
    let mut device = FakeDevice::rng();
    device.tie_last_cap_to(0x10);
    assert_eq!(open_error(device), Error::BadCapability("list of capabilities: a pointer into the header"));
}

#[test]
fn capabilities_that_are_cut_short_are_refused() {
    // Notification and shared memory need more than the 16 bytes of the common part.
    for kind in [2, 8] {
        let mut device = FakeDevice::rng();
        device.add_cap(&cap::virtio(kind, BAR_REGISTERS, 0, 0, 0x100, &[]));
        assert_eq!(open_error(device), Error::BadCapability("virtio: too short"));
    }
    let mut device = FakeDevice::rng();
    device.tie_last_cap_to(0xfc);
    device.put_bytes(0xfc, &[0x09, 0, 16, 1]);
    assert_eq!(open_error(device), Error::BadCapability("virtio: too short"));
}

#[test]
fn structures_beyond_any_bar_are_refused() {
    // The register BAR's address ends in 25 zero bits: it is at most 32 MiB long.
    for (offset, len) in [(0x200_0000, 56), (0x1ff_fff0, 56), (u32::MAX, u32::MAX), (0, 55), (0, 0), (2, 56)] {
        let mut device = FakeDevice::rng();
        device.add_cap(&cap::virtio(1, BAR_REGISTERS, 0, offset, len, &[]));
        assert_eq!(open_error(device), Error::BadCapability("common configuration"), "{offset:#x} {len:#x}");
    }
}

#[test]
fn structures_in_bars_of_io_ports_or_none_are_passed_over() {
    for bar in [1, 5, 6, 255] {
        let mut device = FakeDevice::rng();
        device.add_cap(&cap::virtio(1, bar, 0, 0, 56, &[]));
        assert!(Machine::with(device).open().is_ok(), "the next in the list serves");
    }
    let mut device = FakeDevice::rng();
    device.put_bytes(0x18, &0xc001_u32.to_le_bytes());
    device.add_cap(&cap::virtio(1, 2, 0, COMMON as u32, 56, &[]));
    assert!(Machine::with(device).open().is_ok());
}

#[test]
fn a_bar_that_is_not_there_cannot_be_used() {
    let mut device = FakeDevice::rng();
    device.add_cap(&cap::virtio(1, 3, 0, 0, 56, &[]));
    assert_eq!(open_error(device), Error::BadBar(3));
}

#[test]
fn a_bar_outside_the_physical_address_space_cannot_be_used() {
    let mut device = FakeDevice::rng();
    device.place(1 << 63, 0);
    assert_eq!(open_error(device), Error::MissingCapability("common configuration"));
}

#[test]
fn the_first_structure_of_a_kind_is_the_one_the_device_prefers() {
    let mut device = FakeDevice::fs(b"root");
    device.add_cap(&cap::shared(BAR_SHARED, 0, 0x1000, 0x1000));
    device.add_cap(&cap::shared(BAR_SHARED, 0, 0x2000, 0x1000));
    let device = Machine::with(device).open().unwrap();
    assert_eq!(device.shared_memory(0), PhysRange::new(0x40_0000_2000, 0x1000));
    assert_eq!(device.shared_memory(1), None);
}

#[test]
fn a_transitional_device_is_known_by_its_subsystem() {
    let mut device = FakeDevice::fs(b"root");
    device.put_bytes(0, &[0xf4, 0x1a, 0x05, 0x10]);
    device.put_bytes(0x2c, &[0xf4, 0x1a, 4, 0]);
    let functions = scan(&Machine::with(device), &mut space());
    assert_eq!(functions[0].device_type, device_type::RNG);
}

#[test]
fn other_vendors_are_none_of_our_business() {
    let mut device = FakeDevice::fs(b"root");
    device.put_bytes(0, &[0x86, 0x80]);
    assert!(scan(&Machine::with(device), &mut space()).is_empty());
}

#[test]
fn ranges_do_not_overflow() {
    assert_eq!(PhysRange::new(0, 0), None);
    assert_eq!(PhysRange::new(u64::MAX, 1), None);
    assert_eq!(PhysRange::new(1 << 52, 1), None);
    let range = PhysRange::new((1 << 52) - 4096, 4096).unwrap();
    assert_eq!(range.slice(4095, 1).map(PhysRange::end), Some(1 << 52));
    assert_eq!(range.slice(4095, 2), None);
    assert_eq!(range.slice(u64::MAX, 2), None);
    assert_eq!(range.slice(2, u64::MAX), None);
}

#[test]
fn the_table_may_be_anywhere_in_its_bar() {
    let machine = Machine::with(FakeDevice::rng());
    let functions = scan(&machine, &mut space());
    let table = functions[0].capabilities.as_ref().unwrap().msix.unwrap().table;
    assert_eq!(table, Structure { bar: BAR_REGISTERS, offset: MSIX_TABLE as u64, len: 64 });
}
