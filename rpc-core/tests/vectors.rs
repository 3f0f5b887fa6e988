//! The golden vectors of `tests/vectors`, in both directions.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes as Message;
use serde_json::Value;
use support::{
    Meaning, assert_meaning, bytes, frames, has_odd_options, integer, key, text, to_text, vectors,
};
use tokio::time::Instant;
use wirecall_core::{
    CloseCode, Codec, Limits,
    protocol::{
        Batch, Connection, Event, Events, Frame, FrameError, Head, MethodKind, Packer, Position,
        ProtocolError, Resolve, Side, Target,
    },
};

fn is_canonical(vector: &Value) -> bool {
    vector.get("decode_only").is_none()
}

/// W-FRAME-1, W-FRAME-2, W-FRAME-3: the layout of every kind.
#[test]
fn every_frame_is_read_as_its_vector_means() {
    for vector in vectors("frames.json") {
        let name = text(&vector, "name");
        for codec in Codec::ALL {
            let Some(message) = bytes(&vector, codec) else {
                continue;
            };
            let frames = frames(codec, &message).unwrap_or_else(|e| panic!("{name}: {e}"));
            let [frame] = &frames[..] else {
                panic!("{name}: {} frames", frames.len());
            };
            assert_eq!(u64::from(frame.head.kind()), integer(&vector["kind"]));
            assert_meaning(frame, &vector["meaning"], codec, name);
        }
    }
}

/// W-FRAME-4: one way to write each frame.
#[test]
fn every_canonical_frame_is_written_byte_for_byte() {
    let mut kinds = BTreeSet::new();
    for vector in vectors("frames.json").iter().filter(|v| is_canonical(v)) {
        let name = text(vector, "name");
        kinds.insert(integer(&vector["kind"]));
        for codec in Codec::ALL {
            let expected = text(vector, key(codec));
            let message = bytes(vector, codec).expect("both codecs");
            let read = frames(codec, &message).expect("read above");
            let mut again = Vec::new();
            read[0].encode(codec, &mut again);
            assert_eq!(to_text(&again, codec), expected, "{name}, read and written");
            if !has_odd_options(&vector["meaning"]) {
                let written = Meaning::new(&vector["meaning"], codec).encode(codec);
                assert_eq!(to_text(&written, codec), expected, "{name}");
            }
        }
    }
    assert_eq!(kinds, (0..=18).collect(), "kinds without a vector");
}

/// W-MSG-3, W-MSG-4: several frames in a message.
#[test]
fn frames_share_messages_as_the_vectors_show() {
    let all = vectors("frames.json");
    let by_name: BTreeMap<_, _> = all
        .iter()
        .map(|frame| (text(frame, "name"), frame))
        .collect();
    for vector in vectors("messages.json") {
        let name = text(&vector, "name");
        let expected: Vec<_> = vector["frames"]
            .as_array()
            .expect("names of frames")
            .iter()
            .map(|frame| by_name[frame.as_str().expect("a name")])
            .collect();
        for codec in Codec::ALL {
            let message = bytes(&vector, codec).expect("both codecs");
            let read = frames(codec, &message).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(read.len(), expected.len(), "{name}");
            for (frame, expected) in read.iter().zip(&expected) {
                assert_meaning(frame, &expected["meaning"], codec, name);
            }
            if is_canonical(&vector) {
                let mut packer = Packer::new(codec);
                let mut batch = Batch::default();
                for frame in &read {
                    packer.push(frame);
                }
                packer.take(&mut batch);
                let written: Vec<_> = batch.messages().map(|m| to_text(m, codec)).collect();
                assert_eq!(written, [text(&vector, key(codec))], "{name}");
            }
        }
    }
}

/// W-FRAME-7: a message that is no sequence of frames ends the connection with 4000.
#[test]
fn every_invalid_message_is_refused_for_its_reason() {
    for vector in vectors("invalid.json") {
        let name = text(&vector, "name");
        for codec in Codec::ALL {
            let Some(message) = bytes(&vector, codec) else {
                continue;
            };
            let error = frames(codec, &message)
                .map(|frames| panic!("{name}, {codec:?}: read as {frames:?}"))
                .unwrap_err();
            let kind = match &error {
                FrameError::Truncated => "truncated",
                FrameError::UnknownKind(_) => "kind",
                FrameError::Arity { .. } => "arity",
                FrameError::Expected(_) | FrameError::Json(_) => "malformed",
                FrameError::MethodName => "method",
                other => panic!("{other}"),
            };
            assert_eq!(kind, text(&vector, "error"), "{name}, {codec:?}: {error}");
            assert_eq!(
                ProtocolError::from(error).close_code(),
                CloseCode::FRAMING,
                "{name}"
            );
        }
    }
}

/// Knows every method.
struct AnyMethod;

