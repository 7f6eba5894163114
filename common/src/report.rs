//! The report: what the kernel tells the host, and the only thing the host believes about how a run ended.
//!
//! A byte stream of records, each `tag: u8, length: u32 little-endian, payload`. The guest writes it to
//! [`crate::ports::REPORT`]; the host feeds what arrives to a [`Decoder`], in pieces of any size.
//! A machine that stops without an [`End`] record died in a way the kernel could not tell of: a triple fault.

use alloc::string::String;
use alloc::vec::Vec;

/// Bytes before the payload.
pub const HEADER_LEN: usize = HEADER;

/// Longest payload a decoder accepts, in bytes. It bounds what a hostile guest can make the host hold.
pub const MAX_PAYLOAD: usize = 256 * 1024;

const HEADER: usize = 5;

/// How a run ended, by the kernel's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The program called `exit` with this status.
    Exited(u8),
    /// The program was killed by this signal number (1 to 64).
    Killed(u8),
    /// The program never started; the status (125 to 127) is the one a shell expects, and the message says why.
    NotStarted {
        /// 127 not found, 126 not executable, 125 our own failure.
        status: u8,
        /// One line, lower case, naming the file at fault.
        message: String,
    },
    /// The kernel itself failed, with its message.
    Panicked(String),
}

/// One record of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A line the user must see, such as a call that is not supported.
    Warning(String),
    /// A line for `--verbose`.
    Verbose(String),
    /// A line for `--trace`.
    Trace(String),
    /// Counters and times as lines of `name=value`, value in decimal; see `docs/stats.md`.
    Counters(String),
    /// The kernel has passed this signal of the host's to the program, which does with it what it likes.
    SignalTaken(u8),
    /// The program is about to die of this signal of the host's. What it has written is still on its way.
    SignalKills(u8),
    /// The end of the run. Nothing after it is read.
    End(End),
}

const TAG_WARNING: u8 = 1;
const TAG_VERBOSE: u8 = 2;
const TAG_TRACE: u8 = 3;
const TAG_COUNTERS: u8 = 4;
const TAG_SIGNAL_TAKEN: u8 = 5;
const TAG_SIGNAL_KILLS: u8 = 6;
const TAG_EXITED: u8 = 16;
const TAG_KILLED: u8 = 17;
const TAG_NOT_STARTED: u8 = 18;
const TAG_PANICKED: u8 = 19;

/// Why a stream is not a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// A payload longer than [`MAX_PAYLOAD`].
    TooLong(u32),
    /// A tag no record has.
    UnknownTag(u8),
    /// A payload of the wrong length for its tag.
    Malformed(u8),
    /// A record said to be in memory lies outside of it.
    Unreachable,
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooLong(n) => write!(f, "record of {n} bytes is over the limit"),
            Self::UnknownTag(t) => write!(f, "unknown record tag {t}"),
            Self::Malformed(t) => write!(f, "malformed record with tag {t}"),
            Self::Unreachable => f.write_str("record outside guest memory"),
        }
    }
}

impl Record {
    /// The record as bytes on the wire. A payload over [`MAX_PAYLOAD`] is cut there.
    pub fn encode(&self) -> Vec<u8> {
        let (tag, byte, text): (u8, Option<u8>, &str) = match self {
            Self::Warning(s) => (TAG_WARNING, None, s),
            Self::Verbose(s) => (TAG_VERBOSE, None, s),
            Self::Trace(s) => (TAG_TRACE, None, s),
            Self::Counters(s) => (TAG_COUNTERS, None, s),
            Self::SignalTaken(number) => (TAG_SIGNAL_TAKEN, Some(*number), ""),
            Self::SignalKills(number) => (TAG_SIGNAL_KILLS, Some(*number), ""),
            Self::End(End::Exited(status)) => (TAG_EXITED, Some(*status), ""),
            Self::End(End::Killed(signal)) => (TAG_KILLED, Some(*signal), ""),
            Self::End(End::NotStarted { status, message }) => (TAG_NOT_STARTED, Some(*status), message),
            Self::End(End::Panicked(message)) => (TAG_PANICKED, None, message),
        };
        let room = MAX_PAYLOAD - byte.iter().len();
        let text = &text.as_bytes()[..text.len().min(room)];
        let length = (byte.iter().len() + text.len()) as u32;
        let mut bytes = Vec::with_capacity(HEADER + length as usize);
        bytes.push(tag);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend(byte);
        bytes.extend_from_slice(text);
        bytes
    }

    fn decode(tag: u8, payload: &[u8]) -> Result<Self, DecodeError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let one = |bytes: &[u8]| match bytes {
            [byte] => Ok(*byte),
            _ => Err(DecodeError::Malformed(tag)),
        };
        Ok(match tag {
            TAG_WARNING => Self::Warning(text(payload)),
            TAG_VERBOSE => Self::Verbose(text(payload)),
            TAG_TRACE => Self::Trace(text(payload)),
            TAG_COUNTERS => Self::Counters(text(payload)),
            TAG_SIGNAL_TAKEN => Self::SignalTaken(one(payload)?),
            TAG_SIGNAL_KILLS => Self::SignalKills(one(payload)?),
            TAG_EXITED => Self::End(End::Exited(one(payload)?)),
            TAG_KILLED => Self::End(End::Killed(one(payload)?)),
            TAG_NOT_STARTED => {
                let (status, message) = payload.split_first().ok_or(DecodeError::Malformed(tag))?;
                Self::End(End::NotStarted { status: *status, message: text(message) })
            }
            TAG_PANICKED => Self::End(End::Panicked(text(payload))),
            _ => return Err(DecodeError::UnknownTag(tag)),
        })
    }
}

