//! Frames: what a message is made of, the same in both codecs.

use std::{borrow::Cow, fmt};

use super::{json, messagepack, options::Options};
use crate::body::Codec;

/// The longest method name, in bytes: `Service.method`.
pub const MAX_METHOD_NAME_BYTES: usize = 128;

/// One frame: what it is, its options, and its payload.
///
/// A frame is an array `[kind, …fields, options?, payload?]`. Each kind has a fixed number of
/// fields, and one more element is the options.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<'a> {
    /// The kind and its fields.
    pub head: Head<'a>,
    /// Empty where the frame carries none.
    pub options: Options<'a>,
    /// A body in the connection's codec. Empty for kinds that have none.
    pub payload: &'a [u8],
}

/// The kind of a frame, with its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head<'a> {
    /// The dialler's first frame: what it offers, in the options.
    Hello,
    /// The acceptor's answer: what holds on this connection, in the options.
    Welcome,
    /// Are you there? Answered by a PONG with the same token.
    Ping {
        /// Counted frames received so far.
        count: u64,
        /// Comes back in the PONG.
        token: u64,
    },
    /// The answer to a PING.
    Pong {
        /// Counted frames received so far.
        count: u64,
        /// The token of the PING.
        token: u64,
    },
    /// Counted frames received so far.
    Ack {
        /// How many.
        count: u64,
    },
    /// The connection is to be left; what is behind `count` was not accepted.
    GoAway {
        /// A close code.
        code: u64,
        /// The last counted frame that was accepted.
        count: u64,
    },
    /// A call.
    Request {
        /// Chosen by the caller.
        id: CallId,
        /// What is called.
        method: MethodRef<'a>,
    },
    /// Terminal: the call has succeeded.
    Response {
        /// The call.
        id: CallId,
    },
    /// Terminal: the call has failed.
    Error {
        /// The call.
        id: CallId,
        /// See [`crate::Code`].
        code: u16,
        /// For people.
        message: Cow<'a, str>,
    },
    /// One element of a stream.
    Item {
        /// The call whose stream it is.
        id: CallId,
    },
    /// The caller has sent its last item.
    End {
        /// The call.
        id: CallId,
    },
    /// More may be sent.
    Credit {
        /// A stream; 0 stands for the connection's bytes, 1 for notifications.
        id: CallId,
        /// That many more items.
        items: u64,
        /// That many more bytes.
        bytes: u64,
    },
    /// Please stop. A terminal frame still follows.
    Cancel {
        /// The call.
        id: CallId,
    },
    /// One-way, counted and replayed.
    Notify {
        /// What is called.
        method: MethodRef<'a>,
    },
    /// One-way; may be dropped under pressure.
    Volatile {
        /// What is called.
        method: MethodRef<'a>,
    },
    /// A further piece of a body.
    Chunk {
        /// The call; 0 for a notification's body.
        id: CallId,
        /// Whether more follows.
        state: ChunkState,
        /// The piece: bytes of the body, in JSON a part of its text.
        piece: Cow<'a, [u8]>,
    },
    /// `alias` stands for `method` from now on.
    Define {
        /// A small number.
        alias: u64,
        /// A full name, `Service.method`.
        method: Cow<'a, str>,
    },
    /// A stream was accepted.
    Open {
        /// The call.
        id: CallId,
    },
    /// In the middle of a connection: the dialler's new credential, or until when the acceptor takes
    /// it for good, in the options.
    Auth,
    /// A kind from 96 to 127 that this version does not know and may ignore. It is read past and
    /// cannot be encoded.
    Ignored {
        /// The kind.
        kind: u8,
    },
}

/// The position of a [`Frame`] kind in the protocol's table.
pub(super) mod kind {
    pub(crate) const HELLO: u8 = 0;
    pub(crate) const WELCOME: u8 = 1;
    pub(crate) const PING: u8 = 2;
    pub(crate) const PONG: u8 = 3;
    pub(crate) const ACK: u8 = 4;
    pub(crate) const GOAWAY: u8 = 5;
    pub(crate) const REQUEST: u8 = 6;
    pub(crate) const RESPONSE: u8 = 7;
    pub(crate) const ERROR: u8 = 8;
    pub(crate) const ITEM: u8 = 9;
    pub(crate) const END: u8 = 10;
    pub(crate) const CREDIT: u8 = 11;
    pub(crate) const CANCEL: u8 = 12;
    pub(crate) const NOTIFY: u8 = 13;
    pub(crate) const VOLATILE: u8 = 14;
    pub(crate) const CHUNK: u8 = 15;
    pub(crate) const DEFINE: u8 = 16;
    pub(crate) const OPEN: u8 = 17;
    pub(crate) const AUTH: u8 = 18;
    /// From here to 127: extensions that may be ignored, uncounted.
    pub(crate) const FIRST_IGNORABLE: u8 = 96;
    pub(crate) const LAST_IGNORABLE: u8 = 127;
}

