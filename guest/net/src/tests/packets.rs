//! Messages that keep their borders.

use super::*;

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
