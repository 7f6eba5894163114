//! Sockets as programs use them, on a host's threads.

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

#[test]
fn a_stream_has_no_borders() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    send(&a, b"hello ").unwrap();
    send(&a, b"world").unwrap();
    assert_eq!(b.available(), 11);
    assert_eq!(receive(&b, 8).unwrap(), b"hello wo");
    assert_eq!(receive(&b, 8).unwrap(), b"rld");
    b.set_nonblocking(true);
    assert_eq!(receive(&b, 8), Err(Errno::EAGAIN));
}

#[test]
fn packets_keep_theirs() {
    for kind in [Kind::SeqPacket, Kind::Datagram] {
        let [a, b] = Socket::pair(&net(), kind);
        for message in [&b"first"[..], b"", b"third"] {
            assert_eq!(send(&a, message), Ok(message.len()));
        }
        // What does not fit is gone; its length is told.
        let (bytes, whole, _) = receive_with(&b, 3, ReceiveFlags::empty()).unwrap();
        assert_eq!((&bytes[..], whole), (&b"fir"[..], 5));
        assert_eq!(receive(&b, 8).unwrap(), b"");
        assert_eq!(receive(&b, 8).unwrap(), b"third");
        let long = vec![0; crate::inbox::LETTER_MAX + 1];
        assert_eq!(send(&a, &long), Err(Errno::EMSGSIZE));
    }
}

#[test]
fn a_peek_leaves_everything() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    send(&a, b"abc").unwrap();
    for _ in 0..2 {
        assert_eq!(receive_with(&b, 2, ReceiveFlags::PEEK).unwrap().0, b"ab");
    }
    assert_eq!(receive(&b, 9).unwrap(), b"abc");
}

#[test]
fn the_end_is_seen_after_the_last_byte() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    send(&a, b"bye").unwrap();
    drop(a);
    assert!(b.poll().contains(Poll::IN | Poll::HUP | Poll::RDHUP));
    assert_eq!(receive(&b, 9).unwrap(), b"bye");
    assert_eq!(receive(&b, 9).unwrap(), b"");
    assert_eq!(send(&b, b"x"), Err(Errno::EPIPE));
}

#[test]
fn closing_with_something_unread_resets() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    send(&a, b"unread").unwrap();
    drop(b);
    assert!(a.poll().contains(Poll::ERR));
    assert_eq!(receive(&a, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&a, 9).unwrap(), b"");
}

#[test]
fn half_a_connection_can_be_shut() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    a.shutdown(Shut::Sending).unwrap();
    assert_eq!(receive(&b, 9).unwrap(), b"");
    assert_eq!(send(&a, b"x"), Err(Errno::EPIPE));
    send(&b, b"back").unwrap();
    assert_eq!(receive(&a, 9).unwrap(), b"back");
    assert!(!b.poll().contains(Poll::HUP));
    b.shutdown(Shut::Sending).unwrap();
    assert!(b.poll().contains(Poll::HUP) && a.poll().contains(Poll::HUP));
}

#[test]
fn a_full_stream_waits_and_loses_nothing() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    let sent: Vec<u8> = (0..1_000_000u32).map(|n| (n / 7) as u8).collect();
    let expected = sent.clone();
    let sender = thread::spawn(move || send(&a, &sent));
    let mut got = Vec::new();
    loop {
        let piece = receive(&b, 3001).unwrap();
        if piece.is_empty() {
            break;
        }
        got.extend(piece);
    }
    assert_eq!(sender.join().unwrap(), Ok(expected.len()));
    assert!(got == expected);
}

#[test]
fn a_full_inbox_refuses_who_may_not_wait() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    a.set_nonblocking(true);
    let chunk = vec![7; 10_000];
    let mut sent = 0;
    let refused = loop {
        match send(&a, &chunk) {
            Ok(n) => sent += n,
            Err(errno) => break errno,
        }
    };
    assert_eq!(refused, Errno::EAGAIN);
    assert!(!a.poll().contains(Poll::OUT));
    assert!((100_000..=crate::inbox::CAPACITY).contains(&sent), "{sent}");
    // Empty datagrams fill an inbox as well.
    let [c, _d] = Socket::pair(&net(), Kind::Datagram);
    c.set_nonblocking(true);
    let count = (0..100_000).take_while(|_| send(&c, b"").is_ok()).count();
    assert!(count < 10_000, "{count}");
    while sent > 0 {
        sent -= receive(&b, 65_536).unwrap().len();
    }
    assert!(a.poll().contains(Poll::OUT));
}

/// How many bytes a stream takes until it would wait.
fn fill(socket: &Socket) -> usize {
    socket.set_nonblocking(true);
    let mut sent = 0;
    while let Ok(n) = send(socket, &[7; 1000]) {
        sent += n;
    }
    assert!(!socket.poll().contains(Poll::OUT));
    sent
}

