//! Asking for entropy.

use super::*;
use crate::fake::{FakeDevice, Machine};
use crate::queue::{Fault, QueueError};

fn rig() -> (Machine, VirtioRng<Machine>) {
    let machine = Machine::with(FakeDevice::rng());
    let rng = VirtioRng::new(machine.open().unwrap()).unwrap();
    (machine, rng)
}

#[test]
fn random_bytes_are_handed_over_once() {
    let (machine, mut rng) = rig();
    let mut out = [0; 32];
    rng.request(32).unwrap();
    assert_eq!(rng.take(&mut out), Ok(None));
    let chain = machine.take(0).unwrap();
    let (address, len) = chain.writable[0];
    assert_eq!(len, 32);
    assert!(machine.answer(0, chain, &[0xab; 20]), "an interrupt is due");
    assert_eq!(rng.take(&mut out), Ok(Some(20)));
    assert_eq!(out[..21], [[0xab; 20].as_slice(), &[0]].concat());
    assert_eq!(rng.take(&mut out), Ok(None));
    let left = machine.content(crate::DmaBuf { addr: crate::PhysAddr(address), len });
    assert_eq!(left, [0; 32], "nothing stays behind");
}

#[test]
fn one_request_is_under_way_at_a_time() {
    let (machine, mut rng) = rig();
    rng.request(16).unwrap();
    rng.request(16).unwrap();
    assert!(machine.take(0).is_some());
    assert!(machine.take(0).is_none());
}

#[test]
fn requests_are_bounded() {
    let (machine, mut rng) = rig();
    rng.request(usize::MAX).unwrap();
    assert_eq!(machine.take(0).unwrap().writable[0].1 as usize, MAX_REQUEST);
}

#[test]
fn a_device_that_claims_too_much_is_broken() {
    let (machine, mut rng) = rig();
    rng.request(16).unwrap();
    machine.claim(0, 0, 17);
    let broken = Error::Queue(QueueError::Broken(Fault::TooLong { len: 17, writable: 16 }));
    assert_eq!(rng.take(&mut [0; 32]), Err(broken.clone()));
    assert_eq!(rng.request(16), Err(broken));
}
