//! What holds for all frames and for all bytes.

#[path = "support/generate.rs"]
mod generate;

use std::borrow::Cow;

use bytes::Bytes as Message;
use generate::{AnyFrame, AnyOption, Parts, config, frame};
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::time::Instant;
use wirecall_core::{
    Codec, Limits,
    protocol::{
        Batch, CallId, Connection, Events, Frame, FrameError, Frames, Head, MAX_METHOD_NAME_BYTES,
        MethodKind, MethodRef, OptionKey, OptionValue, Packer, Position, ProtocolError, Resolve,
        Side, Target, next_frame,
    },
};

fn parts(codec: Codec, frames: &[AnyFrame]) -> Vec<Parts> {
    frames.iter().map(|frame| frame.parts(codec)).collect()
}

/// The messages that frames are packed into.
fn packed(codec: Codec, frames: &[Parts], max_message_bytes: usize) -> Vec<Vec<u8>> {
    let mut packer = Packer::new(codec);
    packer.limit_messages(max_message_bytes);
    for frame in frames {
        packer.push(&frame.frame());
    }
    let mut batch = Batch::default();
    packer.take(&mut batch);
    batch.messages().map(<[u8]>::to_vec).collect()
}

/// Reads a message, frame by frame, each from where the last one has left off.
fn read_stepwise(codec: Codec, message: &[u8]) -> Result<Vec<Frame<'_>>, FrameError> {
    let mut frames = Vec::new();
    let mut saved = Position::default();
    loop {
        let mut position = saved;
        match next_frame(codec, message, &mut position)? {
            Some(frame) => frames.push(frame),
            None => return Ok(frames),
        }
        saved = position;
    }
}

fn assert_same(frame: &Frame<'_>, expected: &AnyFrame, codec: Codec) {
    let parts = expected.parts(codec);
    assert_eq!(frame.head, expected.head);
    assert_eq!(frame.payload, parts.frame().payload);
    let entries: Vec<_> = frame.options.entries().collect();
    assert_eq!(entries.len(), expected.options.len());
    for ((key, value), option) in entries.into_iter().zip(&expected.options) {
        match option {
            AnyOption::Uint(expected_key, number) => {
                assert_eq!(key, OptionKey::Integer(*expected_key));
                assert_eq!(value, OptionValue::Uint(*number));
            }
            AnyOption::Text(expected_key, text) => {
                assert_eq!(key, OptionKey::Integer(*expected_key));
                assert_eq!(value, OptionValue::Text(text.into()));
            }
            AnyOption::MetadataText(expected_key, text) => {
                assert_eq!(key, OptionKey::Text(expected_key.into()));
                assert_eq!(value, OptionValue::Text(text.into()));
            }
            AnyOption::MetadataBytes(expected_key, bytes) => {
                assert_eq!(key, OptionKey::Text(expected_key.into()));
                assert_eq!(value.bytes(), Some(Cow::Borrowed(&**bytes)));
            }
        }
    }
}

struct AnyMethod;

impl Resolve for AnyMethod {
    fn resolve(&self, name: &str) -> Option<Target> {
        let kind = match name.len() % 5 {
            0 => return None,
            1 => MethodKind::Unary,
            2 => MethodKind::ServerStreaming,
            3 => MethodKind::Bidirectional,
            _ => MethodKind::Notification,
        };
        Some(Target {
            service: 0,
            method: 0,
            kind,
        })
    }
}

fn receive(connection: &mut Connection, message: Vec<u8>) -> Result<Events, ProtocolError> {
    let mut events = Events::default();
    let message = Message::from(message);
    let mut position = Position::default();
    let now = Instant::now();
    while !connection.receive(&message, &mut position, 3, now, &AnyMethod, &mut events)? {}
    Ok(events)
}

/// An acceptor that has had its HELLO.
fn acceptor(codec: Codec) -> Connection {
    let limits = Limits::default().max_in_flight(8).notification_credit(4);
    let mut connection = Connection::new(Side::Acceptor, codec, limits);
    let hello: &[u8] = match codec {
        Codec::MessagePack => &[0x92, 0, 0x80],
        _ => b"[0,{}]",
    };
    receive(&mut connection, hello.to_vec()).expect("HELLO");
    connection
}

