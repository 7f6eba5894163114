//! The choice, with the prices it starts with.

use super::*;
use crate::window::policy::{Policy, policy};
use crate::window::touched::Touched;
use diolkos_common::cmdline::DaxPolicy;

const SLOTS: usize = 16;

fn costs() -> Costs {
    Costs::new(SLOTS, CHUNK)
}

/// A use of a chunk that is there, or has a place.
fn range(index: u64, start: u64, len: u64, mapped: bool, first: bool) -> Range {
    let first = if first { pages(start, start + len).len() as u64 } else { 0 };
    let presence = if mapped { Presence::Mapped } else { Presence::Placed };
    let found = Found { presence, first, fresh: !mapped };
    Range { key: ChunkKey { owner: 1, index }, start, end: start + len, writable: false, found, news: false }
}

/// Pages that were read, of a chunk of which some had been used.
fn read(pages: u64, first: u64) -> Copied {
    Copied { owner: 1, pages, first, fresh: false, writable: false }
}

#[test]
fn a_scan_with_large_reads_goes_by_message_and_content_that_comes_again_does_not() {
    let mut costs = costs();
    // One pass over 64 chunks: not worth a single mapping.
    for index in 0..64 {
        for half in 0..2 {
            // But for a look at a part of one.
            assert_ne!(costs.choose(&range(index, half * CHUNK / 2, CHUNK / 2, false, true)), Way::Window);
        }
    }
    // The same chunk over and over: there is little to be gained.
    let passes = (0..).position(|_| costs.choose(&range(0, 0, CHUNK / 2, false, true)) == Way::Window).unwrap();
    assert!((30..400).contains(&passes), "{passes}");
    // Once used, a page is cheap.
    assert_eq!(costs.choose(&range(0, 0, CHUNK / 2, true, false)), Way::Window);
}

#[test]
fn small_reads_of_one_chunk_soon_pay_for_its_mapping() {
    let mut costs = costs();
    let by_message = (0..).position(|i| costs.choose(&range(0, i * PAGE, PAGE, false, true)) == Way::Window).unwrap();
    assert!((1..6).contains(&by_message), "{by_message}");
    assert_eq!(costs.choose(&range(0, CHUNK - PAGE, PAGE, true, true)), Way::Window);
    // Having to go, it starts again.
    assert_eq!(costs.choose(&range(0, 0, PAGE, false, true)), Way::Message);
}

#[test]
fn what_is_paid_is_at_most_twice_what_the_better_way_alone_costs_and_some_mappings() {
    // Passes with reads of every size, over one chunk that stays mapped once it is.
    for shift in 12..=21 {
        let len = 1 << shift;
        let message = START.message + len / PAGE * START.message_page;
        let mut model = Model::new(DaxPolicy::Clock);
        let (mut paid, mut messages, mut window) = (0, 0, START.map + CHUNK / PAGE * START.touch);
        let mut last = Way::Message;
        for _ in 0..1000 {
            for start in (0..CHUNK).step_by(len as usize) {
                let (way, cost) = model.spend(start, len, None);
                (last, paid, messages) = (way, paid + cost, messages + message);
            }
            window += CHUNK / PAGE * START.copy;
            let least = messages.min(window);
            assert!(paid <= 2 * least + 3 * START.map, "{len}: {paid} paid, {messages} and {window}");
        }
        assert_eq!(last, Way::Window, "{len}");
    }
}

/// The prices are those of a host that copies as fast as we do.
#[test]
fn large_reads_are_never_much_slower_than_by_message_and_end_up_in_the_window() {
    for (len, chunks) in [(CHUNK / 2, 1), (CHUNK / 2, 8), (CHUNK, SLOTS as u64)] {
        let mut model = Model::new(DaxPolicy::Clock);
        let (mut paid, mut messages) = (0, 0);
        let steps = 4000 * chunks;
        for step in 0..steps {
            let (way, cost) = model.spend(step * len % (chunks * CHUNK), len, None);
            paid += cost;
            messages += START.message + len / PAGE * START.message_page;
            assert!(paid <= messages + messages / 10 + START.map, "{len}, {chunks}, step {step}: {paid}, {messages}");
            assert!(step < steps - chunks || way == Way::Window, "{len}, {chunks}: by message at the end");
        }
        assert!(paid < messages * 9 / 10, "{len}, {chunks}: {paid}, {messages} by message");
    }
}

