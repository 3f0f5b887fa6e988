//! What carries messages: the smallest interface that the engine needs.
//!
//! - [`websocket`](WebSocket): over anything that reads and writes bytes
//! - [`tune`]: what a TCP socket is told
//! - [`memory`]: within a process, for tests

pub mod memory;
mod socket;
mod websocket;

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::close::CloseCode;
pub use socket::tune;
pub use websocket::{Role, WebSocket};

/// A whole message, as one end sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// How its bytes are to be taken.
    pub kind: MessageKind,
    /// Its bytes; valid UTF-8 if it is text.
    pub data: Bytes,
}

/// The type of a WebSocket message (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}

/// What comes out of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message.
    Message(Message),
    /// The peer has ended the connection; nothing comes after this.
    Closed {
        /// Its code, [`CloseCode::ABNORMAL`] if it gave none.
        code: CloseCode,
        /// Its reason.
        reason: String,
    },
}

/// Why a transport cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The connection below it failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer sent a message that is too large.
    #[error("message larger than the limit")]
    MessageTooBig,
    /// The peer broke the transport's protocol.
    #[error("{message}")]
    Violation {
        /// What the Close frame says.
        code: CloseCode,
        /// What it did.
        message: String,
    },
}

impl TransportError {
    /// What a Close frame can tell the peer; `None` where there is no use in one.
    #[must_use]
    pub fn close_code(&self) -> Option<CloseCode> {
        match self {
            TransportError::Io(_) => None,
            TransportError::MessageTooBig => Some(CloseCode::MESSAGE_TOO_BIG),
            TransportError::Violation { code, .. } => Some(*code),
        }
    }
}

/// A connection that carries messages in order. One task owns it, reads and writes.
pub trait Transport: Send + Unpin + 'static {
    /// The next message.
    ///
    /// # Errors
    /// [`TransportError`]; nothing can be received after it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, TransportError>>;

    /// Queues a message. Never blocks: whoever sends waits for [`Transport::poll_flush`] from time
    /// to time.
    ///
    /// # Errors
    /// [`TransportError`]; nothing can be sent after it.
    fn send(&mut self, kind: MessageKind, message: &[u8]) -> Result<(), TransportError>;

    /// Ready once all that was queued is written.
    ///
    /// # Errors
    /// [`TransportError`]; nothing can be sent after it.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TransportError>>;

    /// Whether the transport has queued something of its own, such as the answer to a ping, so that
    /// [`Transport::poll_flush`] is due although nothing was sent.
    fn has_unflushed(&self) -> bool {
        false
    }

    /// Queues the end of the connection behind what was sent. The peer answers with
    /// [`Received::Closed`].
    fn close(&mut self, code: CloseCode, reason: &str);

    /// Queues a ping of the transport's own, which whatever lies between answers or lets pass
    /// (RFC 6455 §5.5.2). Nothing, where there is none.
    fn ping(&mut self) {}

    /// Bytes ever written, to tell a slow peer from one that is gone.
    fn bytes_written(&self) -> u64;

    /// Bytes ever read: each is a sign of life.
    fn bytes_read(&self) -> u64;
}
