//! Kernel stacks: mapped apart from everything else, with an unmapped page below each.

use super::paging::{NO_EXEC, PRESENT, Tables, USER, WRITE};
use super::{PAGE_SIZE, STACKS_BASE, frames};
use alloc::vec::Vec;
use diolkos_vfs::{Errno, Result};
use spin::Mutex;

/// Bytes of a stack. The deepest path is a page fault inside a system call that waits for the host.
const SIZE: u64 = 64 << 10;
const ORDER: usize = 4;
/// Distance of two stacks: the stack and its guard.
const STRIDE: u64 = 2 * SIZE;

struct Slots {
    free: Vec<u64>,
    next: u64,
}

static SLOTS: Mutex<Slots> = Mutex::new(Slots { free: Vec::new(), next: 0 });

/// A stack, given back when dropped. Whoever drops it must not run on it.
#[derive(Debug)]
pub struct Stack {
    slot: u64,
}

impl Stack {
    /// A mapped stack. Mappings are kept when a stack is given back, and used again.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn new() -> Result<Self> {
        if let Some(slot) = SLOTS.lock().free.pop() {
            return Ok(Self { slot });
        }
        let phys = frames::allocate(ORDER).ok_or(Errno::ENOMEM)?;
        let slot = {
            let mut slots = SLOTS.lock();
            slots.next += 1;
            slots.next - 1
        };
        let stack = Self { slot };
        for page in (0..SIZE).step_by(PAGE_SIZE as usize) {
            Tables::kernel().small(stack.low() + page)?.set((phys + page) | PRESENT | USER | WRITE | NO_EXEC);
        }
        Ok(stack)
    }

    /// Its lowest address.
    pub fn low(&self) -> u64 {
        STACKS_BASE + self.slot * STRIDE + SIZE
    }

    /// The address after its highest, 16-byte aligned.
    pub fn top(&self) -> u64 {
        self.low() + SIZE
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        SLOTS.lock().free.push(self.slot);
    }
}
