//! Who answers a processor's exit: the ports of the machine contract, the PCI bus, or nobody.

use crate::kvm::vcpu::Exit;
use crate::memory::Ram;
use crate::outcome::{MemoryFault, Outcome};
use crate::pci::PciRoot;
use diolkos_common::ports;
use diolkos_common::report::{DecodeError, Decoder, End, HEADER_LEN, Record, record_len};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vm_memory::{Bytes, GuestAddress};

/// What is behind the report port.
struct Report {
    decoder: Decoder,
    on_record: Box<dyn FnMut(Record) + Send>,
    end: Option<End>,
}

/// All a guest can reach by exits.
pub struct Bus {
    /// The devices.
    pub pci: PciRoot,
    report: Mutex<Report>,
    ram: Arc<Ram>,
    windows: Vec<Range<u64>>,
    unclaimed: AtomicU64,
}

impl Bus {
    /// A bus before `pci`, `ram` and a report port that hands records to `on_record`. The guest-physical addresses in
    /// `windows` are memory; an exit for one is a fault.
    pub fn new(
        pci: PciRoot,
        ram: Arc<Ram>,
        windows: Vec<Range<u64>>,
        on_record: Box<dyn FnMut(Record) + Send>,
    ) -> Self {
        let report = Report { decoder: Decoder::default(), on_record, end: None };
        Self { pci, report: Mutex::new(report), ram, windows, unclaimed: AtomicU64::new(0) }
    }

