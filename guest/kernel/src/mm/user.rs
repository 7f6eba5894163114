//! User memory, from the kernel's side: an address is an allegation.
//!
//! A [`UserPtr`] proves only that its range lies below [`USER_TOP`]; whether anything is mapped there is found
//! out by copying. The copy routine is one assembly function whose faults either get resolved by demand paging
//! (and it goes on) or end it early, and it tells how much was left. No Rust reference to user memory is ever formed.
//! Other processors run the program meanwhile: what was read once is not read again, and a word that both sides change
//! is changed by [`UserPtr::update`]. An aligned word of four or eight bytes is read and written as one.
//!
//! # Locking
//! Every copy may fault and therefore sleep: no spin lock may be held.

use super::loans::Loan;
use super::{USER_TOP, frames, loans, losses};
use crate::arch::{copy_fallible, exchange_fallible};
use crate::task::{self, lock};
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::mem::{MaybeUninit, size_of};
use core::ptr::NonNull;
use diolkos_vfs::{Errno, Filled, MemBytes, MemBytesMut, Result, Sink, Source, Taken};

/// Plain data that any bit pattern makes a valid value of, and whose padding may be shown to the program.
///
/// # Safety
/// The type has no invalid bit patterns.
pub unsafe trait Plain: Copy {}

macro_rules! plain {
    ($($t:ty),* $(,)?) => { $(
        // SAFETY: integers, arrays of them and C structs of integers take any bit pattern.
        unsafe impl $crate::mm::user::Plain for $t {}
    )* };
}
pub(crate) use plain;
plain!(u8, u16, u32, u64, usize, i8, i16, i32, i64, isize, [u64; 2], [i32; 2], [u32; 2]);

/// A range of user addresses holding `T`s, checked against the end of user space and nothing more.
#[derive(Debug)]
pub struct UserPtr<T> {
    address: u64,
    of: PhantomData<*mut T>,
}

impl<T> Clone for UserPtr<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for UserPtr<T> {}

fn check(address: u64, len: u64) -> Result<()> {
    match address.checked_add(len) {
        Some(end) if end <= USER_TOP => Ok(()),
        _ => Err(Errno::EFAULT),
    }
}

/// From so many bytes on a read is copied without the kernel lock: 16 KiB take longer than giving it back and waiting
/// for it again.
const LONG: usize = 16 << 10;

/// Makes a copy until nothing was lost meanwhile. The program's memory may be a window page that loses its content while
/// we look at it (see [`losses`]); then the copy is made again, and meets the page that is there now, or none.
fn intact(copy: impl Fn() -> usize) -> usize {
    loop {
        let before = losses::heeded();
        let left = copy();
        if losses::sequence() == before {
            return left;
        }
    }
}

/// Copies, as [`copy_fallible`] does.
///
/// # Safety
/// As for [`copy_fallible`], and the source stays as it is until the copy is done, its losses apart.
unsafe fn copy(to: *mut u8, from: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise.
    intact(|| unsafe { copy_fallible(to, from, len) })
}

impl<T: Plain> UserPtr<T> {
    /// Takes the program's word for an address; it is checked at each use.
    pub fn new(address: u64) -> Self {
        Self { address, of: PhantomData }
    }

    /// `None` for a null pointer, as many calls use it.
    pub fn nullable(address: u64) -> Option<Self> {
        (address != 0).then(|| Self::new(address))
    }

    /// The element `index` places on; the sum is checked when it is used.
    pub fn add(self, index: usize) -> Self {
        Self::new(self.address.saturating_add((index as u64).saturating_mul(size_of::<T>() as u64)))
    }

    /// The same address, taken for the start of something else.
    pub fn cast<U: Plain>(self) -> UserPtr<U> {
        UserPtr::new(self.address)
    }

