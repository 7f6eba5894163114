use super::*;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;

/// Processors of the tests' machine, of the four that the queues have places for.
const COUNT: usize = 3;

struct Fake {
    name: char,
    allowed: Cell<u64>,
    last: usize,
    running: Cell<Option<usize>>,
}

impl Runnable for Rc<Fake> {
    fn may_be_on(&self, cpu: usize) -> bool {
        self.allowed.get() >> cpu & 1 != 0
    }

    fn last_cpu(&self) -> usize {
        self.last
    }

    fn running_on(&self) -> Option<usize> {
        self.running.get()
    }

    fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(self, other)
    }
}

fn thread(name: char, last: usize, allowed: u64) -> Rc<Fake> {
    Rc::new(Fake { name, allowed: Cell::new(allowed), last, running: Cell::new(None) })
}

fn anywhere(name: char) -> Rc<Fake> {
    thread(name, 0, u64::MAX)
}

type Queues = RunQueues<Rc<Fake>, 4>;

/// Queues with a thread for each letter of each word, a word for a processor.
fn queues(words: [&str; COUNT]) -> Queues {
    let mut queues = Queues::new();
    for (cpu, word) in words.into_iter().enumerate() {
        word.chars().for_each(|name| queues.push(cpu, anywhere(name)));
    }
    queues
}

fn taken(queues: &mut Queues, cpus: impl IntoIterator<Item = usize>) -> Vec<Option<char>> {
    cpus.into_iter().map(|cpu| queues.take(cpu, COUNT).map(|(thread, _)| thread.name)).collect()
}

/// Where a thread that last ran on `last` is placed by processor 0, with these processors busy.
fn placed(queues: &Queues, last: usize, allowed: u64, busy: [bool; COUNT]) -> usize {
    queues.place(&thread('x', last, allowed), 0, COUNT, |cpu| busy[cpu])
}

#[test]
fn an_idle_processor_is_found() {
    let none = queues(["", "", ""]);
    let all = u64::MAX;
    assert_eq!(placed(&none, 1, all, [false, false, false]), 0, "the present one need not be woken");
    assert_eq!(placed(&none, 2, all, [true, false, false]), 2, "the last one before another");
    assert_eq!(placed(&none, 2, all, [true, false, true]), 1, "an idle one before the last");
    assert_eq!(placed(&none, 9, all, [true, false, true]), 1, "the last one may be no processor");
    // Whom somebody waits for is not idle, though it runs nobody yet.
    assert_eq!(placed(&queues(["", "", "a"]), 2, all, [true, false, false]), 1);
}

#[test]
fn with_none_idle_it_is_the_shortest_queue() {
    let all = u64::MAX;
    let busy = [true; COUNT];
    assert_eq!(placed(&queues(["a", "b", ""]), 0, all, busy), 2);
    assert_eq!(placed(&queues(["a", "b", "c"]), 2, all, busy), 0, "the present one need not be interrupted");
    assert_eq!(placed(&queues(["ad", "b", "c"]), 2, all, busy), 2, "the last one before another");
}

#[test]
fn affinity_comes_first() {
    let none = queues(["", "abc", ""]);
    assert_eq!(placed(&none, 0, 0b010, [false, true, false]), 1);
    assert_eq!(placed(&none, 1, 0b110, [false, true, true]), 2);
    assert_eq!(placed(&none, 0, 0b110, [false, true, false]), 2);
}

#[test]
fn who_still_runs_waits_where_it_runs() {
    let mut queues = queues(["a", "", ""]);
    let running = anywhere('r');
    running.running.set(Some(0));
    let cpu = queues.place(&running, 1, COUNT, |cpu| cpu == 0);
    assert_eq!(cpu, 0);
    queues.push(cpu, running.clone());
    // Nobody else gets it, not even one that has nothing to do.
    assert_eq!(taken(&mut queues, [1, 1]), [Some('a'), None]);
    assert!(queues.has_for(0, COUNT) && !queues.has_for(1, COUNT));
    running.running.set(None);
    assert_eq!(taken(&mut queues, [1]), [Some('r')]);
}

