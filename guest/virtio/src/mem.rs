//! Memory as a device sees it: physical addresses, pages for rings and buffers, mapped registers.
//!
//! No Rust reference to memory shared with a device is ever formed. [`DmaPages`] is touched by volatile
//! accesses and raw copies at checked offsets only.

use core::ptr::NonNull;

/// Bytes in the page that [`Hal::alloc_pages`] counts in.
pub const PAGE_SIZE: usize = 4096;

/// Physical addresses have at most this many bits (Intel SDM vol. 3A, 4.1.4).
const PHYS_BITS: u32 = 52;

/// A guest-physical address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PhysAddr(pub u64);

/// A range of guest-physical addresses that is not empty and does not leave the physical address space.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PhysRange {
    start: u64,
    len: u64,
}

impl PhysRange {
    /// `len` bytes from `start`; `None` when there are none or the range ends beyond 2^52.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        let end = start.checked_add(len)?;
        (len > 0 && end <= 1 << PHYS_BITS).then_some(Self { start, len })
    }

    /// The first byte's address.
    pub fn start(self) -> PhysAddr {
        PhysAddr(self.start)
    }

    /// Length in bytes, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a range is never empty")]
    pub fn len(self) -> u64 {
        self.len
    }

    /// The address after the last byte.
    pub fn end(self) -> u64 {
        self.start + self.len
    }

    /// The `len` bytes from `offset` on, if they lie within.
    pub fn slice(self, offset: u64, len: u64) -> Option<Self> {
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        Self::new(self.start + offset, len)
    }

    /// Whether the two have a byte in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end() && other.start < self.end()
    }
}

impl core::fmt::Debug for PhysRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start, self.end())
    }
}

/// What the driver needs of the kernel. It is cloned into every queue, so it should be a handle.
///
/// # Safety
/// The implementer promises that
/// 1. pages from [`Hal::alloc_pages`] are zero, page-aligned, physically contiguous at the address returned,
///    mapped for reading and writing, and nobody else's until [`Hal::free_pages`];
/// 2. [`Hal::phys_of`] tells the truth, and only for memory that is physically contiguous;
/// 3. what [`Hal::map_mmio`] returns reaches exactly the given range, which overlaps neither RAM nor anything
///    else that Rust code owns: the addresses come from the device and are only known not to overflow.
pub unsafe trait Hal: Clone + Send + Sync + 'static {
    /// How mapped registers are reached: [`Mmio`] in a kernel, a fake in tests.
    type Registers: Registers;

    /// Zeroed DMA pages, or `None` when memory is short. Never called by interrupt-safe methods.
    fn alloc_pages(&self, pages: usize) -> Option<(PhysAddr, NonNull<u8>)>;

    /// Takes pages back.
    ///
    /// # Safety
    /// The three values are those of one call of [`Hal::alloc_pages`], the pages are returned once,
    /// and neither the caller nor a device uses them any more.
    unsafe fn free_pages(&self, phys: PhysAddr, start: NonNull<u8>, pages: usize);

    /// Where `len` bytes at `start` lie in physical memory; `None` when they are not contiguous or not mapped.
    fn phys_of(&self, start: NonNull<u8>, len: usize) -> Option<PhysAddr>;

    /// Maps device registers, uncached. `None` when the range cannot be a device's, above all when it overlaps RAM.
    fn map_mmio(&self, range: PhysRange) -> Option<Self::Registers>;
}

/// Device registers in a mapped range. Offsets are in bytes from its start.
///
/// Each call is one access of exactly that width. On a virtual machine each is an exit, the dearest thing there is.
///
/// # Panics
/// Implementations may panic on an access that is misaligned or not within the range:
/// the driver checks what the device tells before it gets here.
pub trait Registers: Clone + core::fmt::Debug + Send + Sync + 'static {
    /// Reads a byte.
    fn read8(&self, offset: usize) -> u8;
    /// Reads 16 bits.
    fn read16(&self, offset: usize) -> u16;
    /// Reads 32 bits.
    fn read32(&self, offset: usize) -> u32;
    /// Writes a byte.
    fn write8(&self, offset: usize, value: u8);
    /// Writes 16 bits.
    fn write16(&self, offset: usize, value: u16);
    /// Writes 32 bits.
    fn write32(&self, offset: usize, value: u32);
}

