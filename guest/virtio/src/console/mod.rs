//! The console device (section 5.3): the program's standard streams, each a port of its own, and signals from the host.
//!
//! With MULTIPORT the host names its ports `stdin`, `stdout`, `stderr` and, if it has signals to send, `signals`, and says
//! when its end of one opens and closes. The handshake is a conversation that [`VirtioConsole::process`] carries on whenever there
//! is news:
//!
//! ```text
//!   driver                                host
//!   DEVICE_READY ────────────────────────►
//!                ◄──────────────────────── DEVICE_ADD 1, 2, 3, 4 …
//!   PORT_READY n ────────────────────────►
//!                ◄──────────────────────── PORT_NAME n "stdout", PORT_OPEN n
//!   PORT_OPEN n  ────────────────────────►  (for a name that we know)
//! ```
//!
//! Ports with other names, port 0 and those beyond 4 are left alone. Port 4 is for input alone, which saves the host the
//! setting up of a queue. Without MULTIPORT there is one port, for all three streams, and it never ends.
//!
//! The hard idea is the end of a stream: data and PORT_OPEN travel on different queues. The host puts data on
//! its ring before it says that it closed, so we look at what it said first, and then empty the ring.

mod control;
mod port;
#[cfg(test)]
mod tests;

use crate::live::LiveDevice;
use crate::pci::device_type;
use crate::queue::QueuePlan;
use crate::{Device, Error, Features, Hal};
use alloc::vec::Vec;
use control::{LONGEST, MESSAGE, News, Say};
use port::{HostEnd, Port};

/// `VIRTIO_CONSOLE_F_MULTIPORT` (section 5.3.3).
const MULTIPORT: Features = Features::from_bits_retain(1 << 1);
/// Offset of `max_nr_ports` in the configuration.
const MAX_NR_PORTS: usize = 4;
/// Ports 1 to this have both queues set up; each queue costs a dozen exits.
const LAST_PAIR: u32 = 3;
/// Ports from there to this have one for input alone.
const LAST_PORT: u32 = 4;
/// Control messages that the host can have under way; QEMU drops what finds no buffer.
const CONTROL_RX_SLOTS: u16 = 32;
/// Answers under way: an announcement, and two a port.
const CONTROL_TX_SLOTS: u16 = 16;

/// Places of the control queues, receive and transmit, in `LiveDevice::queues`.
const CONTROL_RX: usize = 0;
const CONTROL_TX: usize = 1;

/// One of the program's standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Stdin,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const ALL: [Self; 3] = [Self::Stdin, Self::Stdout, Self::Stderr];

    /// The name of its port.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdin => "stdin",
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The name of the port for signals.
const SIGNALS: &str = "signals";

/// What a read of standard input came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; 0 only if none were asked for.
    Bytes(usize),
    /// Nothing yet. [`Events::INPUT`] follows.
    Empty,
    /// The host has closed its end, and everything before that was delivered.
    End,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes were taken. If not all, [`Events::OUTPUT`] (or [`Events::READY`]) follows when it is worth trying again.
    Bytes(usize),
    /// Nobody reads: a broken pipe.
    Closed,
}

bitflags::bitflags! {
    /// Who should be woken after [`VirtioConsole::process`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Events: u8 {
        /// All three streams have found their ports.
        const READY = 1;
        /// Standard input has bytes, or has ended.
        const INPUT = 2;
        /// An output has room again, or fewer buffers in flight, or was closed.
        const OUTPUT = 4;
        /// [`VirtioConsole::take_signal`] has something to take.
        const SIGNALS = 8;
    }
}

/// Slots of the control queues, once it is known that there are such.
#[derive(Debug)]
struct Control {
    rx_pool: usize,
    tx_pool: usize,
    /// Transmit slots that are free, a bit each.
    tx_free: u32,
}

