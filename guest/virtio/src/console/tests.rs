//! Conversations with a console's host side.

use super::port::{TX_SLOT, TX_SLOTS};
use super::*;
use crate::fake::{FakeDevice, Machine};
use crate::queue::{Fault, QueueError};

const CONTROL_FROM_HOST: u16 = 2;
const CONTROL_TO_HOST: u16 = 3;

fn rx(port: u32) -> u16 {
    2 * port as u16 + 2
}

fn tx(port: u32) -> u16 {
    2 * port as u16 + 3
}

struct Rig {
    machine: Machine,
    console: VirtioConsole<Machine>,
}

impl Rig {
    /// A console that has said it is there, with ports 0 to 3.
    fn new() -> Self {
        Self::with(FakeDevice::console(4))
    }

    fn with(device: FakeDevice) -> Self {
        let machine = Machine::with(device);
        let console = VirtioConsole::new(machine.open().unwrap()).unwrap();
        Self { machine, console }
    }

    /// The usual ports, named and open.
    fn connected() -> Self {
        let mut rig = Self::new();
        for (id, name) in [(1, "stdin"), (2, "stdout"), (3, "stderr")] {
            rig.connect(id, name);
        }
        while rig.heard().is_some() {}
        rig
    }

    fn connect(&mut self, id: u32, name: &str) -> Events {
        self.host_says(id, 1, 1, b"");
        // With a NUL, as QEMU sends it.
        self.host_says(id, 7, 1, &[name.as_bytes(), &[0]].concat());
        self.host_says(id, 6, 1, b"");
        self.console.process().unwrap()
    }

    fn host_says(&self, id: u32, event: u16, value: u16, more: &[u8]) {
        let chain = self.machine.take(CONTROL_FROM_HOST).expect("room for a control message");
        let message = [&id.to_le_bytes()[..], &event.to_le_bytes(), &value.to_le_bytes(), more].concat();
        self.machine.answer(CONTROL_FROM_HOST, chain, &message);
    }

    /// The driver's next control message: id, event, value.
    fn heard(&self) -> Option<(u32, u16, u16)> {
        let chain = self.machine.take(CONTROL_TO_HOST)?;
        let message: [u8; 8] = chain.readable[0].as_slice().try_into().unwrap();
        self.machine.answer(CONTROL_TO_HOST, chain, b"");
        let half = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        Some((u32::from(half(0)) | u32::from(half(2)) << 16, half(4), half(6)))
    }

    /// The host sends bytes on port 1; true if the guest gets an interrupt.
    fn host_sends(&self, bytes: &[u8]) -> bool {
        self.host_sends_on(1, bytes)
    }

    fn host_sends_on(&self, port: u32, bytes: &[u8]) -> bool {
        let chain = self.machine.take(rx(port)).expect("a receive buffer");
        self.machine.answer(rx(port), chain, bytes)
    }

    fn receive(&mut self, len: usize) -> (Received, Vec<u8>) {
        let mut out = std::vec![0; len];
        let received = self.console.receive(&mut out).unwrap();
        if let Received::Bytes(n) = received {
            out.truncate(n);
        } else {
            out.clear();
        }
        (received, out)
    }

    fn send(&mut self, stream: Stream, bytes: &[u8]) -> Sent {
        self.console.transmit(stream, bytes).unwrap()
    }
}

#[test]
fn the_handshake_finds_the_streams_by_name() {
    let mut rig = Rig::new();
    assert_eq!(rig.heard(), Some((0, 0, 1)), "DEVICE_READY");
    assert!(!rig.console.ready());
    for (id, name) in [(3, "stdin"), (1, "stdout")] {
        assert_eq!(rig.connect(id, name), Events::empty());
        assert_eq!(rig.heard(), Some((id, 3, 1)), "PORT_READY");
        assert_eq!(rig.heard(), Some((id, 6, 1)), "PORT_OPEN");
    }
    assert_eq!(rig.console.missing().collect::<Vec<_>>(), [Stream::Stderr]);
    assert!(rig.connect(2, "stderr").contains(Events::READY));
    assert!(rig.console.ready());

    rig.send(Stream::Stdout, b"hello");
    assert_eq!(rig.machine.take(tx(1)).unwrap().readable, [b"hello"]);
}

