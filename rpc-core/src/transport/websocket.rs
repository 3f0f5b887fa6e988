//! WebSocket (RFC 6455) by tokio-tungstenite, of which no type is seen from outside.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Error, Message as Wire, Utf8Bytes,
        protocol::{CloseFrame, WebSocketConfig},
    },
};

use super::{Message, MessageKind, Received, Transport, TransportError};
use crate::close::CloseCode;

/// Reads go through a buffer of this size. It is filled with zeros and kept for as long as the
/// connection lives, so its size is what an idle connection costs.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// The end of a WebSocket that masks its frames is the client (RFC 6455 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The end that sent the upgrade request.
    Client,
    /// The end that answered it.
    Server,
}

/// A WebSocket after its handshake, over anything that reads and writes bytes.
#[derive(Debug)]
pub struct WebSocket<S> {
    inner: WebSocketStream<Metered<S>>,
    /// Bytes of pongs that were queued since all that was queued was last written.
    pong_bytes: usize,
}

/// A peer that reads leaves no more than a few pongs unwritten.
const MAX_PONG_BYTES: usize = 64 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Takes over a connection on which the upgrade is done. `read_ahead` is what came behind the
    /// other end's handshake and was read together with it.
    pub async fn new(
        stream: S,
        read_ahead: Bytes,
        role: Role,
        max_message_bytes: usize,
    ) -> WebSocket<S> {
        let role = match role {
            Role::Client => tungstenite::protocol::Role::Client,
            Role::Server => tungstenite::protocol::Role::Server,
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let stream = Metered { stream, written: 0 };
        let inner =
            WebSocketStream::from_partially_read(stream, read_ahead.into(), role, Some(config))
                .await;
        WebSocket {
            inner,
            pong_bytes: 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for WebSocket<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        loop {
            let message = match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(error.into())),
                None => {
                    return Poll::Ready(Ok(Received::Closed {
                        code: CloseCode::ABNORMAL,
                        reason: String::new(),
                    }));
                }
            };
            let (kind, data) = match message {
                Wire::Binary(data) => (MessageKind::Binary, data),
                Wire::Text(text) => (MessageKind::Text, text.into()),
                Wire::Close(frame) => return Poll::Ready(Ok(closed(frame))),
                // Answered below this, and the answer is queued.
                Wire::Ping(data) => {
                    self.pong_bytes += data.len() + 2;
                    if self.pong_bytes > MAX_PONG_BYTES {
                        return Poll::Ready(Err(TransportError::Violation {
                            code: CloseCode::FLOOD,
                            message: "more pings than pongs are read".to_owned(),
                        }));
                    }
                    continue;
                }
                Wire::Pong(_) | Wire::Frame(_) => continue,
            };
            return Poll::Ready(Ok(Received::Message(Message { kind, data })));
        }
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        let data = Bytes::copy_from_slice(message);
        let message = match kind {
            MessageKind::Binary => Wire::Binary(data),
            MessageKind::Text => Wire::Text(Utf8Bytes::try_from(data).map_err(io::Error::other)?),
        };
        Pin::new(&mut self.inner)
            .start_send(message)
            .map_err(Into::into)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.pong_bytes = 0;
        Poll::Ready(Ok(()))
    }

    fn has_unflushed(&self) -> bool {
        self.pong_bytes > 0
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        // A control frame has 125 bytes at most, two of them the code (RFC 6455 §5.5).
        let end = (0..=reason.len().min(123)).rfind(|end| reason.is_char_boundary(*end));
        let reason = &reason[..end.unwrap_or_default()];
        // Fails when the connection is closed already.
        let _ = Pin::new(&mut self.inner).start_send(Wire::Close(Some(CloseFrame {
            code: code.value().into(),
            reason: reason.into(),
        })));
    }

    fn bytes_written(&self) -> u64 {
        self.inner.get_ref().written
    }
}

fn closed(frame: Option<CloseFrame>) -> Received {
    match frame {
        Some(frame) => Received::Closed {
            code: CloseCode::new(frame.code.into()),
            reason: frame.reason.as_str().to_owned(),
        },
        // A Close frame without a body (RFC 6455 §7.1.5).
        None => Received::Closed {
            code: CloseCode::new(1005),
            reason: String::new(),
        },
    }
}

impl From<Error> for TransportError {
    fn from(error: Error) -> Self {
        let violation = |code, error: Error| TransportError::Violation {
            code: CloseCode::new(code),
            message: error.to_string(),
        };
        match error {
            Error::Io(error) => TransportError::Io(error),
            Error::Capacity(_) => TransportError::MessageTooBig,
            Error::Utf8(_) => violation(1007, error),
            Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
                TransportError::Io(io::ErrorKind::ConnectionReset.into())
            }
            Error::Protocol(_) => violation(1002, error),
            error => TransportError::Io(io::Error::other(error)),
        }
    }
}

/// Counts what is written.
#[derive(Debug)]
struct Metered<S> {
    stream: S,
    written: u64,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.written += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