/// A console in service.
#[derive(Debug)]
pub struct VirtioConsole<H: Hal> {
    live: LiveDevice<H, u16>,
    control: Option<Control>,
    ports: Vec<Port>,
    /// For each stream the place of its port in `ports`.
    streams: [Option<usize>; 3],
    /// That of the port for signals, which a host need not have.
    signals: Option<usize>,
}

impl<H: Hal> VirtioConsole<H> {
    /// Starts the device and, with MULTIPORT, the handshake.
    ///
    /// # Errors
    /// Says at which step it failed.
    pub fn new(device: Device<H>) -> Result<Self, Error> {
        let mut ports = Vec::new();
        let mut multiport = false;
        let live = LiveDevice::start(device, device_type::CONSOLE, MULTIPORT, |device, features| {
            multiport = features.contains(MULTIPORT);
            let last = if multiport { device.config32(MAX_NR_PORTS)?.saturating_sub(1).min(LAST_PORT) } else { 0 };
            if multiport && last == 0 {
                return Err(Error::Console("the host has no port but port 0"));
            }
            Ok(plan(multiport, last, &mut ports))
        })?;
        let streams = if multiport { [None; 3] } else { [Some(0); 3] };
        let mut console = Self { live, control: None, ports, streams, signals: None };
        if multiport {
            console.start_handshake()?;
        }
        // Nobody waits for a signal, so it must be able to come unasked.
        for port in console.ports.iter_mut().filter(|port| port.is_input_alone()) {
            port.listen(&mut console.live)?;
        }
        Ok(console)
    }

    fn start_handshake(&mut self) -> Result<(), Error> {
        let rx_slots = CONTROL_RX_SLOTS.min(self.live.queues[CONTROL_RX].size());
        let tx_slots = CONTROL_TX_SLOTS.min(self.live.queues[CONTROL_TX].size());
        let rx_pool = self.live.add_pool(usize::from(CONTROL_RX_SLOTS) * LONGEST)?;
        let tx_pool = self.live.add_pool(usize::from(CONTROL_TX_SLOTS) * MESSAGE)?;
        self.control = Some(Control { rx_pool, tx_pool, tx_free: (1 << tx_slots) - 1 });
        self.live.queues[CONTROL_TX].disable_interrupts();
        for slot in 0..rx_slots {
            self.post_control(rx_pool, slot)?;
        }
        self.live.queues[CONTROL_RX].kick();
        self.say(Say::DriverReady)?;
        self.live.queues[CONTROL_TX].kick();
        Ok(())
    }

    /// Whether every stream has its port. Until then reads are empty and writes take nothing.
    pub fn ready(&self) -> bool {
        self.streams.iter().all(Option::is_some)
    }

    /// The streams that the host has not named a port for.
    pub fn missing(&self) -> impl Iterator<Item = Stream> {
        Stream::ALL.into_iter().filter(|stream| self.streams[*stream as usize].is_none())
    }

    /// Deals with everything the device has brought: what an interrupt handler, or whoever polls, calls.
    /// Interrupt-safe.
    ///
    /// # Errors
    /// When the host broke a queue or the protocol. The console is of no use then.
    pub fn process(&mut self) -> Result<Events, Error> {
        let mut events = Events::empty();
        if self.control.is_some() {
            events |= self.process_control()?;
        }
        for port in &mut self.ports {
            if port.service(&mut self.live)? {
                events |= Events::OUTPUT;
            }
        }
        if self.port(Stream::Stdin).is_some_and(|port| port.input_pending(&self.live)) {
            events |= Events::INPUT;
        }
        if self.signals.is_some_and(|port| self.ports[port].has_bytes(&self.live)) {
            events |= Events::SIGNALS;
        }
        Ok(events)
    }

    /// The next signal's number, as the host sent it; [`Events::SIGNALS`] follows `None`. Interrupt-safe.
    ///
    /// # Errors
    /// As [`VirtioConsole::process`].
    pub fn take_signal(&mut self) -> Result<Option<u8>, Error> {
        let Some(port) = self.signals else { return Ok(None) };
        let mut byte = [0];
        let received = self.ports[port].receive(&mut self.live, &mut byte)?;
        Ok(matches!(received, Received::Bytes(1)).then_some(byte[0]))
    }

