//! The control protocol of the multiport console (section 5.3.6.2), as a state machine: messages in, messages out.

use std::collections::VecDeque;

/// The ports, by number from [`FIRST_PORT`]. Port 0, the console of old, is not used.
pub const NAMES: [&str; 4] = ["stdin", "stdout", "stderr", "signals"];
/// Number of the first of [`NAMES`].
pub const FIRST_PORT: u32 = 1;

const DEVICE_READY: u16 = 0;
const PORT_ADD: u16 = 1;
const PORT_READY: u16 = 3;
const PORT_OPEN: u16 = 6;
const PORT_NAME: u16 = 7;

/// Longest message either side sends: the header and a name.
pub const MAX_MESSAGE: usize = 32;

/// A message from the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    port: u32,
    event: u16,
    value: u16,
    name: &'static str,
}

impl Message {
    fn new(port: u32, event: u16, value: u16) -> Self {
        Self { port, event, value, name: "" }
    }

    /// `struct virtio_console_control`, then the name for `PORT_NAME`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.port.to_le_bytes().to_vec();
        bytes.extend(self.event.to_le_bytes());
        bytes.extend(self.value.to_le_bytes());
        bytes.extend(self.name.as_bytes());
        bytes
    }
}

/// Both sides' state, as far as it matters to the device.
#[derive(Debug, Default)]
pub struct Protocol {
    ready: [bool; NAMES.len()],
    closed: [bool; NAMES.len()],
    outgoing: VecDeque<Message>,
}

impl Protocol {
    /// After a reset of the device: the driver knows nothing any more, but a closed file stays closed.
    pub fn reset(&mut self) {
        self.ready = Default::default();
        self.outgoing.clear();
    }

    /// A message from the driver. What it says about ports that are not there, and what we do not know, is ignored.
    pub fn receive(&mut self, bytes: &[u8]) {
        let &[a, b, c, d, e, f, g, h, ..] = bytes else { return };
        let (port, event) = (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f]));
        let succeeded = u16::from_le_bytes([g, h]) == 1;
        match event {
            DEVICE_READY if succeeded => {
                for port in FIRST_PORT..FIRST_PORT + NAMES.len() as u32 {
                    self.say(Message::new(port, PORT_ADD, 1));
                }
            }
            PORT_READY if succeeded => {
                let Some(index) = index(port) else { return };
                self.ready[index] = true;
                self.say(Message { name: NAMES[index], ..Message::new(port, PORT_NAME, 1) });
                self.say(Message::new(port, PORT_OPEN, 1));
                if self.closed[index] {
                    self.say(Message::new(port, PORT_OPEN, 0));
                }
            }
            _ => {}
        }
    }

    /// The host's end of `port` is closed: end of input, or nobody reads the output.
    pub fn close(&mut self, port: u32) {
        let Some(index) = index(port) else { return };
        if !std::mem::replace(&mut self.closed[index], true) && self.ready[index] {
            self.say(Message::new(port, PORT_OPEN, 0));
        }
    }

    /// A message already waiting is not queued twice, so a driver that repeats itself without taking the answers
    /// cannot make us hold more than one of each kind.
    fn say(&mut self, message: Message) {
        if !self.outgoing.contains(&message) {
            self.outgoing.push_back(message);
        }
    }

    /// The next message for the driver.
    pub fn next(&self) -> Option<&Message> {
        self.outgoing.front()
    }

    /// The message of [`Protocol::next`] was delivered.
    pub fn delivered(&mut self) {
        self.outgoing.pop_front();
    }
}

fn index(port: u32) -> Option<usize> {
    let index = port.checked_sub(FIRST_PORT)? as usize;
    (index < NAMES.len()).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(port: u32, event: u16, value: u16) -> Vec<u8> {
        Message::new(port, event, value).bytes()
    }

    fn answers(protocol: &mut Protocol) -> Vec<(u32, u16, u16)> {
        let mut all = Vec::new();
        while let Some(message) = protocol.next() {
            all.push((message.port, message.event, message.value));
            protocol.delivered();
        }
        all
    }

    #[test]
    fn the_conversation_of_a_driver_that_starts() {
        let mut protocol = Protocol::default();
        protocol.receive(&message(0, DEVICE_READY, 1));
        assert_eq!(answers(&mut protocol), [1, 2, 3, 4].map(|port| (port, PORT_ADD, 1)));
        protocol.receive(&message(2, PORT_READY, 1));
        assert_eq!(protocol.next().unwrap().bytes(), b"\x02\0\0\0\x07\0\x01\0stdout");
        assert_eq!(answers(&mut protocol), [(2, PORT_NAME, 1), (2, PORT_OPEN, 1)]);
        protocol.receive(&message(2, PORT_OPEN, 1));
        assert!(protocol.next().is_none());
    }

    #[test]
    fn a_port_closes_once_and_in_order() {
        let mut protocol = Protocol::default();
        protocol.close(1);
        assert!(protocol.next().is_none(), "the driver does not know the port yet");
        protocol.receive(&message(1, PORT_READY, 1));
        assert_eq!(answers(&mut protocol), [(1, PORT_NAME, 1), (1, PORT_OPEN, 1), (1, PORT_OPEN, 0)]);
        protocol.close(1);
        assert!(protocol.next().is_none());
        protocol.reset();
        protocol.receive(&message(1, PORT_READY, 1));
        assert_eq!(answers(&mut protocol).last(), Some(&(1, PORT_OPEN, 0)), "still closed after a reset");
    }

    #[test]
    fn a_driver_that_repeats_itself_costs_nothing() {
        let mut protocol = Protocol::default();
        for _ in 0..10_000 {
            protocol.receive(&message(0, DEVICE_READY, 1));
            protocol.receive(&message(3, PORT_READY, 1));
        }
        assert_eq!(answers(&mut protocol).len(), 6);
    }

    #[test]
    fn nonsense_is_ignored() {
        let mut protocol = Protocol::default();
        for bytes in [&[][..], &[1; 7], &message(0, PORT_READY, 1), &message(5, PORT_READY, 1), &[0xff; 40]] {
            protocol.receive(bytes);
        }
        protocol.receive(&message(1, PORT_READY, 0));
        for port in [0, 5, u32::MAX] {
            protocol.close(port);
        }
        assert!(protocol.next().is_none());
    }
}
