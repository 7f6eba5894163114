//! What a range of a file costs by message and through the window, and which of the two it is to be.
//!
//! A message has a fixed price and one for each page it carries. Through the window a page costs next to nothing, but the
//! first use of each page costs a fault of the host's page tables, and a chunk has to be mapped before. So the window
//! is an investment that pays when the range is used again, which nobody knows beforehand. We do what one does with a
//! season ticket: buy it as soon as the single fares that it would have saved add up to its price. Then what was paid is
//! at most twice what somebody who knew the future would have paid, and content that is used again and again ends up
//! in the window, whatever a first scan did.
//!
//! The tickets of a file that is read over and over are all due at about the same time, and large ranges have many pages: were
//! they paid at once, the program would go at a fraction of its speed for as long as that takes. So what first uses cost
//! beyond the message that they replace comes out of an *allowance*: a sixth of what messages cost beyond a copy goes in,
//! and all that uses of the window save. So the more has moved the faster the rest follows, and meanwhile reads are
//! never slower than by message by more than about that sixth; where a message is hardly slower than a copy, as large
//! ones are, by much less. Only first uses that cost no more than two messages are paid at once. The allowance holds no more than the price of one chunk: what
//! was saved long ago is no reason to stand still now.
//!
//! That holds as long as what is bought is kept. In a full window each chunk pushes out another, which may be wanted back at
//! once, and buying could go on for ever. So there it is paid from a *purse*: part of what uses of the window save, and a
//! little of what messages cost, goes in, and the price of whatever takes another's place comes out; no more is
//! spent than is there. Content that fits pays for itself as it comes; of content that does not fit, a part stays in the
//! window and the rest goes by message, and no pattern of use makes that dearer than messages alone by more than the
//! little.
//!
//! Where the host keeps content in large folios none of this is dear: a fault brings a whole chunk. Whether it does is
//! found out as [`super::folios`] says.
//!
//! The prices are learned while running: every message, mapping and copy is timed. They start at what was measured on
//! a host that virtualises page tables in software; where the processor does it, pages become cheap within a few dozen
//! copies, and all but large reads go through the window at the first use of a page.

use super::folios::{CONVINCING, Came, Folios, LOOK};
use super::range::{CHUNK, ChunkKey};
use super::slots::Hits;
use super::touched::pages;
use crate::PAGE;
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use hashbrown::HashMap;

/// Prices in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prices {
    /// A message, whatever it carries.
    pub(crate) message: u64,
    /// A page in a message, with its copy to or from the program.
    pub(crate) message_page: u64,
    /// A page through the window at its first use, the copy apart, if it comes by itself.
    pub(crate) touch: u64,
    /// All pages of a chunk that come at once.
    pub(crate) fault: u64,
    /// A page at the first store through the window.
    pub(crate) store: u64,
    /// The copy of a page between window and program.
    pub(crate) copy: u64,
    /// To map a chunk.
    pub(crate) map: u64,
}

/// Measured with `cargo xtask window-curve`'s worker and with fio on two cores of an AMD EPYC, page tables virtualised in
/// software.
const START: Prices =
    Prices { message: 18_000, message_page: 250, touch: 4_000, fault: 20_000, store: 6_000, copy: 200, map: 40_000 };

/// A page that costs no more than this beyond its copy has not been entered by itself: that takes more on any host.
const ALONG: u64 = START.touch / 10;

/// A price may be learned to be this many times more or less than at the start: what a clock that jumps says is no price.
const RANGE: u64 = 16;

impl Prices {
    /// A message that carried so many pages took so long. It tells of whichever is thought to be the larger part of that:
    /// so if small messages had to wait for a server that was asleep, large ones that did not put it right.
    pub(crate) fn message_took(&mut self, pages: u64, ns: u64) {
        let carried = pages.saturating_mul(self.message_page);
        if carried <= self.message {
            learn(&mut self.message, START.message, ns, carried, 1);
        } else {
            learn(&mut self.message_page, START.message_page, ns, self.message, pages);
        }
    }