#[test]
fn ports_that_are_not_ours_are_left_alone() {
    let mut rig = Rig::new();
    assert_eq!(rig.heard(), Some((0, 0, 1)));
    for id in [0, 4, 31, u32::MAX] {
        rig.host_says(id, 1, 1, b"");
        rig.host_says(id, 7, 1, b"stdout");
    }
    rig.console.process().unwrap();
    assert_eq!(rig.heard(), None);
    rig.connect(1, "agent");
    assert_eq!(rig.heard(), Some((1, 3, 1)), "PORT_READY, to learn the name");
    assert_eq!(rig.heard(), None, "but nobody opens it");
    let enabled: Vec<bool> = rig.machine.device(|d| d.queues.iter().map(|q| q.enabled).collect());
    assert_eq!(enabled[..2], [false, false], "port 0 has no queues");
    assert!(enabled[2..10].iter().all(|on| *on));
}

#[test]
fn bytes_arrive_in_order_however_they_are_read() {
    let mut rig = Rig::connected();
    assert_eq!(rig.receive(10).0, Received::Empty);
    assert!(rig.host_sends(b"abcdef"), "an interrupt is due");
    rig.host_sends(b"ghi");
    assert_eq!(rig.console.process(), Ok(Events::INPUT));
    assert_eq!(rig.receive(4), (Received::Bytes(4), b"abcd".into()));
    assert_eq!(rig.receive(0), (Received::Bytes(0), b"".into()));
    assert_eq!(rig.receive(4), (Received::Bytes(4), b"efgh".into()));
    assert_eq!(rig.receive(4), (Received::Bytes(1), b"i".into()));
    assert_eq!(rig.receive(4).0, Received::Empty);
    assert!(rig.host_sends(b"x"), "the interrupt is asked for again");
}

#[test]
fn nothing_is_taken_from_the_host_before_the_program_reads() {
    let mut rig = Rig::connected();
    assert!(rig.machine.take(rx(1)).is_none());
    assert_eq!(rig.console.input_pending(), Ok(false));
    assert!(rig.machine.take(rx(1)).is_some());
}

#[test]
fn receive_buffers_go_round() {
    let mut rig = Rig::connected();
    rig.receive(1);
    for i in 0..1000u32 {
        rig.host_sends(&i.to_le_bytes());
        assert_eq!(rig.receive(8).1, i.to_le_bytes());
    }
}

#[test]
fn the_end_comes_after_the_data_that_was_sent_before_it() {
    let mut rig = Rig::connected();
    rig.receive(1);
    rig.host_sends(b"last words");
    rig.host_says(1, 6, 0, b"");
    assert!(rig.console.process().unwrap().contains(Events::INPUT));
    assert_eq!(rig.receive(4), (Received::Bytes(4), b"last".into()));
    assert_eq!(rig.receive(100), (Received::Bytes(6), b" words".into()));
    assert_eq!(rig.receive(100).0, Received::End);
    assert_eq!(rig.receive(100).0, Received::End);
    assert_eq!(rig.console.input_pending(), Ok(true), "the end is something to read");
}

#[test]
fn an_input_that_opens_again_goes_on() {
    let mut rig = Rig::connected();
    rig.receive(1);
    rig.host_says(1, 6, 0, b"");
    rig.console.process().unwrap();
    assert_eq!(rig.receive(1).0, Received::End);
    rig.host_says(1, 6, 1, b"");
    rig.console.process().unwrap();
    assert_eq!(rig.receive(1).0, Received::Empty);
    rig.host_sends(b"x");
    assert_eq!(rig.receive(1), (Received::Bytes(1), b"x".into()));
}

#[test]
fn an_input_that_was_never_opened_is_not_at_its_end() {
    let mut rig = Rig::new();
    rig.host_says(1, 1, 1, b"");
    rig.host_says(1, 7, 1, b"stdin");
    rig.console.process().unwrap();
    assert_eq!(rig.receive(1).0, Received::Empty);
}

#[test]
fn an_output_that_the_host_closed_is_a_broken_pipe() {
    for event in [6, 2] {
        let mut rig = Rig::connected();
        assert_eq!(rig.send(Stream::Stdout, b"x"), Sent::Bytes(1));
        rig.host_says(2, event, 0, b"");
        assert_eq!(rig.console.process(), Ok(Events::OUTPUT), "who waits must hear of it");
        assert_eq!(rig.send(Stream::Stdout, b"x"), Sent::Closed);
        assert_eq!(rig.send(Stream::Stderr, b"x"), Sent::Bytes(1));
    }
}

#[test]
fn nobody_waits_for_buffers_of_an_output_that_the_host_closed() {
    let mut rig = Rig::connected();
    rig.send(Stream::Stdout, b"kept by the host");
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(1));
    rig.host_says(2, 6, 0, b"");
    rig.console.process().unwrap();
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(0));
}

