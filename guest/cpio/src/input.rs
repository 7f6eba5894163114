//! Where the bytes of an archive come from: memory, or a decompressor over another input.

use crate::{Error, Result};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A stream of bytes.
pub trait Input {
    /// Fills `buffer`, or as much of it as there is, and returns how much that was: 0 only at the end, or for an empty one.
    ///
    /// # Errors
    /// Why there is no more.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize>;
}

impl Input for &[u8] {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len().min(self.len());
        let (now, rest) = self.split_at(n);
        buffer[..n].copy_from_slice(now);
        *self = rest;
        Ok(n)
    }
}

/// Bytes asked for at once by what decompresses.
const PIECE: usize = 64 << 10;

/// The largest window of Zstandard (RFC 8878, section 3.1.1.1.2), which `zstd` uses up to level 8. The decoder keeps it in
/// one piece, and the guest has pieces of 4 MiB at most. That is enough for blocks of 128 KiB, the most that the format
/// allows; but `ruzstd` 0.9 looks only after a sequence, and at literals not at all, so a stream that breaks the rule makes
/// it ask for more, and panic in the guest.
const WINDOW_MAX: u64 = 2 << 20;

/// An input of which some bytes were read ahead.
pub(crate) struct Buffered<'a> {
    inner: &'a mut dyn Input,
    buffer: Vec<u8>,
    at: usize,
    end: usize,
}

impl<'a> Buffered<'a> {
    pub(crate) fn new(inner: &'a mut dyn Input) -> Self {
        Self { inner, buffer: vec![0; PIECE], at: 0, end: 0 }
    }

