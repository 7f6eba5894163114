//! Who is bound to what: the names of one machine's sockets.
//!
//! A name holds its socket weakly, so that closing the socket frees the name. Internet names overlap: `0.0.0.0` is every
//! IPv4 address, and `::` every address unless its socket is `IPV6_V6ONLY` (ipv6(7)).

use crate::{Address, Credentials, Family, Kind, Name, Socket, Surroundings};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use diolkos_vfs::{Errno, InodeId, Result};
use spin::Mutex;

/// The first and last port that is given to a socket that asks for none (ip(7), `ip_local_port_range`).
const EPHEMERAL: core::ops::RangeInclusive<u16> = 32_768..=60_999;

/// What sockets are found by. Internet names of one transport and port share a key and differ within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Node(InodeId),
    Abstract(Vec<u8>),
    Port { stream: bool, port: u16 },
}

/// The claim on an Internet name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The address, canonical.
    pub(crate) ip: IpAddr,
    /// Reaches IPv6 only, if the address is `::`.
    pub(crate) v6_only: bool,
    /// `SO_REUSEADDR`.
    pub(crate) reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub(crate) reuse_port: bool,
}

impl Claim {
    /// Whether a packet to `ip` reaches it.
    fn covers(&self, ip: IpAddr) -> bool {
        match self.ip {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ip.is_ipv4(),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) => ip.is_ipv6() || !self.v6_only,
            own => own == ip,
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.covers(other.ip) || other.covers(self.ip)
    }
}

struct Bound {
    socket: Weak<Socket>,
    claim: Option<Claim>,
}

#[derive(Default)]
struct Table {
    bound: BTreeMap<Key, Vec<Bound>>,
    next_port: u16,
    next_name: u32,
}

/// The sockets of one machine.
pub struct Net {
    table: Mutex<Table>,
    surroundings: Arc<dyn Surroundings>,
    credentials: Credentials,
}

impl Net {
    /// Nobody is bound to anything. `credentials` are what every socket's owner has.
    pub fn new(surroundings: Arc<dyn Surroundings>, credentials: Credentials) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), surroundings, credentials })
    }

    pub(crate) fn surroundings(&self) -> &dyn Surroundings {
        &*self.surroundings
    }

    /// Who owns the sockets.
    pub fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// Binds a socket to a name and returns the name it got: a port of 0 becomes a free one.
    ///
    /// # Errors
    /// `EADDRINUSE`; `EADDRNOTAVAIL` for an IP address that is not this machine's.
    pub(crate) fn bind(&self, socket: &Arc<Socket>, name: Name, claim: impl Fn(IpAddr) -> Claim) -> Result<Name> {
        let mut table = self.table.lock();
        match name {
            Name::Path { ref inode, .. } => {
                table.enter(Key::Node(inode.id()), socket, None)?;
                Ok(name)
            }
            Name::Abstract(ref bytes) => {
                table.enter(Key::Abstract(bytes.clone()), socket, None)?;
                Ok(name)
            }
            Name::Inet(address) => {
                if !address.ip().is_unspecified() && !address.ip().is_loopback() {
                    return Err(Errno::EADDRNOTAVAIL);
                }
                let claim = claim(address.ip());
                let stream = socket.kind() == Kind::Stream;
                let port = match address.port() {
                    0 => table.free_port(stream, &claim)?,
                    port => port,
                };
                table.enter(Key::Port { stream, port }, socket, Some(claim))?;
                Ok(Name::Inet(SocketAddr::new(address.ip(), port)))
            }
        }
    }

    /// A name outside the file system that nobody has: five hexadecimal digits (unix(7), "Autobind feature").
    ///
    /// # Errors
    /// `ENOSPC` when all are taken.
    pub(crate) fn autobind(&self, socket: &Arc<Socket>) -> Result<Name> {
        const NAMES: u32 = 1 << 20;
        let mut table = self.table.lock();
        for _ in 0..NAMES {
            table.next_name = (table.next_name + 1) % NAMES;
            let name = format!("{:05x}", table.next_name).into_bytes();
            if table.enter(Key::Abstract(name.clone()), socket, None).is_ok() {
                return Ok(Name::Abstract(name));
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Frees the name of a socket that is going away.
    pub(crate) fn release(&self, name: &Name, kind: Kind) {
        let key = key(name, kind);
        let mut table = self.table.lock();
        if let Some(bound) = table.bound.get_mut(&key) {
            bound.retain(|bound| bound.socket.strong_count() > 0);
            if bound.is_empty() {
                table.bound.remove(&key);
            }
        }
    }

    /// The socket of a kind that a name leads to; of several that cover an IP address the most exact. Streams are found only
    /// while they listen.
    ///
    /// # Errors
    /// `ECONNREFUSED` when there is none, `EPROTOTYPE` when a local name leads to one of another kind, `ENETUNREACH` for
    /// an IP address that is not this machine's.
    pub(crate) fn find(&self, name: &Name, kind: Kind) -> Result<Arc<Socket>> {
        let wanted = match name {
            Name::Inet(address) => Some(destination(address.ip())?),
            _ => None,
        };
        let candidates: Vec<(Arc<Socket>, Option<Claim>)> = {
            let table = self.table.lock();
            let bound = table.bound.get(&key(name, kind)).into_iter().flatten();
            bound.filter_map(|bound| Some((bound.socket.upgrade()?, bound.claim))).collect()
        };
        // The sockets are looked at, and let go of, without the lock: dropping the last one comes back here.
        let found = candidates
            .into_iter()
            .filter(|(_, claim)| claim.zip(wanted).is_none_or(|(claim, ip)| claim.covers(ip)))
            .filter(|(socket, claim)| claim.is_none() || kind != Kind::Stream || socket.is_listening())
            .max_by_key(|(_, claim)| claim.map(|claim| (!claim.ip.is_unspecified(), claim.v6_only)));
        let (socket, _) = found.ok_or(Errno::ECONNREFUSED)?;
        if socket.kind() == kind { Ok(socket) } else { Err(Errno::EPROTOTYPE) }
    }

    /// The address that a socket sends from to `to` if it has none: on the loopback network the destination's own family's.
    pub(crate) fn source_for(to: &Name, family: Family) -> Address {
        match to {
            Name::Inet(address) if address.is_ipv4() => Address::Inet(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)),
            Name::Inet(_) => Address::Inet(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 0)),
            _ => Address::unspecified(family),
        }
    }
}

