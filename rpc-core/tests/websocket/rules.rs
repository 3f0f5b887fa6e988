//! What RFC 6455 forbids ends the connection with the code that it asks for; what it allows does
//! not.

use tokio::io::AsyncWriteExt as _;
use wirecall_core::{
    CloseCode,
    transport::{MessageKind, Role, TransportError},
};

use crate::support::{
    BINARY, CLOSE, CONTINUATION, FIN, MAX_MESSAGE_BYTES, PING, PONG, TEXT, closed, frame,
    is_pending, masked, message, receive, server_with, socket, text,
};

const PROTOCOL_ERROR: CloseCode = CloseCode::new(1002);
const INVALID_DATA: CloseCode = CloseCode::new(1007);

/// Asserts that a server refuses these bytes with this code, after `messages` messages, and says
/// nothing more afterwards.
async fn assert_refused(bytes: &[u8], messages: usize, code: CloseCode) {
    let (mut server, _peer) = server_with(bytes).await;
    for _ in 0..messages {
        receive(&mut server).await.unwrap();
    }
    let error = receive(&mut server).await.unwrap_err();
    assert_eq!(error.close_code(), Some(code), "{error}");
    let afterwards = receive(&mut server).await.unwrap();
    assert_eq!(afterwards, closed(CloseCode::ABNORMAL, ""));
}

#[tokio::test]
async fn reserved_bits_are_refused() {
    for bit in [0x40, 0x20, 0x10] {
        assert_refused(&masked(FIN | bit | TEXT, b""), 0, PROTOCOL_ERROR).await;
        assert_refused(&masked(FIN | bit | PING, b""), 0, PROTOCOL_ERROR).await;
    }
}

#[tokio::test]
async fn reserved_opcodes_are_refused() {
    for opcode in (3..=7).chain(11..=15) {
        assert_refused(&masked(FIN | opcode, b""), 0, PROTOCOL_ERROR).await;
    }
}

#[tokio::test]
async fn a_client_must_mask_and_a_server_must_not() {
    for opcode in [TEXT, PING, CLOSE] {
        assert_refused(&frame(Role::Server, FIN | opcode, b""), 0, PROTOCOL_ERROR).await;

        let (mut client, mut peer) = socket(Role::Client).await;
        peer.write_all(&masked(FIN | opcode, b"")).await.unwrap();
        let error = receive(&mut client).await.unwrap_err();
        assert_eq!(error.close_code(), Some(PROTOCOL_ERROR));
    }
}

#[tokio::test]
async fn control_frames_are_whole_and_short() {
    for opcode in [CLOSE, PING, PONG] {
        assert_refused(&masked(opcode, b""), 0, PROTOCOL_ERROR).await;
        assert_refused(&masked(FIN | opcode, &[b'a'; 126]), 0, PROTOCOL_ERROR).await;
    }
    let (mut server, _peer) = server_with(&masked(FIN | PING, &[b'a'; 125])).await;
    assert!(is_pending(&mut server).await);
}

#[tokio::test]
async fn a_message_begins_once_and_goes_on_after_that() {
    assert_refused(&masked(FIN | CONTINUATION, b"a"), 0, PROTOCOL_ERROR).await;
    assert_refused(&masked(CONTINUATION, b"a"), 0, PROTOCOL_ERROR).await;
    for second in [TEXT, BINARY, FIN | TEXT] {
        let bytes = [masked(TEXT, b"a"), masked(second, b"b")].concat();
        assert_refused(&bytes, 0, PROTOCOL_ERROR).await;
    }
    let bytes = [masked(FIN | TEXT, b"a"), masked(FIN | CONTINUATION, b"b")].concat();
    assert_refused(&bytes, 1, PROTOCOL_ERROR).await;
}

#[tokio::test]
async fn a_length_has_no_more_bytes_than_it_needs() {
    for length in [&[126, 0, 125][..], &[127, 0, 0, 0, 0, 0, 0, 255, 255]] {
        let mut bytes = vec![FIN | BINARY];
        bytes.extend(length);
        bytes[1] |= 0x80;
        assert_refused(&bytes, 0, PROTOCOL_ERROR).await;
    }
}

#[tokio::test]
async fn a_length_of_64_bits_has_63() {
    let bytes = [FIN | BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
    assert_refused(&bytes, 0, PROTOCOL_ERROR).await;
}

#[tokio::test]
async fn a_message_that_is_too_big_is_refused_by_its_header() {
    let too_big = |length: u64| {
        let mut bytes = vec![FIN | BINARY, 0xff];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 4]);
        bytes
    };
    for length in [MAX_MESSAGE_BYTES as u64 + 1, 1 << 62, i64::MAX as u64] {
        assert_refused(&too_big(length), 0, CloseCode::MESSAGE_TOO_BIG).await;
    }
    let (mut server, _peer) = server_with(&too_big(MAX_MESSAGE_BYTES as u64)).await;
    assert!(is_pending(&mut server).await);
}

