//! Socket options: what getsockopt(2) and setsockopt(2) know (socket(7), tcp(7), ip(7), ipv6(7)).
//!
//! Most options tune a wire that is not there. They are remembered and shown as they were set, which is all a program
//! can see of them; the few that mean something here are asked for by name.

use crate::{Family, Kind};
use alloc::collections::BTreeMap;
use core::time::Duration;
use diolkos_vfs::{Errno, Result};

/// An option's level and number.
type Id = (u32, u32);

/// `SOL_SOCKET`.
pub const SOCKET: u32 = 1;
const IP: u32 = 0;
const TCP: u32 = 6;
const IPV6: u32 = 41;

/// `SO_REUSEADDR`.
pub const REUSEADDR: Id = (SOCKET, 2);
/// `SO_REUSEPORT`.
pub const REUSEPORT: Id = (SOCKET, 15);
/// `SO_PASSCRED`.
pub const PASSCRED: Id = (SOCKET, 16);
/// `IPV6_V6ONLY`.
pub const V6ONLY: Id = (IPV6, 26);
const SNDBUF: Id = (SOCKET, 7);
/// `SO_RCVBUF`.
pub(crate) const RCVBUF: Id = (SOCKET, 8);

/// What is remembered, with what it is before anybody sets it: the numbers of `linux/socket.h`, `tcp.h`, `in.h`, `in6.h`.
const REMEMBERED: &[(Id, i32)] = &[
    (REUSEADDR, 0),
    ((SOCKET, 1), 0), // SO_DEBUG
    ((SOCKET, 5), 0), // SO_DONTROUTE
    ((SOCKET, 6), 0), // SO_BROADCAST
    (SNDBUF, 212_992),
    (RCVBUF, 212_992),
    ((SOCKET, 9), 0),  // SO_KEEPALIVE
    ((SOCKET, 10), 0), // SO_OOBINLINE
    ((SOCKET, 12), 0), // SO_PRIORITY
    (REUSEPORT, 0),
    (PASSCRED, 0),
    ((SOCKET, 18), 1),  // SO_RCVLOWAT
    ((SOCKET, 29), 0),  // SO_TIMESTAMP
    ((SOCKET, 46), 0),  // SO_BUSY_POLL
    ((TCP, 1), 0),      // TCP_NODELAY
    ((TCP, 2), 65_483), // TCP_MAXSEG, of the loopback device
    ((TCP, 3), 0),      // TCP_CORK
    ((TCP, 4), 7200),   // TCP_KEEPIDLE
    ((TCP, 5), 75),     // TCP_KEEPINTVL
    ((TCP, 6), 9),      // TCP_KEEPCNT
    ((TCP, 7), 6),      // TCP_SYNCNT
    ((TCP, 8), 60),     // TCP_LINGER2
    ((TCP, 9), 0),      // TCP_DEFER_ACCEPT
    ((TCP, 12), 1),     // TCP_QUICKACK
    ((TCP, 18), 0),     // TCP_USER_TIMEOUT
    ((TCP, 23), 0),     // TCP_FASTOPEN
    ((TCP, 25), -1),    // TCP_NOTSENT_LOWAT
    ((IP, 1), 0),       // IP_TOS
    ((IP, 2), 64),      // IP_TTL
    ((IP, 8), 0),       // IP_PKTINFO
    ((IP, 10), 0),      // IP_MTU_DISCOVER
    ((IP, 11), 0),      // IP_RECVERR
    ((IP, 24), 0),      // IP_BIND_ADDRESS_NO_PORT
    ((IP, 33), 1),      // IP_MULTICAST_TTL
    ((IP, 34), 1),      // IP_MULTICAST_LOOP
    ((IPV6, 16), 64),   // IPV6_UNICAST_HOPS
    ((IPV6, 18), 1),    // IPV6_MULTICAST_HOPS
    ((IPV6, 19), 1),    // IPV6_MULTICAST_LOOP
    ((IPV6, 25), 0),    // IPV6_RECVERR
    (V6ONLY, 0),
    ((IPV6, 49), 0), // IPV6_RECVPKTINFO
    ((IPV6, 67), 0), // IPV6_TCLASS
];

/// The options that were set.
#[derive(Debug, Clone, Default)]
pub struct Options {
    set: BTreeMap<Id, i32>,
    /// `SO_RCVTIMEO`; `None` waits without end.
    pub receive_timeout: Option<Duration>,
    /// `SO_SNDTIMEO`.
    pub send_timeout: Option<Duration>,
    /// `SO_LINGER`, as `l_onoff` and `l_linger`. Nothing lingers here: what was sent has arrived.
    pub linger: (i32, i32),
}

/// # Errors
/// `ENOPROTOOPT` for an option this socket does not have; `EOPNOTSUPP` for one of a level it does not have.
fn default(family: Family, kind: Kind, id: Id) -> Result<i32> {
    let level = match id.0 {
        SOCKET => true,
        TCP => family.is_inet() && kind == Kind::Stream,
        IP => family.is_inet(),
        IPV6 => family == Family::Inet6,
        _ => false,
    };
    if !level {
        return Err(if family.is_inet() { Errno::ENOPROTOOPT } else { Errno::EOPNOTSUPP });
    }
    REMEMBERED.iter().find(|(known, _)| *known == id).map(|(_, value)| *value).ok_or(Errno::ENOPROTOOPT)
}

impl Options {
    /// An option's value.
    ///
    /// # Errors
    /// `ENOPROTOOPT` and `EOPNOTSUPP` for one that there is not.
    pub fn get(&self, family: Family, kind: Kind, id: Id) -> Result<i32> {
        let before = default(family, kind, id)?;
        Ok(self.set.get(&id).copied().unwrap_or(before))
    }

    /// Sets an option.
    ///
    /// # Errors
    /// As [`Options::get`].
    pub(crate) fn set(&mut self, family: Family, kind: Kind, id: Id, value: i32) -> Result<()> {
        default(family, kind, id)?;
        let value = match id {
            // Linux doubles what is asked for, within bounds (socket(7)).
            SNDBUF => (value.clamp(0, 212_992) * 2).max(4608),
            RCVBUF => (value.clamp(0, 212_992) * 2).max(2304),
            // Truth values are shown as 0 or 1.
            (SOCKET, 1 | 5 | 6 | 9 | 10) | REUSEADDR | REUSEPORT | PASSCRED | V6ONLY | (TCP, 1 | 3) => {
                i32::from(value != 0)
            }
            _ => value,
        };
        self.set.insert(id, value);
        Ok(())
    }

    /// Bytes of a stream that may be on their way (`SO_SNDBUF`), if that was set.
    pub(crate) fn send_buffer(&self) -> Option<usize> {
        self.buffer(SNDBUF)
    }

    /// Bytes of a stream that may wait to be received (`SO_RCVBUF`), if that was set.
    pub(crate) fn receive_buffer(&self) -> Option<usize> {
        self.buffer(RCVBUF)
    }

    fn buffer(&self, id: Id) -> Option<usize> {
        self.set.get(&id).and_then(|bytes| usize::try_from(*bytes).ok())
    }

    /// Whether an option is on.
    pub fn is_on(&self, id: Id) -> bool {
        self.set.get(&id).is_some_and(|value| *value != 0)
    }
}
