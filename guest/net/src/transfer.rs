//! Sending and receiving (send(2), recv(2)).

use crate::inbox::{CAPACITY, LETTER_MAX, Right};
use crate::{Address, Inbox, Name, Options, Socket};
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use diolkos_vfs::{Errno, Result, Sink, Source};

bitflags! {
    /// Flags of send(2), with Linux' values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct SendFlags: u32 {
        /// Route hints mean nothing here.
        const DONTROUTE = 0x4;
        /// Does not wait.
        const DONTWAIT = 0x40;
        /// A border between records, which `SOCK_SEQPACKET` has anyway.
        const EOR = 0x80;
        /// The peer's answer is awaited, a hint.
        const CONFIRM = 0x800;
        /// No SIGPIPE: the caller's business.
        const NOSIGNAL = 0x4000;
        /// More will follow, a hint.
        const MORE = 0x8000;
    }

    /// Flags of recv(2), with Linux' values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct ReceiveFlags: u32 {
        /// What is read stays to be read.
        const PEEK = 0x2;
        /// The whole length of a datagram is returned, however much fits.
        const TRUNC = 0x20;
        /// Does not wait.
        const DONTWAIT = 0x40;
        /// Waits until the buffer is full.
        const WAITALL = 0x100;
        /// Means nothing to receiving.
        const NOSIGNAL = 0x4000;
        /// Descriptors that come are closed on exec: the caller's business.
        const CMSG_CLOEXEC = 0x4000_0000;
    }
}

/// The longest datagram of IPv4: 65,535 less the headers (udp(7)).
const UDP_MAX: usize = 65_507;

/// What came.
pub struct Received {
    /// Bytes put into the buffer.
    pub copied: usize,
    /// Bytes the message had.
    pub whole: usize,
    /// Open files that came with it.
    pub rights: Vec<Right>,
    /// Who sent it: of a datagram socket only, the others know their peer.
    pub from: Option<Address>,
}

impl Socket {
    /// Sends the source's bytes, to `to` if it is given, and returns how many those were.
    ///
    /// # Errors
    /// `ENOTCONN`, `EDESTADDRREQ`, `EISCONN`, `EPIPE`, `ECONNREFUSED`, `EMSGSIZE`, `EAGAIN`, `EINTR`, `EFAULT`; only when
    /// nothing was sent.
    pub fn send(
        &self,
        source: &mut dyn Source,
        to: Option<&Name>,
        rights: Vec<Right>,
        flags: SendFlags,
    ) -> Result<usize> {
        if let Some(errno) = self.take_error() {
            return Err(errno);
        }
        if self.kind().is_connected() {
            self.send_connected(source, to, rights, flags)
        } else {
            self.send_datagram(source, to, rights, flags)
        }
    }

