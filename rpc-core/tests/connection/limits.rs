//! What is beyond a limit, and notifications.

use std::borrow::Cow;

use wirecall_core::{
    CloseCode, Code, Codec,
    protocol::{Frame, Frames, Head, MethodRef, OptionsBuilder, Side},
};

use crate::end::{End, NOT_EXECUTED, Written, close_code, limits, notify, request, request_of};

/// W-CALL-4: calls beyond the limit in flight are refused and not executed.
#[test]
fn calls_beyond_the_limit_in_flight_are_refused() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().max_in_flight(2));
        let frames = [3, 5, 7, 9].map(request);
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3, 5]);
        let refused = [7, 9].map(|id| (id, Code::RESOURCE_EXHAUSTED, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
    }
}

/// W-ID-4: it is the slot that counts. Ids that only ever grow reach the limit, too.
#[test]
fn a_slot_beyond_the_limit_is_refused_even_if_nothing_is_in_flight() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().max_in_flight(2));
        let frames = [7, u64::MAX].map(request);
        acceptor.receive(&frames).expect("frames");
        let refused = [7, u64::MAX].map(|id| (id, Code::RESOURCE_EXHAUSTED, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
    }
}

/// W-ID-4: no end executes more than 65,536 calls at a time, whatever it is configured to.
#[test]
fn no_slot_is_above_65536() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().max_in_flight(1 << 20));
        let frames = [65_536, 65_537].map(|slot| request(2 * slot + 1));
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [2 * 65_536 + 1]);
        let refused = (2 * 65_537 + 1, Code::RESOURCE_EXHAUSTED, NOT_EXECUTED);
        assert_eq!(acceptor.refusals(), [refused]);
    }
}

/// W-CALL-5: whoever has calls refused without end, and reads none of the answers, floods.
#[test]
fn a_flood_of_refused_calls_closes() {
    for codec in Codec::ALL {
        // As many as a dialler may have sent before it knew the limit, whatever that is.
        let mut acceptor = End::acceptor(codec, limits().max_in_flight(64));
        let flood = vec![request_of(3, "Chat.gone"); 1024];
        acceptor.receive(&flood).expect("as many as in flight");
        // Its answers have left: it begins anew.
        assert_eq!(acceptor.refusals().len(), 1024);
        acceptor.receive(&flood).expect("as many again");
        let flooded = acceptor.receive(&flood[..1]);
        assert_eq!(close_code(flooded), CloseCode::FLOOD);
    }
}

/// W-MSG-5: no message is larger than the peer takes, unless a frame alone is.
#[test]
fn messages_keep_to_the_limit_that_the_peer_has_announced() {
    for codec in Codec::ALL {
        let mut hello = OptionsBuilder::new(codec);
        hello.uint(1, 1 << 18);
        let hello = hello.finish();
        let limits = limits().max_in_flight(5000);
        let mut acceptor = End::new(Side::Acceptor, codec, limits);
        let hello = Frame {
            options: hello.as_options(),
            ..Frame::new(Head::Hello)
        };
        let calls = vec![request_of(3, "Chat.gone"); 5000];
        acceptor.receive(&[hello]).expect("HELLO");
        acceptor.receive(&calls).expect("frames");
        let messages = acceptor.messages();
        assert!(messages.len() > 2);
        assert!(messages.iter().all(|message| message.len() <= 1 << 18));
        let frames = messages
            .iter()
            .flat_map(|message| Frames::new(codec, message));
        assert_eq!(frames.count(), 1 + calls.len());
    }
}

/// W-CALL-6: a body beyond the announced limit is refused before it is decoded.
#[test]
fn a_body_beyond_the_limit_is_refused() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().max_body_bytes(100));
        let bodies = [vec![b'1'; 100], vec![b'1'; 101]];
        let of_100 = Frame {
            payload: &bodies[0],
            ..request(3)
        };
        let of_101 = Frame {
            payload: &bodies[1],
            ..request(5)
        };
        let notification = Frame {
            payload: &bodies[1],
            ..notify("Chat.kicked")
        };
        let frames = [of_100, of_101, notification];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3]);
        assert_eq!(acceptor.notifications(), 0);
        let refused = (5, Code::RESOURCE_EXHAUSTED, NOT_EXECUTED);
        assert_eq!(acceptor.refusals(), [refused]);
    }
}

/// W-NOTE-2: there is no more credit than was announced.
#[test]
fn notifications_beyond_the_credit_close() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().notification_credit(3));
        let notifications = vec![notify("Chat.kicked"); 3];
        acceptor.receive(&notifications).expect("within credit");
        assert_eq!(acceptor.notifications(), 3);
        let flooded = acceptor.receive(&notifications[..1]);
        assert_eq!(close_code(flooded), CloseCode::FLOOD);
    }
}

/// W-NOTE-4: volatile ones need no credit.
#[test]
fn volatile_notifications_are_outside_credit() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().notification_credit(1));
        let volatile = Frame::new(Head::Volatile {
            method: MethodRef::Name(Cow::Borrowed("Chat.kicked")),
        });
        acceptor.receive(&vec![volatile; 50]).expect("frames");
        assert_eq!(acceptor.notifications(), 50);
        assert_eq!(acceptor.output(), []);
    }
}

/// W-NOTE-3, W-NOTE-5: one that cannot be handled is dropped, and its credit goes back.
#[test]
fn an_unknown_notification_is_dropped_and_gives_its_credit_back() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits().notification_credit(4));
        for _ in 0..10 {
            let unknown = vec![notify("Chat.gone"); 2];
            acceptor.receive(&unknown).expect("within credit");
            let credit = Written::Credit {
                id: 1,
                items: 2,
                bytes: 0,
            };
            assert_eq!(acceptor.output(), [credit]);
        }
        assert_eq!(acceptor.notifications(), 0);
    }
}
