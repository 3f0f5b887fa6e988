//! Instructions that the pieces of a call take, as callgrind counts them.
//!
//! - `frames`: frames written and read
//! - `ends`: one end of a connection in a hand, the other end's messages made before
//! - `calls`: both ends, as tasks, on the transport within a process
//!
//! Each benchmark does its work [`OPERATIONS`] times: an operation takes that part of the number that
//! is told. What is set up is not counted. Time stands still, since callgrind is so slow that
//! handlers would seem to be slow as well, and be moved to tasks of their own.

mod calls;
mod ends;
mod frames;

use bytes::Bytes as Message;
use gungraun::{Callgrind, EventKind, prelude::*};
use tokio::{runtime::Runtime, time::Instant};
use wirecall::{
    Bytes, Codec, Limits, body,
    protocol::{
        Batch, CallId, Connection, Events, Frame, Head, MethodKind, MethodRef, Packer, Position,
        Resolve, Side, Target,
    },
};

use calls::whole;
use ends::{dispatch, pending};
use frames::{decode, encode, receive_requests};

const OPERATIONS: usize = 1024;

const BODY: &[u8; 32] = b"what is echoed, 32 bytes of it..";

/// A method that costs nothing of its own.
#[wirecall::service]
trait Echo {
    async fn echo(&self, body: &[u8]) -> Bytes;
}

struct Implementation;

impl Echo for Implementation {
    async fn echo(&self, body: &[u8]) -> Bytes {
        body.into()
    }
}

/// The frames that are as frequent as calls and items.
#[derive(Clone, Copy)]
enum Kind {
    Request,
    Response,
    Item,
}

impl Kind {
    fn head(self, id: CallId) -> Head<'static> {
        match self {
            Kind::Request => Head::Request {
                id,
                method: MethodRef::Alias(0),
            },
            Kind::Response => Head::Response { id },
            Kind::Item => Head::Item { id },
        }
    }

    fn payload(self, codec: Codec) -> Vec<u8> {
        let mut payload = Vec::new();
        let body = Bytes::from(&BODY[..]);
        match self {
            // Arguments are a list.
            Kind::Request => body::encode(codec, &(body,), &mut payload),
            Kind::Response | Kind::Item => body::encode(codec, &body, &mut payload),
        }
        .unwrap();
        payload
    }
}

/// The id of one of the dialler's calls.
fn call_id(number: usize) -> CallId {
    CallId::new(2 * number as u64 + 3)
}

/// One message with so many frames of a kind.
fn message(codec: Codec, kind: Kind, count: usize) -> Message {
    let payload = kind.payload(codec);
    let mut packer = Packer::new(codec);
    for number in 0..count {
        packer.push(&Frame::with_payload(kind.head(call_id(number)), &payload));
    }
    let mut batch = Batch::default();
    packer.take(&mut batch);
    let messages: Vec<_> = batch.messages().collect();
    assert_eq!(messages.len(), 1);
    Message::copy_from_slice(messages[0])
}

/// Knows `Echo.echo`.
struct Methods;

impl Resolve for Methods {
    fn resolve(&self, name: &str) -> Option<Target> {
        (name == "Echo.echo").then_some(Target {
            service: 0,
            method: 0,
            kind: MethodKind::Unary,
        })
    }
}

fn receive(end: &mut Connection, message: &Message, events: &mut Events) {
    let mut position = Position::default();
    let received = end.receive(
        message,
        &mut position,
        usize::MAX,
        Instant::now(),
        &Methods,
        events,
    );
    assert!(received.unwrap());
}

/// What the dialler writes before its first call.
fn greeting(codec: Codec) -> Vec<Message> {
    let mut dialler = Connection::new(Side::Dialler, codec, Limits::default());
    let mut packer = Packer::new(codec);
    packer.push(&Frame::new(Head::Define {
        alias: 0,
        method: "Echo.echo".into(),
    }));
    let mut messages = written(&mut dialler);
    let mut batch = Batch::default();
    packer.take(&mut batch);
    messages.extend(batch.messages().map(Message::copy_from_slice));
    messages
}

fn written(end: &mut Connection) -> Vec<Message> {
    let mut batch = Batch::default();
    end.take_output(&mut batch, &mut Vec::new());
    batch.messages().map(Message::copy_from_slice).collect()
}

/// A runtime whose clock stands still.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
}

library_benchmark_group!(
    name = pieces,
    benchmarks = [encode, decode, receive_requests, pending, dispatch, whole]
);

main!(
    config = LibraryBenchmarkConfig::default().tool(
        Callgrind::with_args(["--cache-sim=no"])
            // A run fails that needs so many per cent more than the one before.
            .soft_limits([(EventKind::Ir, 2.0)])
    ),
    library_benchmark_groups = pieces
);
