//! What is mapped where: the ordered map of a program's memory areas. Pure bookkeeping, no page tables.

use alloc::string::String;
use alloc::sync::Arc;
use bitflags::bitflags;
use core::any::Any;
use diolkos_vfs::File;

bitflags! {
    /// Protection of an area, with mmap(2)'s values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Prot: u32 {
        /// May be read.
        const READ = 1;
        /// May be written.
        const WRITE = 2;
        /// May be executed.
        const EXEC = 4;
    }
}

/// Something that its owner knows and an area only keeps.
pub type Held = Arc<dyn Any + Send + Sync>;

bitflags! {
    /// What else is known of an area, most of it by madvise(2) and mlock(2). Neighbours with different marks do not join, and
    /// `/proc/self/maps` shows both, as on Linux (`VM_` flags, include/linux/mm.h there).
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Marks: u32 {
        /// Grows down when touched below its start (`MAP_GROWSDOWN`, the main stack).
        const GROWS_DOWN = 1;
        /// Memory was promised for private copies of its pages: it may be written, or could once.
        const ACCOUNT = 1 << 1;
        /// None shall be (`MAP_NORESERVE`).
        const NORESERVE = 1 << 2;
        /// mlock(2).
        const LOCKED = 1 << 3;
        /// With [`Marks::LOCKED`]: pages are locked as they are touched (`MLOCK_ONFAULT`).
        const ON_FAULT = 1 << 4;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 5;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 6;
        /// `MADV_DONTFORK`.
        const NOT_FORKED = 1 << 7;
        /// `MADV_WIPEONFORK`.
        const WIPED_ON_FORK = 1 << 8;
        /// `MADV_DONTDUMP`.
        const NOT_DUMPED = 1 << 9;
        /// `MADV_HUGEPAGE`.
        const LARGE = 1 << 10;
        /// `MADV_NOHUGEPAGE`: no large pages here.
        const SMALL = 1 << 11;
    }
}

impl Marks {
    /// These, with [`Marks::ACCOUNT`] if a new area of theirs has to have it (`accountable_mapping` in Linux' mm/vma.c).
    pub fn accounted(self, prot: Prot, shared: bool) -> Self {
        let counts = prot.contains(Prot::WRITE) && !shared && !self.contains(Self::NORESERVE);
        if counts { self | Self::ACCOUNT } else { self }
    }
}

/// Whose pages an area's own pages are: areas with pages of different owners do not join (`anon_vma` of Linux). Of shared
/// anonymous memory it is the object that is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner(pub u64);

/// What an area shows.
#[derive(Clone)]
pub enum Backing {
    /// Zeroes until written.
    Anonymous,
    /// A file from `offset` bytes on (page-aligned).
    File {
        /// The open file, kept open by the mapping.
        file: Arc<dyn File>,
        /// Offset of the area's first byte in the file.
        offset: u64,
        /// What has to stay until the mapping ends. What a descriptor led to, if the mapping was made by one: it counts as
        /// open, so that its locks and its right to write stay, and who watches it is told of its end then.
        held: Option<Held>,
    },
}

/// One area. `start` and `end` are page-aligned, `start < end <= USER_TOP`.
#[derive(Clone)]
pub struct Vma {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Present protection.
    pub prot: Prot,
    /// The most protection mprotect may give: a shared mapping of a file not open for writing may never be written.
    pub max_prot: Prot,
    /// Whether writes are seen by others (`MAP_SHARED`).
    pub shared: bool,
    /// What else is known of it.
    pub marks: Marks,
    /// Whose its own pages are, once it has any.
    pub owner: Option<Owner>,
    /// Of anonymous memory: how far above the place of its first byte in the object that it shows it lies (wrapping), which
    /// cutting does not change. A private area's object is the address space as it was when the area got its pages.
    pub moved: u64,
    /// What it shows.
    pub backing: Backing,
    /// A name for `/proc/self/maps` such as `[vdso]`, or the path of the file.
    pub name: Option<Arc<str>>,
}

impl Vma {
    /// An area of private memory that no file is behind, without a name.
    pub fn anonymous(start: u64, end: u64, prot: Prot) -> Self {
        Self {
            start,
            end,
            prot,
            max_prot: Prot::all(),
            shared: false,
            marks: Marks::empty().accounted(prot, false),
            owner: None,
            moved: 0,
            backing: Backing::Anonymous,
            name: None,
        }
    }

    /// Gives it another protection. What may be written from now on is accounted for; what may no longer stays so if it has
    /// pages (`mprotect_fixup` in Linux' mm/mprotect.c).
    pub fn protect(&mut self, prot: Prot) {
        if prot.contains(Prot::WRITE) {
            if !self.prot.contains(Prot::WRITE) {
                self.marks = self.marks.accounted(prot, self.shared);
            }
        } else if matches!(self.backing, Backing::Anonymous) && self.owner.is_none() {
            self.marks -= Marks::ACCOUNT;
        }
        self.prot = prot;
    }

    /// Whether it is the kernel's: advice and locks pass it by (`VM_SPECIAL`).
    pub fn is_special(&self) -> bool {
        !self.shared && self.name.is_some() && matches!(self.backing, Backing::Anonymous)
    }
}

/// A listing entry for `/proc/self/maps`.
#[derive(Debug, Clone)]
pub struct VmaInfo {
    /// First address and the address after the last.
    pub range: (u64, u64),
    /// Protection.
    pub prot: Prot,
    /// `MAP_SHARED`.
    pub shared: bool,
    /// Offset, device and inode number of a mapped file.
    pub file: Option<(u64, u64, u64)>,
    /// Name or path.
    pub name: String,
}
