//! How bytes travel between a file system and whoever asked: without knowing whose memory is whose.

use crate::{Errno, Result};
use core::marker::PhantomData;

/// Readable memory that somebody else may change, or take away, while it is read: a DAX window, a page the
/// host writes. No Rust reference to it is ever formed; a [`Sink`] copies it out with a copy that survives a fault, and
/// asks [`MemBytes::is_intact`] before it counts what it copied.
#[derive(Clone, Copy)]
pub struct MemBytes<'a> {
    start: *const u8,
    len: usize,
    intact: Option<&'a dyn Fn() -> bool>,
    owner: PhantomData<&'a [u8]>,
}

impl core::fmt::Debug for MemBytes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "MemBytes({:p}, {} bytes)", self.start, self.len)
    }
}

impl<'a> MemBytes<'a> {
    /// Describes `len` bytes at `start`.
    ///
    /// # Safety
    /// For the lifetime `'a` the range is mapped for reading, or a fault on it is one that the kernel's
    /// fault-tolerant copy recovers from. Its content may change at any time.
    pub unsafe fn new(start: *const u8, len: usize) -> Self {
        Self { start, len, intact: None, owner: PhantomData }
    }

    /// The same bytes, of which `intact` says whether what has been read of them up to now is true: memory may lose its
    /// content, and show zeros, while it is read.
    pub fn checked_by(self, intact: &'a dyn Fn() -> bool) -> Self {
        Self { intact: Some(intact), ..self }
    }

    /// Whether what has been read of them up to now is true. If not, it is to be thrown away.
    pub fn is_intact(self) -> bool {
        self.intact.is_none_or(|intact| intact())
    }

    /// The first byte's address.
    pub fn as_ptr(self) -> *const u8 {
        self.start
    }

    /// Length in bytes.
    pub fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The first `n` bytes and the rest; `n` over the length counts as the length.
    pub fn split_at(self, n: usize) -> (Self, Self) {
        let n = n.min(self.len);
        let rest = Self { start: self.start.wrapping_add(n), len: self.len - n, ..self };
        (Self { len: n, ..self }, rest)
    }
}

impl<'a> From<&'a [u8]> for MemBytes<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { start: bytes.as_ptr(), len: bytes.len(), intact: None, owner: PhantomData }
    }
}

/// Where a read's bytes go: the program's buffers, or the kernel's own.
pub trait Sink {
    /// Bytes it can still take.
    fn room(&self) -> usize;

    /// Takes bytes, as many as fit, and returns how many.
    ///
    /// # Errors
    /// `EFAULT` when the destination, or `EIO` when the source, cannot be touched and nothing was copied by this call;
    /// `EIO` also when the source was not [intact](MemBytes::is_intact), and then nothing counts as copied.
    fn put(&mut self, bytes: MemBytes<'_>) -> Result<usize>;

    /// Takes `n` zero bytes, or as many as fit, and returns how many.
    ///
    /// # Errors
    /// As [`Sink::put`].
    fn put_zeros(&mut self, n: usize) -> Result<usize> {
        const ZEROS: [u8; 512] = [0; 512];
        let mut done = 0;
        while done < n {
            match self.put(ZEROS[..ZEROS.len().min(n - done)].into()) {
                Ok(0) => break,
                Ok(put) => done += put,
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }
}

/// Where a write's bytes come from.
pub trait Source {
    /// Bytes it still has.
    fn remaining(&self) -> usize;

    /// Fills `buffer`, or as much of it as there is, and returns how many bytes that was.
    ///
    /// # Errors
    /// `EFAULT` when the origin cannot be touched and nothing was copied by this call.
    fn take(&mut self, buffer: &mut [u8]) -> Result<usize>;

    /// Copies up to `len` bytes to memory outside Rust's view (a window page, a device's buffer).
    ///
    /// # Safety
    /// `to` is valid for `len` bytes of writing, or a fault on it is one the implementation recovers from.
    ///
    /// # Errors
    /// As [`Source::take`]; `EIO` when the destination cannot be touched.
    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize>;
}

/// A [`Sink`] over the kernel's own memory.
#[derive(Debug)]
pub struct SliceSink<'a> {
    slice: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    /// An empty sink with room for all of `slice`.
    pub fn new(slice: &'a mut [u8]) -> Self {
        Self { slice, filled: 0 }
    }

    /// Bytes put so far.
    pub fn filled(&self) -> usize {
        self.filled
    }
}

impl Sink for SliceSink<'_> {
    fn room(&self) -> usize {
        self.slice.len() - self.filled
    }

    fn put(&mut self, bytes: MemBytes<'_>) -> Result<usize> {
        let n = bytes.len().min(self.room());
        // SAFETY: the source is readable for `len` bytes by MemBytes' contract, `n` fits what is left of the
        // slice, and a unique borrow cannot overlap memory that somebody else owns.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.slice.as_mut_ptr().add(self.filled), n) };
        if !bytes.is_intact() {
            return Err(Errno::EIO);
        }
        self.filled += n;
        Ok(n)
    }
}

/// A [`Source`] over the kernel's own memory.
#[derive(Debug)]
pub struct SliceSource<'a>(&'a [u8]);

