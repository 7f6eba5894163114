//! Who finds whom by which name, and what a socket remembers.

use super::*;

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
