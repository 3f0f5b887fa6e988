//! Frames of streams, and their options: what a callee does with them, and what no end minds.

use wirecall_core::{
    CloseCode, Code, Codec,
    protocol::{
        CallId, EncodedOptions, Event, Frame, Frames, Head, OptionKey, OptionsBuilder, Side,
        StreamCredit,
    },
};

use crate::end::{
    End, NOT_EXECUTED, cancel, close_code, define, limits, notify, ping, request, request_of,
};

/// No end knows this one.
const UNKNOWN_EVEN: u64 = 1000;

fn item(id: u64, body: &'static [u8]) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::with_payload(Head::Item { id }, body)
}

fn end(id: u64) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::new(Head::End { id })
}

fn open(id: u64) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::new(Head::Open { id })
}

fn credit(id: u64, items: u64, bytes: u64) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::new(Head::Credit { id, items, bytes })
}

fn response(id: u64) -> Frame<'static> {
    let id = CallId::new(id);
    Frame::with_payload(Head::Response { id }, b"1")
}

fn error(id: u64) -> Frame<'static> {
    Frame::new(Head::Error {
        id: CallId::new(id),
        code: 5,
        message: "no".into(),
    })
}

fn options(codec: Codec, write: impl FnOnce(&mut OptionsBuilder)) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    write(&mut options);
    options.finish()
}

fn with<'a>(frame: Frame<'a>, options: &'a EncodedOptions) -> Frame<'a> {
    Frame {
        options: options.as_options(),
        ..frame
    }
}

/// An acceptor that lets two items, of ten bytes, come in.
fn acceptor(codec: Codec) -> End {
    let credit = StreamCredit {
        items: 2,
        bytes: 10,
    };
    End::acceptor(codec, limits().stream_credit(credit))
}

/// W-STREAM-1: the method says what shape a call has, and its handles know it by a number.
#[test]
fn calls_of_every_shape_are_executed() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let names = ["Chat.post", "Chat.visitors", "Chat.import", "Chat.sum"];
        let frames: Vec<_> = (1..)
            .zip(names)
            .map(|(slot, name)| request_of(2 * slot + 1, name))
            .collect();
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3, 5, 7, 9]);
        let generations = acceptor.events.iter().map(|event| match event {
            Event::Request { generation, .. } => *generation,
            event => panic!("{event:?}"),
        });
        assert_eq!(generations.collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(acceptor.connection.in_flight(), (0, 4));
    }
}

/// W-STREAM-6: items come behind their REQUEST, and nothing is to be said to them.
#[test]
fn items_behind_their_request_are_taken_in() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let frames = [
            request_of(3, "Chat.import"),
            item(3, b"1"),
            item(3, b"2"),
            end(3),
        ];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3]);
        assert!(acceptor.stopped().is_empty());
        assert_eq!(acceptor.output(), []);
    }
}

/// W-FLOW-6: one item too many stops its call, once, and no other.
#[test]
fn an_item_beyond_the_credit_stops_that_call_alone() {
    for codec in Codec::ALL {
        for name in ["Chat.import", "Chat.sum"] {
            let mut acceptor = acceptor(codec);
            let calls = [request_of(3, name), request_of(5, name)];
            acceptor.receive(&calls).expect("calls");
            let within = [item(3, b"1"), item(5, b"1"), item(3, b"2"), item(5, b"2")];
            acceptor.receive(&within).expect("within the credit");
            assert!(acceptor.stopped().is_empty());
            let beyond = [item(3, b"3"), item(3, b"4"), end(5)];
            acceptor.receive(&beyond).expect("goes on");
            assert_eq!(acceptor.stopped(), [3]);
            // The terminal frame comes when the handler has ended.
            assert_eq!(acceptor.output(), []);
            assert_eq!(acceptor.connection.in_flight(), (0, 2));
        }
    }
}

/// W-FLOW-1: one item may overshoot the bytes, and the next may not.
#[test]
fn one_item_may_overshoot_the_bytes() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let long = [request_of(3, "Chat.import"), item(3, b"123456789012345")];
        acceptor.receive(&long).expect("goes on");
        assert!(acceptor.stopped().is_empty());
        acceptor.receive(&[item(3, b"1")]).expect("goes on");
        assert_eq!(acceptor.stopped(), [3]);
    }
}

