//! tokio-tungstenite behind the same trait.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Error, Message as Wire,
        error::ProtocolError,
        protocol::{CloseFrame, WebSocketConfig},
    },
};
use wirecall_core::{
    CloseCode,
    transport::{Message, MessageKind, Received, Role, Transport, TransportError},
};

pub(crate) struct Tungstenite<S> {
    inner: WebSocketStream<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Tungstenite<S> {
    pub(crate) async fn new(stream: S, role: Role, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(16 << 10)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        Tungstenite {
            inner: WebSocketStream::from_raw_socket(stream, tungstenite_role(role), Some(config))
                .await,
        }
    }
}

pub(crate) fn tungstenite_role(role: Role) -> tungstenite::protocol::Role {
    match role {
        Role::Client => tungstenite::protocol::Role::Client,
        Role::Server => tungstenite::protocol::Role::Server,
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for Tungstenite<S> {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>> {
        loop {
            let (kind, data) = match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Wire::Binary(data))) => (MessageKind::Binary, data),
                Some(Ok(Wire::Text(text))) => (MessageKind::Text, text.into()),
                Some(Ok(Wire::Close(frame))) => return Poll::Ready(Ok(closed(frame))),
                Some(Ok(Wire::Ping(_) | Wire::Pong(_) | Wire::Frame(_))) => continue,
                Some(Err(error)) => return Poll::Ready(Err(transport_error(error))),
                None => {
                    return Poll::Ready(Ok(Received::Closed {
                        code: CloseCode::ABNORMAL,
                        reason: String::new(),
                    }));
                }
            };
            return Poll::Ready(Ok(Received::Message(Message { kind, data })));
        }
    }

    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError> {
        let data = Bytes::copy_from_slice(message);
        let message = match kind {
            MessageKind::Binary => Wire::Binary(data),
            MessageKind::Text => Wire::Text(data.try_into().map_err(io::Error::other)?),
        };
        Pin::new(&mut self.inner)
            .start_send(message)
            .map_err(transport_error)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Pin::new(&mut self.inner)
            .poll_flush(cx)
            .map_err(transport_error)
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        let _ = Pin::new(&mut self.inner).start_send(Wire::Close(Some(CloseFrame {
            code: code.value().into(),
            reason: reason.into(),
        })));
    }

    fn bytes_written(&self) -> u64 {
        0
    }

    fn bytes_read(&self) -> u64 {
        0
    }
}

fn closed(frame: Option<CloseFrame>) -> Received {
    match frame {
        Some(frame) => Received::Closed {
            code: CloseCode::new(frame.code.into()),
            reason: frame.reason.as_str().to_owned(),
        },
        None => Received::Closed {
            code: CloseCode::new(1005),
            reason: String::new(),
        },
    }
}

fn transport_error(error: Error) -> TransportError {
    let violation = |code, error: Error| TransportError::Violation {
        code: CloseCode::new(code),
        message: error.to_string(),
    };
    match error {
        Error::Io(error) => TransportError::Io(error),
        Error::Capacity(_) => TransportError::MessageTooBig,
        Error::Utf8(_) => violation(1007, error),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            TransportError::Io(io::ErrorKind::ConnectionReset.into())
        }
        Error::Protocol(_) => violation(1002, error),
        error => TransportError::Io(io::Error::other(error)),
    }
}