/// Whatever the prices say: a program that goes through a file again and again must not stand still while it moves in.
#[test]
fn no_stretch_of_reads_is_much_slower_than_by_message_and_all_end_up_in_the_window() {
    let chunks = SLOTS as u64 / 2;
    for (dearer, cheaper) in [(1, 1), (1, 4), (2, 2), (6, 1), (6, 4), (16, 16)] {
        for len in (13..=21).map(|shift| 1 << shift) {
            let mut model = Model::new(DaxPolicy::Clock);
            let prices = Prices { message: START.message * dearer, copy: START.copy / cheaper, ..START };
            model.costs.prices = prices;
            let message = prices.message + len / PAGE * prices.message_page;
            let chunk = prices.map + CHUNK / PAGE * prices.touch;
            // What costs no more than some messages may be paid at once.
            let at_once = len / PAGE * prices.touch <= AT_ONCE * (message - len / PAGE * prices.copy);
            let times = if at_once { 10 * AT_ONCE } else { 11 };
            let per_pass = chunks * CHUNK / len;
            let mut last = 0;
            for pass in 0..1500 {
                let (mut paid, mut through) = (0, 0);
                for step in 0..per_pass {
                    let (way, cost) = model.spend(step * len, len, None);
                    paid += cost;
                    through += u64::from(way == Way::Window);
                }
                let most = per_pass * message * times / 10 + chunk + chunks * prices.map;
                assert!(paid <= most, "{prices:?}, {len}, pass {pass}: {paid}, by message {}", per_pass * message);
                last = through;
            }
            assert_eq!(last, per_pass, "{prices:?}, {len}");
        }
    }
}

#[test]
fn content_in_large_folios_is_found_out_and_moves_in_at_once() {
    for len in (12..=21).map(|shift| 1 << shift) {
        let mut model = Model { large: true, ..Model::new(DaxPolicy::Clock) };
        let size = SLOTS as u64 * CHUNK;
        let (mut paid, mut messages) = (0, 0);
        let mut pass = |model: &mut Model| {
            let ways = (0..size / len).map(|step| {
                let (way, cost) = model.spend(step * len, len, None);
                (paid, messages) = (paid + cost, messages + START.message + len / PAGE * START.message_page);
                way
            });
            let through = ways.filter(|way| *way == Way::Window).count() as u64;
            assert!(paid <= messages + messages / 10, "{len}: {paid}, {messages} by message");
            through
        };
        let passes = (1..100).find(|_| pass(&mut model) == size / len);
        assert!(passes.is_some_and(|passes| passes <= 24), "{len}: {passes:?}");
    }
}

#[test]
fn looks_at_small_folios_cost_next_to_nothing() {
    // Content that is read once: 64 windows of it, of which nothing is worth a place.
    for len in (16..=21).map(|shift| 1 << shift) {
        let mut model = Model::new(DaxPolicy::Clock);
        let (mut paid, mut messages) = (0, 0);
        for step in 0..64 * WINDOW / len {
            paid += model.spend(step * len, len, None).1;
            messages += START.message + len / PAGE * START.message_page;
        }
        assert!(paid <= messages + messages / 50, "{len}: {paid}, {messages} by message");
    }
}

#[test]
fn how_pages_came_is_told_by_what_they_cost() {
    let took = |copied: Copied, beyond| START.clone().copy_took(&copied, copied.pages * START.copy + beyond);
    assert_eq!(took(read(1, 1), 0), Came::Along(1));
    assert_eq!(took(read(8, 4), 200), Came::Along(4));
    assert_eq!(took(read(1, 1), START.touch), Came::Single);
    assert_eq!(took(read(8, 8), 8 * START.touch), Came::Single);
    for nothing in [read(8, 1), read(1, 0), Copied { writable: true, ..read(8, 8) }] {
        assert_eq!(took(nothing, 0), Came::Mute);
    }
    // The first fault of a chunk may bring the rest.
    let fresh = |pages| Copied { fresh: true, ..read(pages, pages) };
    assert_eq!(took(fresh(1), START.fault), Came::Mute);
    assert_eq!(took(fresh(LOOK), START.fault), Came::Along(LOOK - 1));
    assert_eq!(took(fresh(LOOK), LOOK * START.touch), Came::Single);
    // What is stored has a price of its own.
    let mut prices = START;
    for _ in 0..100 {
        prices.copy_took(&Copied { writable: true, ..read(8, 8) }, 8 * (START.copy + 1000));
    }
    assert!(prices.store < 1200 && prices.touch == START.touch, "{prices:?}");
}

#[test]
fn the_end_of_a_file_makes_a_message_worth_more() {
    let mut costs = costs();
    for news in [true, false] {
        let mut answers = (0..3).map(|_| costs.choose(&Range { news, ..range(news.into(), 0, 2 * PAGE, true, false) }));
        assert!(answers.all(|way| way == Way::Window), "what is cheap stays cheap");
    }
    let big = 24 * PAGE;
    let plain = (0..).position(|_| costs.choose(&range(7, 0, big, true, true)) == Way::Window).unwrap();
    let news = |costs: &mut Costs| costs.choose(&Range { news: true, ..range(8, 0, big, true, true) }) == Way::Window;
    assert!((0..100).position(|_| news(&mut costs)).is_none_or(|with| with > plain));
}

