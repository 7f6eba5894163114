//! The kernel heap: `talc` over frames. Every allocation is contiguous in guest-physical memory too, since the heap
//! lies in the direct map; drivers rely on that.

use super::{PAGE_SIZE, frames};
use core::alloc::Layout;
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// How much the heap grows by at least, if there is so much in one piece: 1 MiB.
const GROWTH_ORDER: usize = 8;

#[derive(Debug)]
struct FrameSource;

// SAFETY: acquiring takes frames and claims them; it never touches the global allocator.
unsafe impl Source for FrameSource {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocator's own bookkeeping at both ends.
        let bytes = layout.size() + layout.align() + PAGE_SIZE as usize;
        let order = (bytes as u64).div_ceil(PAGE_SIZE).next_power_of_two().trailing_zeros() as usize;
        if order > frames::MAX_ORDER {
            return Err(());
        }
        let mut orders = (order..=order.max(GROWTH_ORDER)).rev();
        let (phys, order) = orders.find_map(|order| Some((frames::allocate(order)?, order))).ok_or(())?;
        // SAFETY: the frames were just allocated and nobody else uses them.
        unsafe { talc.claim(frames::pointer(phys), (PAGE_SIZE << order) as usize) }.map(|_| ()).ok_or(())
    }
}

#[global_allocator]
static HEAP: TalcLock<spin::Mutex<()>, FrameSource> = TalcLock::new(FrameSource);