#[test]
fn signals_come_unasked_and_one_by_one() {
    let mut rig = Rig::with(FakeDevice::console(5));
    for (id, name) in [(1, "stdin"), (2, "stdout"), (3, "stderr")] {
        rig.connect(id, name);
    }
    assert!(rig.console.ready(), "a host need not have them");
    assert_eq!(rig.console.take_signal(), Ok(None));
    assert_eq!(rig.connect(4, "signals"), Events::empty());
    for round in 0..100 {
        assert!(rig.host_sends_on(4, &[15, round]), "an interrupt is due");
        assert_eq!(rig.console.process(), Ok(Events::SIGNALS));
        assert_eq!(rig.console.take_signal(), Ok(Some(15)));
        assert_eq!(rig.console.process(), Ok(Events::SIGNALS), "there is one more");
        assert_eq!(rig.console.take_signal(), Ok(Some(round)));
        assert_eq!(rig.console.take_signal(), Ok(None));
        assert_eq!(rig.console.process(), Ok(Events::empty()));
    }
    let transmit = rig.machine.device(|d| d.queues[usize::from(tx(4))].enabled);
    assert!(!transmit, "nothing is ever sent there");
}

#[test]
fn a_port_of_signals_that_closes_is_no_news() {
    let mut rig = Rig::with(FakeDevice::console(5));
    rig.connect(4, "signals");
    rig.host_says(4, 6, 0, b"");
    rig.console.process().unwrap();
    assert_eq!(rig.console.process(), Ok(Events::empty()));
    assert_eq!(rig.console.take_signal(), Ok(None));
}

#[test]
fn a_port_for_input_alone_is_no_output() {
    let mut rig = Rig::with(FakeDevice::console(5));
    rig.host_says(4, 1, 1, b"");
    rig.host_says(4, 7, 1, b"stderr");
    assert!(matches!(rig.console.process(), Err(Error::Console(_))));
}

#[test]
fn output_waits_for_its_port() {
    let mut rig = Rig::new();
    assert_eq!(rig.send(Stream::Stdout, b"x"), Sent::Bytes(0));
    assert_eq!(rig.receive(1).0, Received::Empty);
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(0));
}

#[test]
fn output_is_cut_into_buffers_and_stops_when_they_are_full() {
    let mut rig = Rig::connected();
    let all = usize::from(TX_SLOTS) * TX_SLOT;
    let bytes: Vec<u8> = (0..all + 5).map(|i| (i % 251) as u8).collect();
    assert_eq!(rig.send(Stream::Stdout, &bytes), Sent::Bytes(all));
    assert_eq!(rig.send(Stream::Stdout, &bytes[all..]), Sent::Bytes(0));
    let mut out = Vec::new();
    let chain = rig.machine.take(tx(2)).unwrap();
    out.extend(chain.readable.concat());
    assert!(rig.machine.answer(tx(2), chain, b""), "somebody waits: an interrupt is due");
    assert_eq!(rig.console.process(), Ok(Events::OUTPUT));
    assert_eq!(rig.send(Stream::Stdout, &bytes[all..]), Sent::Bytes(5));
    while let Some(chain) = rig.machine.take(tx(2)) {
        out.extend(chain.readable.concat());
        rig.machine.answer(tx(2), chain, b"");
    }
    assert_eq!(out, bytes);
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(0));
}

#[test]
fn output_costs_no_interrupt_unless_somebody_waits() {
    let mut rig = Rig::connected();
    for _ in 0..20 {
        assert_eq!(rig.send(Stream::Stdout, b"line\n"), Sent::Bytes(5));
        let chain = rig.machine.take(tx(2)).unwrap();
        assert!(!rig.machine.answer(tx(2), chain, b""));
    }
    assert_eq!(rig.console.process(), Ok(Events::empty()));
}

#[test]
fn one_stream_can_be_waited_for_before_the_other_is_written() {
    let mut rig = Rig::connected();
    rig.send(Stream::Stdout, b"one");
    rig.send(Stream::Stdout, b"two");
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(2));
    assert_eq!(rig.console.tx_in_flight(Stream::Stderr), Ok(0));
    for left in [1, 0] {
        let chain = rig.machine.take(tx(2)).unwrap();
        assert!(rig.machine.answer(tx(2), chain, b""), "an interrupt is due");
        assert_eq!(rig.console.process(), Ok(Events::OUTPUT));
        assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(left));
    }
}

#[test]
fn a_waiter_is_woken_even_if_somebody_else_took_the_buffer_back() {
    let mut rig = Rig::connected();
    rig.send(Stream::Stdout, b"one");
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(1));
    let chain = rig.machine.take(tx(2)).unwrap();
    assert!(rig.machine.answer(tx(2), chain, b""));
    // Before the interrupt is dealt with, a write finds the buffer free.
    rig.send(Stream::Stdout, b"two");
    assert_eq!(rig.console.process(), Ok(Events::OUTPUT));
}