#[test]
fn prices_are_learned_and_a_wild_clock_is_not_believed() {
    let mut prices = START;
    for _ in 0..200 {
        prices.message_took(1, 5_000 + prices.message_page);
        prices.message_took(256, prices.message + 256 * 300);
        prices.copy_took(&read(256, 0), 256 * 200);
        prices.copy_took(&read(1, 1), prices.copy + 500);
        prices.map_took(9_000);
    }
    let near = |learned: u64, truth: u64| learned.abs_diff(truth) <= truth / 5;
    assert!(near(prices.message, 5_000) && near(prices.message_page, 300) && near(prices.touch, 500), "{prices:?}");
    assert!(near(prices.copy, 200) && near(prices.map, 9_000), "{prices:?}");
    let known = prices;
    prices.message_took(1, 0);
    assert_eq!(prices, known, "the clock stood still");
    for ns in [u64::MAX, 1] {
        for _ in 0..1000 {
            prices.message_took(1, ns);
            prices.message_took(u64::MAX, ns);
            prices.copy_took(&read(4, 4), ns);
            prices.copy_took(&read(4, 0), ns);
            prices.map_took(ns);
        }
        let within = |price: u64, start: u64| (start / RANGE..=start * RANGE).contains(&price);
        assert!(within(prices.message, START.message) && within(prices.touch, START.touch), "{prices:?}");
        assert!(within(prices.map, START.map) && within(prices.copy, START.copy), "{prices:?}");
    }
}

#[test]
fn large_messages_are_not_thought_dear_because_small_ones_had_to_wait() {
    for (pages, took) in [(32, 26_000), (256, 75_000)] {
        let mut prices = START;
        (0..100).for_each(|_| prices.message_took(1, 150_000));
        (0..100).for_each(|_| prices.message_took(pages, took));
        let thought = prices.message + pages * prices.message_page;
        assert!(thought.abs_diff(took) <= took / 5, "{thought} for {pages} pages: {prices:?}");
    }
}

#[test]
fn pages_that_are_cheap_go_through_the_window_at_once() {
    // As on a processor with page tables of its own for guests.
    let mut costs = costs();
    costs.prices.touch = START.touch / 10;
    assert_eq!(costs.choose(&range(0, 0, CHUNK / 16, true, true)), Way::Window);
    let first = (0..100).position(|i| costs.choose(&range(i, 0, 4 * PAGE, true, true)) == Way::Window);
    assert_eq!(first, Some(0));
}

#[test]
fn accounts_are_bounded() {
    let mut costs = costs();
    for index in 0..3 * ACCOUNTS as u64 {
        costs.choose(&range(index, 0, CHUNK / 2, false, true));
    }
    assert_eq!((costs.accounts.len(), costs.order.len()), (ACCOUNTS, ACCOUNTS));
}

/// A window and its policy, and what its uses cost by the prices it starts with.
struct Model {
    costs: Costs,
    policy: Box<dyn Policy>,
    touched: HashMap<ChunkKey, Touched>,
    /// The host keeps the file in large folios.
    large: bool,
}

impl Model {
    fn new(name: DaxPolicy) -> Self {
        let policy = policy(name, SLOTS).unwrap();
        Self { costs: costs(), policy, touched: HashMap::new(), large: false }
    }

    /// Reads a range; how its last part went, and what all of it cost.
    fn spend(&mut self, mut at: u64, mut len: u64, forced: Option<Way>) -> (Way, u64) {
        let mut paid = 0;
        loop {
            let (way, bytes, cost) = self.step(at, len, forced);
            (at, len, paid) = (at + bytes, len - bytes, paid + cost);
            if len == 0 {
                return (way, paid);
            }
        }
    }