/// Reads the bytes as a message, as options and as a peer would: whatever they are, nothing
/// panics, and reading ends.
fn read_hostile(codec: Codec, message: &[u8]) {
    let mut frames = 0;
    for frame in Frames::new(codec, message) {
        let Ok(frame) = frame else { break };
        frame.options.entries().for_each(drop);
        frames += 1;
    }
    assert!(frames <= message.len());
    let _ = receive(&mut acceptor(codec), message.to_vec());
}

proptest! {
    #![proptest_config(config(100))]

    /// W-FRAME-2, W-FRAME-3, W-MSG-3: whatever is written is read as it was meant, in one go and
    /// in several.
    #[test]
    fn frames_survive_both_codecs(frames in vec(frame(), 1..8)) {
        for codec in Codec::ALL {
            let messages = packed(codec, &parts(codec, &frames), 1 << 20);
            let read: Vec<_> = messages
                .iter()
                .flat_map(|message| read_stepwise(codec, message).expect("frames"))
                .collect();
            prop_assert_eq!(read.len(), frames.len());
            for (read, frame) in read.iter().zip(&frames) {
                assert_same(read, frame, codec);
            }
            for message in &messages {
                let at_once: Result<Vec<_>, _> = Frames::new(codec, message).collect();
                prop_assert_eq!(at_once, read_stepwise(codec, message));
            }
        }
    }

    /// W-MSG-5: a message holds one frame, or no more bytes than the peer takes.
    #[test]
    fn messages_keep_to_the_limit(frames in vec(frame(), 1..12), limit in 1..2000_usize) {
        for codec in Codec::ALL {
            let messages = packed(codec, &parts(codec, &frames), limit);
            let mut read = 0;
            for message in &messages {
                let frames = read_stepwise(codec, message).expect("frames").len();
                prop_assert!(frames == 1 || message.len() <= limit);
                read += frames;
            }
            prop_assert_eq!(read, frames.len());
        }
    }

    /// W-FRAME-7: a message that was cut off is an error, except between two frames.
    #[test]
    fn a_message_that_is_cut_off_is_an_error(frame in frame(), at in any::<Index>()) {
        for codec in Codec::ALL {
            let message = &packed(codec, &[frame.parts(codec)], 1 << 20)[0];
            let cut = &message[..at.index(message.len())];
            let read = read_stepwise(codec, cut);
            let is_empty = cut.is_empty() && codec == Codec::MessagePack;
            prop_assert_eq!(read.is_err(), !is_empty);
        }
    }

    /// W-FRAME-7: nor does a message that was damaged.
    #[test]
    fn any_mutated_message_is_frames_or_an_error(
        frames in vec(frame(), 1..4),
        changes in vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        for codec in Codec::ALL {
            let mut message = packed(codec, &parts(codec, &frames), 1 << 20).concat();
            for (at, byte, change) in &changes {
                if message.is_empty() {
                    break;
                }
                let at = at.index(message.len());
                match change {
                    0 => message[at] = *byte,
                    1 => message[at] ^= 1 << (byte % 8),
                    2 => drop(message.remove(at)),
                    _ => message.insert(at, *byte),
                }
            }
            read_hostile(codec, &message);
        }
    }

    /// W-ID-4, W-CALL-3: whatever a peer sends, no more calls are executed than the limit allows,
    /// and each is answered at most once before it has ended.
    #[test]
    fn a_peer_cannot_exceed_the_limits(frames in vec(frame(), 1..16)) {
        for codec in Codec::ALL {
            let mut connection = acceptor(codec);
            for frame in &frames {
                let message = packed(codec, &[frame.parts(codec)], 1 << 20).concat();
                if receive(&mut connection, message).is_err() {
                    break;
                }
                prop_assert!(connection.in_flight().1 <= 8);
            }
            let mut batch = Batch::default();
            connection.take_output(&mut batch, &mut Vec::new());
            for message in batch.messages() {
                prop_assert!(read_stepwise(codec, message).is_ok());
            }
        }
    }
}

proptest! {
    #![proptest_config(config(3000))]

    /// W-FRAME-7: no message makes its reader panic or run on.
    #[test]
    fn any_byte_string_is_frames_or_an_error(message in vec(any::<u8>(), 0..300)) {
        for codec in Codec::ALL {
            read_hostile(codec, &message);
        }
    }

    /// W-FRAME-7: nor do bytes that are almost MessagePack.
    #[test]
    fn any_sequence_of_markers_is_frames_or_an_error(
        message in vec(prop::sample::select(MARKERS.to_vec()), 0..40)
    ) {
        read_hostile(Codec::MessagePack, &message);
    }

    /// W-FRAME-7: nor does text that is almost JSON.
    #[test]
    fn any_sequence_of_json_tokens_is_frames_or_an_error(
        tokens in vec(prop::sample::select(TOKENS.to_vec()), 0..40)
    ) {
        read_hostile(Codec::Json, tokens.concat().as_bytes());
    }
}

