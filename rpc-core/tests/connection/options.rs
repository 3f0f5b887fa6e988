//! Options of calls: metadata and deadlines.

use tokio::time::Duration;
use wirecall_core::{
    Code, Codec, MetadataValue,
    protocol::{EncodedOptions, Event, Events, Frame, OptionsBuilder, Side},
};

use crate::end::{End, NOT_EXECUTED, cancel, limits, notify, request, request_of};

/// W-OPT-2, W-OPT-3: an even key that is not known refuses the call, an odd one is ignored.
#[test]
fn an_even_option_that_is_not_understood_refuses_that_call() {
    for codec in Codec::ALL {
        let mut even = OptionsBuilder::new(codec);
        let even = even.uint(10, 1).clone().finish();
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

fn with_key<'a>(frame: Frame<'a>, options: &'a EncodedOptions) -> Frame<'a> {
    Frame {
        options: options.as_options(),
        ..frame
    }
}

/// W-KEY-1: a key reaches the call, and one that is none refuses it.
#[test]
fn an_idempotency_key_is_a_short_word() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let longest = "x".repeat(128);
        let too_long = "x".repeat(129);
        let keys = ["!", "a\"b\\~", &longest];
        for (id, key) in (3..).step_by(2).zip(keys) {
            let options = OptionsBuilder::new(codec).text(8, key).clone().finish();
            let frame = with_key(request(id), &options);
            acceptor.receive(&[frame]).expect("a frame");
            let Some(Event::Request {
                idempotency_key, ..
            }) = acceptor.events.last()
            else {
                panic!("{:?}", acceptor.events);
            };
            assert_eq!(idempotency_key.as_deref(), Some(key));
        }
        let bad = ["", "a b", "a\n", "ä", &too_long];
        let mut bad: Vec<_> = bad
            .map(|key| OptionsBuilder::new(codec).text(8, key).clone().finish())
            .into();
        bad.push(OptionsBuilder::new(codec).uint(8, 7).clone().finish());
        for (id, options) in (11..).step_by(2).zip(&bad) {
            let frame = with_key(request(id), options);
            acceptor.receive(&[frame]).expect("a frame");
        }
        assert_eq!(acceptor.requests(), [3, 5, 7]);
        let refused = [11, 13, 15, 17, 19, 21];
        let refused = refused.map(|id| (id, Code::INVALID_ARGUMENT, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
    }
}

/// W-KEY-1, W-NOTE-5: a key is for calls without streams.
#[test]
fn an_idempotency_key_refuses_a_call_with_a_stream_and_drops_a_notification() {
    for codec in Codec::ALL {
        let mut acceptor = End::acceptor(codec, limits());
        let options = OptionsBuilder::new(codec).text(8, "a").clone().finish();
        let frames = [
            with_key(request_of(3, "Chat.visitors"), &options),
            with_key(request_of(5, "Chat.import"), &options),
            with_key(request_of(7, "Chat.sum"), &options),
            with_key(notify("Chat.kicked"), &options),
        ];
        acceptor.receive(&frames).expect("frames");
        assert!(acceptor.events.is_empty(), "{:?}", acceptor.events);
        let refused = [3, 5, 7].map(|id| (id, Code::UNIMPLEMENTED, NOT_EXECUTED));
        assert_eq!(acceptor.refusals(), refused);
        // Before its body has come, too.
        let options = OptionsBuilder::new(codec)
            .uint(0, 100_000)
            .text(8, "a")
            .clone()
            .finish();
        let payload = match codec {
            Codec::MessagePack => b"\x91".as_slice(),
            _ => br#""[""#,
        };
        let first_piece = Frame {
            payload,
            ..with_key(request_of(9, "Chat.import"), &options)
        };
        acceptor.receive(&[first_piece]).expect("a frame");
        let refused = [(9, Code::UNIMPLEMENTED, NOT_EXECUTED)];
        assert_eq!(acceptor.refusals(), refused);
    }
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
