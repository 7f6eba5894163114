//! Sockets as programs use them, on a host's threads: here the fakes and short ways, below the tests.

mod connections;
mod packets;
mod streams;

use crate::{
    Address, Bell, Credentials, Family, Kind, Name, Net, ReceiveFlags, Right, SendFlags, Shut, Socket, Surroundings,
};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use diolkos_vfs::{
    Errno, File, FileType, Inode, InodeId, Metadata, OpenFlags, Poll, Result, SliceSink, SliceSource, StatFs,
};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Instant;

/// A bell of `std`. The count of rings is what makes none of them lost.
#[derive(Default)]
struct StdBell {
    rings: Mutex<u64>,
    rung: Condvar,
}

impl Bell for StdBell {
    fn wait_until(&self, ready: &mut dyn FnMut() -> bool, most: Option<Duration>) -> Result<bool> {
        let deadline = most.map(|most| Instant::now() + most);
        loop {
            let seen = *self.rings.lock().unwrap();
            if ready() {
                return Ok(true);
            }
            let mut rings = self.rings.lock().unwrap();
            while *rings == seen {
                let left =
                    deadline.map_or(Duration::from_secs(60), |end| end.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Ok(false);
                }
                rings = self.rung.wait_timeout(rings, left).unwrap().0;
            }
        }
    }

    fn ring(&self) {
        *self.rings.lock().unwrap() += 1;
        self.rung.notify_all();
    }
}

/// An inode that is nothing but itself.
struct Node(u64);

impl Inode for Node {
    fn id(&self) -> InodeId {
        InodeId { dev: 1, node: self.0, generation: 0 }
    }
    fn file_type(&self) -> FileType {
        FileType::Socket
    }
    fn metadata(&self) -> Result<Metadata> {
        Err(Errno::EIO)
    }
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn File>> {
        Err(Errno::ENXIO)
    }
    fn access(&self, _mask: u32) -> Result<()> {
        Ok(())
    }
    fn statfs(&self) -> Result<StatFs> {
        Err(Errno::EIO)
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}

static NODES: AtomicU64 = AtomicU64::new(1);

fn node() -> Arc<dyn Inode> {
    Arc::new(Node(NODES.fetch_add(1, Ordering::Relaxed)))
}

struct Host;

impl Surroundings for Host {
    fn bell(&self) -> Arc<dyn Bell> {
        Arc::new(StdBell::default())
    }
    fn inode(&self) -> Arc<dyn Inode> {
        node()
    }
}

fn net() -> Arc<Net> {
    Net::new(Arc::new(Host), Credentials { pid: 1, uid: 0, gid: 0 })
}

fn inet(address: &str) -> Name {
    Name::Inet(address.parse().unwrap())
}

fn abstract_name(name: &str) -> Name {
    Name::Abstract(name.into())
}

fn send(socket: &Socket, bytes: &[u8]) -> Result<usize> {
    socket.send(&mut SliceSource::new(bytes), None, Vec::new(), SendFlags::empty())
}

fn send_to(socket: &Socket, bytes: &[u8], to: &Name) -> Result<usize> {
    socket.send(&mut SliceSource::new(bytes), Some(to), Vec::new(), SendFlags::empty())
}

fn receive_with(socket: &Socket, room: usize, flags: ReceiveFlags) -> Result<(Vec<u8>, usize, Option<Address>)> {
    let mut bytes = vec![0; room];
    let received = socket.receive(&mut SliceSink::new(&mut bytes), flags)?;
    bytes.truncate(received.copied);
    Ok((bytes, received.whole, received.from))
}

fn receive(socket: &Socket, room: usize) -> Result<Vec<u8>> {
    receive_with(socket, room, ReceiveFlags::empty()).map(|(bytes, ..)| bytes)
}

/// A listener at a name and a connection to it, both ends.
fn connected(net: &Arc<Net>, family: Family, kind: Kind, name: &Name) -> (Arc<Socket>, Arc<Socket>, Arc<Socket>) {
    let listener = Socket::new(net, family, kind).unwrap();
    listener.bind(Some(name.clone())).unwrap();
    listener.listen(5).unwrap();
    let client = Socket::new(net, family, kind).unwrap();
    client.connect(name).unwrap();
    let server = listener.accept().unwrap().socket;
    (listener, client, server)
}
