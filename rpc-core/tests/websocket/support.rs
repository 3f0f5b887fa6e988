//! Frames by hand, and streams that deliver bytes in pieces.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};
use wirecall_core::{
    CloseCode,
    transport::{Message, MessageKind, Received, Role, Transport, TransportError, WebSocket},
};

pub(crate) const MAX_MESSAGE_BYTES: usize = 1 << 20;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The first byte of a frame that is the last one of its message.
pub(crate) const FIN: u8 = 0x80;

const MASK: [u8; 4] = [0x12, 0xf0, 0x5a, 0x07];

/// The same cases in every run.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(0x57_49_52_45),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A frame as `sender` would write it. `first` is the opcode, with flags.
pub(crate) fn frame(sender: Role, first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = match sender {
        Role::Client => 0x80,
        Role::Server => 0,
    };
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(masked | length as u8),
        length @ 126..65536 => {
            bytes.push(masked | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(masked | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    if sender == Role::Client {
        bytes.extend(MASK);
        let mask = MASK.into_iter().cycle();
        bytes.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend(payload);
    }
    bytes
}

/// A frame of a client.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(Role::Client, first, payload)
}

pub(crate) fn text(text: &str) -> Received {
    message(MessageKind::Text, text.as_bytes())
}

pub(crate) fn message(kind: MessageKind, data: &[u8]) -> Received {
    Received::Message(Message {
        kind,
        data: Bytes::copy_from_slice(data),
    })
}

pub(crate) fn closed(code: CloseCode, reason: &str) -> Received {
    Received::Closed {
        code,
        reason: reason.to_owned(),
    }
}

/// A WebSocket, and the other end of the stream below it.
pub(crate) async fn socket(role: Role) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (ours, theirs) = duplex(1 << 20);
    let socket = WebSocket::new(ours, Bytes::new(), role, MAX_MESSAGE_BYTES);
    (socket, theirs)
}

/// A server to which a client has sent these bytes.
pub(crate) async fn server_with(bytes: &[u8]) -> (WebSocket<DuplexStream>, DuplexStream) {
    let (server, mut peer) = socket(Role::Server).await;
    peer.write_all(bytes).await.unwrap();
    (server, peer)
}

pub(crate) async fn receive<T: Transport>(transport: &mut T) -> Result<Received, TransportError> {
    poll_fn(|cx| transport.poll_receive(cx)).await
}

pub(crate) async fn flush<T: Transport>(transport: &mut T) {
    poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
}

/// Whether nothing is there to be received.
pub(crate) async fn is_pending<T: Transport>(transport: &mut T) -> bool {
    poll_fn(|cx| Poll::Ready(transport.poll_receive(cx).is_pending())).await
}

/// A stream that reads and writes no more at once than these sizes say, in turn, and is not ready
/// where they say 0.
pub(crate) struct Chopped<S> {
    stream: S,
    sizes: Vec<usize>,
    reads: usize,
    writes: usize,
}

impl<S> Chopped<S> {
    pub(crate) fn new(stream: S, mut sizes: Vec<usize>) -> Self {
        if sizes.iter().all(|size| *size == 0) {
            sizes.push(1);
        }
        Chopped {
            stream,
            sizes,
            reads: 0,
            writes: 0,
        }
    }
}

/// The next size; `None` if it is 0, after which the task is woken.
fn next_size(sizes: &[usize], turn: &mut usize, cx: &mut Context<'_>) -> Option<usize> {
    let size = sizes[*turn % sizes.len()];
    *turn += 1;
    if size == 0 {
        cx.waker().wake_by_ref();
        return None;
    }
    Some(size)
}

impl<S: AsyncRead + Unpin> AsyncRead for Chopped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(size) = next_size(&this.sizes, &mut this.reads, cx) else {
            return Poll::Pending;
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(size.min(buffer.remaining())));
        let polled = Pin::new(&mut this.stream).poll_read(cx, &mut part);
        let bytes = part.filled().len();
        buffer.advance(bytes);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Chopped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let Some(size) = next_size(&this.sizes, &mut this.writes, cx) else {
            return Poll::Pending;
        };
        Pin::new(&mut this.stream).poll_write(cx, &bytes[..size.min(bytes.len())])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