/// W-CANCEL-1: a caller's CANCEL stops the call, whatever its streams.
#[test]
fn a_call_with_a_stream_is_cancelled_like_any_other() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let names = ["Chat.visitors", "Chat.import", "Chat.sum"];
        for (slot, name) in (1..).zip(names) {
            let id = 2 * slot + 1;
            let frames = [request_of(id, name), cancel(id), cancel(id)];
            acceptor.receive(&frames).expect("frames");
        }
        assert_eq!(acceptor.stopped(), [3, 5, 7]);
    }
}

/// W-ID-5: races that somebody lost.
#[test]
fn frames_of_streams_that_are_not_live_are_ignored() {
    for codec in Codec::ALL {
        for id in [0, 2, 3, 5, 4000, u64::MAX - 1, u64::MAX] {
            let mut acceptor = acceptor(codec);
            let frames = [
                item(id, b"1"),
                item(id, b"2"),
                item(id, b"3"),
                end(id),
                open(id),
                open(id),
                credit(id, 1, u64::MAX),
                cancel(id),
                response(id),
                error(id),
            ];
            acceptor.receive(&frames).expect("goes on");
            assert_eq!(acceptor.output(), []);
            assert!(acceptor.events.is_empty());
            assert_eq!(acceptor.connection.in_flight(), (0, 0));
        }
    }
}

/// W-STREAM-8: what a call has no stream for.
#[test]
fn frames_of_streams_that_a_call_does_not_have_are_ignored() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let calls = [request(3), request_of(5, "Chat.visitors")];
        acceptor.receive(&calls).expect("calls");
        for id in [3, 5] {
            let frames = [
                item(id, b"1"),
                item(id, b"2"),
                item(id, b"3"),
                end(id),
                // A callee's, from the caller.
                open(id),
            ];
            acceptor.receive(&frames).expect("goes on");
        }
        acceptor.receive(&[credit(3, 1, 1)]).expect("goes on");
        assert!(acceptor.stopped().is_empty());
        assert_eq!(acceptor.output(), []);
        assert_eq!(acceptor.connection.in_flight(), (0, 2));
    }
}

/// W-STREAM-4: what follows END is dropped.
#[test]
fn items_behind_the_end_are_dropped() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let frames = [
            request_of(3, "Chat.import"),
            end(3),
            item(3, b"1"),
            end(3),
            item(3, b"2"),
        ];
        acceptor.receive(&frames).expect("goes on");
        assert!(acceptor.stopped().is_empty());
    }
}

/// W-FLOW-5: no amount of credit is too much.
#[test]
fn credit_does_not_overflow() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let most = credit(3, u64::MAX, u64::MAX);
        let frames = [request_of(3, "Chat.visitors"), most.clone(), most];
        acceptor.receive(&frames).expect("goes on");
        assert!(acceptor.stopped().is_empty());
    }
}

/// W-FLOW-2: options 2 and 4 of REQUEST are understood, one of them alone too, and by a method
/// without a stream as well.
#[test]
fn a_request_may_grant_credit_for_its_answer() {
    for codec in Codec::ALL {
        let mut acceptor = acceptor(codec);
        let both = options(codec, |options| {
            options.uint(2, 0).uint(4, u64::MAX);
        });
        let one = options(codec, |options| {
            options.uint(2, 5);
        });
        let wrong = options(codec, |options| {
            options.text(4, "many");
        });
        let frames = [
            with(request_of(3, "Chat.visitors"), &both),
            with(request_of(5, "Chat.sum"), &one),
            with(request(7), &both),
            with(request_of(9, "Chat.visitors"), &wrong),
        ];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3, 5, 7]);
        let refused = (9, Code::INVALID_ARGUMENT, NOT_EXECUTED);
        assert_eq!(acceptor.refusals(), [refused]);
    }
}

/// W-NEG-9, W-FLOW-4: keys 13 and 15 of HELLO and WELCOME.
#[test]
fn the_credit_of_streams_is_announced() {
    for codec in Codec::ALL {
        let mut dialler = End::new(
            Side::Dialler,
            codec,
            limits().stream_credit(StreamCredit {
                items: 3,
                ..StreamCredit::default()
            }),
        );
        let messages = dialler.messages();
        let hello = Frames::new(codec, &messages[0]).next();
        let hello = hello.expect("a frame").expect("HELLO");
        let announced: Vec<_> = hello
            .options
            .entries()
            .filter_map(|(key, value)| match key {
                OptionKey::Integer(key @ (13 | 15)) => Some((key, value.uint())),
                _ => None,
            })
            .collect();
        assert_eq!(announced, [(13, Some(3))]);

        let options = options(codec, |options| {
            options.uint(13, 7).uint(15, u64::MAX);
        });
        let welcome = with(Frame::new(Head::Welcome), &options);
        dialler.receive(&[welcome]).expect("WELCOME");
        let credit = StreamCredit {
            items: 7,
            bytes: u32::MAX,
        };
        assert_eq!(dialler.connection.peer_limits().stream_credit, credit);
    }
}

