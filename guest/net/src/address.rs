//! Socket addresses: what a program names a socket by, and the bytes it does that with (unix(7), ip(7), ipv6(7)).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use diolkos_vfs::{Errno, Inode, Result};

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `AF_UNIX`.
    Unix,
    /// `AF_INET`.
    Inet,
    /// `AF_INET6`.
    Inet6,
}

impl Family {
    /// The family of an `AF_` number.
    pub fn from_raw(raw: u16) -> Option<Self> {
        [Self::Unix, Self::Inet, Self::Inet6].into_iter().find(|family| family.raw() == raw)
    }

    /// The `AF_` number.
    pub fn raw(self) -> u16 {
        match self {
            Self::Unix => 1,
            Self::Inet => 2,
            Self::Inet6 => 10,
        }
    }

    /// Whether it is one of the two Internet families.
    pub fn is_inet(self) -> bool {
        self != Self::Unix
    }
}

/// Bytes of a `sockaddr_un`: the family and 108 of path.
const UNIX_LEN: usize = 110;
/// Bytes of a `sockaddr_in`.
const INET_LEN: usize = 16;
/// Bytes of a `sockaddr_in6`; without the scope, which old programs leave out, they are 24.
const INET6_LEN: usize = 28;
const INET6_LEAST: usize = 24;

/// An address as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Address {
    /// That of a local socket nobody has named.
    #[default]
    Unnamed,
    /// A path, without NUL.
    Path(Vec<u8>),
    /// A name outside the file system, without its leading NUL.
    Abstract(Vec<u8>),
    /// An IP address and port. One of IPv4 in IPv6 notation is IPv4 here.
    Inet(SocketAddr),
}

impl Address {
    /// Reads a `struct sockaddr` that must be of this family.
    ///
    /// # Errors
    /// `EINVAL` for a length no address of the family has; `EAFNOSUPPORT` for another family, which for a local socket is
    /// `EINVAL`.
    pub fn parse(family: Family, bytes: &[u8]) -> Result<Self> {
        let raw = bytes.first_chunk().map(|raw| u16::from_ne_bytes(*raw)).ok_or(Errno::EINVAL)?;
        let rest = &bytes[2..];
        match family {
            Family::Unix if raw != family.raw() || bytes.len() > UNIX_LEN => Err(Errno::EINVAL),
            Family::Unix => Ok(match rest {
                [] => Self::Unnamed,
                [0, name @ ..] => Self::Abstract(name.into()),
                path => Self::Path(path.split(|b| *b == 0).next().unwrap_or_default().into()),
            }),
            Family::Inet if bytes.len() < INET_LEN => Err(Errno::EINVAL),
            Family::Inet6 if bytes.len() < INET6_LEAST => Err(Errno::EINVAL),
            _ if raw != family.raw() => Err(Errno::EAFNOSUPPORT),
            Family::Inet => {
                let ip = Ipv4Addr::new(rest[2], rest[3], rest[4], rest[5]);
                Ok(Self::Inet(SocketAddr::new(ip.into(), port(rest))))
            }
            Family::Inet6 => {
                let octets: [u8; 16] = rest[6..22].try_into().expect("a slice of 16");
                Ok(Self::Inet(SocketAddr::new(Ipv6Addr::from(octets).to_canonical(), port(rest))))
            }
        }
    }

    /// The `struct sockaddr` of it, as a socket of `family` shows it.
    pub fn encode(&self, family: Family) -> Vec<u8> {
        let mut bytes = Vec::from(family.raw().to_ne_bytes());
        match self {
            Self::Unnamed => {}
            Self::Path(path) => {
                bytes.extend_from_slice(path);
                bytes.push(0);
            }
            Self::Abstract(name) => {
                bytes.push(0);
                bytes.extend_from_slice(name);
            }
            Self::Inet(address) => {
                bytes.extend_from_slice(&address.port().to_be_bytes());
                match (family, address.ip()) {
                    (Family::Inet6, ip) => {
                        let (ip, flow, scope) = (as_v6(ip), 0u32, 0u32);
                        bytes.extend_from_slice(&flow.to_be_bytes());
                        bytes.extend_from_slice(&ip.octets());
                        bytes.extend_from_slice(&scope.to_ne_bytes());
                        debug_assert_eq!(bytes.len(), INET6_LEN);
                    }
                    (_, IpAddr::V4(ip)) => {
                        bytes.extend_from_slice(&ip.octets());
                        bytes.resize(INET_LEN, 0);
                    }
                    (_, IpAddr::V6(_)) => bytes.resize(INET_LEN, 0),
                }
            }
        }
        bytes
    }

