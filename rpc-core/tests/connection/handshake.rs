//! HELLO and WELCOME.

use tokio::time::Duration;
use wirecall_core::{
    CloseCode, Codec,
    protocol::{Event, Frame, Head, Side},
};

use crate::end::{End, Written, close_code, limits, notify, ping, request};

/// W-NEG-7: HELLO and WELCOME open both ends, and say what each of them takes.
#[test]
fn both_ends_are_open_after_hello_and_welcome() {
    for codec in Codec::ALL {
        let theirs = limits().max_in_flight(5).notification_credit(6);
        let ours = limits()
            .max_message_bytes(1 << 18)
            .max_body_bytes(1 << 12)
            .default_deadline(Duration::from_millis(250));
        let mut dialler = End::new(Side::Dialler, codec, theirs);
        let mut acceptor = End::new(Side::Acceptor, codec, ours);
        for message in dialler.messages() {
            acceptor.message(&message).expect("HELLO");
        }
        for message in acceptor.messages() {
            dialler.message(&message).expect("WELCOME");
        }
        assert!(matches!(dialler.events[..], [Event::Open]));
        assert!(matches!(acceptor.events[..], [Event::Open]));
        let of_dialler = acceptor.connection.peer_limits();
        assert_eq!(of_dialler.max_in_flight, 5);
        assert_eq!(of_dialler.notification_credit, 6);
        assert_eq!(of_dialler.max_message_bytes, limits().max_message_bytes);
        let of_acceptor = dialler.connection.peer_limits();
        assert_eq!(of_acceptor.max_in_flight, limits().max_in_flight);
        assert_eq!(of_acceptor.max_message_bytes, 1 << 18);
        assert_eq!(of_acceptor.max_body_bytes, 1 << 12);
        let deadline = Some(Duration::from_millis(250));
        assert_eq!(of_acceptor.default_deadline, deadline);
    }
}

/// W-NEG-7: HELLO is the dialler's first frame, WELCOME the acceptor's.
#[test]
fn any_other_first_frame_closes() {
    for codec in Codec::ALL {
        for frame in [request(3), ping(1), Frame::new(Head::Welcome)] {
            let mut acceptor = End::new(Side::Acceptor, codec, limits());
            assert_eq!(close_code(acceptor.receive(&[frame])), CloseCode::PROTOCOL);
        }
        for frame in [request(2), ping(1), Frame::new(Head::Hello)] {
            let mut dialler = End::new(Side::Dialler, codec, limits());
            assert_eq!(close_code(dialler.receive(&[frame])), CloseCode::PROTOCOL);
        }
    }
    let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
    assert_eq!(close_code(acceptor.message(b"[96]")), CloseCode::PROTOCOL);
}

/// W-NEG-7: once is enough.
#[test]
fn a_second_hello_closes() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let again = acceptor.receive(&[Frame::new(Head::Hello)]);
        assert_eq!(close_code(again), CloseCode::PROTOCOL);
    }
}

/// W-NEG-8: calls may stand behind HELLO in the same message.
#[test]
fn calls_behind_hello_are_executed() {
    for codec in Codec::ALL {
        let mut acceptor = End::new(Side::Acceptor, codec, limits());
        let frames = [Frame::new(Head::Hello), request(3), notify("Chat.kicked")];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [3]);
        assert_eq!(acceptor.notifications(), 1);
        assert_eq!(acceptor.output(), [Written::Other(1)]);
    }
}

/// W-OPT-3: in HELLO there is no call to refuse.
#[test]
fn an_option_of_hello_that_must_be_understood_closes() {
    let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
    let hello = acceptor.message(br#"[0,{"1000":1}]"#);
    assert_eq!(close_code(hello), CloseCode::PROTOCOL);
    let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
    let hello = acceptor.message(br#"[0,{"1001":1,"token":"x","1":"no number","5":3}]"#);
    hello.expect("odd keys and text keys");
    let peer = acceptor.connection.peer_limits();
    assert_eq!(peer.max_message_bytes, limits().max_message_bytes);
    assert_eq!(peer.max_in_flight, 3);
}

/// W-NEG-10: messages that are too small to be of use.
#[test]
fn a_limit_for_messages_below_256_kib_closes() {
    let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
    let hello = acceptor.message(br#"[0,{"1":262143}]"#);
    assert_eq!(close_code(hello), CloseCode::PROTOCOL);
    let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
    let hello = acceptor.message(br#"[0,{"1":262144}]"#);
    hello.expect("the least");
}
