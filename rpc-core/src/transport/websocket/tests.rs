//! What a connection holds in memory. What it does is tested from outside, in `tests/websocket`.

use std::future::poll_fn;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;
use crate::transport::Message;

const MAX_MESSAGE_BYTES: usize = 16 << 20;

impl<S> WebSocket<S> {
    /// What its buffers take.
    fn capacity(&self) -> usize {
        self.unread.buffer.capacity() + self.decoder.capacity() + self.output.capacity()
    }
}

async fn pair() -> [WebSocket<DuplexStream>; 2] {
    let (ours, theirs) = duplex(100_000);
    [
        WebSocket::new(ours, Bytes::new(), Role::Client, MAX_MESSAGE_BYTES),
        WebSocket::new(theirs, Bytes::new(), Role::Server, MAX_MESSAGE_BYTES),
    ]
}

/// A server whose peer is in the test's hand. It takes messages of any size.
async fn server() -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    let server = WebSocket::new(ours, Bytes::new(), Role::Server, usize::MAX);
    (server, theirs)
}

/// One message, and a look for more as the engine takes one.
async fn transfer<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    from: &mut WebSocket<S>,
    to: &mut WebSocket<S>,
    message: &[u8],
) {
    from.send(MessageKind::Binary, message).unwrap();
    let sent = poll_fn(|cx| from.poll_flush(cx));
    let received = poll_fn(|cx| to.poll_receive(cx));
    let (sent, received) = tokio::join!(sent, received);
    sent.unwrap();
    let expected = Received::Message(Message {
        kind: MessageKind::Binary,
        data: Bytes::copy_from_slice(message),
    });
    assert!(received.unwrap() == expected, "{} bytes", message.len());
    assert!(nothing_comes(to).await);
}

async fn nothing_comes<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    socket: &mut WebSocket<S>,
) -> bool {
    poll_fn(|cx| Poll::Ready(socket.poll_receive(cx).is_pending())).await
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffers() {
    let [mut client, mut server] = pair().await;
    assert_eq!(client.capacity() + server.capacity(), 0);
    for bytes in [0, 40, 125, 126, 4096, 65535, 65536, 1 << 20, 40] {
        let message = vec![7; bytes];
        transfer(&mut client, &mut server, &message).await;
        transfer(&mut server, &mut client, &message).await;
        assert_eq!(client.capacity() + server.capacity(), 0, "{bytes} bytes");
    }
    let size = size_of::<WebSocket<()>>();
    assert!(size <= 320, "{size} bytes beside the stream");
}

#[tokio::test]
async fn what_came_behind_the_handshake_is_not_kept() {
    let (stream, _peer) = duplex(100);
    let buffer = Bytes::from(vec![0x89; 16 << 10]);
    let nothing = buffer.slice(7..7);
    let socket = WebSocket::new(stream, nothing, Role::Server, MAX_MESSAGE_BYTES);
    assert_eq!(socket.capacity(), 0);
    assert!(buffer.is_unique());
}

#[tokio::test]
async fn a_message_of_which_little_has_come_takes_little() {
    for claimed in [100_u64, 60 << 10, 1 << 62] {
        let (mut server, mut peer) = server().await;
        let mut header = Vec::new();
        header::Header {
            is_final: true,
            opcode: Opcode::Binary,
            payload_bytes: claimed,
            mask: Some([0; 4]),
        }
        .encode(&mut header);
        peer.write_all(&header).await.unwrap();
        assert!(nothing_comes(&mut server).await);
        assert_eq!(server.capacity(), 0, "{claimed} claimed");
        peer.write_all(&[0; 50]).await.unwrap();
        assert!(nothing_comes(&mut server).await);
        assert!(server.capacity() <= 4 << 10, "{claimed} claimed");
    }
}

#[tokio::test]
async fn a_message_that_comes_in_parts_takes_at_most_twice_its_bytes() {
    let (mut server, mut peer) = server().await;
    // 1 MiB, masked with zeros.
    let header = [0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0];
    peer.write_all(&header).await.unwrap();
    for come in 1..1024 {
        peer.write_all(&[0; 1024]).await.unwrap();
        assert!(nothing_comes(&mut server).await);
        let limit = (2 * come * 1024).clamp(4 << 10, 1 << 20);
        assert!(server.capacity() <= limit, "{come} KiB have come");
    }
}

#[tokio::test]
async fn a_connection_that_has_failed_holds_nothing_that_was_read() {
    let (mut server, mut peer) = server().await;
    // The start of a text, then a second one in its midst, and something behind it.
    let start = [0x01, 0x83, 0, 0, 0, 0, b'a', b'b', b'c'];
    peer.write_all(&start.repeat(2)).await.unwrap();
    peer.write_all(&[0; 1000]).await.unwrap();
    poll_fn(|cx| server.poll_receive(cx)).await.unwrap_err();
    assert_eq!(server.capacity(), 0);
}

#[tokio::test]
async fn a_blocked_write_holds_no_more_than_what_is_left() {
    let (stream, mut peer) = duplex(100_000);
    let mut server = WebSocket::new(stream, Bytes::new(), Role::Server, MAX_MESSAGE_BYTES);
    let message = vec![1; 100_100];
    server.send(MessageKind::Binary, &message).unwrap();
    let blocked = poll_fn(|cx| Poll::Ready(server.poll_flush(cx).is_pending())).await;
    assert!(blocked);
    assert!(server.capacity() <= 110, "{} bytes", server.capacity());
    assert_eq!(server.bytes_written(), 100_000);
    // What is added is written behind it.
    server.send(MessageKind::Text, b"more").unwrap();
    let mut read = vec![0; 100_110 + 6];
    let flushed = poll_fn(|cx| server.poll_flush(cx));
    let (flushed, bytes) = tokio::join!(flushed, peer.read_exact(&mut read));
    flushed.unwrap();
    bytes.unwrap();
    assert!(read[10..].starts_with(&message));
    assert!(read.ends_with(b"\x81\x04more"));
    assert_eq!(server.capacity(), 0);
}

#[test]
fn tasks_of_one_thread_that_read_at_the_same_time_do_not_share_a_buffer() {
    let mut first = buffers::take_for_reading();
    let second = buffers::take_for_reading();
    first.fill(1);
    assert!(second.iter().all(|byte| *byte == 0));
    buffers::put_after_reading(first);
    buffers::put_after_reading(second);
    assert_eq!(buffers::take_for_reading().len(), buffers::READ_BYTES);
}