impl Resolve for AnyMethod {
    fn resolve(&self, name: &str) -> Option<Target> {
        if name.starts_with("Chaat.") {
            return None;
        }
        let kind = match name {
            "ChatEvents.kicked" => MethodKind::Notification,
            "Chat.visitors" | "Chat.follow" => MethodKind::ServerStreaming,
            "Chat.import" => MethodKind::ClientStreaming,
            "Chat.sum" => MethodKind::Bidirectional,
            _ => MethodKind::Unary,
        };
        Some(Target {
            service: 0,
            method: 0,
            kind,
        })
    }

    fn explain(&self, _: &str) -> String {
        "no service \"Chaat\" (did you mean \"Chat\"?)".to_owned()
    }
}

/// A connection that is fed messages.
struct End {
    codec: Codec,
    connection: Connection,
    events: Events,
}

impl End {
    fn new(side: Side, codec: Codec) -> Self {
        End {
            codec,
            connection: Connection::new(side, codec, Limits::default()),
            events: Events::default(),
        }
    }

    fn receive(&mut self, frames: &[&Frame<'_>]) {
        for message in packed(self.codec, frames) {
            let received = self.connection.receive(
                &Message::from(message),
                &mut Position::default(),
                usize::MAX,
                Instant::now(),
                &AnyMethod,
                &mut self.events,
            );
            assert!(received.unwrap_or_else(|error| panic!("{frames:?}: {error}")));
        }
    }
}

fn packed(codec: Codec, frames: &[&Frame<'_>]) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(codec);
    for frame in frames {
        packer.push(frame);
    }
    let mut batch = Batch::default();
    packer.take(&mut batch);
    batch.messages().map(<[u8]>::to_vec).collect()
}

const CONVERSATIONS: [&str; 4] = [
    "conversation.json",
    "stream_conversation.json",
    "topic_conversation.json",
    "resume_conversation.json",
];

/// W-MSG-3: the conversations read as they mean, and are written byte for byte.
#[test]
fn the_conversations_are_written_byte_for_byte() {
    for vector in CONVERSATIONS.into_iter().flat_map(vectors) {
        for codec in Codec::ALL {
            let message = bytes(&vector, codec).expect("both codecs");
            let expected = vector["frames"].as_array().expect("meanings");
            let read = frames(codec, &message).expect("frames");
            assert_eq!(read.len(), expected.len(), "{}", vector["note"]);
            for (frame, meaning) in read.iter().zip(expected) {
                assert_meaning(frame, meaning, codec, text(&vector, "note"));
            }
            let meant: Vec<_> = expected.iter().map(|m| Meaning::new(m, codec)).collect();
            let meant: Vec<_> = meant.iter().map(Meaning::frame).collect();
            let written = packed(codec, &meant.iter().collect::<Vec<_>>());
            assert_eq!(written, [message], "{}", vector["note"]);
        }
    }
}

/// W-NEG-7, W-ORD-2: both ends take the conversations without complaint.
#[test]
fn the_conversations_are_accepted_by_both_ends() {
    for codec in Codec::ALL {
        // One of the four calls names no method.
        let (dialler, calls) = accepted("conversation.json", codec);
        assert_eq!(calls, 3);
        assert_eq!(dialler.connection.in_flight(), (0, 1));
        let notifications = dialler.events.queue.iter();
        let notifications =
            notifications.filter(|event| matches!(event, Event::Notification { .. }));
        assert_eq!(notifications.count(), 1);

        let (dialler, calls) = accepted("stream_conversation.json", codec);
        assert_eq!(calls, 4);
        assert_eq!(dialler.connection.in_flight(), (0, 0));
        assert_eq!(dialler.connection.peer_limits().stream_credit.bytes, 1000);

        let (dialler, calls) = accepted("topic_conversation.json", codec);
        assert_eq!(calls, 4);
        assert_eq!(dialler.connection.in_flight(), (0, 0));
    }
}

/// Lets both ends read a conversation: the dialler, and how many calls of it were executed.
fn accepted(file: &str, codec: Codec) -> (End, usize) {
    let conversation = vectors(file);
    let messages: Vec<_> = conversation
        .iter()
        .map(|vector| bytes(vector, codec).expect("both codecs"))
        .collect();
    let mut dialler = End::new(Side::Dialler, codec);
    // Nobody answers calls here, so that each of the dialler's messages is for an acceptor
    // that knows of those before it all but the calls.
    let mut known = Vec::new();
    let mut calls = 0;
    for (vector, message) in conversation.iter().zip(&messages) {
        let frames = frames(codec, message).expect("frames");
        if text(vector, "from") == "acceptor" {
            dialler.receive(&frames.iter().collect::<Vec<_>>());
            continue;
        }
        let mut acceptor = End::new(Side::Acceptor, codec);
        acceptor.receive(&known.iter().chain(&frames).collect::<Vec<_>>());
        calls += acceptor.connection.in_flight().1;
        let stopped = acceptor.events.queue.iter();
        let stopped = stopped.filter(|event| matches!(event, Event::Stop { .. }));
        assert_eq!(stopped.count(), 0, "{}", vector["note"]);
        let lasting = |frame: &Frame<'_>| matches!(frame.head, Head::Hello | Head::Define { .. });
        known.extend(frames.into_iter().filter(lasting));
    }
    (dialler, calls)
}
