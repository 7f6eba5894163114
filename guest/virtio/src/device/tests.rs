//! Bringing a device into service, and how many exits that takes.

use crate::fake::{FakeDevice, MESSAGE, Machine};
use crate::fs::{FsOptions, VirtioFs};
use crate::{Error, Features};

type Fs = VirtioFs<Machine, ()>;

fn start(machine: &Machine) -> Result<Fs, Error> {
    VirtioFs::new(machine.open()?, FsOptions::default())
}

#[test]
fn the_status_goes_through_the_steps_of_the_specification() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let fs = start(&machine).unwrap();
    assert_eq!(machine.device(|d| d.statuses.clone()), [3, 11, 15], "nobody has touched it: it need not be reset");
    drop(fs);
    assert_eq!(machine.device(|d| d.statuses.clone()), [3, 11, 15, 0]);
}

#[test]
fn what_somebody_else_has_used_is_reset_first() {
    let mut device = FakeDevice::fs(b"root");
    (device.status, device.feature_selects, device.queue_select) = (15, [1, 1], 1);
    let machine = Machine::with(device);
    let _fs = start(&machine).unwrap();
    assert_eq!(machine.device(|d| d.statuses.clone()), [0, 3, 11, 15]);
    assert_eq!(machine.device(|d| d.accepted), 1 << 32 | 1 << 29 | 1 << 28, "both halves were looked at");
    assert!(machine.device(|d| d.queues[..2].iter().all(|queue| queue.enabled)), "and both queues set up");
}

#[test]
fn only_what_the_driver_understands_is_accepted() {
    let mut device = FakeDevice::fs(b"root");
    // ACCESS_PLATFORM, RING_PACKED, IN_ORDER, NOTIFICATION_DATA, the device's own NOTIFICATION.
    device.offered |= 1 << 33 | 1 << 34 | 1 << 35 | 1 << 38 | 1;
    let machine = Machine::with(device);
    let _fs = start(&machine).unwrap();
    assert_eq!(machine.device(|d| d.accepted), 1 << 32 | 1 << 29 | 1 << 28);
}

#[test]
fn a_legacy_device_is_refused_and_marked_as_failed() {
    let mut device = FakeDevice::fs(b"root");
    device.offered &= !(1 << 32);
    let machine = Machine::with(device);
    assert_eq!(start(&machine).unwrap_err(), Error::MissingFeature("VERSION_1"));
    assert_eq!(machine.device(|d| d.statuses.last().copied()), Some(128 | 3));
}

#[test]
fn a_device_that_insists_on_an_iommu_is_told_apart() {
    let mut device = FakeDevice::fs(b"root");
    device.offered |= Features::ACCESS_PLATFORM.bits();
    device.stubborn = true;
    let machine = Machine::with(device);
    let error = start(&machine).unwrap_err();
    assert!(matches!(error, Error::FeaturesRefused { .. }));
    assert!(std::format!("{error}").contains("ACCESS_PLATFORM"));
    assert_eq!(machine.device(|d| d.statuses.last().copied()), Some(128 | 11));
}

#[test]
fn a_reset_that_never_ends_is_given_up() {
    let mut device = FakeDevice::fs(b"root");
    (device.status, device.stuck) = (15, true);
    assert_eq!(start(&Machine::with(device)).unwrap_err(), Error::ResetTimeout);
}

#[test]
fn a_driver_of_another_type_is_refused() {
    let machine = Machine::with(FakeDevice::rng());
    assert_eq!(start(&machine).unwrap_err(), Error::WrongType { found: 4, wanted: 26 });
}

#[test]
fn a_missing_queue_is_named() {
    let mut device = FakeDevice::fs(b"root");
    device.queues.truncate(1);
    let machine = Machine::with(device);
    assert_eq!(start(&machine).unwrap_err(), Error::NoQueue(1));
    assert_eq!(machine.pages(), 0);
}

#[test]
fn a_queue_is_no_larger_than_either_side_allows() {
    // The last is no power of two, which the device has no right to.
    for (device_size, size) in [(128, 64), (16, 16), (1, 1), (0x8000, 64), (48, 32)] {
        let mut device = FakeDevice::fs(b"root");
        for queue in &mut device.queues {
            (queue.max_size, queue.size) = (device_size, device_size);
        }
        let machine = Machine::with(device);
        let mut fs = start(&machine).unwrap();
        assert_eq!(fs.requests()[0].size(), size);
        assert_eq!(machine.device(|d| d.queues[1].size), size);
        assert!(fs.requests()[0].max_buffers() <= size);
    }
}

