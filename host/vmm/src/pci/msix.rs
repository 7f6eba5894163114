//! MSI-X (PCI Local Bus 3.0, section 6.8.2): a table of messages, masks, and pending bits. Pure: the caller
//! delivers the messages that come out.

/// Bytes of a table entry.
pub const ENTRY: usize = 16;
/// Most vectors of one function, so that the pending bits are one word.
pub const MAX_VECTORS: usize = 64;
/// Stands for "no vector" in virtio's registers.
pub const NO_VECTOR: u16 = 0xffff;

const ENABLE: u16 = 1 << 15;
const FUNCTION_MASK: u16 = 1 << 14;

/// A message that interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// Address to write to; says which processor.
    pub address: u64,
    /// What to write; says which vector.
    pub data: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    message: Message,
    control: u32,
}

impl Entry {
    fn masked(&self) -> bool {
        self.control & 1 != 0
    }
}

/// The table of one function.
#[derive(Debug)]
pub struct MsixTable {
    entries: Vec<Entry>,
    pending: u64,
    enabled: bool,
    masked: bool,
}

impl MsixTable {
    /// A table of `vectors` entries (1 to [`MAX_VECTORS`]), all masked, MSI-X disabled: the state after reset.
    pub fn new(vectors: usize) -> Self {
        assert!((1..=MAX_VECTORS).contains(&vectors));
        let entry = Entry { message: Message { address: 0, data: 0 }, control: 1 };
        Self { entries: vec![entry; vectors], pending: 0, enabled: false, masked: false }
    }

    /// Takes a new value of the capability's message control word. Returns the messages this lets out.
    pub fn control(&mut self, word: u16) -> Vec<Message> {
        self.enabled = word & ENABLE != 0;
        self.masked = word & FUNCTION_MASK != 0;
        self.release()
    }

    /// The device wants vector `vector` delivered. `None` when it is masked (it is then pending), disabled, or
    /// there is no such vector.
    pub fn trigger(&mut self, vector: u16) -> Option<Message> {
        let entry = self.entries.get(usize::from(vector))?;
        if !self.enabled {
            return None;
        }
        if self.masked || entry.masked() {
            self.pending |= 1 << vector;
            return None;
        }
        Some(entry.message)
    }

    /// A guest's write to the table: naturally aligned, 4 or 8 bytes (other sizes are ignored, as the specification
    /// allows). Returns the messages this lets out.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Vec<Message> {
        if !matches!(data.len(), 4 | 8) || !offset.is_multiple_of(data.len()) {
            return Vec::new();
        }
        for (i, word) in data.chunks_exact(4).enumerate() {
            let at = offset + 4 * i;
            let Some(entry) = self.entries.get_mut(at / ENTRY) else { continue };
            let value = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
            let address = entry.message.address;
            match at % ENTRY {
                0 => entry.message.address = address & !0xffff_ffff | u64::from(value & !3),
                4 => entry.message.address = address & 0xffff_ffff | u64::from(value) << 32,
                8 => entry.message.data = value,
                _ => entry.control = value & 1,
            }
        }
        self.release()
    }

    fn release(&mut self) -> Vec<Message> {
        if !self.enabled || self.masked || self.pending == 0 {
            return Vec::new();
        }
        let mut messages = Vec::new();
        for (vector, entry) in self.entries.iter().enumerate() {
            if self.pending & 1 << vector != 0 && !entry.masked() {
                self.pending &= !(1 << vector);
                messages.push(entry.message);
            }
        }
        messages
    }

    /// Entry `index` as the guest reads it.
    pub fn entry_bytes(&self, index: usize) -> Option<[u8; ENTRY]> {
        let entry = self.entries.get(index)?;
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&entry.message.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&entry.message.data.to_le_bytes());
        bytes[12..].copy_from_slice(&entry.control.to_le_bytes());
        Some(bytes)
    }

    /// The pending bits as the guest reads them.
    pub fn pending(&self) -> u64 {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> MsixTable {
        let mut table = MsixTable::new(3);
        table.write(ENTRY, &0xfee0_0003u32.to_le_bytes());
        table.write(ENTRY + 4, &7u32.to_le_bytes());
        table.write(ENTRY + 8, &0xe2u32.to_le_bytes());
        table
    }

    const MESSAGE: Message = Message { address: 0x7_fee0_0000, data: 0xe2 };

    #[test]
    fn masked_vectors_wait_and_come_out_once() {
        let mut table = ready();
        assert_eq!(table.trigger(1), None, "disabled");
        assert_eq!(table.pending(), 0, "and a disabled function remembers nothing");
        assert!(table.control(ENABLE).is_empty());
        assert_eq!(table.trigger(1), None, "masked");
        assert_eq!(table.pending(), 2);
        assert_eq!(table.write(ENTRY + 12, &0u32.to_le_bytes()), [MESSAGE]);
        assert_eq!(table.pending(), 0);
        assert_eq!(table.trigger(1), Some(MESSAGE));
    }

    #[test]
    fn the_function_mask_holds_all_back() {
        let mut table = ready();
        table.write(ENTRY + 12, &0u32.to_le_bytes());
        table.control(ENABLE | FUNCTION_MASK);
        assert_eq!((table.trigger(1), table.trigger(1)), (None, None));
        assert_eq!(table.control(ENABLE), [MESSAGE]);
        assert!(table.control(ENABLE).is_empty());
    }

    #[test]
    fn odd_writes_and_vectors_do_nothing() {
        let mut table = ready();
        table.control(ENABLE);
        for (offset, len) in [(ENTRY + 12, 1), (ENTRY + 13, 4), (ENTRY + 4, 8), (3 * ENTRY, 4), (usize::MAX - 3, 4)] {
            assert!(table.write(offset, &[0; 8][..len]).is_empty());
        }
        assert_eq!(table.entry_bytes(1).unwrap()[12], 1, "still masked");
        assert_eq!(table.entry_bytes(3), None);
        for vector in [3, 63, 64, NO_VECTOR] {
            assert_eq!(table.trigger(vector), None);
        }
        assert_eq!(table.pending(), 0);
    }

    #[test]
    fn eight_byte_writes_set_two_words() {
        let mut table = ready();
        table.write(0, &0x1234_5678_9abc_def0u64.to_le_bytes());
        table.write(8, &0x0000_0000_0000_0042u64.to_le_bytes());
        table.control(ENABLE);
        assert_eq!(table.trigger(0), Some(Message { address: 0x1234_5678_9abc_def0, data: 0x42 }));
    }
}