#[test]
fn a_second_waiter_does_not_hide_what_the_first_one_waits_for() {
    let mut rig = Rig::connected();
    rig.send(Stream::Stdout, b"one");
    rig.send(Stream::Stdout, b"two");
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(2));
    let chain = rig.machine.take(tx(2)).unwrap();
    assert!(rig.machine.answer(tx(2), chain, b""));
    // Before the interrupt is dealt with, somebody else asks, finds one still out, and waits too.
    assert_eq!(rig.console.tx_in_flight(Stream::Stdout), Ok(1));
    assert_eq!(rig.console.process(), Ok(Events::OUTPUT));
}

#[test]
fn a_console_without_ports_carries_all_streams() {
    let mut rig = Rig::with(FakeDevice::new(3, 0, &[0; 12], &[64, 64]));
    assert!(rig.console.ready());
    assert_eq!(rig.send(Stream::Stdout, b"out"), Sent::Bytes(3));
    assert_eq!(rig.send(Stream::Stderr, b"err"), Sent::Bytes(3));
    assert_eq!(rig.machine.take(1).unwrap().readable, [b"out"]);
    assert_eq!(rig.machine.take(1).unwrap().readable, [b"err"]);
    assert_eq!(rig.receive(4).0, Received::Empty);
    let chain = rig.machine.take(0).unwrap();
    rig.machine.answer(0, chain, b"in");
    assert_eq!(rig.receive(4), (Received::Bytes(2), b"in".into()));
}

#[test]
fn a_console_with_port_0_alone_is_refused() {
    for ports in [0, 1] {
        let mut device = FakeDevice::console(4);
        device.config[4] = ports;
        let error = VirtioConsole::new(Machine::with(device).open().unwrap()).unwrap_err();
        assert_eq!(error, Error::Console("the host has no port but port 0"));
    }
}

#[test]
fn fewer_ports_need_fewer_queues() {
    let rig = Rig::with(FakeDevice::console(2));
    assert!(rig.machine.device(|d| d.queues[2..].iter().all(|q| q.enabled)));
}

#[test]
fn a_host_that_repeats_itself_is_answered_once() {
    let mut rig = Rig::new();
    assert_eq!(rig.heard(), Some((0, 0, 1)));
    for _ in 0..100 {
        rig.connect(1, "stdin");
    }
    assert_eq!(rig.heard(), Some((1, 3, 1)));
    assert_eq!(rig.heard(), Some((1, 6, 1)));
    assert_eq!(rig.heard(), None);
}

#[test]
fn a_name_for_two_ports_or_two_names_for_one_are_refused() {
    for (id, name) in [(2, "stdin"), (1, "stdout")] {
        let mut rig = Rig::new();
        rig.connect(1, "stdin");
        rig.host_says(id, 7, 1, name.as_bytes());
        assert!(matches!(rig.console.process(), Err(Error::Console(_))));
    }
}

#[test]
fn control_messages_of_any_content_are_survived() {
    let mut rig = Rig::new();
    for len in [0, 1, 7] {
        let chain = rig.machine.take(CONTROL_FROM_HOST).unwrap();
        rig.machine.answer(CONTROL_FROM_HOST, chain, &[0xff; 128][..len]);
    }
    for event in [3, 4, 5, 8, 0x7fff, 0xffff] {
        rig.host_says(1, event, 0xffff, &[0xff; 120]);
    }
    rig.host_says(1, 7, 1, b"");
    rig.host_says(1, 7, 1, &[0xff; 120]);
    assert_eq!(rig.console.process(), Ok(Events::empty()));
}

#[test]
fn a_lie_on_any_queue_is_an_error() {
    let mut rig = Rig::connected();
    rig.receive(1);
    rig.machine.claim(rx(1), 0, 4097);
    let fault = Fault::TooLong { len: 4097, writable: 4096 };
    assert_eq!(rig.console.receive(&mut [0; 8]), Err(Error::Queue(QueueError::Broken(fault))));

    let mut rig = Rig::connected();
    rig.send(Stream::Stdout, b"x");
    rig.machine.claim(tx(2), 0, 1);
    assert!(matches!(rig.console.process(), Err(Error::Queue(_))));

    let mut rig = Rig::connected();
    rig.machine.jump(CONTROL_FROM_HOST, 1000);
    assert!(matches!(rig.console.process(), Err(Error::Queue(_))));
}

#[test]
fn dropping_a_console_frees_what_it_had() {
    let mut rig = Rig::connected();
    rig.receive(1);
    rig.send(Stream::Stdout, b"x");
    let Rig { machine, console } = rig;
    drop(console);
    assert_eq!(machine.pages(), 0);
}