/// Registers that are mapped into memory.
#[derive(Debug, Clone, Copy)]
pub struct Mmio {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: an `Mmio` is an address; every access is volatile, and `Mmio::new` had the caller promise
// that the mapping stays and belongs to no Rust object.
unsafe impl Send for Mmio {}
// SAFETY: as above; devices allow accesses from any processor.
unsafe impl Sync for Mmio {}

impl Mmio {
    /// Wraps a mapping.
    ///
    /// # Safety
    /// `len` bytes at `start`, aligned to 4, are mapped uncached to device registers, for as long as any copy of this value is used.
    pub unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        let fits = offset.checked_add(size).is_some_and(|end| end <= self.len);
        assert!(fits && offset.is_multiple_of(size), "register access outside its range");
        // SAFETY: the offset is within the mapping, as just checked.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    fn read<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: `at` gives an address inside the mapping, aligned for T.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    fn write<T: Copy>(&self, offset: usize, value: T) {
        // SAFETY: as in `read`.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }
}

impl Registers for Mmio {
    fn read8(&self, offset: usize) -> u8 {
        self.read(offset)
    }
    fn read16(&self, offset: usize) -> u16 {
        u16::from_le(self.read(offset))
    }
    fn read32(&self, offset: usize) -> u32 {
        u32::from_le(self.read(offset))
    }
    fn write8(&self, offset: usize, value: u8) {
        self.write(offset, value);
    }
    fn write16(&self, offset: usize, value: u16) {
        self.write(offset, value.to_le());
    }
    fn write32(&self, offset: usize, value: u32) {
        self.write(offset, value.to_le());
    }
}

/// A physically contiguous buffer as it stands in a descriptor. It owns nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaBuf {
    /// Where it begins.
    pub addr: PhysAddr,
    /// Its length in bytes.
    pub len: u32,
}

impl DmaBuf {
    /// Describes kernel memory; `None` when it is not contiguous or longer than a descriptor can say.
    pub fn new<H: Hal>(hal: &H, start: NonNull<u8>, len: usize) -> Option<Self> {
        Some(Self { addr: hal.phys_of(start, len)?, len: u32::try_from(len).ok()? })
    }
}

/// Pages shared with a device, freed on drop. Dropping is for whoever knows that the device is quiet.
#[derive(Debug)]
pub struct DmaPages<H: Hal> {
    hal: H,
    phys: PhysAddr,
    start: NonNull<u8>,
    pages: usize,
}

// SAFETY: the pages belong to this value alone (contract of `Hal::alloc_pages`), and `H` is Send.
unsafe impl<H: Hal> Send for DmaPages<H> {}
// SAFETY: methods on `&self` are volatile accesses and copies out of memory that the device may change anyway.
unsafe impl<H: Hal> Sync for DmaPages<H> {}

impl<H: Hal> DmaPages<H> {
    /// At least `bytes` bytes of zeroed pages.
    pub fn new(hal: &H, bytes: usize) -> Option<Self> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let (phys, start) = hal.alloc_pages(pages)?;
        Some(Self { hal: hal.clone(), phys, start, pages })
    }

    /// The `len` bytes from `offset` on, for a descriptor.
    pub(crate) fn buffer(&self, offset: usize, len: usize) -> DmaBuf {
        self.check(offset, len);
        let len = u32::try_from(len).expect("pools are far smaller than 4 GiB");
        DmaBuf { addr: PhysAddr(self.phys.0 + offset as u64), len }
    }

    fn check(&self, offset: usize, len: usize) {
        let fits = offset.checked_add(len).is_some_and(|end| end <= self.pages * PAGE_SIZE);
        assert!(fits, "offsets into shared pages come from the driver's own bookkeeping");
    }

    fn at<T>(&self, offset: usize) -> *mut T {
        self.check(offset, size_of::<T>());
        assert!(offset.is_multiple_of(align_of::<T>()), "ring fields are naturally aligned");
        // SAFETY: the offset is inside the allocation, as just checked.
        unsafe { self.start.as_ptr().add(offset).cast() }
    }

    /// One volatile load.
    pub(crate) fn read<T: Word>(&self, offset: usize) -> T {
        // SAFETY: `at` gives a valid, aligned address in our pages, and every bit pattern is a Word.
        unsafe { self.at::<T>(offset).read_volatile() }
    }

    /// One volatile store.
    pub(crate) fn write<T: Word>(&self, offset: usize, value: T) {
        // SAFETY: `at` gives a valid, aligned address in our pages.
        unsafe { self.at::<T>(offset).write_volatile(value) }
    }

    /// Copies bytes out, whatever the device has made of them.
    pub(crate) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.check(offset, to.len());
        // SAFETY: the source is inside our pages; `to` is a unique borrow, so it cannot overlap them.
        unsafe { core::ptr::copy_nonoverlapping(self.start.as_ptr().add(offset), to.as_mut_ptr(), to.len()) }
    }

    /// Copies bytes in. The caller sees to it that the device is not reading them.
    pub(crate) fn copy_in(&mut self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        // SAFETY: the destination is inside our pages, which no Rust reference covers.
        unsafe { core::ptr::copy_nonoverlapping(from.as_ptr(), self.start.as_ptr().add(offset), from.len()) }
    }
}

impl<H: Hal> Drop for DmaPages<H> {
    fn drop(&mut self) {
        // SAFETY: the values are those of our own `alloc_pages`, returned once; `LiveDevice` drops pages only
        // after the device was reset, and forgets them when it could not be.
        unsafe { self.hal.free_pages(self.phys, self.start, self.pages) }
    }
}

/// Integers that stand in shared memory. x86 is little-endian, as virtio is, so they need no conversion.
pub(crate) trait Word: Copy {}
impl Word for u16 {}
impl Word for u32 {}
impl Word for u64 {}

const _: () = assert!(cfg!(target_endian = "little"), "ring fields are read as they stand");