    /// A copy took so long. Most tell one price or another ([`tells`]); those that read tell how pages come, too.
    pub(crate) fn copy_took(&mut self, copied: &Copied, ns: u64) -> Came {
        let Copied { pages, first, fresh, writable, .. } = *copied;
        let copies = pages.saturating_mul(self.copy);
        let beyond = ns.saturating_sub(copies);
        if !tells(pages, first) {
            return Came::Mute;
        }
        if first == 0 {
            learn(&mut self.copy, START.copy, ns, 0, pages);
            return Came::Mute;
        }
        if writable {
            learn(&mut self.store, START.store, ns, copies, first);
            return Came::Mute;
        }
        // The fault that brings the first page of a chunk may bring all the others, and is the dearer then.
        let along = match fresh {
            true if first < CONVINCING => return Came::Mute,
            true => beyond.saturating_mul(4) <= first * self.touch,
            false => beyond <= first * ALONG,
        };
        if !along {
            learn(&mut self.touch, START.touch, ns, copies, first);
            return Came::Single;
        }
        if fresh {
            learn(&mut self.fault, START.fault, ns, copies, 1);
        }
        Came::Along(first - u64::from(fresh))
    }

    /// Mapping took so long.
    pub(crate) fn map_took(&mut self, ns: u64) {
        learn(&mut self.map, START.map, ns, 0, 1);
    }
}

/// Whether a copy of so many pages, of which some are used for the first time, tells the price of either.
pub(crate) fn tells(pages: u64, first: u64) -> bool {
    if first == 0 { pages >= 4 } else { first * 2 >= pages }
}

/// Moves `price` an eighth of the way to what `units` of it cost, `ns` less the `other` part. Outliers (the host did
/// something else meanwhile) count as twice the price.
fn learn(price: &mut u64, start: u64, ns: u64, other: u64, units: u64) {
    if ns == 0 {
        return; // a clock that stands still
    }
    let sample = (ns.saturating_sub(other) / units).min(2 * *price);
    let moved = *price - *price / 8 + sample / 8;
    *price = moved.clamp(start / RANGE, start * RANGE);
}

/// Pages that were copied between the window and the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copied {
    /// Whose they are: [`ChunkKey::owner`].
    pub(crate) owner: u64,
    pub(crate) pages: u64,
    /// Those of them that were used for the first time.
    pub(crate) first: u64,
    /// No page of the chunk had been used before.
    pub(crate) fresh: bool,
    /// To the window.
    pub(crate) writable: bool,
}

/// The two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through the window.
    Window,
    /// So many bytes through the window, to see how they come; the rest has to be asked about anew.
    Look(u64),
    /// By message.
    Message,
}

/// A range that is to be used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) key: ChunkKey,
    /// Its bytes in the chunk.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// It is to be written.
    pub(crate) writable: bool,
    pub(crate) found: Found,
    /// By message it would bring other news that costs another message otherwise: where the file ends.
    pub(crate) news: bool,
}

/// What of a range is in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) presence: Presence,
    /// Pages that would be used for the first time.
    pub(crate) first: u64,
    /// No page of the chunk has been used.
    pub(crate) fresh: bool,
}

/// Whether a chunk is in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// As it is needed.
    Mapped,
    /// Not as it is needed, but it has a place, or there is a free one.
    Placed,
    /// Another has to go for it.
    Absent,
}

/// Of what a use of the window saves, this part goes into the purse.
const OF_SAVINGS: u64 = 16;
/// And this part of what a message costs beyond the copy: a window full of what nobody uses saves nothing.
const OF_FARES: u64 = 32;

/// The part of what messages cost beyond the copy that goes into the allowance.
const OF_MISSED: u64 = 6;
/// First uses that cost no more than so many messages are paid as soon as they are worth it: it is over in a moment.
const AT_ONCE: u64 = 2;