    /// The address a socket of an Internet family has before it has one.
    pub fn unspecified(family: Family) -> Self {
        match family {
            Family::Unix => Self::Unnamed,
            Family::Inet => Self::Inet(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)),
            Family::Inet6 => Self::Inet(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0).into()),
        }
    }
}

fn port(after_family: &[u8]) -> u16 {
    u16::from_be_bytes([after_family[0], after_family[1]])
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// A name that leads to a socket.
#[derive(Clone)]
pub enum Name {
    /// The socket file at a path; by its inode, so that a rename does not matter (unix(7)).
    Path {
        /// As the program spelled it.
        path: Vec<u8>,
        /// What it leads to.
        inode: Arc<dyn Inode>,
    },
    /// A name outside the file system.
    Abstract(Vec<u8>),
    /// An IP address and port.
    Inet(SocketAddr),
}

impl Name {
    /// The address it is shown as.
    pub fn address(&self) -> Address {
        match self {
            Self::Path { path, .. } => Address::Path(path.clone()),
            Self::Abstract(name) => Address::Abstract(name.clone()),
            Self::Inet(address) => Address::Inet(*address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(family: Family, bytes: &[u8]) -> Result<Vec<u8>> {
        Address::parse(family, bytes).map(|address| address.encode(family))
    }

    #[test]
    fn local_addresses() {
        assert_eq!(Address::parse(Family::Unix, &[1, 0]), Ok(Address::Unnamed));
        assert_eq!(Address::parse(Family::Unix, b"\x01\0/a\0junk"), Ok(Address::Path(b"/a".to_vec())));
        assert_eq!(round(Family::Unix, b"\x01\0/a"), Ok(b"\x01\0/a\0".to_vec()));
        // Every byte of an abstract name counts, NULs included.
        assert_eq!(round(Family::Unix, b"\x01\0\0x\0"), Ok(b"\x01\0\0x\0".to_vec()));
        let long = [&[1, 0][..], &[b'a'; 108]].concat();
        assert_eq!(Address::parse(Family::Unix, &long), Ok(Address::Path([b'a'; 108].to_vec())));
        assert_eq!(Address::parse(Family::Unix, &[&long[..], b"a"].concat()), Err(Errno::EINVAL));
        assert_eq!(Address::parse(Family::Unix, &[2, 0, 0, 0]), Err(Errno::EINVAL));
    }

    #[test]
    fn internet_addresses() {
        let v4 = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Address::parse(Family::Inet, &v4), Ok(Address::Inet("127.0.0.1:8080".parse().unwrap())));
        assert_eq!(round(Family::Inet, &v4), Ok(v4.to_vec()));
        let mapped = Address::Inet("127.0.0.1:8080".parse().unwrap()).encode(Family::Inet6);
        assert_eq!(mapped.len(), INET6_LEN);
        assert_eq!(&mapped[18..24], &[0xff, 0xff, 127, 0, 0, 1]);
        assert_eq!(round(Family::Inet6, &mapped), Ok(mapped));
    }

    #[test]
    fn bad_addresses_are_refused() {
        for len in 0..INET_LEN {
            let bytes = &[2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..len];
            assert_eq!(Address::parse(Family::Inet, bytes), Err(Errno::EINVAL), "{len}");
        }
        assert_eq!(Address::parse(Family::Inet, &[0; 16]), Err(Errno::EAFNOSUPPORT));
        assert_eq!(Address::parse(Family::Inet6, &[10; 23]), Err(Errno::EINVAL));
        assert_eq!(Address::parse(Family::Unix, &[1]), Err(Errno::EINVAL));
    }
}