    /// The bytes that are there, `wanted` or more (at most a piece) unless the input ends before.
    pub(crate) fn peek(&mut self, wanted: usize) -> Result<&[u8]> {
        while self.end - self.at < wanted {
            if self.at + wanted > self.buffer.len() {
                self.buffer.copy_within(self.at..self.end, 0);
                (self.at, self.end) = (0, self.end - self.at);
            }
            match self.inner.read(&mut self.buffer[self.end..])? {
                0 => break,
                n => self.end += n,
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    pub(crate) fn consume(&mut self, n: usize) {
        self.at = (self.at + n).min(self.end);
    }
}

impl Input for Buffered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.at == self.end && buffer.len() >= PIECE {
            return self.inner.read(buffer);
        }
        let there = self.peek(1)?;
        let n = there.len().min(buffer.len());
        buffer[..n].copy_from_slice(&there[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// One that we cannot read, by its name.
    Other(&'static str),
}

/// What streams begin with that Linux takes as an initrd (`lib/decompress.c`).
const MAGICS: [(&[u8], Compression); 8] = [
    (&[0x1f, 0x8b], Compression::Gzip),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
    (&[0xfd, b'7', b'z', b'X', b'Z'], Compression::Other("xz")),
    (&[0x02, 0x21, 0x4c, 0x18], Compression::Other("lz4")),
    (&[0x04, 0x22, 0x4d, 0x18], Compression::Other("lz4")),
    (b"BZh", Compression::Other("bzip2")),
    (&[0x5d, 0, 0], Compression::Other("lzma")),
    (&[0x89, b'L', b'Z', b'O'], Compression::Other("lzo")),
];

impl Compression {
    /// Told by the first bytes.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        MAGICS.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, compression)| compression)
    }
}

/// What a stream decompresses to.
pub(crate) enum Decompressor {
    Gzip { state: Box<InflateState>, done: bool },
    Zstd(Box<FrameDecoder>),
}

impl Decompressor {
    /// Reads what comes before the compressed data.
    pub(crate) fn new(compression: Compression, input: &mut Buffered<'_>) -> Result<Self> {
        match compression {
            Compression::Gzip => {
                skip_gzip_header(input)?;
                Ok(Self::Gzip { state: InflateState::new_boxed(DataFormat::Raw), done: false })
            }
            Compression::Zstd => {
                let mut decoder = Box::new(FrameDecoder::new());
                decoder.set_max_window_size(WINDOW_MAX);
                begin_frame(&mut decoder, input)?;
                Ok(Self::Zstd(decoder))
            }
            Compression::Other(name) => Err(Error::Compression(name)),
        }
    }

    /// As [`Input::read`].
    pub(crate) fn read(&mut self, input: &mut Buffered<'_>, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::Gzip { state, done } => read_gzip(state, done, input, buffer),
            Self::Zstd(decoder) => read_zstd(decoder, input, buffer),
        }
    }
}

fn byte(input: &mut Buffered<'_>) -> Result<u8> {
    let byte = *input.peek(1)?.first().ok_or(Error::Short)?;
    input.consume(1);
    Ok(byte)
}

/// RFC 1952, section 2.3.
fn skip_gzip_header(input: &mut Buffered<'_>) -> Result<()> {
    let mut fixed = [0; 10];
    for slot in &mut fixed {
        *slot = byte(input)?;
    }
    let [_, _, method, flags, ..] = fixed;
    if method != 8 || flags & 0xe0 != 0 {
        return Err(Error::Damaged("gzip"));
    }
    if flags & 4 != 0 {
        let len = u16::from_le_bytes([byte(input)?, byte(input)?]);
        for _ in 0..len {
            byte(input)?;
        }
    }
    for flag in [8, 16] {
        while flags & flag != 0 && byte(input)? != 0 {}
    }
    if flags & 2 != 0 {
        byte(input)?;
        byte(input)?;
    }
    Ok(())
}

fn read_gzip(state: &mut InflateState, done: &mut bool, input: &mut Buffered<'_>, buffer: &mut [u8]) -> Result<usize> {
    while !*done && !buffer.is_empty() {
        let there = input.peek(1)?;
        let empty = there.is_empty();
        let result = inflate(state, there, buffer, MZFlush::None);
        input.consume(result.bytes_consumed);
        match result.status {
            Ok(MZStatus::StreamEnd) => {
                *done = true;
                // CRC and length.
                for _ in 0..8 {
                    byte(input)?;
                }
            }
            Ok(_) | Err(MZError::Buf) if result.bytes_written > 0 || !empty => {}
            Ok(_) | Err(MZError::Buf) => return Err(Error::Short),
            Err(_) => return Err(Error::Damaged("gzip")),
        }
        if result.bytes_written > 0 {
            return Ok(result.bytes_written);
        }
    }
    Ok(0)
}

/// An input as ruzstd wants it.
struct ZstdInput<'a, 'b>(&'a mut Buffered<'b>);

impl ruzstd::io::Read for ZstdInput<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> core::result::Result<usize, ruzstd::io::Error> {
        Input::read(self.0, buffer).map_err(|_| ruzstd::io::ErrorKind::Other.into())
    }
}

fn begin_frame(decoder: &mut FrameDecoder, input: &mut Buffered<'_>) -> Result<()> {
    decoder.reset(ZstdInput(input)).map_err(|error| match error {
        FrameDecoderError::WindowSizeTooBig { .. } => {
            Error::Compression("zstd in windows above 2 MiB (--zstd=wlog=21)")
        }
        _ => Error::Damaged("zstd"),
    })
}

fn read_zstd(decoder: &mut FrameDecoder, input: &mut Buffered<'_>, buffer: &mut [u8]) -> Result<usize> {
    while !buffer.is_empty() {
        while decoder.can_collect() == 0 && !decoder.is_finished() {
            // One block is at most 128 KiB.
            decoder
                .decode_blocks(ZstdInput(input), BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|_| Error::Damaged("zstd"))?;
        }
        let n = ruzstd::io::Read::read(decoder, buffer).map_err(|_| Error::Damaged("zstd"))?;
        if n > 0 {
            return Ok(n);
        }
        // The next frame, if there is one: compressors that use several threads make more than one.
        if Compression::of(input.peek(4)?) != Some(Compression::Zstd) {
            break;
        }
        begin_frame(decoder, input)?;
    }
    Ok(0)
}
