//! The control queues' messages (section 5.3.6.2).

/// Length of a message without a name: id, event, value.
pub(super) const MESSAGE: usize = 8;

/// Room for a message and the longest name we care for.
pub(super) const LONGEST: usize = 128;

mod event {
    pub(super) const DEVICE_READY: u16 = 0;
    pub(super) const PORT_ADD: u16 = 1;
    pub(super) const PORT_REMOVE: u16 = 2;
    pub(super) const PORT_READY: u16 = 3;
    pub(super) const PORT_OPEN: u16 = 6;
    pub(super) const PORT_NAME: u16 = 7;
}

/// What the host has to say about a port.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News<'a> {
    Add,
    Remove,
    Open(bool),
    /// The name, without the NUL that QEMU sends at its end.
    Name(&'a [u8]),
    /// Nothing that concerns us: a size, a console flag, an event we do not know.
    Other,
}

/// The port's id and the news; `None` when the message is too short to be one.
pub(super) fn parse(message: &[u8]) -> Option<(u32, News<'_>)> {
    let (head, rest) = message.split_first_chunk::<MESSAGE>()?;
    let [i0, i1, i2, i3, e0, e1, v0, v1] = *head;
    let news = match (u16::from_le_bytes([e0, e1]), u16::from_le_bytes([v0, v1])) {
        (event::PORT_ADD, _) => News::Add,
        (event::PORT_REMOVE, _) => News::Remove,
        (event::PORT_OPEN, open) => News::Open(open != 0),
        (event::PORT_NAME, _) => News::Name(rest.split(|byte| *byte == 0).next().unwrap_or_default()),
        _ => News::Other,
    };
    Some((u32::from_le_bytes([i0, i1, i2, i3]), news))
}

/// What we have to say.
#[derive(Debug, Clone, Copy)]
pub(super) enum Say {
    /// The driver is there: tell me of the ports.
    DriverReady,
    /// The port's queues are set up: tell me its name.
    PortReady(u32),
    /// The port is in use.
    Open(u32),
}

impl Say {
    pub(super) fn encode(self) -> [u8; MESSAGE] {
        let (id, event) = match self {
            Self::DriverReady => (0, event::DEVICE_READY),
            Self::PortReady(id) => (id, event::PORT_READY),
            Self::Open(id) => (id, event::PORT_OPEN),
        };
        let [i0, i1, i2, i3] = id.to_le_bytes();
        let [e0, e1] = event.to_le_bytes();
        [i0, i1, i2, i3, e0, e1, 1, 0]
    }
}
