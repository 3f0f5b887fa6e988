//! Options of calls: metadata and deadlines.

use tokio::time::Duration;
use wirecall_core::{
    Code, Codec, MetadataValue,
    protocol::{Event, Events, Frame, OptionsBuilder, Side},
};

use crate::end::{End, NOT_EXECUTED, cancel, limits, request};

/// W-OPT-2, W-OPT-3: an even key that is not known refuses the call, an odd one is ignored.
#[test]
fn an_even_option_that_is_not_understood_refuses_that_call() {
    for codec in Codec::ALL {
        let mut even = OptionsBuilder::new(codec);
        let even = even.uint(8, 1).clone().finish();
        let mut odd = OptionsBuilder::new(codec);
        let odd = odd.uint(3, 1).text(1001, "x").clone().finish();
        let mut acceptor = End::acceptor(codec, limits());
        let with = |id, options| Frame {
            options,
            ..request(id)
        };
        let frames = [with(3, even.as_options()), with(5, odd.as_options())];
        acceptor.receive(&frames).expect("frames");
        assert_eq!(acceptor.requests(), [5]);
        let refused = (3, Code::UNIMPLEMENTED, NOT_EXECUTED);
        assert_eq!(acceptor.refusals(), [refused]);
    }
}

/// W-OPT-1: in JSON a key of digits alone is the protocol's, and any other is the user's.
#[test]
fn a_key_that_is_not_only_digits_is_metadata() {
    let mut acceptor = End::acceptor(Codec::Json, limits());
    let frame = br#"[6,3,"Chat.post",{"+2":"a","2a":"b"," 2":"c","":"d"},null]"#;
    acceptor.message(frame).expect("a frame");
    let [Event::Request { metadata, .. }] = &acceptor.events[..] else {
        panic!("{:?}", acceptor.events);
    };
    let keys: Vec<_> = metadata.iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["+2", "2a", " 2", ""]);
}

/// W-META-1, W-META-2: text, and bytes under keys that end in `-bin`.
#[test]
fn metadata_reaches_the_call() {
    for codec in Codec::ALL {
        let mut options = OptionsBuilder::new(codec);
        options
            .metadata_text("trace", "a\"b")
            .metadata_bytes("key-bin", &[0, 0xff]);
        let options = options.finish();
        let mut acceptor = End::acceptor(codec, limits());
        let frame = Frame {
            options: options.as_options(),
            ..request(3)
        };
        acceptor.receive(&[frame]).expect("frame");
        let [Event::Request { metadata, .. }] = &acceptor.events[..] else {
            panic!("{:?}", acceptor.events);
        };
        assert_eq!(metadata.get("trace"), Some("a\"b"));
        assert_eq!(metadata.get_bytes("key-bin"), Some(&[0, 0xff][..]));
        assert_eq!(metadata.iter().count(), 2);
        let text = |value: &MetadataValue| matches!(value, MetadataValue::Text(_));
        assert_eq!(metadata.iter().filter(|(_, value)| text(value)).count(), 1);
    }
}

/// W-META-3, W-META-4: what is of the wrong type or too much refuses the call.
#[test]
fn metadata_beyond_the_limits_refuses_that_call() {
    let limits = limits().max_metadata_entries(2).max_metadata_bytes(10);
    let mut acceptor = End::acceptor(Codec::Json, limits);
    for (id, options) in [
        (3, r#"{"a":1}"#),
        (5, r#"{"a-bin":"no base64"}"#),
        (7, r#"{"a":"x","b":"x","c":"x"}"#),
        (9, r#"{"a":"0123456789"}"#),
        (11, r#"{"a":"012345678"}"#),
        (13, r#"{"1":"soon"}"#),
    ] {
        let frame = format!(r#"[6,{id},"Chat.post",{options},null]"#);
        acceptor.message(frame.as_bytes()).expect("a frame");
    }
    assert_eq!(acceptor.requests(), [11]);
    let refused = [
        (3, Code::INVALID_ARGUMENT),
        (5, Code::INVALID_ARGUMENT),
        (7, Code::RESOURCE_EXHAUSTED),
        (9, Code::RESOURCE_EXHAUSTED),
        (13, Code::INVALID_ARGUMENT),
    ];
    let refused = refused.map(|(id, code)| (id, code, NOT_EXECUTED));
    assert_eq!(acceptor.refusals(), refused);
}

/// W-DL-1, W-DL-2: the call's own deadline, else the one that its caller has announced.
#[test]
fn deadlines_are_the_calls_own_or_the_announced_ones() {
    for (announced, expected) in [
        ("{}", Some(30_000)),
        (r#"{"9":200}"#, Some(200)),
        (r#"{"9":0}"#, None),
    ] {
        let mut acceptor = End::new(Side::Acceptor, Codec::Json, limits());
        let hello = format!("[0,{announced}]");
        acceptor.message(hello.as_bytes()).expect("HELLO");
        for (id, options, expected) in [
            (3, "", expected),
            (5, r#"{"1":5000},"#, Some(5000)),
            (7, r#"{"1":0},"#, None),
            (9, r#"{"1":18446744073709551615},"#, None),
        ] {
            let frame = format!(r#"[6,{id},"Chat.post",{options}null]"#);
            acceptor.message(frame.as_bytes()).expect("a frame");
            let Some(Event::Request { deadline, .. }) = acceptor.events.last() else {
                panic!("{:?}", acceptor.events);
            };
            let expected = expected.map(|ms| acceptor.now + Duration::from_millis(ms));
            // A deadline beyond the end of time is none.
            if id != 9 || deadline.is_none() {
                assert_eq!(*deadline, expected, "{announced} {options}");
            }
        }
    }
}

/// W-DL-3: a handler is told to stop, once, and its call stays in flight until it has ended.
#[test]
fn a_handler_is_stopped_at_its_deadline() {
    let mut acceptor = End::acceptor(Codec::Json, limits());
    let frames = br#"[[6,3,"Chat.post",{"1":200},null],[6,5,"Chat.post",{"1":0},null]]"#;
    acceptor.message(frames).expect("frames");
    let due = acceptor.now + Duration::from_millis(200);
    assert_eq!(acceptor.connection.next_timeout(), Some(due));
    for _ in 0..2 {
        let mut events = Events::default();
        let timeout = acceptor.connection.handle_timeout(due, &mut events);
        timeout.expect("goes on");
        acceptor.events.append(&mut events.queue);
    }
    assert_eq!(acceptor.stopped(), [3]);
    assert_eq!(acceptor.connection.in_flight(), (0, 2));
    acceptor.receive(&[cancel(3)]).expect("CANCEL");
    assert_eq!(acceptor.stopped(), [3]);
}
