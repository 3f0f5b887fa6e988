//! One end of a connection in a hand. The other end's messages were made before.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use bytes::Bytes as Message;
use futures::{FutureExt as _, future::BoxFuture};
use gungraun::prelude::*;
use tokio::runtime::Runtime;
use wirecall::{
    Codec, ConnectionInfo, Limits, Peer,
    connection::{self, Sessions},
    protocol::{Connection, Events, Frames, Head, Side},
    service::Router,
    transport::{
        MessageKind, Received, Transport as _,
        memory::{self, MemoryTransport},
    },
};

use crate::{
    BODY, EchoClient, EchoServer, Implementation, Kind, OPERATIONS, greeting, message, receive,
    runtime, written,
};

/// An end of a connection that runs when it is told to, and the transport's other side.
struct End {
    runtime: Runtime,
    driver: BoxFuture<'static, ()>,
    woken: Arc<Woken>,
    waker: Waker,
    far: MemoryTransport,
    kind: MessageKind,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl End {
    fn new(side: Side, codec: Codec, router: Router) -> (Peer, End) {
        let runtime = runtime();
        let _entered = runtime.enter();
        let (near, far) = memory::pair();
        let (limits, router) = (Arc::new(Limits::default()), Arc::new(router));
        let info = ConnectionInfo::default();
        let (peer, driver) = match side {
            Side::Dialler => {
                let (session, driver) =
                    connection::dial(None, near, codec, limits, router, info, None);
                (session.peer(), driver.boxed())
            }
            Side::Acceptor => {
                let sessions = Arc::new(Sessions::new(1));
                let (peer, driver) =
                    connection::accept(None, near, codec, limits, router, info, sessions);
                (peer, driver.boxed())
            }
        };
        let woken = Arc::new(Woken::default());
        woken.wake_by_ref();
        drop(_entered);
        let end = End {
            runtime,
            driver,
            waker: Waker::from(woken.clone()),
            woken,
            far,
            kind: match codec {
                Codec::Json => MessageKind::Text,
                _ => MessageKind::Binary,
            },
        };
        (peer, end)
    }

    /// Lets it do all that there is to do.
    fn run(&mut self) {
        let _entered = self.runtime.enter();
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let mut context = Context::from_waker(&self.waker);
            assert!(self.driver.poll_unpin(&mut context).is_pending());
        }
    }

    fn send(&mut self, message: &[u8]) {
        self.far.send(self.kind, message).unwrap();
    }

    /// The next message that it has written.
    fn received(&mut self) -> Option<Message> {
        let mut context = Context::from_waker(Waker::noop());
        match self.far.poll_receive(&mut context) {
            Poll::Ready(Ok(Received::Message(message))) => Some(message.data),
            Poll::Ready(other) => panic!("{other:?}"),
            Poll::Pending => None,
        }
    }
}

/// A caller, and the message that answers its calls.
struct Caller {
    echo: EchoClient,
    end: End,
    in_flight: usize,
    answers: Message,
}

fn caller(codec: Codec, in_flight: usize) -> Caller {
    let (peer, mut end) = End::new(Side::Dialler, codec, Router::default());
    end.run();
    let mut acceptor = Connection::new(Side::Acceptor, codec, Limits::default());
    while let Some(message) = end.received() {
        receive(&mut acceptor, &message, &mut Events::default());
    }
    for message in written(&mut acceptor) {
        end.send(&message);
    }
    let mut caller = Caller {
        echo: EchoClient::new(&peer),
        end,
        in_flight,
        answers: message(codec, Kind::Response, in_flight),
    };
    // Tables and buffers grow to what they need.
    for _ in 0..2 {
        caller.round();
    }
    caller
}

impl Caller {
    /// Makes calls, as many as are in flight at a time, answers them, and takes the answers.
    fn round(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut calls: Vec<_> = (0..self.in_flight).map(|_| self.echo.echo(BODY)).collect();
        for call in &mut calls {
            assert!(call.poll_unpin(&mut context).is_pending());
        }
        self.end.run();
        while let Some(message) = self.end.received() {
            black_box(message);
        }
        self.end.send(&self.answers.clone());
        self.end.run();
        for call in &mut calls {
            let Poll::Ready(answer) = call.poll_unpin(&mut context) else {
                panic!("no answer");
            };
            assert!(answer.unwrap() == *BODY);
        }
    }
}

// The caller's end: a call is entered into the table of pending calls and written, its answer comes,
// and is taken out.
#[library_benchmark(setup = caller)]
#[bench::msgpack_1(Codec::MessagePack, 1)]
#[bench::msgpack_256(Codec::MessagePack, 256)]
#[bench::json_1(Codec::Json, 1)]
#[bench::json_256(Codec::Json, 256)]
fn pending(mut caller: Caller) -> Caller {
    for _ in 0..OPERATIONS / caller.in_flight {
        caller.round();
    }
    caller
}

/// A callee, and the message that calls it.
struct Callee {
    end: End,
    in_flight: usize,
    requests: Message,
}

fn callee(codec: Codec, in_flight: usize) -> Callee {
    let mut router = Router::default();
    router
        .add(Arc::new(EchoServer::new(Implementation)))
        .unwrap();
    let (_, mut end) = End::new(Side::Acceptor, codec, router);
    for message in greeting(codec) {
        end.send(&message);
    }
    end.run();
    let mut callee = Callee {
        end,
        in_flight,
        requests: message(codec, Kind::Request, in_flight),
    };
    while callee.end.received().is_some() {}
    callee.round();
    // That it answers is looked at once.
    callee.end.send(&callee.requests.clone());
    callee.end.run();
    let mut answers = 0;
    while let Some(message) = callee.end.received() {
        for frame in Frames::new(codec, &message) {
            let frame = frame.unwrap();
            answers += usize::from(matches!(frame.head, Head::Response { .. }));
        }
    }
    assert_eq!(answers, in_flight);
    callee
}

impl Callee {
    /// Has it execute its calls.
    fn round(&mut self) {
        self.end.send(&self.requests.clone());
        self.end.run();
        let answers = self.end.received();
        assert!(answers.is_some());
        while self.end.received().is_some() {}
    }
}

// The callee's end: a call comes, is dispatched to its handler, and its answer is written.
#[library_benchmark(setup = callee)]
#[bench::msgpack_1(Codec::MessagePack, 1)]
#[bench::msgpack_256(Codec::MessagePack, 256)]
#[bench::json_1(Codec::Json, 1)]
#[bench::json_256(Codec::Json, 256)]
fn dispatch(mut callee: Callee) -> Callee {
    for _ in 0..OPERATIONS / callee.in_flight {
        callee.round();
    }
    callee
}
