//! How a socket comes by its connection: listen(2), connect(2), accept(2).
//!
//! The client is connected before its other end is offered to the listener, which may answer at once; an offer that is not
//! taken undoes it.

use super::{Accepted, Peer, Phase, Socket, State};
use crate::{Address, Name, Net};
use alloc::collections::VecDeque;
use core::sync::atomic::Ordering;
use diolkos_vfs::{Errno, Result};

impl Socket {
    /// Lets connections be made to it, `backlog` of them before the first is accepted (listen(2)).
    ///
    /// # Errors
    /// `EOPNOTSUPP` for datagrams, `EINVAL` when it is connected or, a local one, without a name.
    pub fn listen(&self, backlog: i32) -> Result<()> {
        /// `net.core.somaxconn`.
        const MOST: usize = 4096;
        if !self.kind.is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        let wanted = usize::try_from(backlog).unwrap_or(MOST).min(MOST);
        if self.family.is_inet() && self.state.lock().name.is_none() {
            let Address::Inet(any) = Address::unspecified(self.family) else { return Err(Errno::EINVAL) };
            self.bind(Some(Name::Inet(any)))?;
        }
        let mut state = self.state.lock();
        if state.name.is_none() {
            return Err(Errno::EINVAL);
        }
        match &mut state.phase {
            Phase::Connected(_) => Err(Errno::EINVAL),
            Phase::Listening { backlog, .. } => {
                *backlog = wanted;
                Ok(())
            }
            Phase::Idle => {
                state.phase = Phase::Listening { pending: VecDeque::new(), backlog: wanted };
                Ok(())
            }
        }
    }

    /// Takes the connection that has waited longest (accept(2)).
    ///
    /// # Errors
    /// `EINVAL` when it does not listen, `EOPNOTSUPP` for datagrams, `EAGAIN`, `EINTR`.
    pub fn accept(&self) -> Result<Accepted> {
        if !self.kind.is_connected() {
            return Err(Errno::EOPNOTSUPP);
        }
        let patience = self.patience(false, |options| options.receive_timeout);
        let accepted = self.inbox.when(patience, || match &mut self.state.lock().phase {
            Phase::Listening { pending, .. } => pending.pop_front().map(Ok),
            _ => Some(Err(Errno::EINVAL)),
        })?;
        // Whoever waits for room in the backlog.
        self.inbox.bell().ring();
        Ok(accepted)
    }

    /// Connects it (connect(2)); for datagrams that only chooses whom it speaks with.
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EISCONN`, `EPROTOTYPE`, `ENETUNREACH`, `EAGAIN` when a local listener has no room, `EINTR`;
    /// `EINPROGRESS` from an Internet socket that may not wait: the outcome is there at once, and `SO_ERROR` tells it.
    pub fn connect(&self, name: &Name) -> Result<()> {
        if !self.kind.is_connected() {
            return self.speak_with(name);
        }
        {
            let state = &mut *self.state.lock();
            match &state.phase {
                Phase::Listening { .. } => return Err(Errno::EINVAL),
                Phase::Connected(_) if core::mem::take(&mut state.unannounced) => return Ok(()),
                Phase::Connected(_) => return Err(Errno::EISCONN),
                Phase::Idle => {}
            }
            if let Some(errno) = state.error.take() {
                return Err(errno);
            }
        }
        let in_progress = self.family.is_inet() && self.nonblocking.load(Ordering::Relaxed);
        match self.connect_now(name) {
            Ok(()) if in_progress => {
                self.state.lock().unannounced = true;
                Err(Errno::EINPROGRESS)
            }
            Err(Errno::ECONNREFUSED) if in_progress => {
                self.state.lock().error = Some(Errno::ECONNREFUSED);
                Err(Errno::EINPROGRESS)
            }
            result => result,
        }
    }

    fn connect_now(&self, name: &Name) -> Result<()> {
        let listener = self.net.find(name, self.kind)?;
        self.bind_for(name)?;
        let own = self.local_address();
        let at_peer = Peer { inbox: Some(self.inbox.clone()), name: None, address: own.clone() };
        let there = listener.name_seen(name);
        let state = State { local: Some(there.clone()), phase: Phase::Connected(at_peer), ..State::default() };
        let server = Self::build(&self.net, listener.family, self.kind, state);
        if self.family.is_inet() {
            // Linux clones the listener (sk_clone_lock); a local socket starts afresh.
            let options = listener.options.lock().clone();
            *server.options.lock() = options;
            server.take_capacity();
        }
        let peer = Peer { inbox: Some(server.inbox.clone()), name: None, address: there };
        // Connected before it is offered: the listener may answer at once.
        self.state.lock().phase = Phase::Connected(peer);
        listener.offer(Accepted { socket: server, address: own }, self).inspect_err(|_| {
            self.state.lock().phase = Phase::Idle;
        })
    }

    /// The address at which a client that connected to `name` sees this listener: never the wildcard.
    fn name_seen(&self, name: &Name) -> Address {
        match name {
            Name::Inet(to) if to.ip().is_unspecified() => match Net::source_for(name, self.family) {
                Address::Inet(source) => Address::Inet(core::net::SocketAddr::new(source.ip(), to.port())),
                other => other,
            },
            Name::Inet(to) => Address::Inet(*to),
            _ => self.local_address(),
        }
    }

    /// Puts a connection into the backlog, waiting for room as long as the `client` would.
    fn offer(&self, connection: Accepted, client: &Self) -> Result<()> {
        let patience = client.patience(false, |options| options.send_timeout);
        let mut connection = Some(connection);
        let result = self.inbox.when(patience, || match &mut self.state.lock().phase {
            Phase::Listening { pending, backlog } if pending.len() <= *backlog => {
                pending.extend(connection.take());
                Some(Ok(()))
            }
            Phase::Listening { .. } => None,
            _ => Some(Err(Errno::ECONNREFUSED)),
        });
        self.inbox.bell().ring();
        if let Some(Accepted { socket, .. }) = connection {
            // Its end must not be told to the client: nobody has been connected.
            socket.state.lock().phase = Phase::Idle;
        }
        result
    }

    fn speak_with(&self, name: &Name) -> Result<()> {
        let inbox = match self.net.find(name, self.kind) {
            Ok(target) if !self.family.is_inet() => Some(target.inbox.clone()),
            Ok(_) => None,
            Err(Errno::ECONNREFUSED) if self.family.is_inet() => None,
            Err(errno) => return Err(errno),
        };
        self.bind_for(name)?;
        let peer = Peer { inbox, name: Some(name.clone()), address: name.address() };
        let old = core::mem::replace(&mut self.state.lock().phase, Phase::Connected(peer));
        drop(old);
        Ok(())
    }

    /// Undoes the connection of a datagram socket (connect(2) with `AF_UNSPEC`).
    ///
    /// # Errors
    /// `EINVAL` for other kinds.
    pub fn disconnect(&self) -> Result<()> {
        if self.kind.is_connected() {
            return Err(Errno::EINVAL);
        }
        let old = core::mem::take(&mut self.state.lock().phase);
        drop(old);
        Ok(())
    }
}
