//! An end of a connection in a test's hand, and the frames that it is given.

use std::borrow::Cow;

use bytes::Bytes as Message;
use tokio::time::Instant;
use wirecall_core::{
    CloseCode, Code, Codec, Limits,
    protocol::{
        Batch, CallId, Connection, Event, Events, Frame, Frames, Head, MethodKind, MethodRef,
        OptionKey, Packer, Position, ProtocolError, Resolve, Side, Target,
    },
};

pub(crate) const TARGET: Target = Target {
    service: 0,
    method: 7,
    kind: MethodKind::Unary,
};

/// What `Chat.kicked` is to a connection.
pub(crate) const NOTIFICATION: Target = Target {
    service: 0,
    method: 8,
    kind: MethodKind::Notification,
};

/// Knows `Chat.post`, a call, and `Chat.kicked`, a notification; `Chat.visitors`, which answers with
/// a stream, `Chat.import`, which takes one, and `Chat.sum`, which does both.
pub(crate) struct Chat;

impl Resolve for Chat {
    fn resolve(&self, name: &str) -> Option<Target> {
        let kind = match name {
            "Chat.post" => return Some(TARGET),
            "Chat.kicked" => return Some(NOTIFICATION),
            "Chat.visitors" => MethodKind::ServerStreaming,
            "Chat.import" => MethodKind::ClientStreaming,
            "Chat.sum" => MethodKind::Bidirectional,
            _ => return None,
        };
        Some(Target { kind, ..TARGET })
    }
}

/// One end, with all that has happened at it.
pub(crate) struct End {
    pub(crate) connection: Connection,
    pub(crate) codec: Codec,
    pub(crate) now: Instant,
    pub(crate) events: Vec<Event>,
}

impl End {
    pub(crate) fn new(side: Side, codec: Codec, limits: Limits) -> Self {
        End {
            connection: Connection::new(side, codec, limits),
            codec,
            now: Instant::now(),
            events: Vec::new(),
        }
    }

    /// An acceptor that has had a HELLO without options; its WELCOME has been taken.
    pub(crate) fn acceptor(codec: Codec, limits: Limits) -> Self {
        let mut end = End::new(Side::Acceptor, codec, limits);
        end.receive(&[Frame::new(Head::Hello)]).expect("HELLO");
        assert_eq!(end.output().len(), 1);
        end.events.clear();
        end
    }

    pub(crate) fn message(&mut self, message: &[u8]) -> Result<(), ProtocolError> {
        let mut events = Events::default();
        let received = self.connection.receive(
            &Message::copy_from_slice(message),
            &mut Position::default(),
            usize::MAX,
            self.now,
            &Chat,
            &mut events,
        );
        self.events.append(&mut events.queue);
        received.map(|at_end| assert!(at_end))
    }

    /// Takes frames as one message.
    pub(crate) fn receive(&mut self, frames: &[Frame<'_>]) -> Result<(), ProtocolError> {
        for message in packed(self.codec, frames) {
            self.message(&message)?;
        }
        Ok(())
    }

    pub(crate) fn messages(&mut self) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        loop {
            let mut batch = Batch::default();
            self.connection.take_output(&mut batch, &mut Vec::new());
            messages.extend(batch.messages().map(<[u8]>::to_vec));
            if !self.connection.has_output() {
                return messages;
            }
        }
    }

    /// What was written since the last time.
    pub(crate) fn output(&mut self) -> Vec<Written> {
        let messages = self.messages();
        messages
            .iter()
            .flat_map(|message| Frames::new(self.codec, message))
            .map(|frame| Written::new(&frame.expect("frames")))
            .collect()
    }

    /// The codes and fates of the errors that were written since the last time.
    pub(crate) fn refusals(&mut self) -> Vec<(u64, Code, Option<u64>)> {
        self.output()
            .into_iter()
            .map(|written| match written {
                Written::Error { id, code, fate } => (id, code, fate),
                other => panic!("not an error: {other:?}"),
            })
            .collect()
    }

    pub(crate) fn requests(&self) -> Vec<u64> {
        let ids = self.events.iter().filter_map(|event| match event {
            Event::Request { id, .. } => Some(id.value()),
            _ => None,
        });
        ids.collect()
    }

    pub(crate) fn notifications(&self) -> usize {
        let is_notification = |event: &&Event| matches!(event, Event::Notification { .. });
        self.events.iter().filter(is_notification).count()
    }

    pub(crate) fn stopped(&self) -> Vec<u64> {
        let ids = self.events.iter().filter_map(|event| match event {
            Event::Stop { id } => Some(id.value()),
            _ => None,
        });
        ids.collect()
    }
}

/// A frame of an end's output, as far as these tests look at it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Error {
        id: u64,
        code: Code,
        /// Option 1.
        fate: Option<u64>,
    },
    Pong {
        count: u64,
        token: u64,
    },
    Credit {
        id: u64,
        items: u64,
        bytes: u64,
    },
    /// A kind.
    Other(u8),
}

impl Written {
    pub(crate) fn new(frame: &Frame<'_>) -> Self {
        match &frame.head {
            Head::Error { id, code, .. } => Written::Error {
                id: id.value(),
                code: Code::new(*code),
                fate: frame
                    .options
                    .entries()
                    .find(|(key, _)| *key == OptionKey::Integer(1))
                    .and_then(|(_, value)| value.uint()),
            },
            Head::Pong { count, token } => Written::Pong {
                count: *count,
                token: *token,
            },
            Head::Credit { id, items, bytes } => Written::Credit {
                id: id.value(),
                items: *items,
                bytes: *bytes,
            },
            head => Written::Other(head.kind()),
        }
    }
}

pub(crate) const NOT_EXECUTED: Option<u64> = Some(1);

pub(crate) fn packed(codec: Codec, frames: &[Frame<'_>]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(codec);
    for frame in frames {
        packer.push(frame);
    }
    let mut batch = Batch::default();
    packer.take(&mut batch);
    batch.messages().map(<[u8]>::to_vec).collect()
}

pub(crate) fn request(id: u64) -> Frame<'static> {
    request_of(id, "Chat.post")
}

pub(crate) fn request_of(id: u64, name: &'static str) -> Frame<'static> {
    call(id, MethodRef::Name(Cow::Borrowed(name)))
}

pub(crate) fn call(id: u64, method: MethodRef<'static>) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::new(Head::Request { id, method })
}

pub(crate) fn notify(name: &'static str) -> Frame<'static> {
    Frame::new(Head::Notify {
        method: MethodRef::Name(Cow::Borrowed(name)),
    })
}

pub(crate) fn define(alias: u64, name: &'static str) -> Frame<'static> {
    Frame::new(Head::Define {
        alias,
        method: Cow::Borrowed(name),
    })
}

pub(crate) fn cancel(id: u64) -> Frame<'static> {
    Frame::new(Head::Cancel {
        id: CallId::new(id),
    })
}

pub(crate) fn ping(token: u64) -> Frame<'static> {
    Frame::new(Head::Ping { count: 0, token })
}

/// The code of the Close that an error asks for.
pub(crate) fn close_code(result: Result<(), ProtocolError>) -> CloseCode {
    result.expect_err("the connection goes on").close_code()
}

pub(crate) fn limits() -> Limits {
    Limits::default()
}
