//! The tag, the queues and the window.

use super::*;
use crate::fake::{BAR_SHARED, FakeDevice, Machine, cap};

type Fs = VirtioFs<Machine, ()>;

fn tag(bytes: &[u8]) -> Result<String, Error> {
    let machine = Machine::with(FakeDevice::fs(bytes));
    Ok(Fs::new(machine.open()?, FsOptions::default())?.tag().into())
}

fn window(offset: u64, len: u64) -> Result<Option<PhysRange>, Error> {
    let mut device = FakeDevice::fs(b"root");
    device.add_cap(&cap::shared(BAR_SHARED, 0, offset, len));
    let machine = Machine::with(device);
    Ok(Fs::new(machine.open()?, FsOptions::default())?.window())
}

#[test]
fn a_tag_ends_at_its_first_nul() {
    assert_eq!(tag(b"root").unwrap(), "root");
    assert_eq!(tag(b"r").unwrap(), "r");
    assert_eq!(tag(b"abc\0junk").unwrap(), "abc");
    assert_eq!(tag("π/δ".as_bytes()).unwrap(), "π/δ");
}

#[test]
fn a_tag_may_fill_its_field() {
    assert_eq!(tag(&[b't'; 36]).unwrap(), "t".repeat(36));
}

#[test]
fn a_tag_that_is_empty_or_not_text_is_refused() {
    assert_eq!(tag(b""), Err(Error::BadTag));
    assert_eq!(tag(b"\xff\xfe"), Err(Error::BadTag));
    assert_eq!(tag(&[0xcf; 36]), Err(Error::BadTag));
}

#[test]
fn a_configuration_too_short_for_a_tag_is_refused() {
    let machine = Machine::with(FakeDevice::new(26, 0, b"longtags", &[8; 2]));
    assert_eq!(Fs::new(machine.open().unwrap(), FsOptions::default()).unwrap_err(), Error::ShortConfig);
}

#[test]
fn request_queues_are_as_many_as_both_sides_want() {
    for (device, driver, queues) in [(2, 1, 1), (2, 2, 2), (2, 8, 2), (0, 4, 1), (u32::MAX, 2, 2), (1, 0, 1)] {
        let machine = Machine::with(FakeDevice::fs(b"root"));
        machine.device(|d| d.config[36..].copy_from_slice(&device.to_le_bytes()));
        let options = FsOptions { request_queues: driver, ..FsOptions::default() };
        let mut fs = Fs::new(machine.open().unwrap(), options).unwrap();
        let found: Vec<u16> = fs.requests().iter().map(VirtQueue::index).collect();
        assert_eq!(found, (1..=queues).collect::<Vec<_>>());
        assert_eq!(fs.hiprio().index(), 0);
    }
}

#[test]
fn the_window_is_shared_memory_region_0() {
    assert_eq!(window(0, 1 << 30), Ok(PhysRange::new(0x40_0000_0000, 1 << 30)));
    assert_eq!(window(1 << 21, 1 << 21), Ok(PhysRange::new(0x40_0020_0000, 1 << 21)));
}

#[test]
fn a_device_without_region_0_has_no_window() {
    let mut device = FakeDevice::fs(b"root");
    device.add_cap(&cap::shared(BAR_SHARED, 1, 0, 4096));
    let machine = Machine::with(device);
    assert_eq!(Fs::new(machine.open().unwrap(), FsOptions::default()).unwrap().window(), None);
}

#[test]
fn a_window_that_leaves_its_bar_is_refused() {
    let refused = Err(Error::BadCapability("shared memory"));
    // The BAR is at 0x40_0000_0000: it cannot be longer than that.
    for (offset, len) in [
        (0, 0),
        (0, u64::MAX),
        (u64::MAX, 1),
        (u64::MAX, u64::MAX),
        (u64::MAX - 4095, 4096),
        (1, 0x40_0000_0000),
        (0x40_0000_0000, 1),
        (1 << 63, 1 << 63),
    ] {
        assert_eq!(window(offset, len), refused, "{offset:#x}, {len:#x}");
    }
}