impl Head<'_> {
    /// The kind's number.
    #[must_use]
    pub fn kind(&self) -> u8 {
        match self {
            Head::Hello => kind::HELLO,
            Head::Welcome => kind::WELCOME,
            Head::Ping { .. } => kind::PING,
            Head::Pong { .. } => kind::PONG,
            Head::Ack { .. } => kind::ACK,
            Head::GoAway { .. } => kind::GOAWAY,
            Head::Request { .. } => kind::REQUEST,
            Head::Response { .. } => kind::RESPONSE,
            Head::Error { .. } => kind::ERROR,
            Head::Item { .. } => kind::ITEM,
            Head::End { .. } => kind::END,
            Head::Credit { .. } => kind::CREDIT,
            Head::Cancel { .. } => kind::CANCEL,
            Head::Notify { .. } => kind::NOTIFY,
            Head::Volatile { .. } => kind::VOLATILE,
            Head::Chunk { .. } => kind::CHUNK,
            Head::Define { .. } => kind::DEFINE,
            Head::Open { .. } => kind::OPEN,
            Head::Auth => kind::AUTH,
            Head::Ignored { kind } => *kind,
        }
    }

    /// Whether the frame belongs to no call and is no notification: nothing holds it up.
    #[must_use]
    pub fn is_control(&self) -> bool {
        match self {
            Head::Credit { id, .. } => id.slot() == 0,
            head => matches!(
                head.kind(),
                kind::HELLO..=kind::GOAWAY | kind::DEFINE | kind::AUTH
            ),
        }
    }

    /// Whether a message with this frame takes a part of the connection's window (W-FLOW-8). What may
    /// be lost does not: it would never be given back.
    #[must_use]
    pub fn takes_window(&self) -> bool {
        !self.is_control() && !matches!(self, Head::Volatile { .. })
    }

    /// Whether both ends count this frame, for acknowledgement and replay.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        matches!(self.kind(), kind::REQUEST..=kind::NOTIFY | kind::CHUNK..=kind::OPEN)
    }
}

/// How many fields stand between the kind and the options, and whether a payload is last.
/// `None` for kinds that are not defined.
pub(super) fn shape(kind: u8) -> Option<(usize, bool)> {
    Some(match kind {
        kind::HELLO | kind::WELCOME | kind::AUTH => (0, false),
        kind::PING | kind::PONG | kind::GOAWAY => (2, false),
        kind::ACK | kind::END | kind::CANCEL | kind::OPEN => (1, false),
        kind::REQUEST | kind::CHUNK => (2, true),
        kind::RESPONSE | kind::ITEM | kind::NOTIFY | kind::VOLATILE => (1, true),
        kind::ERROR => (3, true),
        kind::CREDIT => (3, false),
        kind::DEFINE => (2, false),
        _ => return None,
    })
}

/// Whether the options are always there, since they are all that the frame says.
pub(super) fn has_options_always(kind: u8) -> bool {
    matches!(kind, kind::HELLO | kind::WELCOME | kind::AUTH)
}

/// The id of a call, `slot × 2 + side`.
///
/// The slot is a number from 1 that the opener chooses; the side is 1 for ids of the dialler and
/// 0 for ids of the acceptor. 0 and 1 therefore never name a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(u64);

impl CallId {
    /// In a CREDIT: the connection's bytes. In a CHUNK: a notification's body.
    pub const CONNECTION: CallId = CallId(0);
    /// In a CREDIT: notifications.
    pub const NOTIFICATIONS: CallId = CallId(1);

    /// The id with this number.
    #[must_use]
    #[inline]
    pub const fn new(value: u64) -> Self {
        CallId(value)
    }

    #[inline]
    pub(crate) const fn of(slot: usize, side: Side) -> Self {
        CallId((slot as u64) << 1 | side as u64)
    }

    /// The number that travels.
    #[must_use]
    #[inline]
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The end that opened the call.
    #[must_use]
    #[inline]
    pub const fn side(self) -> Side {
        if self.0 & 1 == 1 {
            Side::Dialler
        } else {
            Side::Acceptor
        }
    }

