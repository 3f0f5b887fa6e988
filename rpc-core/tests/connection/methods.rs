//! Names and aliases.

use wirecall_core::{CloseCode, Code, Codec, protocol::MethodRef};

use crate::end::{End, NOT_EXECUTED, call, close_code, define, limits, request, request_of};

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
