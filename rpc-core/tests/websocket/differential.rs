//! Any bytes mean the same to tungstenite and to us, but where we are stricter on purpose.

use bytes::Bytes;
use proptest::{collection::vec, prelude::*, sample::Index};
use tokio::io::{AsyncWriteExt as _, duplex};
use wirecall_core::{
    CloseCode,
    transport::{Received, Role, Transport, TransportError, WebSocket},
};

use crate::{
    support::{BINARY, CLOSE, CONTINUATION, Chopped, PING, PONG, TEXT, config, frame, receive},
    tungstenite::Tungstenite,
};

const MAX_MESSAGE_BYTES: usize = 1000;

/// How reading some bytes has ended, behind which the stream ends, too.
#[derive(Clone, Debug, PartialEq)]
enum End {
    /// With a Close.
    Closed(CloseCode, String),
    /// Without one.
    Reset,
    /// The bytes are refused with this code.
    Refused(CloseCode),
}

#[derive(Debug)]
struct Outcome {
    messages: Vec<Received>,
    end: End,
    /// What was refused.
    error: String,
}

async fn read<T: Transport>(transport: &mut T) -> Outcome {
    let mut messages = Vec::new();
    loop {
        let (end, error) = match receive(transport).await {
            Ok(Received::Closed { code, reason }) => (End::Closed(code, reason), String::new()),
            Ok(message) => {
                messages.push(message);
                continue;
            }
            Err(TransportError::Io(_)) => (End::Reset, String::new()),
            Err(error) => {
                let code = error.close_code().expect("a code");
                (End::Refused(code), error.to_string())
            }
        };
        return Outcome {
            messages,
            end,
            error,
        };
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread();
    { runtime }.build().expect("a runtime").block_on(future)
}

fn read_by_us(role: Role, bytes: &[u8], sizes: Vec<usize>) -> Outcome {
    block_on(async {
        let (stream, mut peer) = duplex(16 << 10);
        let (mut peer_reads, mut peer) = {
            peer.write_all(bytes).await.unwrap();
            tokio::io::split(peer)
        };
        peer.shutdown().await.unwrap();
        let stream = Chopped::new(stream, sizes);
        let mut socket = WebSocket::new(stream, Bytes::new(), role, MAX_MESSAGE_BYTES);
        let outcome = read(&mut socket).await;
        drop(socket);
        // Nothing is written unasked.
        let mut written = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut peer_reads, &mut written);
        read.await.unwrap();
        assert!(written.is_empty());
        outcome
    })
}

fn read_by_tungstenite(role: Role, bytes: &[u8]) -> Outcome {
    block_on(async {
        let (stream, mut peer) = duplex(16 << 10);
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        read(&mut Tungstenite::new(stream, role, MAX_MESSAGE_BYTES).await).await
    })
}

/// Whether the two have ended the same way, or as we differ on purpose.
fn agree(ours: &Outcome, theirs: &Outcome) -> bool {
    const PROTOCOL_ERROR: CloseCode = CloseCode::new(1002);
    const INVALID_DATA: CloseCode = CloseCode::new(1007);

    // Lengths in more bytes than they need are taken there, also those of control frames.
    let is_wasteful = [
        "a length in more bytes than it needs",
        "a control frame of more than 125 bytes",
    ]
    .contains(&&*ours.error);
    if is_wasteful {
        return theirs.messages.starts_with(&ours.messages);
    }
    if ours.messages != theirs.messages {
        return false;
    }
    match (&ours.end, &theirs.end) {
        (ours, theirs) if ours == theirs => true,
        // Codes that must not be sent are reported there as if the peer had sent another one.
        (End::Refused(PROTOCOL_ERROR), End::Closed(PROTOCOL_ERROR, reason)) => {
            reason == "Protocol violation"
        }
        // 1014 has been registered with IANA since.
        (End::Closed(code, _), End::Closed(PROTOCOL_ERROR, reason)) => {
            *code == CloseCode::new(1014) && reason == "Protocol violation"
        }
        // We refuse a frame by its header, or its first two bytes. There, all of it has to come,
        // unless the length of that frame alone is too large.
        (End::Refused(PROTOCOL_ERROR), End::Reset | End::Refused(CloseCode::MESSAGE_TOO_BIG)) => {
            true
        }
        (End::Refused(CloseCode::MESSAGE_TOO_BIG), End::Reset) => true,
        // Of two things that are wrong with a Close, the reason is looked at first there.
        (End::Refused(PROTOCOL_ERROR), End::Refused(INVALID_DATA)) => {
            ours.error == "a close code that must not be sent"
        }
        _ => false,
    }
}

