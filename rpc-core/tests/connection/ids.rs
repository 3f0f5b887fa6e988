//! Ids of calls, and their cancellation.

use std::borrow::Cow;

use wirecall_core::{
    CloseCode, Codec,
    protocol::{CallId, Frame, Head, MethodRef},
};

use crate::end::{End, call, cancel, close_code, limits, request, request_of};

/// W-ID-2: a call is opened with an id of the caller's side, and with none of 0 and 1.
#[test]
fn an_id_of_the_wrong_side_closes() {
    for codec in Codec::ALL {
        for id in [0, 1, 2, 4] {
            let mut acceptor = End::acceptor(codec, limits());
            let opened = acceptor.receive(&[request(id)]);
            assert_eq!(close_code(opened), CloseCode::PROTOCOL, "{id}");
        }
    }
}

/// W-ID-3: an id is used again only after its terminal frame.
#[test]
fn a_live_id_closes_when_it_is_used_again() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let opened = acceptor.receive(&[request(3), request(3)]);
        assert_eq!(close_code(opened), CloseCode::PROTOCOL);
    }
}

/// W-ID-3: also when the second call would have been refused: the refusal would be taken for the
/// first call's answer.
#[test]
fn a_live_id_closes_even_if_the_call_cannot_be_executed() {
    for codec in Codec::ALL {
        for second in [request_of(3, "Chat.gone"), call(3, MethodRef::Alias(9))] {
            let mut acceptor = End::acceptor(codec, limits());
            let opened = acceptor.receive(&[request(3), second]);
            assert_eq!(close_code(opened), CloseCode::PROTOCOL);
            assert_eq!(acceptor.output(), []);
        }
    }
}

/// W-ID-3: a refusal is a terminal frame.
#[test]
fn the_id_of_a_refused_call_is_free_again() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let calls = [request_of(3, "Chat.gone"), request(3)];
        acceptor.receive(&calls).expect("frames");
        assert_eq!(acceptor.requests(), [3]);
    }
}

/// W-ID-5: answers to calls that nobody waits for are races.
#[test]
fn frames_of_unknown_ids_are_ignored() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        for id in [0, 1, 2, 3, 1 << 40, u64::MAX] {
            let id = CallId::new(id);
            let error = Head::Error {
                id,
                code: 5,
                message: Cow::Borrowed(""),
            };
            let credit = Head::Credit {
                id: CallId::CONNECTION,
                items: 1,
                bytes: 1,
            };
            let heads = [
                Head::Response { id },
                error,
                Head::Cancel { id },
                Head::Item { id },
                Head::End { id },
                Head::Open { id },
                credit,
            ];
            acceptor.receive(&heads.map(Frame::new)).expect("frames");
        }
        assert!(acceptor.events.is_empty());
        assert_eq!(acceptor.output(), []);
    }
}

/// W-CANCEL-1, W-CANCEL-2: a handler is stopped once; its slot is taken until it has ended.
#[test]
fn cancel_stops_the_handler_and_keeps_its_slot() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let frames = [request(3), cancel(3), cancel(3), cancel(5)];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.stopped(), [3]);
        assert_eq!(acceptor.connection.in_flight(), (0, 1));
        let again = acceptor.receive(&[request(3)]);
        assert_eq!(close_code(again), CloseCode::PROTOCOL);
    }
}

/// W-CANCEL-3: of two calls in slots of the same number, that of the other side is not meant.
#[test]
fn cancel_with_an_id_of_the_wrong_side_is_ignored() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        acceptor.receive(&[request(3), cancel(2)]).expect("frames");
        assert!(acceptor.stopped().is_empty());
    }
}
