//! A socket: its name, its state, and its end (socket(2), bind(2), shutdown(2)). [`connect`] has how two come together.

mod connect;

use crate::inbox::{CAPACITY, Ending, Patience};
use crate::names::Claim;
use crate::options::{RCVBUF, REUSEADDR, REUSEPORT, V6ONLY};
use crate::{Address, Family, Inbox, Name, Net, Options};
use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use diolkos_vfs::{Errno, Inode, Poll, Result};
use spin::Mutex;

/// How a socket carries bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `SOCK_STREAM`: connected, without borders.
    Stream,
    /// `SOCK_DGRAM`: each send a message of its own.
    Datagram,
    /// `SOCK_SEQPACKET`: connected, with borders.
    SeqPacket,
}

impl Kind {
    /// The kind of a `SOCK_` number.
    pub fn from_raw(raw: u32) -> Option<Self> {
        [Self::Stream, Self::Datagram, Self::SeqPacket].into_iter().find(|kind| kind.raw() == raw)
    }

    /// The `SOCK_` number.
    pub fn raw(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::SeqPacket => 5,
        }
    }

    /// Whether messages keep their borders.
    pub fn is_packet(self) -> bool {
        self != Self::Stream
    }

    /// Whether it must be connected before anything is sent.
    pub fn is_connected(self) -> bool {
        self != Self::Datagram
    }
}

/// Who owns a socket (`struct ucred`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Which directions shutdown(2) ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// `SHUT_RD`.
    Receiving,
    /// `SHUT_WR`.
    Sending,
    /// `SHUT_RDWR`.
    Both,
}

/// Whom a socket sends to.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Where letters go; a datagram socket of an Internet family looks its peer up at each send instead.
    pub(crate) inbox: Option<Arc<Inbox>>,
    pub(crate) name: Option<Name>,
    pub(crate) address: Address,
}

#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Listening {
        pending: VecDeque<Accepted>,
        backlog: usize,
    },
    Connected(Peer),
}

#[derive(Default)]
struct State {
    name: Option<Name>,
    /// Of a connected socket that nobody named: where it sends from.
    local: Option<Address>,
    phase: Phase,
    /// shutdown(2) ended sending.
    silent: bool,
    /// What `SO_ERROR` has to tell.
    error: Option<Errno>,
    /// A connect that was told to be in progress, and has not yet been told to be done.
    unannounced: bool,
}

/// A connection that has been accepted.
pub struct Accepted {
    /// Its end.
    pub socket: Arc<Socket>,
    /// Where the other end is.
    pub address: Address,
}

/// A socket.
pub struct Socket {
    this: Weak<Self>,
    net: Arc<Net>,
    family: Family,
    kind: Kind,
    pub(crate) inode: Arc<dyn Inode>,
    pub(crate) inbox: Arc<Inbox>,
    state: Mutex<State>,
    options: Mutex<Options>,
    pub(crate) nonblocking: AtomicBool,
}

impl Socket {
    /// A socket without name or connection.
    ///
    /// # Errors
    /// `ESOCKTNOSUPPORT` for a kind the family does not have.
    pub fn new(net: &Arc<Net>, family: Family, kind: Kind) -> Result<Arc<Self>> {
        if family.is_inet() && kind == Kind::SeqPacket {
            return Err(Errno::ESOCKTNOSUPPORT);
        }
        Ok(Self::build(net, family, kind, State::default()))
    }

    /// Two connected local sockets.
    pub fn pair(net: &Arc<Net>, kind: Kind) -> [Arc<Self>; 2] {
        let [first, second] = [(); 2].map(|()| Self::build(net, Family::Unix, kind, State::default()));
        for (one, other) in [(&first, &second), (&second, &first)] {
            let peer = Peer { inbox: Some(other.inbox.clone()), name: None, address: Address::Unnamed };
            one.state.lock().phase = Phase::Connected(peer);
        }
        [first, second]
    }