const MARKERS: [u8; 32] = [
    0, 1, 2, 3, 6, 7, 8, 12, 13, 16, 96, 0x80, 0x81, 0x90, 0x92, 0x93, 0x94, 0x95, 0xa0, 0xa1,
    0xc0, 0xc1, 0xc4, 0xc6, 0xcc, 0xcd, 0xcf, 0xd3, 0xd9, 0xdc, 0xde, 0xff,
];

const TOKENS: [&str; 28] = [
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ",",
    ":",
    " ",
    "\"",
    "\\",
    "\"a\"",
    "\"1\"",
    "\"S.m\"",
    "\"\\ud800\"",
    "0",
    "1",
    "3",
    "6",
    "7",
    "12",
    "16",
    "96",
    "1.5",
    "-1",
    "null",
    "true",
    "1e9",
];

/// W-BODY-10, W-FRAME-7: depth costs neither stack nor time, wherever it stands.
#[test]
fn deep_nesting_is_refused_without_recursion() {
    const DEPTH: usize = 100_000;
    for opening in [
        "[",
        "[[",
        "[6,3,\"S.m\",",
        "[12,3,{\"2\":",
        "[96,",
        "[[6,3,0,{\"a\":",
    ] {
        let message = format!("{opening}{}", "[".repeat(DEPTH));
        let frames: Vec<_> = Frames::new(Codec::Json, message.as_bytes()).collect();
        assert!(matches!(frames[..], [Err(_)]), "{opening}");
        let message = format!("{opening}{}", "{\"a\":".repeat(DEPTH));
        let frames: Vec<_> = Frames::new(Codec::Json, message.as_bytes()).collect();
        assert!(matches!(frames[..], [Err(_)]), "{opening}");
    }
    let openings: [&[u8]; 5] = [
        &[],
        &[0x93, 12, 3, 0x81, 2],
        &[0x92, 96],
        &[0x94, 6],
        &[0xdc, 0],
    ];
    for opening in openings {
        for level in [&[0x91][..], &[0x81, 1], &[0xdd, 0, 0, 0, 1]] {
            let message = [opening, &level.repeat(DEPTH)].concat();
            let frames: Vec<_> = Frames::new(Codec::MessagePack, &message).collect();
            assert!(matches!(frames[..], [Err(_)]), "{opening:?}");
        }
    }
    // Complete, and passed over without a look inside.
    let nested = format!("{}{}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let message = format!("[7,3,{nested}]");
    let frames: Vec<_> = Frames::new(Codec::Json, message.as_bytes()).collect();
    assert!(matches!(&frames[..], [Ok(frame)] if frame.payload.len() == 2 * DEPTH));
    let message = [&[0x93, 12, 3, 0x81, 3][..], &[0x91].repeat(DEPTH), &[0xc0]].concat();
    let frames: Vec<_> = Frames::new(Codec::MessagePack, &message).collect();
    assert!(matches!(&frames[..], [Ok(_)]));
}

/// W-MSG-5: a large frame behind small ones goes into a message of its own.
#[test]
fn a_large_frame_fits_a_message_whatever_goes_before_it() {
    let limits = Limits::default();
    for codec in Codec::ALL {
        let small = vec![b'1'; (64 << 10) - 150];
        let large = vec![b'1'; limits.max_message_bytes - (64 << 10)];
        let mut packer = Packer::new(codec);
        for payload in [&small, &large, &small, &small] {
            let head = Head::Request {
                id: CallId::new(3),
                method: MethodRef::Name("m".repeat(MAX_METHOD_NAME_BYTES).into()),
            };
            packer.push(&Frame::with_payload(head, payload));
        }
        let mut batch = Batch::default();
        packer.take(&mut batch);
        let frames: Vec<_> = batch
            .messages()
            .inspect(|message| assert!(message.len() <= limits.max_message_bytes))
            .map(|message| Frames::new(codec, message).count())
            .collect();
        assert_eq!(frames, [1, 1, 2], "{codec:?}");
    }
}