/// W-OPT-3: what must be understood and is not ends the connection where no call can be failed.
#[test]
fn an_even_option_that_is_not_understood_closes_in_most_kinds() {
    for codec in Codec::ALL {
        let even = options(codec, |options| {
            options.uint(UNKNOWN_EVEN, 1);
        });
        for frame in [
            open(2),
            end(3),
            credit(1, 1, 0),
            credit(3, 1, 1),
            cancel(3),
            define(0, "Chat.post"),
            ping(1),
            Frame::new(Head::Pong { count: 0, token: 1 }),
            Frame::new(Head::Ack { count: 1 }),
            Frame::new(Head::GoAway { code: 1, count: 1 }),
        ] {
            let mut acceptor = acceptor(codec);
            let received = acceptor.receive(&[with(frame.clone(), &even)]);
            assert_eq!(close_code(received), CloseCode::PROTOCOL, "{frame:?}");
        }
    }
}

/// W-OPT-3: an ITEM of which something is not understood stops its call alone.
#[test]
fn an_even_option_of_an_item_stops_that_call_alone() {
    for codec in Codec::ALL {
        let even = options(codec, |options| {
            options.uint(UNKNOWN_EVEN, 1);
        });
        let mut acceptor = acceptor(codec);
        let frames = [
            request_of(3, "Chat.import"),
            request_of(5, "Chat.import"),
            with(item(3, b"1"), &even),
            with(item(3, b"2"), &even),
            item(5, b"1"),
        ];
        acceptor.receive(&frames).expect("goes on");
        assert_eq!(acceptor.stopped(), [3]);
        assert_eq!(acceptor.connection.in_flight(), (0, 2));
    }
}

/// W-OPT-3, W-ID-5: of a call that is not live there is nothing to fail.
#[test]
fn an_even_option_for_a_call_that_is_not_live_is_ignored() {
    for codec in Codec::ALL {
        let even = options(codec, |options| {
            options.uint(UNKNOWN_EVEN, 1);
        });
        for id in [0, 1, 2, 3, 4000, u64::MAX] {
            let mut acceptor = acceptor(codec);
            let frames = [response(id), error(id), item(id, b"1")];
            let frames = frames.map(|frame| with(frame, &even));
            acceptor.receive(&frames).expect("goes on");
            assert!(acceptor.events.is_empty());
            assert_eq!(acceptor.output(), []);
        }
    }
}

/// W-OPT-3: a notification with an option that is not understood is dropped.
#[test]
fn an_even_option_of_a_notification_drops_it() {
    for codec in Codec::ALL {
        let even = options(codec, |options| {
            options.uint(UNKNOWN_EVEN, 1);
        });
        let mut acceptor = acceptor(codec);
        let frames = [with(notify("Chat.kicked"), &even), notify("Chat.kicked")];
        acceptor.receive(&frames).expect("goes on");
        assert_eq!(acceptor.notifications(), 1);
    }
}

/// W-OPT-1, W-OPT-2: what may be ignored is, in every kind that streams have; OPEN knows 2 and 4.
#[test]
fn odd_options_and_metadata_of_streams_are_ignored() {
    for codec in Codec::ALL {
        let odd = options(codec, |options| {
            options.uint(1001, 1).metadata_text("mood", "good");
        });
        let credit_for_items = options(codec, |options| {
            options.uint(2, 1).text(4, "no number");
        });
        let mut acceptor = acceptor(codec);
        let frames = [
            with(request_of(3, "Chat.import"), &odd),
            with(item(3, b"1"), &odd),
            with(end(3), &odd),
            with(credit(3, 1, 1), &odd),
            with(open(2), &odd),
            with(open(2), &credit_for_items),
            with(response(2), &odd),
        ];
        acceptor.receive(&frames).expect("goes on");
        assert_eq!(acceptor.requests(), [3]);
        assert!(acceptor.stopped().is_empty());
    }
}
