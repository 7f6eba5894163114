//! Bytes one after the other, between two sockets that know each other.

use super::*;

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