/// Pieces of a chunk that are accounted for apart.
const PIECES: u64 = 32;

/// What was spent on a chunk, or parts of it, by message.
#[derive(Debug, Clone, Default)]
struct Account {
    /// 64ths of each piece that went by message.
    moved: [u16; PIECES as usize],
    /// What it would have saved had it been mapped, beyond the first uses of its pages; in nanoseconds.
    saved: u64,
    /// It was mapped since.
    mapped: bool,
}

/// Accounts kept. The oldest is forgotten for a new one: its chunk starts again.
const ACCOUNTS: usize = 4096;

/// The prices and the accounts.
#[derive(Debug)]
pub(crate) struct Costs {
    pub(crate) prices: Prices,
    folios: Folios,
    piece: u64,
    /// Nanoseconds that may be spent on chunks that take the place of others.
    purse: u64,
    /// Nanoseconds that first uses may cost beyond the messages that they replace. Never more than the price of a chunk.
    allowance: u64,
    /// Chunks the window has room for. There is never more in the purse than it costs to replace them all.
    slots: u64,
    accounts: HashMap<ChunkKey, Box<Account>>,
    order: VecDeque<ChunkKey>,
}

impl Costs {
    /// Nothing spent and nothing saved; for a window of so many chunks of this size.
    pub(crate) fn new(slots: usize, chunk: u64) -> Self {
        let (accounts, order, folios) = (HashMap::new(), VecDeque::new(), Folios::default());
        Self {
            prices: START,
            folios,
            piece: chunk / PIECES,
            purse: 0,
            allowance: 0,
            slots: slots as u64,
            accounts,
            order,
        }
    }

    /// Chooses, and books what it costs.
    pub(crate) fn choose(&mut self, range: &Range) -> Way {
        let Prices { message, message_page, touch, copy, map, .. } = self.prices;
        let Found { presence, first, .. } = range.found;
        let count = pages(range.start, range.end).len() as u64;
        let by_message = message + count * message_page;
        let through_window = count * copy + if range.news { message } else { 0 };
        let fare = by_message.saturating_sub(through_window);
        let pages_price = self.first_uses(range);
        let piece = self.piece;
        let account = account(&mut self.accounts, &mut self.order, range.key);
        if account.mapped && presence != Presence::Mapped {
            // It had to go, and starts again.
            *account = Account::default();
        }
        // What it cost to bring the range by message as often as that was done, and now once more.
        let fares = fare * (1 + account.times(piece, range.start, range.end));
        // What comes out of the allowance: as much as the window would take longer than a message, this time.
        let longer = match pages_price {
            few if few <= AT_ONCE * fare => 0,
            many if presence == Presence::Mapped => many - fare,
            many => many - fare + map,
        };
        if fares >= pages_price && self.allowance >= longer {
            if presence == Presence::Mapped {
                self.allowance -= longer;
                self.saved(fare.saturating_sub(pages_price));
                return Way::Window;
            }
            account.saved += fares - pages_price;
            // The pages that have been used will be used again.
            let all = match self.folios.large(range.key.owner) {
                true => pages_price,
                false => touch * first.max(account.pages_moved(piece)),
            };
            if account.saved >= map && payable(presence, &mut self.purse, map + all) {
                (account.saved, account.mapped) = (0, true);
                self.allowance -= longer;
                return Way::Window;
            }
        }
        let look = count.min(LOOK);
        let look_price = map + look * touch;
        if look >= 2 * CONVINCING
            && !range.writable
            && !range.news
            && self.folios.look(range.key.owner, fare, look_price)
            && (presence == Presence::Mapped || payable(presence, &mut self.purse, look_price))
        {
            account.mapped = true;
            return Way::Look(look * PAGE);
        }
        account.moved_by_message(piece, range.start, range.end);
        self.earn(fare / OF_FARES);
        self.allow(fare / OF_MISSED);
        Way::Message
    }