impl<'a> SliceSource<'a> {
    /// A source of all of `slice`.
    pub fn new(slice: &'a [u8]) -> Self {
        Self(slice)
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.0.len()
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let (now, rest) = self.0.split_at(buffer.len().min(self.0.len()));
        buffer[..now.len()].copy_from_slice(now);
        self.0 = rest;
        Ok(now.len())
    }

    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        let (now, rest) = self.0.split_at(len.min(self.0.len()));
        // SAFETY: `to` is valid for `len` bytes by the caller's promise, and `now` is no longer than that.
        unsafe { core::ptr::copy_nonoverlapping(now.as_ptr(), to, now.len()) };
        self.0 = rest;
        Ok(now.len())
    }
}

/// Puts as much of a byte string as a reader at `offset` has room for: `read` for generated files.
///
/// # Errors
/// As [`Sink::put`].
pub fn put_slice_at(content: &[u8], offset: u64, sink: &mut dyn Sink) -> Result<usize> {
    let start = usize::try_from(offset).map_err(|_| Errno::EINVAL)?;
    match content.get(start..) {
        Some(rest) if !rest.is_empty() => sink.put(rest.into()),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sinks_take_what_fits() {
        let mut buffer = [9; 6];
        let mut sink = SliceSink::new(&mut buffer);
        assert_eq!(sink.put(b"abcd"[..].into()), Ok(4));
        assert_eq!(sink.put_zeros(100), Ok(2));
        assert_eq!(sink.put(b"x"[..].into()), Ok(0));
        assert_eq!(&buffer, b"abcd\0\0");
    }

    #[test]
    fn what_was_not_intact_does_not_count() {
        let mut buffer = [9; 6];
        let mut sink = SliceSink::new(&mut buffer);
        let bytes = MemBytes::from(&b"abcd"[..]);
        let (first, rest) = bytes.checked_by(&|| false).split_at(1);
        assert_eq!((sink.put(first), sink.put(rest)), (Err(Errno::EIO), Err(Errno::EIO)));
        assert_eq!((sink.filled(), sink.put(bytes.checked_by(&|| true))), (0, Ok(4)));
    }

    #[test]
    fn sources_give_what_is_left() {
        let mut source = SliceSource::new(b"hello");
        let mut buffer = [0; 3];
        assert_eq!(source.take(&mut buffer), Ok(3));
        assert_eq!(source.remaining(), 2);
        assert_eq!(source.take(&mut buffer), Ok(2));
        assert_eq!(source.take(&mut buffer), Ok(0));
    }

    #[test]
    fn generated_content_is_read_at_any_offset() {
        let read = |offset| {
            let mut buffer = [0; 3];
            let mut sink = SliceSink::new(&mut buffer);
            put_slice_at(b"abcd", offset, &mut sink).map(|n| (n, buffer))
        };
        assert_eq!(read(0), Ok((3, *b"abc")));
        assert_eq!(read(3), Ok((1, *b"d\0\0")));
        assert_eq!(read(4), Ok((0, [0; 3])));
        assert_eq!(read(u64::MAX), Ok((0, [0; 3])));
    }
}
