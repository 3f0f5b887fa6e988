//! Names and aliases.

use std::cell::Cell;

use bytes::Bytes as Message;
use wirecall_core::{
    CloseCode, Code, Codec,
    protocol::{Events, MethodRef, Position, Resolve, Target},
};

use crate::end::{
    End, NOT_EXECUTED, call, close_code, define, limits, packed, request, request_of,
};

/// W-METHOD-4: an alias is defined once.
#[test]
fn an_alias_that_is_defined_again_closes() {
    for codec in Codec::ALL {
        for again in [define(4, "Chat.post"), define(4, "Chat.gone")] {
            let mut acceptor = End::acceptor(codec, limits());
            let defined = acceptor.receive(&[define(4, "Chat.post"), again]);
            assert_eq!(close_code(defined), CloseCode::PROTOCOL);
        }
    }
}

/// W-METHOD-4: there are 1,024 aliases.
#[test]
fn an_alias_above_1023_closes() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let defined = acceptor.receive(&[define(1023, "Chat.post")]);
        defined.expect("the last alias");
        let defined = acceptor.receive(&[define(1024, "Chat.post")]);
        assert_eq!(close_code(defined), CloseCode::PROTOCOL);
    }
}

/// W-METHOD-3, W-METHOD-5: an alias stands for its name from its definition on, and one that was
/// not defined is an error to the call alone.
#[test]
fn an_unknown_alias_fails_that_call_alone() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let frames = [
            call(3, MethodRef::Alias(0)),
            define(0, "Chat.post"),
            call(5, MethodRef::Alias(0)),
            call(7, MethodRef::Alias(1)),
            call(9, MethodRef::Alias(u64::MAX)),
        ];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [5]);
        let refused = [3, 7, 9].map(|id| (id, Code::UNIMPLEMENTED, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
    }
}

/// W-METHOD-6: DEFINE of a method that there is not is no error before the alias is used.
#[test]
fn an_unknown_method_fails_that_call_alone() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let frames = [
            define(0, "Chat.gone"),
            call(3, MethodRef::Alias(0)),
            request_of(5, "Chat.gone"),
            request(7),
        ];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [7]);
        let refused = [3, 5].map(|id| (id, Code::UNIMPLEMENTED, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
    }
}

/// Knows nothing, and counts how often it is asked for a name that was meant.
#[derive(Default)]
struct Nothing(Cell<usize>);

impl Resolve for Nothing {
    fn resolve(&self, _: &str) -> Option<Target> {
        None
    }

    fn explain(&self, name: &str) -> String {
        self.0.set(self.0.get() + 1);
        format!("no method {name:?}, did you mean another?")
    }
}

/// W-METHOD-6: names that are like an unknown one are not looked for without end.
#[test]
fn unknown_names_are_explained_16_times_at_most() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let nothing = Nothing::default();
        let frames = vec![request_of(3, "Chat.gone"); 100];
        let message = Message::from(packed(codec, &frames).swap_remove(0));
        let mut events = Events::default();
        let connection = &mut acceptor.connection;
        let mut position = Position::default();
        connection
            .receive(
                &message,
                &mut position,
                100,
                acceptor.now,
                &nothing,
                &mut events,
            )
            .expect("frames");
        let refused = (3, Code::UNIMPLEMENTED, NOT_EXECUTED);
        assert_eq!(acceptor.refusals(), [refused; 100]);
        assert!((1..=16).contains(&nothing.0.get()));
    }
}