    fn build(net: &Arc<Net>, family: Family, kind: Kind, state: State) -> Arc<Self> {
        let surroundings = net.surroundings();
        let (inode, inbox) = (surroundings.inode(), Inbox::new(surroundings.bell()));
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            net: net.clone(),
            family,
            kind,
            inode,
            inbox,
            state: Mutex::new(state),
            options: Mutex::default(),
            nonblocking: AtomicBool::new(false),
        })
    }

    fn this(&self) -> Arc<Self> {
        self.this.upgrade().expect("whoever calls a method holds the socket")
    }

    /// The address family.
    pub fn family(&self) -> Family {
        self.family
    }

    /// The kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The machine's sockets it is one of.
    pub fn net(&self) -> &Arc<Net> {
        &self.net
    }

    /// Sets an option that is a number.
    ///
    /// # Errors
    /// As [`Options::get`].
    pub fn set_option(&self, id: (u32, u32), value: i32) -> Result<()> {
        self.with_options(|options| options.set(self.family, self.kind, id, value))?;
        if id == RCVBUF {
            self.take_capacity();
        }
        Ok(())
    }

    /// Has the inbox hold what `SO_RCVBUF` says. Only of an Internet stream: what a local one has sent counts for the sender
    /// alone (unix(7)), and a datagram must find room whole.
    fn take_capacity(&self) {
        let wanted = self.options.lock().receive_buffer();
        if let Some(bytes) = wanted.filter(|_| self.family.is_inet() && self.kind == Kind::Stream) {
            self.inbox.set_capacity(bytes);
        }
    }

    /// How full it may fill a peer's `inbox`.
    pub(crate) fn capacity(&self, inbox: &Inbox) -> usize {
        if self.kind != Kind::Stream {
            return CAPACITY;
        }
        match (self.options.lock().send_buffer(), self.family.is_inet()) {
            (Some(own), true) => own.min(inbox.capacity()),
            (Some(own), false) => own,
            (None, _) => inbox.capacity(),
        }
    }

    /// Runs `change` on the options.
    pub fn with_options<T>(&self, change: impl FnOnce(&mut Options) -> T) -> T {
        change(&mut self.options.lock())
    }

    /// Whether connections can be made to it.
    pub fn is_listening(&self) -> bool {
        matches!(self.state.lock().phase, Phase::Listening { .. })
    }

    /// Whether it has a name.
    pub fn is_bound(&self) -> bool {
        self.state.lock().name.is_some()
    }

    /// What went wrong since it was last asked (`SO_ERROR`).
    pub fn take_error(&self) -> Option<Errno> {
        self.state.lock().error.take()
    }

    /// Its own address (getsockname(2)).
    pub fn local_address(&self) -> Address {
        let state = self.state.lock();
        let named = state.local.clone().or_else(|| state.name.as_ref().map(Name::address));
        named.unwrap_or_else(|| Address::unspecified(self.family))
    }

    /// The other end's address (getpeername(2)).
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn peer_address(&self) -> Result<Address> {
        self.peer().map(|peer| peer.address).ok_or(Errno::ENOTCONN)
    }

    pub(crate) fn peer(&self) -> Option<Peer> {
        match &self.state.lock().phase {
            Phase::Connected(peer) => Some(peer.clone()),
            _ => None,
        }
    }

    /// Whether shutdown(2) has ended sending.
    pub(crate) fn is_silent(&self) -> bool {
        self.state.lock().silent
    }

    pub(crate) fn patience(&self, dont_wait: bool, most: impl FnOnce(&Options) -> Option<Duration>) -> Patience {
        let none = dont_wait || self.nonblocking.load(Ordering::Relaxed);
        Patience { none, most: most(&self.options.lock()) }
    }

    fn claim(&self) -> impl Fn(core::net::IpAddr) -> Claim + use<> {
        let options = self.options.lock();
        let v6_only = options.is_on(V6ONLY);
        let (reuse_address, reuse_port) = (options.is_on(REUSEADDR), options.is_on(REUSEPORT));
        move |ip| Claim { ip, v6_only, reuse_address, reuse_port }
    }

    /// Gives it a name (bind(2)); `None` lets the machine choose one for a local socket.
    ///
    /// # Errors
    /// `EINVAL` when it has one, `EADDRINUSE`, `EADDRNOTAVAIL`, `EAFNOSUPPORT` for a name of another family.
    pub fn bind(&self, name: Option<Name>) -> Result<()> {
        if self.is_bound() {
            return Err(Errno::EINVAL);
        }
        let name = match name {
            None if self.family.is_inet() => return Err(Errno::EINVAL),
            None => self.net.autobind(&self.this())?,
            Some(name) => {
                if matches!(&name, Name::Inet(to) if self.family == Family::Inet && to.is_ipv6()) {
                    return Err(Errno::EAFNOSUPPORT);
                }
                self.net.bind(&self.this(), name, self.claim())?
            }
        };
        self.state.lock().name = Some(name);
        Ok(())
    }

    /// Gives it a free port if it has no name: what the Internet families do before the first send or connection.
    pub(crate) fn bind_for(&self, to: &Name) -> Result<()> {
        if !self.family.is_inet() || self.state.lock().name.is_some() {
            return Ok(());
        }
        let Address::Inet(source) = Net::source_for(to, self.family) else { return Ok(()) };
        self.bind(Some(Name::Inet(source)))
    }

    /// Ends one direction or both (shutdown(2)). What the peer has sent can still be read.
    ///
    /// # Errors
    /// `ENOTCONN`.
    pub fn shutdown(&self, what: Shut) -> Result<()> {
        let (receiving, sending) = (what != Shut::Sending, what != Shut::Receiving);
        let mut state = self.state.lock();
        let (peer, pending) = match &mut state.phase {
            Phase::Connected(peer) => (peer.inbox.clone(), None),
            Phase::Listening { .. } if receiving && self.family.is_inet() => {
                (None, Some(core::mem::take(&mut state.phase)))
            }
            // A local listener stays one, and a datagram socket needs no peer.
            Phase::Listening { .. } if !self.family.is_inet() => (None, None),
            Phase::Idle if !self.kind.is_connected() && !self.family.is_inet() => (None, None),
            _ => return Err(Errno::ENOTCONN),
        };
        state.silent |= sending;
        drop(state);
        if receiving {
            if self.family.is_inet() {
                self.inbox.end(Ending::Orderly);
            } else {
                self.inbox.shut(Errno::EPIPE, false);
            }
        }
        if let Some(peer) = peer.filter(|_| sending && self.kind.is_connected()) {
            peer.end(Ending::Orderly);
        }
        if let Some(phase) = pending {
            phase.abandon();
        }
        self.inbox.bell().ring();
        Ok(())
    }

    /// What it is ready for.
    pub(crate) fn readiness(&self) -> Poll {
        let state = self.state.lock();
        let broken = state.error.is_some();
        let silent = state.silent;
        let peer = match &state.phase {
            Phase::Listening { pending, .. } => {
                return if pending.is_empty() { Poll::empty() } else { Poll::IN };
            }
            Phase::Connected(peer) => peer.inbox.clone(),
            Phase::Idle if self.kind.is_connected() => {
                let ready = Poll::OUT | Poll::HUP;
                return if broken { ready | Poll::IN | Poll::ERR } else { ready };
            }
            Phase::Idle => None,
        };
        drop(state);
        let mut ready = self.inbox.poll_owner();
        ready.set(Poll::OUT, silent || peer.as_ref().is_none_or(|peer| peer.has_room(self.capacity(peer))));
        // A wire tells only that the other end sends no more, not that it receives no more.
        let deaf = silent || !self.family.is_inet() && peer.is_some_and(|peer| peer.is_shut());
        ready.set(Poll::HUP, self.kind.is_connected() && deaf && ready.contains(Poll::RDHUP));
        ready
    }

    /// Bytes that can be received at once (`FIONREAD`).
    pub fn available(&self) -> usize {
        self.inbox.available(self.kind.is_packet())
    }
}

impl Phase {
    /// Lets go of connections that nobody will accept: the other ends are told.
    fn abandon(self) {
        let Self::Listening { pending, .. } = self else { return };
        for Accepted { socket, .. } in pending {
            if let Some(inbox) = socket.peer().and_then(|peer| peer.inbox) {
                inbox.end(Ending::Reset);
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let State { name, phase, .. } = core::mem::take(self.state.get_mut());
        if let Some(name) = name {
            self.net.release(&name, self.kind);
        }
        let gone = if self.kind.is_connected() { Errno::EPIPE } else { Errno::ECONNREFUSED };
        let unread = self.inbox.shut(gone, true);
        match phase {
            Phase::Connected(Peer { inbox: Some(peer), .. }) if self.kind.is_connected() => {
                peer.end(if unread { Ending::Reset } else { Ending::Orderly });
                // Its senders wait at our bell, its pollers at its own.
                peer.bell().ring();
            }
            phase => phase.abandon(),
        }
    }
}