    /// Reads from standard input. Starts reception the first time, and allocates then.
    ///
    /// # Errors
    /// As [`VirtioConsole::process`].
    pub fn receive(&mut self, out: &mut [u8]) -> Result<Received, Error> {
        let Some(port) = self.streams[Stream::Stdin as usize] else { return Ok(Received::Empty) };
        self.ports[port].receive(&mut self.live, out)
    }

    /// Whether a read would not wait. Starts reception the first time, and allocates then.
    ///
    /// # Errors
    /// As [`VirtioConsole::process`].
    pub fn input_pending(&mut self) -> Result<bool, Error> {
        let Some(port) = self.streams[Stream::Stdin as usize] else { return Ok(false) };
        let port = &mut self.ports[port];
        port.listen(&mut self.live)?;
        Ok(port.input_pending(&self.live))
    }

    /// Copies bytes for an output and hands them to the device. Allocates the first time.
    ///
    /// # Errors
    /// As [`VirtioConsole::process`].
    pub fn transmit(&mut self, stream: Stream, bytes: &[u8]) -> Result<Sent, Error> {
        let Some(port) = self.streams[stream as usize] else { return Ok(Sent::Bytes(0)) };
        let port = &mut self.ports[port];
        if port.host == HostEnd::Closed {
            return Ok(Sent::Closed);
        }
        Ok(Sent::Bytes(port.transmit(&mut self.live, bytes)?))
    }

    /// Buffers written to a stream that the device has not used yet. While there are any,
    /// [`Events::OUTPUT`] follows when one comes back. A stream that nobody reads has none: QEMU may keep the last
    /// buffers of a port that it closed while it was full. Interrupt-safe.
    ///
    /// # Errors
    /// As [`VirtioConsole::process`].
    pub fn tx_in_flight(&mut self, stream: Stream) -> Result<u16, Error> {
        let Some(port) = self.streams[stream as usize] else { return Ok(0) };
        let port = &mut self.ports[port];
        if port.host == HostEnd::Closed { Ok(0) } else { port.in_flight(&mut self.live) }
    }

    fn port(&self, stream: Stream) -> Option<&Port> {
        self.streams[stream as usize].map(|port| &self.ports[port])
    }

    fn post_control(&mut self, pool: usize, slot: u16) -> Result<(), Error> {
        let buffer = self.live.pools[pool].buffer(usize::from(slot) * LONGEST, LONGEST);
        // SAFETY: the pool lives until the device was reset, and a slot is posted when its message was copied out.
        unsafe { self.live.queues[CONTROL_RX].submit(&[], &[buffer], slot) }.map_err(|refused| refused.reason)?;
        Ok(())
    }

    fn process_control(&mut self) -> Result<Events, Error> {
        let Some(Control { rx_pool, .. }) = self.control else { return Ok(Events::empty()) };
        let mut events = Events::empty();
        loop {
            while let Some(used) = self.live.queues[CONTROL_RX].pop_used()? {
                let mut message = [0; LONGEST];
                let message = &mut message[..used.len as usize];
                self.live.pools[rx_pool].copy_out(usize::from(used.owner) * LONGEST, message);
                self.post_control(rx_pool, used.owner)?;
                if let Some((id, news)) = control::parse(message) {
                    events |= self.hear(id, news)?;
                }
            }
            if self.live.queues[CONTROL_RX].enable_interrupts() {
                break;
            }
        }
        self.live.queues[CONTROL_RX].kick();
        self.live.queues[CONTROL_TX].kick();
        Ok(events)
    }