    fn send_connected(
        &self,
        source: &mut dyn Source,
        to: Option<&Name>,
        mut rights: Vec<Right>,
        flags: SendFlags,
    ) -> Result<usize> {
        let peer = self.peer();
        if to.is_some() && !self.family().is_inet() {
            return Err(if peer.is_some() { Errno::EISCONN } else { Errno::EOPNOTSUPP });
        }
        if self.is_silent() {
            return Err(Errno::EPIPE);
        }
        // TCP has never been connected: EPIPE (tcp_sendmsg); a local socket says what is missing.
        let unconnected = if self.family().is_inet() { Errno::EPIPE } else { Errno::ENOTCONN };
        let inbox = peer.and_then(|peer| peer.inbox).ok_or(unconnected)?;
        let whole = self.kind().is_packet();
        if whole && source.remaining() > LETTER_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let own = self.local_address();
        let patience = self.patience(flags.contains(SendFlags::DONTWAIT), send_timeout);
        if whole {
            return inbox.send(source, true, CAPACITY, &own, rights, patience);
        }
        let capacity = self.capacity(&inbox);
        let length = source.remaining();
        let mut done = 0;
        while source.remaining() > 0 {
            match inbox.send(source, false, capacity, &own, core::mem::take(&mut rights), patience) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                // TCP learns only from the answer to what it sends that nobody is there any more.
                Err(Errno::EPIPE) if self.family().is_inet() => match self.inbox.learn_of_reset() {
                    Some(errno) => return Err(errno),
                    None => return Ok(length),
                },
                Err(errno) => return Err(errno),
            }
        }
        Ok(done)
    }

    fn send_datagram(
        &self,
        source: &mut dyn Source,
        to: Option<&Name>,
        rights: Vec<Right>,
        flags: SendFlags,
    ) -> Result<usize> {
        if self.is_silent() {
            return Err(Errno::EPIPE);
        }
        let most = if self.family().is_inet() { UDP_MAX } else { LETTER_MAX };
        if source.remaining() > most {
            return Err(Errno::EMSGSIZE);
        }
        let Some(inbox) = self.recipient(to)? else {
            // Nobody is there, and nobody will tell: a datagram that is lost.
            return Ok(source.remaining());
        };
        let patience = self.patience(flags.contains(SendFlags::DONTWAIT), send_timeout);
        inbox.send(source, true, CAPACITY, &self.local_address(), rights, patience)
    }

    /// Where a datagram goes; `None` for one that is lost.
    fn recipient(&self, to: Option<&Name>) -> Result<Option<Arc<Inbox>>> {
        let peer = self.peer();
        if to.is_none()
            && let Some(inbox) = peer.as_ref().and_then(|peer| peer.inbox.clone())
        {
            return Ok(Some(inbox));
        }
        let connected = to.is_none();
        let missing = if self.family().is_inet() { Errno::EDESTADDRREQ } else { Errno::ENOTCONN };
        let name = to.cloned().or(peer.and_then(|peer| peer.name)).ok_or(missing)?;
        self.bind_for(&name)?;
        let target = match self.net().find(&name, self.kind()) {
            Err(Errno::ECONNREFUSED) if self.family().is_inet() && !connected => return Ok(None),
            found => found?,
        };
        // One that speaks with somebody else does not hear us.
        let admits = target.peer().is_none_or(|peer| peer.address == self.local_address());
        match (admits, self.family().is_inet()) {
            (true, _) => Ok(Some(target.inbox.clone())),
            (false, true) => Ok(None),
            (false, false) => Err(Errno::EPERM),
        }
    }

    /// Receives into the sink.
    ///
    /// # Errors
    /// `ENOTCONN`, `EINVAL` from a local stream without peer, `ECONNRESET`, `EAGAIN`, `EINTR`, `EFAULT`.
    pub fn receive(&self, sink: &mut dyn Sink, flags: ReceiveFlags) -> Result<Received> {
        if let Some(errno) = self.take_error() {
            return Err(errno);
        }
        let packet = self.kind().is_packet();
        if self.kind().is_connected() && self.peer().is_none() {
            return Err(if self.family().is_inet() || packet { Errno::ENOTCONN } else { Errno::EINVAL });
        }
        let peek = flags.contains(ReceiveFlags::PEEK);
        let patience = self.patience(flags.contains(ReceiveFlags::DONTWAIT), |options| options.receive_timeout);
        let mut received = Received { copied: 0, whole: 0, rights: Vec::new(), from: None };
        loop {
            let taken = match self.inbox.receive(sink, packet, peek, patience) {
                Ok(Some(taken)) => taken,
                Ok(None) => break,
                Err(_) if received.copied > 0 => break,
                Err(errno) => return Err(errno),
            };
            received.copied += taken.copied;
            received.whole += taken.whole;
            received.rights.extend(taken.rights);
            if !self.kind().is_connected() {
                received.from = Some(taken.from);
            }
            let again = flags.contains(ReceiveFlags::WAITALL) && !packet && !peek && sink.room() > 0;
            if !again || taken.copied == 0 {
                break;
            }
        }
        Ok(received)
    }
}

fn send_timeout(options: &Options) -> Option<core::time::Duration> {
    options.send_timeout
}