#[test]
fn a_small_buffer_holds_little() {
    const SEND: (u32, u32) = (1, 7);
    const RECEIVE: (u32, u32) = (1, 8);
    let net = net();
    let [a, b] = Socket::pair(&net, Kind::Stream);
    b.set_option(RECEIVE, 4000).unwrap();
    assert!(fill(&a) > 100_000, "what a local stream has sent counts for the sender");
    let [a, _b] = Socket::pair(&net, Kind::Stream);
    a.set_option(SEND, 4000).unwrap();
    assert!(fill(&a) <= 8000);

    let (listener, client, server) = connected(&net, Family::Inet, Kind::Stream, &inet("127.0.0.1:900"));
    server.set_option(RECEIVE, 4000).unwrap();
    assert!(fill(&client) <= 8000);
    client.set_option(SEND, 2000).unwrap();
    assert_eq!(receive(&server, 100_000).unwrap().len() % 1000, 0);
    assert!(fill(&client) <= 4608);
    // Set on a listener, it holds for what it accepts.
    listener.set_option(RECEIVE, 3000).unwrap();
    let client = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    client.connect(&inet("127.0.0.1:900")).unwrap();
    let server = listener.accept().unwrap().socket;
    assert_eq!(server.with_options(|options| options.get(Family::Inet, Kind::Stream, RECEIVE)), Ok(6000));
    assert!(fill(&client) <= 6000);
}

#[test]
fn waiting_ends_at_the_timeout() {
    let [a, _b] = Socket::pair(&net(), Kind::Stream);
    a.with_options(|options| options.receive_timeout = Some(Duration::from_millis(20)));
    assert_eq!(receive(&a, 1), Err(Errno::EAGAIN));
}

#[test]
fn waitall_waits_for_all() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    let reader = thread::spawn(move || receive_with(&b, 6, ReceiveFlags::WAITALL).unwrap().0);
    for piece in [b"ab", b"cd", b"ef"] {
        thread::sleep(Duration::from_millis(2));
        send(&a, piece).unwrap();
    }
    assert_eq!(reader.join().unwrap(), b"abcdef");
}

#[test]
fn rights_travel_with_their_bytes_and_stop_a_read() {
    let [a, b] = Socket::pair(&net(), Kind::Stream);
    let right: Right = Arc::new(42u32);
    send(&a, b"before").unwrap();
    a.send(&mut SliceSource::new(b"with"), None, vec![right.clone()], SendFlags::empty()).unwrap();
    send(&a, b"after").unwrap();
    assert_eq!(receive(&b, 99).unwrap(), b"before");
    let mut bytes = [0; 99];
    let received = b.receive(&mut SliceSink::new(&mut bytes), ReceiveFlags::empty()).unwrap();
    assert_eq!(&bytes[..received.copied], b"withafter");
    assert_eq!(received.rights[0].downcast_ref::<u32>(), Some(&42));
    drop((received, b, a));
    assert_eq!(Arc::strong_count(&right), 1);
}

#[test]
fn local_connections() {
    let path = Name::Path { path: b"/run/x".to_vec(), inode: node() };
    for (name, kind) in [(abstract_name("x"), Kind::Stream), (path, Kind::SeqPacket)] {
        let net = net();
        let (listener, client, server) = connected(&net, Family::Unix, kind, &name);
        send(&client, b"ping").unwrap();
        assert_eq!(receive(&server, 9).unwrap(), b"ping");
        send(&server, b"pong").unwrap();
        assert_eq!(receive(&client, 9).unwrap(), b"pong");
        assert_eq!(client.peer_address(), Ok(name.address()));
        assert_eq!((server.peer_address(), server.local_address()), (Ok(Address::Unnamed), name.address()));
        let other = Socket::new(&net, Family::Unix, kind).unwrap();
        assert_eq!(other.bind(Some(name.clone())), Err(Errno::EADDRINUSE));
        drop(listener);
        assert_eq!(other.connect(&name), Err(Errno::ECONNREFUSED));
        other.bind(Some(name.clone())).unwrap();
        assert_eq!(client.connect(&name), Err(Errno::EISCONN));
    }
}

#[test]
fn connections_nobody_accepts_are_reset() {
    let net = net();
    let listener = Socket::new(&net, Family::Unix, Kind::Stream).unwrap();
    listener.bind(Some(abstract_name("l"))).unwrap();
    listener.listen(0).unwrap();
    let connect = || {
        let client = Socket::new(&net, Family::Unix, Kind::Stream).unwrap();
        client.set_nonblocking(true);
        client.connect(&abstract_name("l")).map(|()| client)
    };
    let first = connect().unwrap();
    // Linux lets one more wait than was asked for.
    assert_eq!(connect().err(), Some(Errno::EAGAIN));
    assert_eq!(listener.poll(), Poll::IN);
    drop(listener);
    assert_eq!(receive(&first, 1), Err(Errno::ECONNRESET));
}

