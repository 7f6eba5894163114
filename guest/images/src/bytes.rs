//! Little-endian fields of records whose length has been checked.

/// The field at byte `at`, which lies in the record.
pub fn le16(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(record, at))
}

/// As [`le16`].
pub fn le32(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(record, at))
}

/// As [`le16`].
pub fn le64(record: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(record, at))
}

fn field<const N: usize>(record: &[u8], at: usize) -> [u8; N] {
    record[at..at + N].try_into().expect("a slice of that length")
}
