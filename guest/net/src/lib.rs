//! Sockets between the threads of one machine: `AF_UNIX`, and `AF_INET` and `AF_INET6` on the loopback addresses.
//!
//! There is no wire. A connection is two [`Inbox`]es, one at each end, and to send is to put a letter into the
//! other end's. So a local stream, a TCP connection to 127.0.0.1 and a datagram differ in how they are named
//! ([`names`]), in whether letters keep their borders, and in a few error numbers, and share everything else. The
//! outside world is not here: an address that is not this machine's is refused as unreachable.
//!
//! # Locking
//! Bytes are copied to and from the program with no lock held, since that may fault. Open files that travel in a
//! letter (`SCM_RIGHTS`) are let go of with no lock held, since that may wait for the host. No lock is held while another
//! is taken.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod address;
mod bell;
mod file;
mod inbox;
pub mod names;
mod options;
mod socket;
#[cfg(test)]
mod tests;
mod transfer;

pub use address::{Address, Family, Name};
pub use bell::{Bell, Surroundings};
pub use inbox::{Inbox, Right};
pub use names::Net;
pub use options::{Options, PASSCRED};
pub use socket::{Accepted, Credentials, Kind, Shut, Socket};
pub use transfer::{ReceiveFlags, Received, SendFlags};