    /// Acts on a message. A port that has no queues is not ours, and nothing is said about it.
    fn hear(&mut self, id: u32, news: News<'_>) -> Result<Events, Error> {
        let Some(place) = self.ports.iter().position(|port| port.id == id) else { return Ok(Events::empty()) };
        let port = &mut self.ports[place];
        match news {
            News::Add if !port.announced => {
                port.announced = true;
                self.say(Say::PortReady(id))?;
                Ok(Events::empty())
            }
            News::Name(name) => self.name(place, name),
            News::Open(true) => {
                port.host = HostEnd::Open;
                Ok(Events::empty())
            }
            News::Open(false) | News::Remove => {
                port.host = HostEnd::Closed;
                Ok(Events::OUTPUT)
            }
            News::Add | News::Other => Ok(Events::empty()),
        }
    }

    fn name(&mut self, place: usize, name: &[u8]) -> Result<Events, Error> {
        let stream = Stream::ALL.into_iter().find(|stream| stream.name().as_bytes() == name);
        let role = match stream {
            Some(stream) => &mut self.streams[stream as usize],
            None if name == SIGNALS.as_bytes() => &mut self.signals,
            None => return Ok(Events::empty()),
        };
        if *role == Some(place) {
            return Ok(Events::empty());
        }
        let named_already = role.replace(place).is_some();
        let roles = self.streams.iter().chain([&self.signals]);
        if named_already || roles.filter(|role| **role == Some(place)).count() > 1 {
            return Err(Error::Console("the host gives a name to two ports, or a port two names"));
        }
        if matches!(stream, Some(Stream::Stdout | Stream::Stderr)) && self.ports[place].is_input_alone() {
            return Err(Error::Console("the host wants output through a port that we use for input alone"));
        }
        self.say(Say::Open(self.ports[place].id))?;
        Ok(if stream.is_some() && self.ready() { Events::READY } else { Events::empty() })
    }

    /// Puts a message on the control queue; whoever calls kicks it.
    fn say(&mut self, what: Say) -> Result<(), Error> {
        let Some(control) = &mut self.control else { return Ok(()) };
        let queue = &mut self.live.queues[CONTROL_TX];
        while let Some(used) = queue.pop_used()? {
            control.tx_free |= 1 << used.owner;
        }
        if control.tx_free == 0 {
            return Err(Error::Console("the host does not take our control messages"));
        }
        let slot = control.tx_free.trailing_zeros() as u16;
        let at = usize::from(slot) * MESSAGE;
        let pool = &mut self.live.pools[control.tx_pool];
        pool.copy_in(at, &what.encode());
        // SAFETY: the pool lives until the device was reset; the slot was free and is taken until it comes back.
        unsafe { queue.submit(&[pool.buffer(at, MESSAGE)], &[], slot) }.map_err(|refused| refused.reason)?;
        control.tx_free &= !(1 << slot);
        Ok(())
    }
}

/// The queues to set up (section 5.3.2), and the ports they serve. Port 0's queues are 0 and 1, the control
/// queues 2 and 3, port n's 2n + 2 and 2n + 3.
fn plan(multiport: bool, last: u32, ports: &mut Vec<Port>) -> Vec<QueuePlan> {
    let queue = |index: u32, size| QueuePlan { index: index as u16, max_size: size, max_buffers: 1, vector: None };
    let pair = |first| [queue(first, port::RX_QUEUE), queue(first + 1, port::TX_QUEUE)];
    if !multiport {
        ports.push(Port::new(0, 0, HostEnd::Open));
        return pair(0).into();
    }
    let mut plans = Vec::from([queue(2, CONTROL_RX_SLOTS), queue(3, CONTROL_TX_SLOTS)]);
    for id in 1..=last.min(LAST_PAIR) {
        ports.push(Port::new(id, plans.len(), HostEnd::Unknown));
        plans.extend(pair(2 * id + 2));
    }
    for id in LAST_PAIR + 1..=last {
        ports.push(Port::for_input(id, plans.len()));
        plans.push(queue(2 * id + 2, port::SHORT_QUEUE));
    }
    plans
}
