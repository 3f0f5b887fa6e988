//! What the protocol wants from the outside, and what it says to it.

use std::{ops::Range, sync::Arc, task::Waker};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    frame::{CallId, FrameError},
    resume::{Refusal, Resume},
    token::Token,
};
use crate::{close::CloseCode, metadata::Metadata, priority::Priority};

/// A method of this end, as the router numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: u32,
    /// The method within it.
    pub method: u32,
    /// Its shape.
    pub kind: MethodKind,
}

/// The shape of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MethodKind {
    /// One request, one response.
    Unary,
    /// One-way.
    Notification,
    /// One request; the answer is a stream.
    ServerStreaming,
    /// The caller sends a stream; one response.
    ClientStreaming,
    /// A stream each way.
    Bidirectional,
}

impl MethodKind {
    /// Whether the caller sends a stream.
    #[must_use]
    pub const fn takes_stream(self) -> bool {
        matches!(
            self,
            MethodKind::ClientStreaming | MethodKind::Bidirectional
        )
    }

    /// The streams as they stand in a REQUEST: 1 for the caller's and 2 for the answer's, added.
    #[must_use]
    pub const fn streams(self) -> u64 {
        self.takes_stream() as u64 + 2 * self.returns_stream() as u64
    }

    /// Whether the answer is a stream.
    #[must_use]
    pub const fn returns_stream(self) -> bool {
        matches!(
            self,
            MethodKind::ServerStreaming | MethodKind::Bidirectional
        )
    }
}

/// Finds methods by the names that the peer uses.
pub trait Resolve {
    /// The method of this name.
    fn resolve(&self, name: &str) -> Option<Target>;

    /// Why there is none, as a lower-case phrase for the ERROR frame.
    fn explain(&self, name: &str) -> String {
        format!("no method {name:?}")
    }
}

/// What came in and needs somebody's attention.
#[derive(Debug)]
pub enum Event {
    /// HELLO or WELCOME has come: the connection is open.
    Open,
    /// HELLO asks to go on with a session. Nothing is answered until that is found, or not.
    Resume(Resume),
    /// Nothing is answered until somebody has found out who the dialler is, and lets it in; then
    /// `Connection::welcome` follows, or the end. Of AUTH the same, while all goes on.
    Authenticate {
        /// What it proves it with, if it has said so.
        token: Option<Token>,
        /// HELLO: the session that it wants to go on with.
        resume: Option<Resume>,
    },
    /// The acceptor has said for how long it takes this end's new credential for good.
    Renewed,
    /// The session goes on, on another socket.
    Resumed,
    /// The peer takes no more calls.
    GoAway,
    /// The peer has given a sign of life that this end has asked for.
    Pong,
    /// A call is to be executed and answered exactly once.
    Request {
        /// To answer with.
        id: CallId,
        /// What is called.
        target: Target,
        /// Arguments.
        body: Body,
        /// What the handles of its streams know it by; 0 for a call without.
        generation: u64,
        /// When it is no longer of use.
        deadline: Option<Instant>,
        /// How urgent its frames are.
        priority: Priority,
        /// What repetitions of the call are known by. None for a call with a stream.
        idempotency_key: Option<Arc<str>>,
        /// What the caller sent along.
        metadata: Metadata,
    },
    /// A notification is to be handled, in order. Its credit is given back
    /// once it is.
    Notification {
        /// What is called.
        target: Target,
        /// Arguments.
        body: Body,
        /// What the caller sent along.
        metadata: Metadata,
        /// Whether it may be dropped when too many wait.
        volatile: bool,
    },
    /// The handler of this call is to be stopped.
    Stop {
        /// The call.
        id: CallId,
    },
}

/// Arguments as they came in.
#[derive(Debug)]
pub enum Body {
    /// Small ones stand there in the message that was read, and are best copied: a call that takes
    /// long is not to keep a message alive, and to share it costs more than to copy them.
    Within(Range<usize>),
    /// All others.
    Shared(Bytes),
}

impl Body {
    /// The bytes, given the message that was read.
    #[cfg(test)]
    pub(super) fn bytes<'a>(&'a self, message: &'a [u8]) -> &'a [u8] {
        match self {
            Body::Within(place) => &message[place.clone()],
            Body::Shared(body) => body,
        }
    }
}

/// Events of one step, and callers to be woken once no lock is held.
#[derive(Debug, Default)]
pub struct Events {
    /// In order of arrival.
    pub queue: Vec<Event>,
    /// Callers whose answers have come.
    pub wakers: Vec<Waker>,
}

/// Why the peer broke the connection's rules; it ends the connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message is no sequence of frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame of this kind cannot come now.
    #[error("{0}")]
    Unexpected(&'static str),
    /// The id is of the wrong side, or names no call.
    #[error("id {0} cannot be opened by the peer")]
    WrongId(CallId),
    /// The id belongs to a call that has not ended.
    #[error("id {0} is in use")]
    LiveId(CallId),
    /// The alias was defined already, or is out of range.
    #[error("alias {0} cannot be defined")]
    Alias(u64),
    /// The peer takes only messages that are too small to be of use.
    #[error("messages of {0} bytes are too small, 262144 is the least")]
    MessageLimit(usize),
    /// An option with an even key outside a call.
    #[error("option {0} is not understood")]
    Option(u64),
    /// The session does not go on. A new one has begun on the socket.
    #[error("{0}")]
    NotResumed(Refusal),
    /// The acceptor goes on with the session where this end cannot.
    #[error("the session went on with a gap")]
    Gap,
    /// Notifications beyond the credit, or calls far beyond the limit.
    #[error("{0}")]
    Flood(&'static str),
}

impl ProtocolError {
    /// What the Close frame says.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            ProtocolError::Frame(_) => CloseCode::FRAMING,
            ProtocolError::Flood(_) => CloseCode::FLOOD,
            ProtocolError::Gap => CloseCode::GAP,
            _ => CloseCode::PROTOCOL,
        }
    }
}