    /// The opener's slot; 0 names no call.
    #[must_use]
    #[inline]
    pub const fn slot(self) -> u64 {
        self.0 >> 1
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Who opened the connection. Nothing else tells the two ends apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that accepted the connection; its ids are even.
    Acceptor = 0,
    /// The end that opened the connection; its ids are odd.
    Dialler = 1,
}

impl Side {
    /// The other end.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Side::Acceptor => Side::Dialler,
            Side::Dialler => Side::Acceptor,
        }
    }
}

/// A method in a REQUEST, NOTIFY or VOLATILE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MethodRef<'a> {
    /// The full name, `Service.method`.
    Name(Cow<'a, str>),
    /// What a DEFINE gave the name of.
    Alias(u64),
}

/// Whether a CHUNK is the last piece of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkState {
    /// More pieces follow.
    More = 0,
    /// The body is complete.
    Last = 1,
    /// The body will never be complete; what came of it is to be dropped.
    Abort = 2,
}

impl ChunkState {
    pub(super) fn from_wire(value: u64) -> Option<Self> {
        [ChunkState::More, ChunkState::Last, ChunkState::Abort]
            .into_iter()
            .find(|state| *state as u64 == value)
    }
}

/// Why a message is no sequence of frames. It ends the connection with
/// [`crate::CloseCode::FRAMING`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The message ends within a frame.
    #[error("the message ends within a frame")]
    Truncated,
    /// The kind is reserved, or an extension that must be understood.
    #[error("frame kind {0} is not known")]
    UnknownKind(u64),
    /// The frame has too few or too many elements.
    #[error("a frame of kind {kind} has {elements} elements")]
    Arity {
        /// The kind.
        kind: u8,
        /// How many elements the array has, with the kind.
        elements: usize,
    },
    /// A field is not what its place in the frame asks for.
    #[error("{0} expected")]
    Expected(&'static str),
    /// The text of a JSON message is no JSON.
    #[error("invalid JSON: {0}")]
    Json(String),
    /// A method name is empty, too long or not of the form `Service.method`.
    #[error("bad method name")]
    MethodName,
}

impl<'a> Frame<'a> {
    /// A frame without options and payload.
    #[must_use]
    #[inline]
    pub fn new(head: Head<'a>) -> Self {
        Frame {
            head,
            options: Options::EMPTY,
            payload: &[],
        }
    }

    /// A frame with a payload and without options.
    #[must_use]
    pub fn with_payload(head: Head<'a>, payload: &'a [u8]) -> Self {
        Frame {
            head,
            options: Options::EMPTY,
            payload,
        }
    }

    /// Appends the frame. Several in one MessagePack message just follow each other; in JSON they
    /// are elements of an array (see [`super::Packer`]).
    ///
    /// An empty payload is an empty `bin` in MessagePack and `null` in JSON.
    pub fn encode(&self, codec: Codec, out: &mut Vec<u8>) {
        match codec {
            Codec::MessagePack => messagepack::encode(self, out),
            Codec::Json => json::encode(self, out),
        }
    }
}

/// Where the reader of a message stands, so that one message can be read in several goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    pub(super) offset: usize,
    pub(super) json: json::State,
}

/// Reads the frame at `position` and moves past it; `None` at the end of the message.
///
/// After an error the position is not to be used again.
///
/// # Errors
/// [`FrameError`], for any message that is not made of frames. Nothing is allocated for what a
/// length field claims.
pub fn next_frame<'a>(
    codec: Codec,
    message: &'a [u8],
    position: &mut Position,
) -> Result<Option<Frame<'a>>, FrameError> {
    match codec {
        Codec::MessagePack => messagepack::next_frame(message, position),
        Codec::Json => json::next_frame(message, position),
    }
}

/// All frames of one message.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    codec: Codec,
    message: &'a [u8],
    position: Position,
    failed: bool,
}

impl<'a> Frames<'a> {
    /// The frames of `message`.
    #[must_use]
    #[inline]
    pub fn new(codec: Codec, message: &'a [u8]) -> Self {
        Frames {
            codec,
            message,
            position: Position::default(),
            failed: false,
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = next_frame(self.codec, self.message, &mut self.position).transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Checks a name off the wire: `Service.method`, printable ASCII without blanks, not too long.
pub(super) fn check_method_name(name: &str) -> Result<(), FrameError> {
    let printable = name.bytes().all(|byte| byte.is_ascii_graphic());
    if name.is_empty() || name.len() > MAX_METHOD_NAME_BYTES || !printable {
        return Err(FrameError::MethodName);
    }
    Ok(())
}
