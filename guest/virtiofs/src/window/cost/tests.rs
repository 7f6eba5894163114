//! The choice, with the prices it starts with.

use super::*;
use crate::PAGE;

fn costs() -> Costs {
    Costs::new(CHUNK)
}

fn range(index: u64, start: u64, len: u64, mapped: bool, first: bool) -> Range {
    let first = if first { pages(start, start + len).len() as u64 } else { 0 };
    Range { key: ChunkKey { owner: 1, index }, start, end: start + len, first, mapped, news: false }
}

#[test]
fn a_scan_with_large_reads_goes_by_message_and_content_that_comes_again_does_not() {
    let mut costs = costs();
    // One pass over 64 chunks: not worth a single mapping.
    for index in 0..64 {
        for half in 0..2 {
            assert_eq!(costs.choose(&range(index, half * CHUNK / 2, CHUNK / 2, false, true)), Way::Message);
        }
    }
    // The same chunk over and over.
    let passes = (0..).position(|_| costs.choose(&range(0, 0, CHUNK / 2, false, true)) == Way::Window).unwrap();
    assert!((3..12).contains(&passes), "{passes}");
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
        let count = len / PAGE;
        let mut costs = costs();
        let (mut mapped, mut used) = (false, [false; (CHUNK / PAGE) as usize]);
        let (mut paid, mut messages, mut window) = (0, 0, START.map);
        for _ in 0..100 {
            for start in (0..CHUNK).step_by(len as usize) {
                let first = pages(start, start + len).filter(|page| !used[*page]).count() as u64;
                let message = START.message + count * START.message_page;
                messages += message;
                match costs.choose(&Range { first, ..range(0, start, len, mapped, false) }) {
                    Way::Message => paid += message,
                    Way::Window => {
                        paid += u64::from(!mapped) * START.map + first * START.touch + count * START.copy;
                        mapped = true;
                        pages(start, start + len).for_each(|page| used[page] = true);
                    }
                }
            }
            window += CHUNK / PAGE * START.copy;
            let least = messages.min(window + CHUNK / PAGE * START.touch);
            assert!(paid <= 2 * least + 3 * START.map, "{len}: {paid} paid, {messages} and {window}");
        }
        assert!(mapped, "{len}");
    }
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
        prices.copy_took(256, 0, 256 * 200);
        prices.copy_took(1, 1, prices.copy + 500);
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
            prices.copy_took(4, 4, ns);
            prices.copy_took(4, 0, ns);
            prices.map_took(ns);
        }
        let within = |price: u64, start: u64| (start / RANGE..=start * RANGE).contains(&price);
        assert!(within(prices.message, START.message) && within(prices.touch, START.touch), "{prices:?}");
        assert!(within(prices.map, START.map) && within(prices.copy, START.copy), "{prices:?}");
    }
}

#[test]
fn pages_that_are_cheap_go_through_the_window_at_once() {
    // As on a processor with page tables of its own for guests.
    let mut costs = costs();
    costs.prices.touch = START.touch / 10;
    assert_eq!(costs.choose(&range(0, 0, CHUNK, true, true)), Way::Window);
    let first = (0..100).position(|i| costs.choose(&range(i, 0, CHUNK, false, true)) == Way::Window);
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
