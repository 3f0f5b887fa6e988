//! Frames written and read, and requests taken in.

use std::{hint::black_box, sync::Arc};

use bytes::Bytes as Message;
use gungraun::prelude::*;
use wirecall::{
    Codec, Limits,
    protocol::{Connection, Event, Events, Frame, Frames, Side},
};

use crate::{Kind, OPERATIONS, call_id, greeting, message, receive};

fn to_encode(codec: Codec, kind: Kind) -> (Codec, Kind, Vec<u8>, Vec<u8>) {
    (codec, kind, kind.payload(codec), Vec::with_capacity(1024))
}

#[library_benchmark(setup = to_encode)]
#[bench::request_msgpack(Codec::MessagePack, Kind::Request)]
#[bench::response_msgpack(Codec::MessagePack, Kind::Response)]
#[bench::item_msgpack(Codec::MessagePack, Kind::Item)]
#[bench::request_json(Codec::Json, Kind::Request)]
#[bench::response_json(Codec::Json, Kind::Response)]
#[bench::item_json(Codec::Json, Kind::Item)]
fn encode((codec, kind, payload, mut out): (Codec, Kind, Vec<u8>, Vec<u8>)) -> Vec<u8> {
    for number in 0..OPERATIONS {
        out.clear();
        let head = black_box(kind).head(call_id(number % 64));
        black_box(Frame::with_payload(head, &payload)).encode(codec, &mut out);
        black_box(&out);
    }
    out
}

fn to_decode(codec: Codec, kind: Kind) -> (Codec, Message) {
    (codec, message(codec, kind, 64))
}

#[library_benchmark(setup = to_decode)]
#[bench::request_msgpack(Codec::MessagePack, Kind::Request)]
#[bench::response_msgpack(Codec::MessagePack, Kind::Response)]
#[bench::item_msgpack(Codec::MessagePack, Kind::Item)]
#[bench::request_json(Codec::Json, Kind::Request)]
#[bench::response_json(Codec::Json, Kind::Response)]
#[bench::item_json(Codec::Json, Kind::Item)]
fn decode((codec, message): (Codec, Message)) -> Message {
    for _ in 0..OPERATIONS / 64 {
        for frame in Frames::new(codec, black_box(&message)) {
            black_box(frame.unwrap());
        }
    }
    message
}

/// An end in the state in which it takes calls, and a message with 256 of them.
fn to_receive(codec: Codec) -> (Vec<Connection>, Message, Events) {
    let limits = Arc::new(Limits::default());
    let acceptor = || {
        let mut end = Connection::new(Side::Acceptor, codec, limits.clone());
        for message in greeting(codec) {
            receive(&mut end, &message, &mut Events::default());
        }
        end
    };
    // Calls are not answered here: each message is received by an end of its own.
    let ends = (0..OPERATIONS / 256).map(|_| acceptor()).collect();
    let message = message(codec, Kind::Request, 256);
    let mut events = Events::default();
    receive(&mut acceptor(), &message, &mut events);
    assert_eq!(events.queue.len(), 256);
    events.queue.clear();
    (ends, message, events)
}

// Requests that come in, up to the events that tell of them: entries in the table of the peer's
// calls, without answers.
#[library_benchmark(setup = to_receive)]
#[bench::msgpack(Codec::MessagePack)]
#[bench::json(Codec::Json)]
fn receive_requests(
    (mut ends, message, mut events): (Vec<Connection>, Message, Events),
) -> (Vec<Connection>, Message, Events) {
    for end in &mut ends {
        receive(end, &message, &mut events);
        for event in events.queue.drain(..) {
            assert!(matches!(event, Event::Request { .. }));
        }
    }
    (ends, message, events)
}