#[test]
fn a_kind_is_not_another() {
    let net = net();
    let listener = Socket::new(&net, Family::Unix, Kind::Stream).unwrap();
    listener.bind(Some(abstract_name("k"))).unwrap();
    let datagram = Socket::new(&net, Family::Unix, Kind::Datagram).unwrap();
    assert_eq!(datagram.connect(&abstract_name("k")), Err(Errno::EPROTOTYPE));
    assert_eq!(datagram.listen(1), Err(Errno::EOPNOTSUPP));
    assert_eq!(Socket::new(&net, Family::Inet, Kind::SeqPacket).err(), Some(Errno::ESOCKTNOSUPPORT));
}

#[test]
fn the_loopback_network() {
    let net = net();
    let listener = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    listener.listen(1).unwrap();
    let Address::Inet(at) = listener.local_address() else { panic!() };
    assert!(at.port() >= 32_768 && at.ip().is_unspecified());
    let client = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    client.connect(&inet(&std::format!("127.0.0.1:{}", at.port()))).unwrap();
    let accepted = listener.accept().unwrap();
    assert_eq!(accepted.address, client.local_address());
    assert_eq!(accepted.socket.local_address(), client.peer_address().unwrap());
    send(&client, b"over tcp").unwrap();
    assert_eq!(receive(&accepted.socket, 99).unwrap(), b"over tcp");
    let lost = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    assert_eq!(lost.connect(&inet("127.0.0.1:9")), Err(Errno::ECONNREFUSED));
    assert_eq!(lost.connect(&inet("192.0.2.1:9")), Err(Errno::ENETUNREACH));
    assert_eq!(lost.bind(Some(inet("192.0.2.1:9"))), Err(Errno::EADDRNOTAVAIL));
}

#[test]
fn a_closed_peer_is_noticed_as_over_a_wire() {
    let (_listener, client, server) = connected(&net(), Family::Inet, Kind::Stream, &inet("127.0.0.1:80"));
    drop(server);
    assert_eq!(send(&client, b"unheard"), Ok(7));
    assert_eq!(send(&client, b"x"), Err(Errno::EPIPE));
    let (_listener, client, server) = connected(&net(), Family::Inet, Kind::Stream, &inet("127.0.0.1:80"));
    send(&client, b"unread").unwrap();
    drop(server);
    assert_eq!(send(&client, b"x"), Err(Errno::ECONNRESET));
    assert_eq!(send(&client, b"x"), Err(Errno::EPIPE));
}

#[test]
fn a_connection_in_progress_tells_its_outcome() {
    let net = net();
    let (_listener, _client, _server) = connected(&net, Family::Inet, Kind::Stream, &inet("127.0.0.1:80"));
    let client = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    client.set_nonblocking(true);
    assert_eq!(client.connect(&inet("127.0.0.1:80")), Err(Errno::EINPROGRESS));
    assert!(client.poll().contains(Poll::OUT));
    assert_eq!(client.take_error(), None);
    assert_eq!(client.connect(&inet("127.0.0.1:80")), Ok(()));
    assert_eq!(client.connect(&inet("127.0.0.1:80")), Err(Errno::EISCONN));
    let refused = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    refused.set_nonblocking(true);
    assert_eq!(refused.connect(&inet("127.0.0.1:81")), Err(Errno::EINPROGRESS));
    assert!(refused.poll().contains(Poll::ERR));
    assert_eq!(refused.take_error(), Some(Errno::ECONNREFUSED));
}

#[test]
fn internet_names_overlap() {
    let net = net();
    let bound = |family, address: &str, set: &[(u32, u32)]| {
        let socket = Socket::new(&net, family, Kind::Stream).unwrap();
        for id in set {
            socket.with_options(|options| options.set(family, Kind::Stream, *id, 1)).unwrap();
        }
        socket.bind(Some(inet(address))).map(|()| socket)
    };
    let any = bound(Family::Inet, "0.0.0.0:80", &[]).unwrap();
    assert_eq!(bound(Family::Inet, "127.0.0.1:80", &[]).err(), Some(Errno::EADDRINUSE));
    assert_eq!(bound(Family::Inet6, "[::]:80", &[]).err(), Some(Errno::EADDRINUSE));
    let six = bound(Family::Inet6, "[::]:80", &[crate::options::V6ONLY]).unwrap();
    let reuse = [crate::options::REUSEADDR];
    assert_eq!(bound(Family::Inet, "127.0.0.1:80", &reuse).err(), Some(Errno::EADDRINUSE));
    any.listen(1).unwrap();
    six.listen(1).unwrap();
    for (family, to, listener) in [(Family::Inet, "127.0.0.1:80", &any), (Family::Inet6, "[::1]:80", &six)] {
        let client = Socket::new(&net, family, Kind::Stream).unwrap();
        client.connect(&inet(to)).unwrap();
        listener.accept().unwrap();
    }
    let (_first, _second) =
        (bound(Family::Inet, "127.0.0.1:81", &reuse).unwrap(), bound(Family::Inet, "127.0.0.1:81", &reuse).unwrap());
}