/// Writes an [`End::Panicked`] record into `buffer` without allocating, for a kernel that may be panicking in its
/// allocator. A message that does not fit is cut. Returns the record's length; `buffer` must hold the 5-byte header.
pub fn encode_panicked(buffer: &mut [u8], message: core::fmt::Arguments<'_>) -> usize {
    struct Cut<'a> {
        buffer: &'a mut [u8],
        used: usize,
    }
    impl core::fmt::Write for Cut<'_> {
        fn write_str(&mut self, text: &str) -> core::fmt::Result {
            let room = &mut self.buffer[self.used..];
            let n = text.len().min(room.len());
            room[..n].copy_from_slice(&text.as_bytes()[..n]);
            self.used += n;
            Ok(())
        }
    }
    let mut cut = Cut { buffer, used: HEADER };
    let _ = core::fmt::Write::write_fmt(&mut cut, message);
    let length = cut.used;
    buffer[0] = TAG_PANICKED;
    buffer[1..HEADER].copy_from_slice(&((length - HEADER) as u32).to_le_bytes());
    length
}

/// The whole length of the record that begins with `header`, in bytes.
///
/// # Errors
/// [`DecodeError::TooLong`].
pub fn record_len(header: [u8; HEADER_LEN]) -> Result<usize, DecodeError> {
    let [_, a, b, c, d] = header;
    let length = u32::from_le_bytes([a, b, c, d]);
    if length as usize > MAX_PAYLOAD { Err(DecodeError::TooLong(length)) } else { Ok(HEADER + length as usize) }
}

/// Takes the stream in pieces and gives back whole records.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: Vec<u8>,
}

impl Decoder {
    /// Adds `bytes` and returns the records they complete, in order.
    ///
    /// # Errors
    /// The stream is not a report; the records before the fault are lost with it, and the decoder with them.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Record>, DecodeError> {
        self.pending.extend_from_slice(bytes);
        let mut records = Vec::new();
        let mut at = 0;
        while let Some((header, rest)) = self.pending[at..].split_first_chunk::<HEADER>() {
            let length = record_len(*header)? - HEADER;
            let Some(payload) = rest.get(..length) else { break };
            records.push(Record::decode(header[0], payload)?);
            at += HEADER + payload.len();
        }
        self.pending.drain(..at);
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn samples() -> Vec<Record> {
        vec![
            Record::Warning("fork is not supported".into()),
            Record::Verbose(String::new()),
            Record::Trace("read(0, …) = 3".into()),
            Record::Counters("fuse.LOOKUP=3\n".into()),
            Record::SignalTaken(15),
            Record::SignalKills(2),
            Record::End(End::Exited(7)),
            Record::End(End::Killed(11)),
            Record::End(End::NotStarted { status: 127, message: "nope: not found".into() }),
            Record::End(End::Panicked("out of frames".into())),
        ]
    }

    #[test]
    fn records_survive_the_wire_byte_by_byte() {
        let wire: Vec<u8> = samples().iter().flat_map(Record::encode).collect();
        let mut decoder = Decoder::default();
        let records: Vec<Record> = wire.iter().flat_map(|b| decoder.feed(&[*b]).unwrap()).collect();
        assert_eq!(records, samples());
    }

    #[test]
    fn a_hostile_length_is_refused_before_it_is_held() {
        let mut wire = vec![TAG_TRACE];
        wire.extend(u32::MAX.to_le_bytes());
        assert_eq!(Decoder::default().feed(&wire), Err(DecodeError::TooLong(u32::MAX)));
    }

    #[test]
    fn unknown_tags_and_wrong_lengths_are_refused() {
        assert_eq!(Decoder::default().feed(&[99, 0, 0, 0, 0]), Err(DecodeError::UnknownTag(99)));
        assert_eq!(Decoder::default().feed(&[TAG_EXITED, 0, 0, 0, 0]), Err(DecodeError::Malformed(TAG_EXITED)));
        assert_eq!(
            Decoder::default().feed(&[TAG_NOT_STARTED, 0, 0, 0, 0]),
            Err(DecodeError::Malformed(TAG_NOT_STARTED))
        );
    }

    #[test]
    fn a_panic_needs_no_allocation_and_is_cut_to_the_buffer() {
        let mut buffer = [0; 5 + 8];
        let n = encode_panicked(&mut buffer, format_args!("out of {}", "frames"));
        assert_eq!(Decoder::default().feed(&buffer[..n]), Ok(vec![Record::End(End::Panicked("out of f".into()))]));
    }

    #[test]
    fn an_overlong_payload_is_cut_not_refused() {
        let long = "x".repeat(MAX_PAYLOAD + 5);
        let records = Decoder::default().feed(&Record::End(End::Panicked(long)).encode()).unwrap();
        assert!(matches!(&records[..], [Record::End(End::Panicked(s))] if s.len() == MAX_PAYLOAD));
    }
}