/// Where a packet to `ip` goes: to no address means to this machine.
///
/// # Errors
/// `ENETUNREACH`.
fn destination(ip: IpAddr) -> Result<IpAddr> {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ok(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ok(Ipv6Addr::LOCALHOST.into()),
        ip if ip.is_loopback() => Ok(ip),
        _ => Err(Errno::ENETUNREACH),
    }
}

fn key(name: &Name, kind: Kind) -> Key {
    match name {
        Name::Path { inode, .. } => Key::Node(inode.id()),
        Name::Abstract(name) => Key::Abstract(name.clone()),
        Name::Inet(address) => Key::Port { stream: kind == Kind::Stream, port: address.port() },
    }
}

impl Table {
    fn enter(&mut self, key: Key, socket: &Arc<Socket>, claim: Option<Claim>) -> Result<()> {
        if self.is_taken(&key, claim.as_ref()) {
            return Err(Errno::EADDRINUSE);
        }
        self.bound.entry(key).or_default().push(Bound { socket: Arc::downgrade(socket), claim });
        Ok(())
    }

    fn is_taken(&self, key: &Key, claim: Option<&Claim>) -> bool {
        let stream = matches!(key, Key::Port { stream: true, .. });
        self.bound.get(key).into_iter().flatten().filter(|bound| bound.socket.strong_count() > 0).any(|bound| {
            let (Some(claim), Some(other)) = (claim, &bound.claim) else { return true };
            let listens = || stream && bound.socket.upgrade().is_some_and(|socket| socket.is_listening());
            let shared =
                (claim.reuse_port && other.reuse_port) || (claim.reuse_address && other.reuse_address && !listens());
            claim.overlaps(other) && !shared
        })
    }

    fn free_port(&mut self, stream: bool, claim: &Claim) -> Result<u16> {
        // Somebody who asks for any port gets one that nobody has, whatever could be shared.
        let alone = Claim { reuse_address: false, reuse_port: false, ..*claim };
        for _ in EPHEMERAL {
            self.next_port = match self.next_port.checked_add(1) {
                Some(port) if EPHEMERAL.contains(&port) => port,
                _ => *EPHEMERAL.start(),
            };
            if !self.is_taken(&Key::Port { stream, port: self.next_port }, Some(&alone)) {
                return Ok(self.next_port);
            }
        }
        Err(Errno::EADDRINUSE)
    }
}
