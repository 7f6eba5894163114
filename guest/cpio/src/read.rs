//! Going through an archive.

use crate::header::{HEADER, Header, TRAILER};
use crate::input::{Buffered, Compression, Decompressor, Input};
use crate::{Error, Result};
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use diolkos_vfs::FileType;

/// Longest name with the NUL at its end (`PATH_MAX`).
pub const NAME_MAX: usize = 4096;

/// What was in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// There is something behind the archive that is none. Linux complains about it and goes on.
    pub garbage: bool,
}

/// The content of an entry.
pub struct Content<'a, 'b> {
    stream: &'a mut Stream<'b>,
    left: u32,
}

impl Content<'_, '_> {
    /// Bytes that have not been read yet.
    pub fn left(&self) -> u32 {
        self.left
    }
}

impl Input for Content<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = buffer.len().min(self.left as usize);
        if n == 0 {
            return Ok(0);
        }
        let n = match self.stream.read(&mut buffer[..n])? {
            0 => return Err(Error::Short),
            n => n,
        };
        self.left -= n as u32;
        Ok(n)
    }
}

/// The archive's bytes, behind a decompressor where they are compressed.
struct Stream<'a> {
    input: Buffered<'a>,
    decompressor: Option<Decompressor>,
    /// Bytes of the archive so far: what follows is aligned in it.
    position: u64,
}

impl Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = match &mut self.decompressor {
            Some(decompressor) => decompressor.read(&mut self.input, buffer)?,
            None => self.input.read(buffer)?,
        };
        self.position += n as u64;
        Ok(n)
    }

    /// Fills `buffer`; how much of it that was.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read(&mut buffer[done..])? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }

    fn exactly(&mut self, buffer: &mut [u8]) -> Result<()> {
        if self.fill(buffer)? == buffer.len() { Ok(()) } else { Err(Error::Short) }
    }

    /// Entries and contents begin at multiples of four. What ends before has ended all the same.
    fn align(&mut self) -> Result<()> {
        let padding = (self.position.next_multiple_of(4) - self.position) as usize;
        self.fill(&mut [0; 3][..padding]).map(drop)
    }

    /// The beginning of the next archive, behind zeros and through the next compression: `None` at the end.
    fn next_archive(&mut self) -> Result<Option<[u8; 6]>> {
        loop {
            if self.decompressor.is_none() {
                let there = self.input.peek(6)?;
                let zeros = there.iter().take_while(|byte| **byte == 0).count();
                if there.is_empty() {
                    return Ok(None);
                }
                if zeros > 0 {
                    self.input.consume(zeros);
                    continue;
                }
                if let Some(compression) = Compression::of(there) {
                    self.decompressor = Some(Decompressor::new(compression, &mut self.input)?);
                }
            }
            let mut magic = [0; 6];
            if self.fill(&mut magic[..1])? == 0 {
                self.decompressor = None;
            } else if magic[0] != 0 {
                self.exactly(&mut magic[1..])?;
                self.position = 6;
                return Ok(Some(magic));
            }
        }
    }
}

/// Takes an entry: its header, its name and its content.
pub type Each<'a> = dyn FnMut(&Header, &[u8], &mut Content<'_, '_>) -> Result<()> + 'a;

/// Goes through `archive` and hands every entry to `each`, with its name as it stands there (without `./` and `/` at the
/// beginning; empty for the root directory) and its content, of which `each` reads what it wants.
///
/// # Errors
/// What is wrong with the archive, or what `each` says.
pub fn read(archive: &mut dyn Input, each: &mut Each<'_>) -> Result<Summary> {
    let input = Buffered::new(archive);
    let mut stream = Stream { input, decompressor: None, position: 0 };
    let mut summary = Summary::default();
    let mut any = false;
    loop {
        let magic = match stream.next_archive() {
            Ok(Some(magic)) if Header::is_magic(&magic) => magic,
            Ok(None) if any => return Ok(summary),
            // Garbage can also look like something compressed.
            Ok(_) | Err(_) if any => return Ok(Summary { garbage: true, ..summary }),
            Ok(_) | Err(Error::Short) => return Err(Error::NotAnArchive),
            Err(error) => return Err(error),
        };
        read_one(&mut stream, magic, &mut summary, each)?;
        any = true;
    }
}

/// Goes through one archive, whose first six bytes have been read.
fn read_one(stream: &mut Stream<'_>, magic: [u8; 6], summary: &mut Summary, each: &mut Each<'_>) -> Result<()> {
    let mut raw = [0; HEADER];
    let mut name = vec![0; NAME_MAX];
    let mut started = true;
    raw[..6].copy_from_slice(&magic);
    loop {
        let from = if core::mem::take(&mut started) { 6 } else { 0 };
        stream.exactly(&mut raw[from..])?;
        let bad = |name: &[u8], what| Error::Entry { name: String::from_utf8_lossy(name).to_string(), what };
        let header = Header::parse(&raw).ok_or_else(|| bad(b"", "its header"))?;
        let len = header.name_len as usize;
        if !(2..=NAME_MAX).contains(&len) {
            return Err(bad(b"", "the length of its name"));
        }
        stream.exactly(&mut name[..len])?;
        stream.align()?;
        let name = match name[..len].split_last() {
            Some((0, name)) if !name.contains(&0) => name,
            _ => return Err(bad(&name[..len], "its name has no end, or two")),
        };
        if name == TRAILER && header.size == 0 {
            return Ok(());
        }
        if FileType::from_mode(header.mode).is_none() {
            return Err(bad(name, "its type"));
        }
        let path = relative(name).ok_or_else(|| bad(name, "its name leads upwards"))?;
        let mut content = Content { stream, left: header.size };
        each(&header, &path, &mut content)?;
        let mut rest = [0; 512];
        while content.read(&mut rest)? > 0 {}
        stream.align()?;
        summary.entries += 1;
        summary.bytes += u64::from(header.size);
    }
}

/// A name without what means nothing in it; `None` if it leads upwards.
fn relative(name: &[u8]) -> Option<Vec<u8>> {
    let parts = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let parts: Vec<&[u8]> = parts.collect();
    (!parts.contains(&&b".."[..])).then(|| parts.join(&b'/'))
}
