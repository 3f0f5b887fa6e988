//! Liveness, counting, and how a message is read.

use std::borrow::Cow;

use bytes::Bytes as Message;
use wirecall_core::{
    CloseCode, Codec,
    protocol::{CallId, Events, Frame, Head, MethodRef, Position},
};

use crate::end::{
    Chat, End, Written, cancel, close_code, define, limits, notify, packed, ping, request,
    request_of,
};

/// W-LIVE-2, W-LIVE-3: a PONG for the last PING of a message, with the count of what came.
#[test]
fn pings_are_answered_once_a_message() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let frames = [
            request(3),
            ping(5),
            cancel(3),
            ping(6),
            notify("Chat.kicked"),
        ];
        acceptor.receive(&frames).expect("frames");
        let pong = Written::Pong { count: 3, token: 6 };
        assert_eq!(acceptor.output(), [pong]);
        acceptor.receive(&[ping(7)]).expect("PING");
        let pong = Written::Pong { count: 3, token: 7 };
        assert_eq!(acceptor.output(), [pong]);
    }
}

/// W-LIVE-3: a PONG that was put off, since too much waited, goes out before what waits.
#[test]
fn a_pong_is_put_off_while_too_much_waits() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().outbound_queue_bytes(0));
        let frames = [request_of(3, "Chat.gone"), ping(5)];
        acceptor.receive(&frames).expect("frames");
        acceptor.receive(&[ping(6)]).expect("PING");
        let output = acceptor.output();
        let [pong, Written::Error { id: 3, .. }] = &output[..] else {
            panic!("{output:?}");
        };
        assert_eq!(*pong, Written::Pong { count: 1, token: 6 });
        assert_eq!(acceptor.output(), []);
    }
}

/// W-ORD-4: which frames both ends count, whether or not they are of any use.
#[test]
fn counted_frames_are_the_kinds_6_to_13_and_15_to_17() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let id = CallId::new(9);
        let text = || Cow::Borrowed("Chat.post");
        let frames = [
            (request(3), true),
            (Frame::new(Head::Response { id }), true),
            (
                Frame::new(Head::Error {
                    id,
                    code: 1,
                    message: text(),
                }),
                true,
            ),
            (Frame::new(Head::Item { id }), true),
            (Frame::new(Head::End { id }), true),
            (
                Frame::new(Head::Credit {
                    id,
                    items: 1,
                    bytes: 1,
                }),
                true,
            ),
            (cancel(9), true),
            (notify("Chat.kicked"), true),
            (define(0, "Chat.post"), true),
            (Frame::new(Head::Open { id }), true),
            (
                Frame::new(Head::Volatile {
                    method: MethodRef::Name(text()),
                }),
                false,
            ),
            (Frame::new(Head::Ack { count: 1 }), false),
            (Frame::new(Head::GoAway { code: 1, count: 1 }), false),
            (Frame::new(Head::Pong { count: 1, token: 1 }), false),
        ];
        let mut expected = 0;
        for (frame, is_counted) in frames {
            assert_eq!(frame.head.is_counted(), is_counted, "{frame:?}");
            expected += u64::from(is_counted);
            acceptor.receive(&[frame, ping(1)]).expect("frames");
            let pong = Written::Pong {
                count: expected,
                token: 1,
            };
            assert_eq!(acceptor.output(), [pong]);
        }
    }
}

/// W-FRAME-6: extensions that may be ignored are, and are not counted.
#[test]
fn kinds_from_96_to_127_are_ignored() {
    let mut acceptor = End::acceptor(Codec::Json, limits());
    let message = br#"[[96],[127,{"a":[1,2]}],[2,0,1]]"#;
    acceptor.message(message).expect("frames");
    assert_eq!(acceptor.output(), [Written::Pong { count: 0, token: 1 }]);
}

/// W-MSG-6: what stood before the fault was done; the fault closes.
#[test]
fn frames_before_a_fault_are_executed() {
    let mut acceptor = End::acceptor(Codec::Json, limits());
    let message = br#"[[6,3,"Chat.post",null],[18]]"#;
    let received = acceptor.message(message);
    assert_eq!(close_code(received), CloseCode::FRAMING);
    assert_eq!(acceptor.requests(), [3]);
}

/// W-MSG-2: a message may be read in steps, each of so many frames.
#[test]
fn a_message_is_read_in_steps() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let frames: Vec<_> = (1..=10).map(|slot| request(2 * slot + 1)).collect();
        let message = Message::from(packed(codec, &frames).concat());
        let mut position = Position::default();
        let mut events = Events::default();
        for step in 1..=4 {
            let at_end = acceptor
                .connection
                .receive(&message, &mut position, 3, acceptor.now, &Chat, &mut events)
                .expect("frames");
            assert_eq!(at_end, step == 4);
            assert_eq!(events.queue.len(), (3 * step).min(10));
        }
    }
}
