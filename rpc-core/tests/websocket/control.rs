//! Pings, and peers that send much without saying anything.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use wirecall_core::{
    CloseCode,
    transport::{Role, Transport as _, WebSocket},
};

use crate::support::{
    CONTINUATION, FIN, MAX_MESSAGE_BYTES, PING, PONG, TEXT, flush, frame, is_pending, masked,
    receive, server_with, socket, text,
};

async fn written(peer: &mut tokio::io::DuplexStream, bytes: usize) -> Vec<u8> {
    let mut written = vec![0; bytes];
    peer.read_exact(&mut written).await.unwrap();
    written
}

#[tokio::test]
async fn each_ping_is_answered_in_order_when_the_engine_writes() {
    let mut pings = Vec::new();
    let mut pongs = Vec::new();
    for payload in [&b""[..], b"one", &[0xff; 125]] {
        pings.extend(masked(FIN | PING, payload));
        pongs.extend(frame(Role::Server, FIN | PONG, payload));
    }
    let (mut server, mut peer) = server_with(&pings).await;
    assert!(!server.has_unflushed());
    assert!(is_pending(&mut server).await);
    assert!(server.has_unflushed());
    flush(&mut server).await;
    assert!(!server.has_unflushed());
    assert_eq!(written(&mut peer, pongs.len()).await, pongs);
}

#[tokio::test]
async fn a_client_masks_its_pongs_and_no_two_alike() {
    let (mut client, mut peer) = socket(Role::Client).await;
    let ping = frame(Role::Server, FIN | PING, b"ping");
    peer.write_all(&ping.repeat(20)).await.unwrap();
    assert!(is_pending(&mut client).await);
    flush(&mut client).await;
    let mut masks = Vec::new();
    for _ in 0..20 {
        let pong = written(&mut peer, 10).await;
        assert_eq!(pong[..2], [FIN | PONG, 0x84]);
        let payload: Vec<_> = (0..4).map(|n| pong[6 + n] ^ pong[2 + n]).collect();
        assert_eq!(payload, b"ping");
        masks.push(pong[2..6].to_vec());
    }
    masks.sort();
    masks.dedup();
    assert!(masks.len() > 15, "{masks:?}");
}

#[tokio::test]
async fn pongs_and_empty_messages_need_no_answer() {
    let bytes = [masked(FIN | PONG, b"what?"), masked(FIN | TEXT, b"")].concat();
    let (mut server, _peer) = server_with(&bytes).await;
    assert_eq!(receive(&mut server).await.unwrap(), text(""));
    assert!(is_pending(&mut server).await);
    assert!(!server.has_unflushed());
}

#[tokio::test]
async fn pings_between_fragments_are_answered_before_the_message_is_complete() {
    let bytes = [masked(TEXT, b"a"), masked(FIN | PING, b"now")].concat();
    let (mut server, mut peer) = server_with(&bytes).await;
    assert!(is_pending(&mut server).await);
    flush(&mut server).await;
    assert_eq!(written(&mut peer, 5).await, b"\x8a\x03now");
    let rest = masked(FIN | CONTINUATION, b"b");
    peer.write_all(&rest).await.unwrap();
    assert_eq!(receive(&mut server).await.unwrap(), text("ab"));
}

#[tokio::test]
async fn a_peer_that_reads_its_pongs_may_send_any_number_of_pings() {
    let (mut server, peer) = socket(Role::Server).await;
    let (mut reading, mut writing) = tokio::io::split(peer);
    let pings = masked(FIN | PING, &[b'x'; 125]).repeat(4000);
    let sending = async { writing.write_all(&pings).await.unwrap() };
    let reading = async {
        let mut pongs = vec![0; 4000 * 127];
        reading.read_exact(&mut pongs).await.unwrap();
    };
    // As the engine does it: reads until there is nothing, then writes.
    let serving = async {
        loop {
            assert!(is_pending(&mut server).await);
            if server.has_unflushed() {
                flush(&mut server).await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(sending, reading) } => {}
        () = serving => {}
    }
}

#[tokio::test]
async fn unanswered_pings_are_a_flood() {
    let (mut server, mut peer) = socket(Role::Server).await;
    let pings = masked(FIN | PING, &[b'x'; 125]).repeat(1000);
    peer.write_all(&pings).await.unwrap();
    let error = receive(&mut server).await.unwrap_err();
    assert_eq!(error.close_code(), Some(CloseCode::FLOOD));
}

#[tokio::test]
async fn bytes_that_came_with_the_handshake_are_read_first() {
    let bytes = [masked(FIN | TEXT, b"one"), masked(FIN | TEXT, b"two")].concat();
    for cut in 0..=bytes.len() {
        let (ahead, later) = bytes.split_at(cut);
        let (stream, mut peer) = tokio::io::duplex(100);
        let ahead = Bytes::copy_from_slice(ahead);
        let mut server = WebSocket::new(stream, ahead, Role::Server, MAX_MESSAGE_BYTES);
        peer.write_all(later).await.unwrap();
        assert_eq!(receive(&mut server).await.unwrap(), text("one"));
        assert_eq!(receive(&mut server).await.unwrap(), text("two"));
        assert!(is_pending(&mut server).await);
    }
}

/// A stream of the same frame over and over.
struct Endless(Vec<u8>);

impl AsyncRead for Endless {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while buffer.remaining() >= self.0.len() {
            buffer.put_slice(&self.0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Endless {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[derive(Default)]
struct CountWakes(AtomicUsize);

impl Wake for CountWakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn frames_without_end_that_say_nothing_let_others_run() {
    // An unmasked frame of a server: empty continuations, pongs, and bytes of a long message.
    let long = {
        let mut header = vec![CONTINUATION, 127];
        header.extend((60_000_u64 << 10).to_be_bytes());
        header
    };
    for (start, frames) in [
        (vec![TEXT, 0], vec![CONTINUATION, 0]),
        (vec![], frame(Role::Server, FIN | PONG, &[0; 125])),
        ([vec![TEXT, 0], long].concat(), vec![b'a'; 1 << 10]),
    ] {
        let start = Bytes::from(start);
        let limit = 60_000 << 10;
        let mut client = WebSocket::new(Endless(frames), start, Role::Client, limit);
        let wakes = Arc::new(CountWakes::default());
        let waker = wakes.clone().into();
        for calls in 1..10 {
            let polled = client.poll_receive(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
            assert_eq!(wakes.0.load(Ordering::Relaxed), calls);
        }
    }
}
