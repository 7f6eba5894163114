//! Giving memory back to the machine: clean pages that were not looked at lately go first (second chance).

use crate::{Content, Count, Pages};
use alloc::sync::Arc;
use alloc::vec::Vec;

/// The part of the cache that goes at once, at least: taking pages from page tables is dear, and cheap for many.
const PART: usize = 16;
/// But no more than these for that reason.
const MOST: usize = 4096;

impl Pages {
    /// Frees `wanted` pages or more, and says how many it was; with `may_wait`, dirty pages are written back first if
    /// there are not enough clean ones.
    pub fn reclaim(self: &Arc<Self>, wanted: usize, may_wait: bool) -> usize {
        self.reap();
        let mut freed = self.drop_clean(wanted);
        if freed < wanted && may_wait {
            self.write_back_all();
            freed += self.drop_clean(wanted - freed);
        }
        freed
    }

    fn drop_clean(&self, wanted: usize) -> usize {
        let (mut revoked, mut released) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock();
            let wanted = wanted.max((state.places.len() / PART).min(MOST));
            // Two rounds: the first may spend every second chance.
            for _ in 0..2 * state.slots.len() {
                if released.len() >= wanted {
                    break;
                }
                let slot = state.hand;
                state.hand = (state.hand + 1) % state.slots.len();
                let Some(page) = state.slots.get_mut(slot) else { continue };
                if page.content != Content::Ready || page.pins > 0 || page.dirty || page.writing {
                    continue;
                }
                if core::mem::take(&mut page.used) {
                    continue;
                }
                let (revoke, release) = state.remove(slot);
                revoked.extend(revoke);
                released.extend(release);
            }
        }
        let freed = released.len();
        self.around.count(Count::Dropped, freed as u64);
        self.let_go(revoked, released);
        freed
    }
}