    /// Reads a range or the part of it that is looked at: how, how much of it, and what that cost.
    fn step(&mut self, at: u64, len: u64, forced: Option<Way>) -> (Way, u64, u64) {
        let (key, start) = (ChunkKey { owner: 1, index: at / CHUNK }, at % CHUNK);
        let slot = self.policy.find(key);
        let presence = match slot {
            Some(_) => Presence::Mapped,
            None if self.policy.has_room() => Presence::Placed,
            None => Presence::Absent,
        };
        let touched = self.touched.entry(key).or_default();
        let (first, fresh) = (touched.missing(start, start + len, false), touched.none());
        let found = Found { presence, first, fresh };
        let range = Range { key, start, end: start + len, writable: false, found, news: false };
        let way = forced.unwrap_or_else(|| self.costs.choose(&range));
        let Prices { message, message_page, touch, fault, copy, map, .. } = self.costs.prices;
        let len = match way {
            Way::Message => return (way, len, message + pages(start, start + len).len() as u64 * message_page),
            Way::Look(part) => part,
            Way::Window => len,
        };
        let slot = slot.unwrap_or_else(|| {
            let placed = self.policy.place(key, &|_| false).unwrap();
            if let Some(gone) = placed.evicted {
                self.touched.remove(&gone);
            }
            placed.slot
        });
        let end = start + len;
        self.policy.used(slot, start, end);
        let touched = self.touched.entry(key).or_default();
        let (count, first) = (pages(start, end).len() as u64, touched.missing(start, end, false));
        touched.touch(start, end, false);
        let uses = match self.large {
            true => u64::from(fresh) * fault,
            false => first * touch,
        };
        let took = uses + count * copy;
        let came = self.costs.copied(&Copied { owner: 1, pages: count, first, fresh, writable: false }, took);
        if touched.came(came) {
            self.costs.came_whole(1);
        }
        (way, len, took + u64::from(presence != Presence::Mapped) * map)
    }
}

/// What is read of a file, step by step.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    /// 128 KiB at a time, from end to end, over and over.
    Scan,
    /// 4 KiB at a time, anywhere.
    Random,
}

impl Pattern {
    fn step(self, step: u64, size: u64) -> (u64, u64) {
        match self {
            Self::Scan => (step * (128 << 10) % size, 128 << 10),
            Self::Random => {
                let mixed = (step ^ (step >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let number = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16;
                (number % (size / PAGE) * PAGE, PAGE)
            }
        }
    }
}

/// What so many steps cost, and how many of them went through the window.
fn run(model: &mut Model, pattern: Pattern, size: u64, steps: u64, forced: Option<Way>) -> (u64, u64) {
    let (mut paid, mut through) = (0, 0);
    for step in 0..steps {
        let (at, len) = pattern.step(step, size);
        let (way, cost) = model.spend(at, len, forced);
        paid += cost;
        through += u64::from(way == Way::Window);
    }
    (paid, through)
}

const WINDOW: u64 = SLOTS as u64 * CHUNK;

#[test]
fn no_working_set_costs_much_more_than_by_the_better_way_alone() {
    // What it may cost to fill the window for nothing, once.
    let fill = SLOTS as u64 * (START.map + CHUNK / PAGE * START.touch);
    for name in [DaxPolicy::Clock, DaxPolicy::Lifo] {
        for (pattern, steps) in [(Pattern::Scan, 20_000), (Pattern::Random, 100_000)] {
            for quarters in [1, 2, 3, 4, 5, 6, 8, 12, 16, 32, 64, 256] {
                let size = WINDOW * quarters / 4;
                let cost = |forced| run(&mut Model::new(name), pattern, size, steps, forced).0;
                let (paid, messages, window) = (cost(None), cost(Some(Way::Message)), cost(Some(Way::Window)));
                let least = messages.min(window);
                assert!(
                    paid <= least + least / 8 + 2 * fill,
                    "{name:?} {pattern:?} {quarters}/4: {paid}, {messages} by message, {window} by window"
                );
            }
        }
    }
}

#[test]
fn of_content_that_does_not_fit_a_part_stays() {
    for (pattern, steps) in [(Pattern::Scan, 40_000), (Pattern::Random, 400_000)] {
        let mut model = Model::new(DaxPolicy::Clock);
        let (paid, through) = run(&mut model, pattern, 2 * WINDOW, steps, None);
        assert!(through > steps / 3, "{pattern:?}: {through} of {steps} steps through the window");
        let messages = run(&mut Model::new(DaxPolicy::Clock), pattern, 2 * WINDOW, steps, Some(Way::Message)).0;
        assert!(paid < messages * 3 / 4, "{pattern:?}: {paid}, {messages} by message");
    }
}

#[test]
fn a_window_full_of_what_nobody_uses_any_more_is_taken_over() {
    for (pattern, steps) in [(Pattern::Scan, 40_000), (Pattern::Random, 400_000)] {
        let mut model = Model::new(DaxPolicy::Clock);
        // First 64 windows' worth, which saves nothing; then something that fits, at another place of the file.
        run(&mut model, pattern, 64 * WINDOW, steps, None);
        let (mut through, few) = (0, steps / 20);
        for step in 0..steps {
            let (at, len) = pattern.step(step, WINDOW / 2);
            let (way, _) = model.spend(at + 100 * WINDOW, len, None);
            through += u64::from(way == Way::Window && step >= steps - few);
        }
        assert!(through > few * 9 / 10, "{pattern:?}: {through} of the last {few}");
    }
}