#[tokio::test]
async fn fragments_that_are_too_big_together_are_refused_by_the_last_ones_header() {
    let last = masked(FIN | CONTINUATION, b"b");
    for (first_bytes, is_too_big) in [(MAX_MESSAGE_BYTES - 1, false), (MAX_MESSAGE_BYTES, true)] {
        let first = vec![0; first_bytes];
        let (mut server, mut peer) = socket(Role::Server).await;
        let receiving = receive(&mut server);
        let first = masked(BINARY, &first);
        let sending = async {
            peer.write_all(&first).await.unwrap();
            // Of the second one, no more than its header.
            let end = if is_too_big {
                last.len() - 1
            } else {
                last.len()
            };
            peer.write_all(&last[..end]).await.unwrap();
        };
        let (received, ()) = tokio::join!(receiving, sending);
        let has_failed = matches!(received, Err(TransportError::MessageTooBig));
        assert_eq!(has_failed, is_too_big);
    }
}

#[tokio::test]
async fn control_frames_do_not_count_as_part_of_a_message() {
    let mut bytes = masked(BINARY, &vec![0; MAX_MESSAGE_BYTES]);
    bytes.extend(masked(FIN | PING, &[0; 125]));
    bytes.extend(masked(FIN | CONTINUATION, b""));
    let (mut server, mut peer) = socket(Role::Server).await;
    let (received, sent) = tokio::join!(receive(&mut server), peer.write_all(&bytes));
    sent.unwrap();
    let expected = message(MessageKind::Binary, &vec![0; MAX_MESSAGE_BYTES]);
    assert!(received.unwrap() == expected);
}

#[tokio::test]
async fn text_is_utf_8() {
    // A stray byte, an overlong form, a surrogate, too high, and cut off at the end.
    for text in [
        &b"a\xffb"[..],
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"a\xe2\x82",
    ] {
        assert_refused(&masked(FIN | TEXT, text), 0, INVALID_DATA).await;
        let fragments = [masked(TEXT, text), masked(FIN | CONTINUATION, b"")];
        assert_refused(&fragments.concat(), 0, INVALID_DATA).await;
        let binary = masked(FIN | BINARY, text);
        let (mut server, _peer) = server_with(&binary).await;
        let received = receive(&mut server).await.unwrap();
        assert_eq!(received, message(MessageKind::Binary, text));
    }
}

#[tokio::test]
async fn text_that_nothing_can_mend_is_refused_before_its_message_is_complete() {
    assert_refused(&masked(TEXT, b"a\xffb"), 0, INVALID_DATA).await;
    let fragments = [masked(TEXT, b"\xe2"), masked(CONTINUATION, b"a")];
    assert_refused(&fragments.concat(), 0, INVALID_DATA).await;
}

#[tokio::test]
async fn a_character_may_be_divided_between_fragments() {
    let bytes = "a\u{e9}\u{20ac}\u{1f600}b".as_bytes();
    for size in 1..bytes.len() {
        let mut frames = masked(TEXT, b"");
        for fragment in bytes.chunks(size) {
            frames.extend(masked(CONTINUATION, fragment));
            frames.extend(masked(FIN | PING, b"?"));
        }
        frames.extend(masked(FIN | CONTINUATION, b""));
        let (mut server, _peer) = server_with(&frames).await;
        let received = receive(&mut server).await.unwrap();
        assert_eq!(received, text("a\u{e9}\u{20ac}\u{1f600}b"));
    }
}

#[tokio::test]
async fn a_close_frame_has_a_code_that_may_be_sent_and_a_reason_in_utf_8() {
    assert_refused(&masked(FIN | CLOSE, &[3]), 0, PROTOCOL_ERROR).await;
    let refused = [
        0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
    ];
    for code in refused {
        let body = u16::to_be_bytes(code);
        assert_refused(&masked(FIN | CLOSE, &body), 0, PROTOCOL_ERROR).await;
    }
    let bad_reason = [3, 0xe8, 0xff];
    assert_refused(&masked(FIN | CLOSE, &bad_reason), 0, INVALID_DATA).await;

    let taken = [
        1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 3999, 4000, 4999,
    ];
    for code in taken {
        let mut body = u16::to_be_bytes(code).to_vec();
        body.extend("caf\u{e9}".as_bytes());
        let (mut server, _peer) = server_with(&masked(FIN | CLOSE, &body)).await;
        let received = receive(&mut server).await.unwrap();
        assert_eq!(received, closed(CloseCode::new(code), "caf\u{e9}"));
    }
}

#[tokio::test]
async fn what_comes_before_a_violation_is_delivered() {
    let mut bytes = masked(FIN | TEXT, b"one");
    bytes.extend(masked(FIN | TEXT, b"two"));
    bytes.extend([0xff; 100]);
    assert_refused(&bytes, 2, PROTOCOL_ERROR).await;
}
