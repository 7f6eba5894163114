//! From the parts of a request, wherever they lie, to the buffers that a device gets.

use crate::drivers::hal::KernelHal;
use alloc::vec::Vec;
use core::ptr::NonNull;
use diolkos_vfs::{Errno, Result};
use diolkos_virtio::{DmaBuf, Hal, PhysAddr};

/// Parts up to this many bytes are copied into the request's own buffer.
const SMALL: usize = 512;

/// A request's own buffer, and the list of what the device gets.
pub(super) struct Gather {
    pub(super) scratch: Vec<u8>,
    pub(super) buffers: Vec<DmaBuf>,
}

impl Gather {
    fn new() -> Self {
        Self { scratch: Vec::new(), buffers: Vec::new() }
    }

    /// Where each part goes: a place in the scratch buffer, or its own descriptor.
    fn plan(parts: impl Iterator<Item = (NonNull<u8>, usize)>) -> (usize, Vec<Option<PhysAddr>>) {
        let mut scratch = 0;
        let direct = parts
            .map(|(start, len)| {
                let phys = if len > SMALL { KernelHal.phys_of(start, len) } else { None };
                if phys.is_none() {
                    scratch += len;
                }
                phys
            })
            .collect();
        (scratch, direct)
    }

    /// Builds descriptors for parts whose bytes are copied into (`fill`) or left in the scratch buffer.
    pub(super) fn build(parts: &[(NonNull<u8>, usize)], fill: bool) -> Result<(Self, Vec<Option<PhysAddr>>)> {
        let (bytes, direct) = Self::plan(parts.iter().copied());
        let mut gather = Self::new();
        gather.scratch.resize(bytes, 0);
        let base = NonNull::new(gather.scratch.as_mut_ptr()).ok_or(Errno::EIO)?;
        let base = KernelHal.phys_of(base, bytes).map_or(0, |phys| phys.0);
        let mut at = 0;
        for ((start, len), phys) in parts.iter().zip(&direct) {
            let len32 = u32::try_from(*len).map_err(|_| Errno::EINVAL)?;
            let addr = match phys {
                Some(phys) => *phys,
                None => {
                    if fill {
                        // SAFETY: the part is a live slice of `len` bytes, the scratch has as many at `at`.
                        unsafe { start.copy_to_nonoverlapping(NonNull::from(&mut gather.scratch[at..]).cast(), *len) };
                    }
                    at += len;
                    PhysAddr(base + (at - len) as u64)
                }
            };
            gather.push(DmaBuf { addr, len: len32 });
        }
        Ok((gather, direct))
    }

    /// Adds a buffer, as part of the last one if it follows it in memory.
    fn push(&mut self, buffer: DmaBuf) {
        if buffer.len == 0 {
            return;
        }
        if let Some(last) = self.buffers.last_mut()
            && last.addr.0 + last.len as u64 == buffer.addr.0
            && let Some(len) = last.len.checked_add(buffer.len)
        {
            last.len = len;
            return;
        }
        self.buffers.push(buffer);
    }
}