    /// What the first uses of pages of a range would cost.
    fn first_uses(&self, range: &Range) -> u64 {
        let Found { first, fresh, .. } = range.found;
        match self.folios.large(range.key.owner) {
            _ if range.writable => first * self.prices.store,
            false => first * self.prices.touch,
            true if fresh && first > 0 => self.prices.fault,
            true => 0,
        }
    }

    /// A copy took so long; how its pages came.
    pub(super) fn copied(&mut self, copied: &Copied, ns: u64) -> Came {
        let came = self.prices.copy_took(copied, ns);
        if came == Came::Single {
            self.folios.doubt(copied.owner);
        }
        came
    }

    /// All of a chunk came at once.
    pub(super) fn came_whole(&mut self, owner: u64) {
        self.folios.found_large(owner);
    }

    /// What it costs to map a chunk and to use all of its pages.
    fn chunk(&self) -> u64 {
        self.prices.map + self.prices.touch * (self.piece * PIECES / PAGE)
    }

    /// Pages that were there and had been used before were used so often again, without [`Costs::choose`] being asked.
    pub(super) fn hit(&mut self, hits: Hits) {
        let Prices { message, message_page, copy, .. } = self.prices;
        self.saved(hits.times * message + hits.pages * message_page.saturating_sub(copy));
    }

    /// A use of the window took so much less than a message.
    fn saved(&mut self, ns: u64) {
        self.earn(ns / OF_SAVINGS);
        self.allow(ns);
    }

    fn earn(&mut self, ns: u64) {
        self.purse = (self.purse + ns).min(self.slots * self.chunk());
    }

    fn allow(&mut self, ns: u64) {
        self.allowance = (self.allowance + ns).min(self.chunk());
    }
}

/// Whether a chunk may be mapped: where another has to go, its `price` comes out of the purse.
fn payable(presence: Presence, purse: &mut u64, price: u64) -> bool {
    let due = if presence == Presence::Absent { price } else { 0 };
    let enough = *purse >= due;
    if enough {
        *purse -= due;
    }
    enough
}

fn account<'a>(
    accounts: &'a mut HashMap<ChunkKey, Box<Account>>,
    order: &mut VecDeque<ChunkKey>,
    key: ChunkKey,
) -> &'a mut Account {
    if !accounts.contains_key(&key) {
        if accounts.len() >= ACCOUNTS
            && let Some(oldest) = order.pop_front()
        {
            accounts.remove(&oldest);
        }
        order.push_back(key);
    }
    accounts.entry(key).or_default()
}

impl Account {
    /// How often all of the bytes `start..end` have gone by message, on average.
    fn times(&self, piece: u64, start: u64, end: u64) -> u64 {
        let pieces = pieces(piece, start, end);
        let count = pieces.len() as u64;
        let moved: u64 = self.moved[pieces].iter().map(|moved| u64::from(*moved)).sum();
        moved / (64 * count.max(1))
    }

    /// About how many pages have gone by message at least once.
    fn pages_moved(&self, piece: u64) -> u64 {
        self.moved.iter().map(|moved| u64::from(*moved).min(64)).sum::<u64>() * piece / (64 * PAGE)
    }

    fn moved_by_message(&mut self, piece: u64, start: u64, end: u64) {
        for index in pieces(piece, start, end) {
            let from = start.max(index as u64 * piece);
            let to = end.min((index as u64 + 1) * piece);
            let part = (to.saturating_sub(from)) * 64 / piece;
            self.moved[index] = self.moved[index].saturating_add(part as u16);
        }
    }
}

fn pieces(piece: u64, start: u64, end: u64) -> core::ops::Range<usize> {
    let end = end.min(CHUNK).div_ceil(piece).min(PIECES) as usize;
    let start = ((start / piece) as usize).min(end);
    start..end
}

#[cfg(test)]
mod tests;