#[test]
fn queues_share_the_last_vector() {
    for (messages, vectors) in [(1, [0, 0, 0]), (2, [0, 1, 1]), (4, [0, 1, 2])] {
        let machine = Machine::with(FakeDevice::fs(b"root"));
        let device = machine.open_with(&[MESSAGE; 4][..messages]).unwrap();
        let options = FsOptions { request_queues: 2, ..FsOptions::default() };
        let _fs = Fs::new(device, options).unwrap();
        assert_eq!(machine.device(|d| d.queues.iter().map(|q| q.vector).collect::<std::vec::Vec<_>>()), vectors);
    }
}

#[test]
fn a_refused_vector_is_an_error() {
    let mut device = FakeDevice::fs(b"root");
    device.vectors = 0;
    assert_eq!(start(&Machine::with(device)).unwrap_err(), Error::VectorRefused { queue: 0 });
}

#[test]
fn a_polled_device_asks_for_no_interrupts() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let mut fs = Fs::new(machine.open_with(&[]).unwrap(), FsOptions::default()).unwrap();
    assert_eq!(machine.device(|d| (d.msix_control() >> 15, d.queues[1].vector)), (0, 0xffff));
    let request = machine.buffer(b"x");
    for _ in 0..3 {
        // SAFETY: the machine keeps the buffer.
        unsafe { fs.requests()[0].submit(&[request], &[], ()) }.unwrap();
        let chain = machine.take(1).unwrap();
        assert!(!machine.answer(1, chain, b""));
        assert!(!fs.requests()[0].enable_interrupts(), "there is something to pop");
        assert!(fs.requests()[0].pop_used().unwrap().is_some());
        assert!(fs.requests()[0].enable_interrupts());
    }
}

#[test]
fn memory_that_runs_out_is_an_error_and_all_of_it_is_given_back() {
    for pages in 0..4 {
        let machine = Machine::with(FakeDevice::fs(b"root"));
        machine.limit_memory(pages);
        assert_eq!(start(&machine).unwrap_err(), Error::NoMemory);
        assert_eq!(machine.pages(), 0);
    }
}

#[test]
fn a_doorbell_outside_the_notification_structure_is_refused() {
    use crate::fake::{BAR_REGISTERS, NOTIFY, cap};
    let mut device = FakeDevice::fs(b"root");
    // Queue 1's doorbell would be at 0x1000 of 0x100.
    device.add_cap(&cap::virtio(2, BAR_REGISTERS, 0, NOTIFY as u32, 0x100, &[0x1000]));
    assert_eq!(start(&Machine::with(device)).unwrap_err(), Error::BadCapability("notification"));
    let mut device = FakeDevice::fs(b"root");
    device.add_cap(&cap::virtio(2, BAR_REGISTERS, 0, NOTIFY as u32, 0x100, &[u32::MAX]));
    assert_eq!(start(&Machine::with(device)).unwrap_err(), Error::BadCapability("notification"));
}

#[test]
fn start_up_takes_no_more_exits_than_the_specification_asks_for() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let _fs = start(&machine).unwrap();
    let (reads, writes, config_writes) = machine.device(|d| (d.reads, d.writes, d.config_writes));
    // MSI-X 4 writes. Negotiation: the status read, 1 status, 2 selectors read and 1 written, 2 offered, 4 accepted, 1 + 1
    // status. Tag "root" and its NUL: 2 reads. A queue: selector, size (2), vector (2), doorbell, 6 addresses, enable; the
    // first is selected already. DRIVER_OK 1.
    assert_eq!(reads, 1 + 2 + 2 + 1 + 2 + 2 * 4, "reads");
    assert_eq!(writes, 4 + 1 + 1 + 4 + 1 + (2 * 10 - 1) + 1, "writes");
    // The command register and the MSI-X control word; BARs that firmware placed are not sized.
    assert_eq!(config_writes, 2);
}

#[test]
fn a_request_costs_one_exit() {
    let machine = Machine::with(FakeDevice::fs(b"root"));
    let mut fs = start(&machine).unwrap();
    let request = machine.buffer(b"x");
    let before = machine.device(|d| d.reads + d.writes);
    // SAFETY: the machine keeps the buffer.
    unsafe { fs.requests()[0].submit(&[request], &[], ()) }.unwrap();
    fs.requests()[0].kick();
    let chain = machine.take(1).unwrap();
    machine.answer(1, chain, b"");
    fs.requests()[0].drain(|_| ()).unwrap();
    assert_eq!(machine.device(|d| d.reads + d.writes) - before, 1);
}
