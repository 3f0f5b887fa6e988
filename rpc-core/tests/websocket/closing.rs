//! How a connection ends (RFC 6455 §7).

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use wirecall_core::{
    CloseCode,
    transport::{MessageKind, Received, Role, Transport, TransportError, WebSocket},
};

use crate::support::{
    BINARY, CLOSE, FIN, PING, TEXT, closed, flush, frame, is_pending, masked, receive, server_with,
    socket, text,
};

const NO_STATUS: CloseCode = CloseCode::new(1005);

fn close_body(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// What an end writes until it is dropped.
async fn all_written(mut socket: WebSocket<DuplexStream>, mut peer: DuplexStream) -> Vec<u8> {
    flush(&mut socket).await;
    drop(socket);
    let mut written = Vec::new();
    peer.read_to_end(&mut written).await.unwrap();
    written
}

#[tokio::test]
async fn a_server_answers_a_close_by_the_same_and_is_done() {
    let body = close_body(4100, "bye");
    let bytes = [masked(FIN | TEXT, b"last"), masked(FIN | CLOSE, &body)].concat();
    let (mut server, peer) = server_with(&[bytes, masked(FIN | TEXT, b"late")].concat()).await;
    assert_eq!(receive(&mut server).await.unwrap(), text("last"));
    let received = receive(&mut server).await.unwrap();
    assert_eq!(received, closed(CloseCode::new(4100), "bye"));
    assert!(server.has_unflushed());
    let nothing = closed(CloseCode::ABNORMAL, "");
    assert_eq!(receive(&mut server).await.unwrap(), nothing);
    assert_eq!(receive(&mut server).await.unwrap(), nothing);
    assert_eq!(
        all_written(server, peer).await,
        frame(Role::Server, FIN | CLOSE, &body)
    );
}

#[tokio::test]
async fn a_client_waits_for_the_server_to_hang_up() {
    let (mut client, mut peer) = socket(Role::Client).await;
    let close = frame(Role::Server, FIN | CLOSE, &close_body(1001, ""));
    peer.write_all(&close).await.unwrap();
    let received = receive(&mut client).await.unwrap();
    assert_eq!(received, closed(CloseCode::GOING_AWAY, ""));
    assert!(client.has_unflushed());
    flush(&mut client).await;
    // Whatever it says.
    peer.write_all(&[0xff; 200_000]).await.unwrap();
    assert!(is_pending(&mut client).await);
    drop(peer);
    let nothing = closed(CloseCode::ABNORMAL, "");
    assert_eq!(receive(&mut client).await.unwrap(), nothing);
    assert_eq!(receive(&mut client).await.unwrap(), nothing);
}

#[tokio::test]
async fn a_close_without_a_code_is_answered_by_one_without() {
    let (mut server, peer) = server_with(&masked(FIN | CLOSE, b"")).await;
    assert_eq!(receive(&mut server).await.unwrap(), closed(NO_STATUS, ""));
    assert_eq!(all_written(server, peer).await, [FIN | CLOSE, 0]);
}

#[tokio::test]
async fn a_close_goes_behind_what_was_sent_and_nothing_behind_it() {
    let (mut server, peer) = socket(Role::Server).await;
    server.send(MessageKind::Binary, b"last").unwrap();
    server.close(CloseCode::GOING_AWAY, "bye");
    let error = server.send(MessageKind::Binary, b"late").unwrap_err();
    assert!(
        matches!(error, TransportError::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    );
    server.close(CloseCode::NORMAL, "again");
    let close = frame(Role::Server, FIN | CLOSE, &close_body(1001, "bye"));
    let expected = [frame(Role::Server, FIN | BINARY, b"last"), close].concat();
    assert_eq!(all_written(server, peer).await, expected);
}

#[tokio::test]
async fn after_this_ends_close_the_peer_may_finish_and_its_answer_is_not_answered() {
    let (mut server, mut peer) = socket(Role::Server).await;
    server.close(CloseCode::NORMAL, "");
    for bytes in [
        masked(FIN | TEXT, b"still"),
        masked(FIN | PING, b"?"),
        masked(FIN | CLOSE, &close_body(1000, "")),
    ] {
        peer.write_all(&bytes).await.unwrap();
    }
    assert_eq!(receive(&mut server).await.unwrap(), text("still"));
    let received = receive(&mut server).await.unwrap();
    assert_eq!(received, closed(CloseCode::NORMAL, ""));
    assert!(!server.has_unflushed());
    let close = frame(Role::Server, FIN | CLOSE, &close_body(1000, ""));
    assert_eq!(all_written(server, peer).await, close);
}

#[tokio::test]
async fn a_reason_is_cut_between_characters() {
    for (reason, kept) in [
        ("a".repeat(123), 123),
        ("a".repeat(124), 123),
        (format!("{}\u{e9}", "a".repeat(122)), 122),
        ("\u{1f600}".repeat(40), 120),
    ] {
        let (mut server, peer) = socket(Role::Server).await;
        server.close(CloseCode::PROTOCOL, &reason);
        let close = frame(
            Role::Server,
            FIN | CLOSE,
            &close_body(4001, &reason[..kept]),
        );
        assert_eq!(all_written(server, peer).await, close);
    }
}

#[tokio::test]
async fn a_code_that_is_never_sent_is_left_out() {
    for code in [CloseCode::ABNORMAL, NO_STATUS, CloseCode::new(1015)] {
        let (mut server, peer) = socket(Role::Server).await;
        server.close(code, "reason");
        assert_eq!(all_written(server, peer).await, [FIN | CLOSE, 0]);
    }
}

#[tokio::test]
async fn the_end_of_the_stream_without_a_close_is_a_reset() {
    let in_a_message = [masked(TEXT, b"a"), vec![0x80, 0x85]].concat();
    for bytes in [vec![], masked(TEXT, b"a"), in_a_message] {
        for has_closed in [false, true] {
            let (mut server, peer) = server_with(&bytes).await;
            drop(peer);
            if has_closed {
                server.close(CloseCode::NORMAL, "");
            }
            let error = receive(&mut server).await.unwrap_err();
            assert!(
                matches!(&error, TransportError::Io(error)
                    if error.kind() == io::ErrorKind::ConnectionReset),
                "{error}"
            );
            let nothing = closed(CloseCode::ABNORMAL, "");
            assert_eq!(receive(&mut server).await.unwrap(), nothing);
        }
    }
}

#[tokio::test]
async fn two_ends_that_close_at_the_same_time_are_both_done() {
    let (ours, theirs) = tokio::io::duplex(1000);
    let nothing = bytes::Bytes::new;
    let mut client = WebSocket::new(ours, nothing(), Role::Client, 1000);
    let mut server = WebSocket::new(theirs, nothing(), Role::Server, 1000);
    client.close(CloseCode::NORMAL, "client");
    server.close(CloseCode::GOING_AWAY, "server");
    let client = tokio::spawn(async move { finish(&mut client).await });
    let server = tokio::spawn(async move { finish(&mut server).await });
    assert_eq!(
        client.await.unwrap(),
        closed(CloseCode::GOING_AWAY, "server")
    );
    assert_eq!(server.await.unwrap(), closed(CloseCode::NORMAL, "client"));
}

/// What the engine does at the end: writes what is left, and reads until nothing comes.
async fn finish<T: Transport>(transport: &mut T) -> Received {
    flush(transport).await;
    let received = receive(transport).await.unwrap();
    flush(transport).await;
    let nothing = closed(CloseCode::ABNORMAL, "");
    assert_eq!(receive(transport).await.unwrap(), nothing);
    received
}