    /// Reads one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn read(self) -> Result<T> {
        let mut value = MaybeUninit::<T>::uninit();
        check(self.address, size_of::<T>() as u64)?;
        // SAFETY: the source is below USER_TOP, so it is never kernel memory; the destination is ours.
        let left = unsafe { copy(value.as_mut_ptr().cast(), self.address as *const u8, size_of::<T>()) };
        if left != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: all bytes were written, and T is Plain.
        Ok(unsafe { value.assume_init() })
    }

    /// Writes one value.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write(self, value: T) -> Result<()> {
        check(self.address, size_of::<T>() as u64)?;
        // SAFETY: the destination is below USER_TOP; the source is a live value.
        let left = unsafe { copy(self.address as *mut u8, (&raw const value).cast(), size_of::<T>()) };
        if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads `count` values.
    ///
    /// # Errors
    /// `EFAULT`; the caller bounds `count`.
    pub fn read_vec(self, count: usize) -> Result<Vec<T>> {
        let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
        check(self.address, bytes as u64)?;
        let mut values = Vec::<T>::new();
        values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the source is below USER_TOP; the destination has room for `bytes`.
        let left = unsafe { copy(values.as_mut_ptr().cast(), self.address as *const u8, bytes) };
        if left != 0 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: `count` values were written, and T is Plain.
        unsafe { values.set_len(count) };
        Ok(values)
    }

    /// Writes all of `values`.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn write_slice(self, values: &[T]) -> Result<()> {
        let bytes = size_of_val(values);
        check(self.address, bytes as u64)?;
        // SAFETY: the destination is below USER_TOP; the source is a live slice.
        let left = unsafe { copy(self.address as *mut u8, values.as_ptr().cast(), bytes) };
        if left == 0 { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

impl UserPtr<u32> {
    /// Changes the word and returns what it was. Other processors may be changing it too; nobody's change is lost.
    ///
    /// # Errors
    /// `EFAULT`, also for a word that is not aligned.
    pub fn update(self, change: impl Fn(u32) -> u32) -> Result<u32> {
        if !self.address.is_multiple_of(4) {
            return Err(Errno::EFAULT);
        }
        loop {
            let old = self.read()?;
            // SAFETY: aligned, and below USER_TOP, as reading it has shown.
            let found = unsafe { exchange_fallible(self.address as *mut u32, old, change(old)) };
            if found.ok_or(Errno::EFAULT)? == old {
                return Ok(old);
            }
        }
    }
}

/// Reads a NUL-terminated string of at most `max` bytes, the NUL not counted or returned.
///
/// # Errors
/// `EFAULT`; `ENAMETOOLONG` when no NUL comes in time.
pub fn read_cstr(address: u64, max: usize) -> Result<Vec<u8>> {
    let mut string = Vec::new();
    let mut at = address;
    while string.len() <= max {
        // Never cross a page in one copy: the next one may not be mapped, and need not be.
        let in_page = (super::PAGE_SIZE - at % super::PAGE_SIZE) as usize;
        let piece = UserPtr::<u8>::new(at).read_vec(in_page.min(max + 1 - string.len()).min(256))?;
        if let Some(end) = piece.iter().position(|b| *b == 0) {
            string.extend_from_slice(&piece[..end]);
            return Ok(string);
        }
        at += piece.len() as u64;
        string.extend_from_slice(&piece);
    }
    Err(Errno::ENAMETOOLONG)
}

/// A list of user buffers, consumed from the front: what read and write calls name.
#[derive(Debug, Default)]
pub struct UserBuffers {
    /// Ranges still to be used, checked against USER_TOP; the current one last, so that it is cheap to drop.
    ranges: alloc::vec::Vec<(u64, usize)>,
    single: (u64, usize),
    total: usize,
}

/// Longest transfer of one call (`MAX_RW_COUNT`, read(2)).
const MAX_TRANSFER: usize = 0x7fff_f000;

impl UserBuffers {
    /// One buffer. A length over Linux' maximum for one call is cut, as there.
    ///
    /// # Errors
    /// `EFAULT` when the range leaves user space.
    pub fn new(address: u64, len: usize) -> Result<Self> {
        let len = len.min(MAX_TRANSFER);
        check(address, len as u64)?;
        Ok(Self { ranges: Vec::new(), single: (address, len), total: len })
    }

    /// The buffers of `readv` and `writev`: `count` pairs of address and length at `iov`.
    ///
    /// # Errors
    /// `EINVAL` for a bad count or length, `EFAULT` as above.
    pub fn from_iovec(iov: u64, count: usize) -> Result<Self> {
        const IOV_MAX: usize = 1024;
        if count > IOV_MAX {
            return Err(Errno::EINVAL);
        }
        let mut total = 0usize;
        let mut ranges = Vec::with_capacity(count);
        let vector = UserPtr::<[u64; 2]>::new(iov).read_vec(count)?;
        if vector.iter().any(|[_, len]| *len > isize::MAX as u64) {
            return Err(Errno::EINVAL);
        }
        for [address, len] in vector {
            // All of it must be the program's, also what is too long to be moved (`__import_iovec` in Linux' lib/iov_iter.c).
            check(address, len)?;
            let len = (len as usize).min(MAX_TRANSFER - total);
            total += len;
            ranges.push((address, len));
        }
        ranges.reverse();
        Ok(Self { ranges, single: (0, 0), total })
    }

    fn current(&mut self) -> Option<(u64, usize)> {
        while self.single.1 == 0 {
            self.single = self.ranges.pop()?;
        }
        Some(self.single)
    }

    fn advance(&mut self, n: usize) {
        self.single.0 += n as u64;
        self.single.1 -= n;
        self.total -= n;
    }

    /// Lends the memory of the current buffer, `len` bytes at most, and advances by what `device` did with it. `None` when
    /// not even the first byte can be lent.
    fn lend_current(
        &mut self,
        len: usize,
        most: usize,
        writable: bool,
        device: &mut dyn FnMut(&Loan) -> Result<usize>,
    ) -> Option<Result<usize>> {
        let (address, room) = self.current()?;
        let space = task::try_current().and_then(|thread| thread.space.lock().clone())?;
        let loan = loans::lend(&space, address, room.min(len), most, writable);
        if loan.len() == 0 {
            return None;
        }
        let moved = device(&loan).map(|n| n.min(loan.len()));
        self.advance(moved.unwrap_or(0));
        Some(moved)
    }

    /// Moves up to `len` bytes piece by piece with `copy(user address, bytes done, bytes) -> bytes left undone`.
    fn transfer(&mut self, len: usize, mut copy: impl FnMut(u64, usize, usize) -> Result<usize>) -> Result<usize> {
        let mut done = 0;
        while done < len {
            let Some((address, room)) = self.current() else { break };
            let want = room.min(len - done);
            let moved = match copy(address, done, want) {
                Ok(left) => want - left,
                Err(_) if done > 0 => return Ok(done),
                Err(errno) => return Err(errno),
            };
            self.advance(moved);
            done += moved;
            if moved < want {
                return if done > 0 { Ok(done) } else { Err(Errno::EFAULT) };
            }
        }
        Ok(done)
    }
}

impl Sink for UserBuffers {
    fn room(&self) -> usize {
        self.total
    }

    fn put(&mut self, bytes: MemBytes<'_>) -> Result<usize> {
        let from = bytes.as_ptr();
        self.transfer(bytes.len(), |to, done, n| {
            // SAFETY: the destination was checked to lie below USER_TOP, the source is MemBytes' promise, and
            // faults on either are recovered from.
            let copy_out = || unsafe { copy_fallible(to as *mut u8, from.wrapping_add(done), n) };
            // What is written (`take_raw`) keeps the lock, so that of two writes one is whole, as on Linux.
            let left = if n < LONG { intact(copy_out) } else { intact(|| lock::without(copy_out)) };
            if bytes.is_intact() { Ok(left) } else { Err(Errno::EIO) }
        })
    }

    fn lend(&mut self, len: usize, most: usize, device: &mut Filled<'_>) -> Option<Result<usize>> {
        self.lend_current(len, most, true, &mut |loan| {
            // SAFETY: RAM is mapped for ever; what is lent stays the program's until the loan ends, and to the program
            // it is bytes.
            let pieces: Vec<_> = memory(loan).map(|(at, len)| unsafe { MemBytesMut::new(at, len) }).collect();
            device(&pieces)
        })
    }
}

impl Source for UserBuffers {
    fn remaining(&self) -> usize {
        self.total
    }

    fn take(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // SAFETY: a Rust slice is valid for its length.
        unsafe { self.take_raw(buffer.as_mut_ptr(), buffer.len()) }
    }

    unsafe fn take_raw(&mut self, to: *mut u8, len: usize) -> Result<usize> {
        self.transfer(len, |from, done, n| {
            // SAFETY: the source was checked to lie below USER_TOP; the destination is the caller's promise.
            Ok(unsafe { copy(to.wrapping_add(done), from as *const u8, n) })
        })
    }

    fn lend(&mut self, len: usize, most: usize, device: &mut Taken<'_>) -> Option<Result<usize>> {
        self.lend_current(len, most, false, &mut |loan| {
            // SAFETY: as for the sink.
            let pieces: Vec<_> = memory(loan).map(|(at, len)| unsafe { MemBytes::new(at.as_ptr(), len) }).collect();
            device(&pieces)
        })
    }
}

/// Where the kernel sees memory on loan.
fn memory(loan: &Loan) -> impl Iterator<Item = (NonNull<u8>, usize)> {
    let see = |(start, end): &(u64, u64)| (NonNull::new(frames::pointer(*start)), (end - start) as usize);
    loan.ranges().iter().map(see).filter_map(|(at, len)| Some((at?, len)))
}