    /// Deals with an exit. `Some` when the machine has to end, and how.
    pub fn handle(&self, exit: Exit<'_>) -> Option<Outcome> {
        let claimed = match exit {
            Exit::PortWrite(ports::REPORT, data) => return self.report(data).err(),
            Exit::PortWrite(ports::REPORT_MEMORY, data) => {
                return match self.record_in_memory(data) {
                    Ok(record) => self.report(&record).err(),
                    Err(outcome) => Some(outcome),
                };
            }
            Exit::PortWrite(ports::POWER_OFF, _) => return Some(Outcome::PoweredOff),
            Exit::PortWrite(port, data) => self.pci.write_port(port, data),
            Exit::PortRead(port, data) => {
                data.fill(0xff);
                self.pci.read_port(port, data)
            }
            // A host that emulates the guest's access sees a missing page as missing memory.
            Exit::MemoryWrite(address, _) | Exit::MemoryRead(address, _) if self.in_window(address) => {
                return Some(memory_fault(Some(address)));
            }
            Exit::MemoryWrite(address, data) => self.pci.write_memory(address, data),
            Exit::MemoryRead(address, data) => {
                data.fill(0xff);
                self.pci.read_memory(address, data)
            }
            Exit::Interrupted | Exit::Halted => true,
            Exit::TripleFault => return Some(Outcome::TripleFault),
            Exit::MemoryFault(address) => return Some(memory_fault(address)),
            Exit::Failed(why) => return Some(Outcome::Failed(why)),
        };
        if !claimed {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
        None
    }

    /// Deals with a write to a register that was made some time before an exit.
    pub fn posted(&self, address: u64, data: &[u8]) {
        if !self.pci.write_memory(address, data) {
            self.unclaimed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn in_window(&self, address: u64) -> bool {
        self.windows.iter().any(|window| window.contains(&address))
    }

    /// Copies the record that begins the page whose number the guest wrote.
    fn record_in_memory(&self, data: &[u8]) -> Result<Vec<u8>, Outcome> {
        let outside = |_| Outcome::BadReport(DecodeError::Unreachable);
        let page: [u8; 4] = data.try_into().map_err(|_| Outcome::BadReport(DecodeError::Unreachable))?;
        let start = GuestAddress(u64::from(u32::from_le_bytes(page)) << 12);
        let mut header = [0; HEADER_LEN];
        self.ram.memory().read_slice(&mut header, start).map_err(outside)?;
        let mut record = vec![0; record_len(header).map_err(Outcome::BadReport)?];
        self.ram.memory().read_slice(&mut record, start).map_err(outside)?;
        // The guest may have written a second header meanwhile; the first one was checked, and counts.
        record[..HEADER_LEN].copy_from_slice(&header);
        Ok(record)
    }

    fn report(&self, data: &[u8]) -> Result<(), Outcome> {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        if report.end.is_some() {
            return Ok(());
        }
        for record in report.decoder.feed(data).map_err(Outcome::BadReport)? {
            match record {
                Record::End(end) => {
                    report.end = Some(end);
                    return Ok(());
                }
                record => (report.on_record)(record),
            }
        }
        Ok(())
    }

    /// The end the kernel reported, if it did.
    pub fn end(&self) -> Option<End> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).end.clone()
    }

    /// Accesses nobody answered.
    pub fn unclaimed(&self) -> u64 {
        self.unclaimed.load(Ordering::Relaxed)
    }
}

/// The end of a machine that touched memory the host cannot give.
pub(crate) fn memory_fault(address: Option<u64>) -> Outcome {
    Outcome::MemoryFault(MemoryFault { address, window: None, position: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::RamRange;
    use crate::shadow::Shadow;

    fn bus() -> (Bus, Arc<Mutex<Vec<Record>>>) {
        let records: Arc<Mutex<Vec<Record>>> = Arc::default();
        let sink = records.clone();
        let pci = PciRoot::new(Shadow::new().unwrap(), Vec::new());
        let window = 1 << 32..(1 << 32) + 4096;
        let ram = Arc::new(Ram::new(&[RamRange { base: 0, len: 1 << 20 }]).unwrap());
        (Bus::new(pci, ram, vec![window], Box::new(move |record| sink.lock().unwrap().push(record))), records)
    }

    #[test]
    fn a_whole_record_is_taken_from_memory() {
        let (bus, records) = bus();
        bus.ram.memory().write_slice(&Record::Trace("t".into()).encode(), GuestAddress(0x3000)).unwrap();
        assert_eq!(bus.handle(Exit::PortWrite(ports::REPORT_MEMORY, &3u32.to_le_bytes())), None);
        assert_eq!(*records.lock().unwrap(), [Record::Trace("t".into())]);
    }

    #[test]
    fn a_record_that_is_not_in_memory_ends_the_machine() {
        let refused = |bus: &Bus, data: &[u8]| {
            let outcome = bus.handle(Exit::PortWrite(ports::REPORT_MEMORY, data));
            assert!(matches!(outcome, Some(Outcome::BadReport(_))), "{outcome:?}");
        };
        let (bus, _) = bus();
        refused(&bus, &u32::MAX.to_le_bytes());
        refused(&bus, &[1]);
        // A record in the last page that claims to be longer than what is left.
        bus.ram.memory().write_slice(&[3, 1, 16, 0, 0], GuestAddress((1 << 20) - 4096)).unwrap();
        refused(&bus, &255u32.to_le_bytes());
        bus.ram.memory().write_slice(&[3, 0, 0, 0, 0xff], GuestAddress(0x1000)).unwrap();
        refused(&bus, &1u32.to_le_bytes());
    }

    #[test]
    fn the_report_is_taken_in_pieces_and_ends_with_its_end() {
        let (bus, records) = bus();
        let wire: Vec<u8> = [Record::Warning("w".into()), Record::End(End::Exited(3)), Record::Verbose("late".into())]
            .iter()
            .flat_map(Record::encode)
            .collect();
        for piece in wire.chunks(3) {
            assert_eq!(bus.handle(Exit::PortWrite(ports::REPORT, piece)), None);
        }
        assert_eq!(*records.lock().unwrap(), [Record::Warning("w".into())]);
        assert_eq!(bus.end(), Some(End::Exited(3)));
        assert_eq!(bus.handle(Exit::PortWrite(ports::POWER_OFF, &[0])), Some(Outcome::PoweredOff));
    }

    #[test]
    fn nonsense_in_the_report_ends_the_machine() {
        let (bus, _) = bus();
        let outcome = bus.handle(Exit::PortWrite(ports::REPORT, &[99, 0, 0, 0, 0]));
        assert!(matches!(outcome, Some(Outcome::BadReport(_))), "{outcome:?}");
    }

    #[test]
    fn an_exit_for_a_window_is_a_fault() {
        let (bus, _) = bus();
        let mut data = [0; 4];
        for exit in [Exit::MemoryRead(1 << 32, &mut data), Exit::MemoryWrite((1 << 32) + 4095, &[1])] {
            assert!(matches!(bus.handle(exit), Some(Outcome::MemoryFault(_))));
        }
        assert_eq!(bus.handle(Exit::MemoryRead((1 << 32) + 4096, &mut data)), None);
    }

    #[test]
    fn where_nobody_is_reads_are_ones_and_writes_are_counted() {
        let (bus, _) = bus();
        let mut data = [0; 4];
        assert_eq!(bus.handle(Exit::PortRead(0x60, &mut data)), None);
        assert_eq!(data, [0xff; 4]);
        bus.handle(Exit::MemoryRead(0xfec0_0000, &mut data));
        bus.handle(Exit::MemoryWrite(0xfec0_0000, &data));
        bus.handle(Exit::PortWrite(0x80, &data));
        assert_eq!(bus.unclaimed(), 4);
    }
}