#[test]
fn the_own_queue_is_served_in_order_and_first() {
    let mut queues = queues(["ab", "cdef", ""]);
    assert_eq!(taken(&mut queues, [0, 0]), [Some('a'), Some('b')]);
}

#[test]
fn who_has_nothing_steals_the_oldest_of_the_longest() {
    let mut queues = queues(["ab", "cde", ""]);
    assert_eq!(queues.take(2, COUNT).map(|(thread, from)| (thread.name, from)), Some(('c', 1)));
    assert_eq!(taken(&mut queues, [2; 5]).iter().flatten().count(), 4);
}

#[test]
fn nobody_is_stolen_against_his_affinity() {
    let mut queues = queues(["", "", ""]);
    queues.push(1, thread('p', 1, 0b010));
    queues.push(1, thread('q', 1, 0b010));
    queues.push(0, anywhere('a'));
    assert_eq!(queues.waiting(1).map(|thread| thread.name), Some('p'));
    assert!(queues.waiting(2).is_none());
    // Not from the longest queue, where nobody may come.
    assert_eq!(taken(&mut queues, [2, 2, 0, 1, 1]), [Some('a'), None, None, Some('p'), Some('q')]);
}

#[test]
fn who_is_made_to_move_leaves_its_queue() {
    let mut queues = queues(["ab", "", ""]);
    let moved = anywhere('m');
    queues.push(0, moved.clone());
    assert!(queues.take_misplaced(&moved, COUNT).is_none(), "it may stay");
    moved.allowed.set(0b100);
    assert!(queues.waiting(0).is_some_and(|thread| thread.name == 'a'));
    moved.running.set(Some(0));
    assert!(queues.take_misplaced(&moved, COUNT).is_none(), "the processor it runs on has to let it go first");
    moved.running.set(None);
    assert!(queues.take_misplaced(&moved, COUNT).is_some_and(|thread| thread.name == 'm'));
    assert!(queues.take_misplaced(&moved, COUNT).is_none());
    assert_eq!(taken(&mut queues, [0, 0, 0]), [Some('a'), Some('b'), None]);
}

#[test]
fn nobody_is_lost_and_nobody_waits_beside_an_idle_processor() {
    // Threads with all sorts of affinities come and go in an order that a generator chooses.
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let mut queues = Queues::new();
    let mut running: [Option<Rc<Fake>>; COUNT] = [const { None }; COUNT];
    let mut ready = 0;
    let mut stolen = 0;
    for step in 0..20_000 {
        let cpu = random(COUNT as u64) as usize;
        if random(5) < 2 {
            let thread = thread('t', random(COUNT as u64) as usize, 1 + random((1 << COUNT) - 1));
            let place = queues.place(&thread, cpu, COUNT, |cpu| running[cpu].is_some());
            assert!(thread.may_be_on(place));
            queues.push(place, thread);
            ready += 1;
        } else if let Some(ended) = running[cpu].take() {
            ended.running.set(None);
        }
        // Whoever is idle looks before it sleeps.
        for (cpu, runs) in running.iter_mut().enumerate().filter(|(_, runs)| runs.is_none()) {
            assert_eq!(queues.has_for(cpu, COUNT), queues.queues.iter().flatten().any(|thread| thread.may_be_on(cpu)));
            let Some((thread, from)) = queues.take(cpu, COUNT) else { continue };
            assert!(thread.may_be_on(cpu) && thread.running_on().is_none());
            thread.running.set(Some(cpu));
            *runs = Some(thread);
            ready -= 1;
            stolen += usize::from(from != cpu);
        }
        assert_eq!(queues.queues.iter().map(VecDeque::len).sum::<usize>(), ready, "step {step}");
    }
    assert!(stolen > 100, "{stolen}");
}