#[test]
fn a_listener_of_both_families_serves_both() {
    let net = net();
    let listener = Socket::new(&net, Family::Inet6, Kind::Stream).unwrap();
    listener.bind(Some(inet("[::]:90"))).unwrap();
    listener.listen(2).unwrap();
    let client = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    client.connect(&inet("127.0.0.1:90")).unwrap();
    let accepted = listener.accept().unwrap();
    let Address::Inet(from) = accepted.address else { panic!() };
    assert!(from.ip().is_ipv4());
    // Shown in IPv6 notation.
    assert_eq!(accepted.socket.peer_address().unwrap().encode(Family::Inet6)[18..20], [0xff, 0xff]);
}

#[test]
fn datagrams_know_their_sender() {
    let net = net();
    let server = Socket::new(&net, Family::Inet, Kind::Datagram).unwrap();
    server.bind(Some(inet("127.0.0.1:53"))).unwrap();
    let client = Socket::new(&net, Family::Inet, Kind::Datagram).unwrap();
    assert_eq!(send(&client, b"?"), Err(Errno::EDESTADDRREQ));
    assert_eq!(send_to(&client, b"query", &inet("127.0.0.1:53")), Ok(5));
    let (bytes, _, from) = receive_with(&server, 99, ReceiveFlags::empty()).unwrap();
    assert_eq!((&bytes[..], from.clone()), (&b"query"[..], Some(client.local_address())));
    let Some(Address::Inet(back)) = from else { panic!() };
    send_to(&server, b"answer", &Name::Inet(back)).unwrap();
    assert_eq!(receive(&client, 99).unwrap(), b"answer");
    // Nobody there: lost without a word, unless the sender speaks with that one only.
    assert_eq!(send_to(&client, b"x", &inet("127.0.0.1:54")), Ok(1));
    client.connect(&inet("127.0.0.1:54")).unwrap();
    assert_eq!(send(&client, b"x"), Err(Errno::ECONNREFUSED));
    // And it does not hear others.
    assert_eq!(send_to(&server, b"unheard", &Name::Inet(back)), Ok(7));
    client.set_nonblocking(true);
    assert_eq!(receive(&client, 9), Err(Errno::EAGAIN));
    client.disconnect().unwrap();
    assert_eq!(client.peer_address(), Err(Errno::ENOTCONN));
}

#[test]
fn local_datagrams() {
    let net = net();
    let [server, client] = [(); 2].map(|()| Socket::new(&net, Family::Unix, Kind::Datagram).unwrap());
    server.bind(Some(abstract_name("log"))).unwrap();
    client.bind(None).unwrap();
    assert!(matches!(client.local_address(), Address::Abstract(name) if name.len() == 5));
    client.connect(&abstract_name("log")).unwrap();
    send(&client, b"line").unwrap();
    let (bytes, _, from) = receive_with(&server, 99, ReceiveFlags::empty()).unwrap();
    assert_eq!((&bytes[..], from), (&b"line"[..], Some(client.local_address())));
    drop(server);
    assert_eq!(send(&client, b"line"), Err(Errno::ECONNREFUSED));
    assert_eq!(send(&client, b"line").err(), Some(Errno::ECONNREFUSED));
}

#[test]
fn options_are_remembered_where_they_exist() {
    let net = net();
    let tcp = Socket::new(&net, Family::Inet, Kind::Stream).unwrap();
    let local = Socket::new(&net, Family::Unix, Kind::Stream).unwrap();
    let get = |socket: &Socket, id| socket.with_options(|options| options.get(socket.family(), socket.kind(), id));
    let nodelay = (6, 1);
    assert_eq!(get(&tcp, nodelay), Ok(0));
    tcp.with_options(|options| options.set(Family::Inet, Kind::Stream, nodelay, 7)).unwrap();
    assert_eq!(get(&tcp, nodelay), Ok(1));
    assert_eq!(get(&local, nodelay), Err(Errno::EOPNOTSUPP));
    assert_eq!(get(&tcp, (6, 9999)), Err(Errno::ENOPROTOOPT));
}