/// Frames as they come in a connection, and some that must not.
fn any_frame(sender: Role) -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => Just(CONTINUATION),
        4 => Just(TEXT),
        2 => Just(BINARY),
        1 => Just(CLOSE),
        2 => Just(PING),
        1 => Just(PONG),
        1 => 0..16_u8,
    ];
    let flags =
        prop_oneof![8 => Just(0x80_u8), 6 => Just(0_u8), 1 => (0..8_u8).prop_map(|n| n << 4)];
    let text = || "[a-z\u{e9}\u{20ac}\u{1f600}]{0,30}".prop_map(String::into_bytes);
    let payload = prop_oneof![
        6 => text(),
        1 => (text(), any::<Index>()).prop_map(|(mut text, end)| {
            text.truncate(end.index(text.len() + 1));
            text
        }),
        1 => vec(any::<u8>(), 0..10),
        1 => (120..130_usize).prop_map(|length| vec![b'a'; length]),
        1 => (300..1002_usize).prop_map(|length| vec![b'a'; length]),
    ];
    let close_code = prop_oneof![
        4 => Just(1000_u16),
        4 => 990..1020_u16,
        1 => any::<u16>(),
    ];
    let sender = prop_oneof![
        30 => Just(sender),
        1 => Just(Role::Client),
        1 => Just(Role::Server),
    ];
    (opcode, flags, payload, close_code, sender).prop_map(
        |(opcode, flags, mut payload, close_code, sender)| {
            if opcode == CLOSE && !payload.is_empty() {
                payload.splice(..0, close_code.to_be_bytes());
            }
            frame(sender, opcode | flags, &payload)
        },
    )
}

fn frames() -> impl Strategy<Value = (Role, Vec<u8>)> {
    prop_oneof![Just(Role::Client), Just(Role::Server)].prop_flat_map(|sender| {
        let mutations = vec((any::<Index>(), any::<u8>()), 0..3);
        let end = prop_oneof![3 => Just(None), 1 => any::<Index>().prop_map(Some)];
        (vec(any_frame(sender), 0..8), mutations, end).prop_map(move |(frames, mutations, end)| {
            let mut bytes = frames.concat();
            if let Some(end) = end {
                bytes.truncate(end.index(bytes.len() + 1));
            }
            for (at, byte) in mutations {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            (sender, bytes)
        })
    })
}

fn assert_agreement(sender: Role, bytes: &[u8], sizes: Vec<usize>) {
    let role = match sender {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    };
    let ours = read_by_us(role, bytes, vec![1 << 20]);
    let theirs = read_by_tungstenite(role, bytes);
    assert!(agree(&ours, &theirs), "{ours:#?}\n{theirs:#?}");
    let chopped = read_by_us(role, bytes, sizes);
    assert_eq!(chopped.messages, ours.messages);
    assert_eq!(chopped.end, ours.end);
    assert_eq!(chopped.error, ours.error);
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn frames_mean_the_same_to_tungstenite(
        (sender, bytes) in frames(),
        sizes in vec(0..40_usize, 1..5),
    ) {
        assert_agreement(sender, &bytes, sizes);
    }

    #[test]
    fn bytes_mean_the_same_to_tungstenite(
        bytes in vec(any::<u8>(), 0..300),
        sizes in vec(0..40_usize, 1..5),
    ) {
        assert_agreement(Role::Server, &bytes, sizes.clone());
        assert_agreement(Role::Client, &bytes, sizes);
    }
}
