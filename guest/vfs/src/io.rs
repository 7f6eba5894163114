//! How bytes travel between a file system and whoever asked: without knowing whose memory is whose.

use crate::{Errno, Result};
use core::marker::PhantomData;
use core::ptr::NonNull;

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

/// Writable memory that somebody else may use while it is written: pages of the program, lent to a device. No Rust reference
/// to it is ever formed.
#[derive(Debug, Clone, Copy)]
pub struct MemBytesMut<'a> {
    start: NonNull<u8>,
    len: usize,
    owner: PhantomData<&'a mut [u8]>,
}

impl<'a> MemBytesMut<'a> {
    /// Describes `len` bytes at `start`.
    ///
    /// # Safety
    /// For the lifetime `'a` the range is mapped for writing, and whoever else uses it takes it for bytes of which any may
    /// change at any time.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len, owner: PhantomData }
    }

    /// The first byte's address.
    pub fn as_ptr(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Has a device fill pieces of memory from their beginning, and says with how many bytes.
pub type Filled<'a> = dyn FnMut(&[MemBytesMut<'_>]) -> Result<usize> + 'a;

/// Has a device read pieces of memory from their beginning, and says how many bytes of them it has taken.
pub type Taken<'a> = dyn FnMut(&[MemBytes<'_>]) -> Result<usize> + 'a;

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

    /// Lends `device` the memory in which the next bytes are to be put, `len` at most, in no more than `most` pieces: they
    /// are mapped and stay where they are until it returns. What it fills counts as put. `None` when the memory cannot be
    /// lent, and nothing was done; the bytes can still be [put](Sink::put).
    fn lend(&mut self, len: usize, most: usize, device: &mut Filled<'_>) -> Option<Result<usize>> {
        let _ = (len, most, device);
        None
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

    /// Lends `device` the memory with the next bytes, `len` at most, as [`Sink::lend`] does. What it has taken counts as
    /// taken. `None` when the memory cannot be lent.
    fn lend(&mut self, len: usize, most: usize, device: &mut Taken<'_>) -> Option<Result<usize>> {
        let _ = (len, most, device);
        None
    }
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

    fn lend(&mut self, len: usize, most: usize, device: &mut Filled<'_>) -> Option<Result<usize>> {
        let len = len.min(self.room());
        let start = NonNull::from(&mut self.slice[self.filled..]).cast();
        // SAFETY: the bytes are borrowed, and nobody uses them, until `device` returns.
        let piece = (most > 0).then(|| unsafe { MemBytesMut::new(start, len) })?;
        let filled = device(&[piece]).map(|n| n.min(len));
        self.filled += filled.unwrap_or(0);
        Some(filled)
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

    fn lend(&mut self, len: usize, most: usize, device: &mut Taken<'_>) -> Option<Result<usize>> {
        let len = len.min(self.0.len());
        let taken = (most > 0).then(|| device(&[self.0[..len].into()]))?.map(|n| n.min(len));
        self.0 = &self.0[taken.unwrap_or(0)..];
        Some(taken)
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
    fn what_a_device_did_with_lent_memory_counts_as_far_as_it_can_be_true() {
        let mut buffer = [9; 6];
        let mut sink = SliceSink::new(&mut buffer);
        assert_eq!(sink.put(b"ab"[..].into()), Ok(2));
        let mut lent = |claims| {
            sink.lend(3, 1, &mut |pieces| {
                // SAFETY: one piece of three bytes, as was asked for.
                unsafe { pieces[0].as_ptr().write_bytes(b'x', pieces[0].len()) };
                claims
            })
        };
        assert_eq!((lent(Err(Errno::EIO)), lent(Ok(1))), (Some(Err(Errno::EIO)), Some(Ok(1))));
        assert_eq!(lent(Ok(usize::MAX)), Some(Ok(3)));
        assert_eq!((sink.lend(3, 0, &mut |_| unreachable!()), sink.filled()), (None, 6));
        assert_eq!(&buffer, b"abxxxx");

        let mut source = SliceSource::new(b"hello");
        assert_eq!(source.lend(4, 1, &mut |pieces| Ok(pieces[0].len() - 1)), Some(Ok(3)));
        assert_eq!(source.lend(9, 1, &mut |_| Ok(usize::MAX)), Some(Ok(2)));
        assert_eq!(source.remaining(), 0);
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
