//! Calls, in both directions and over both codecs.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use tokio::time::Instant;
use wirecall::{Bytes, Codec, Context, Server};

use crate::{
    interop::{InteropClient, InteropEvents, InteropEventsServer, PeerInfo},
    support::{connect, dial, idle, soon, start, start_interop},
};

#[tokio::test]
async fn each_kind_of_argument_and_result_survives_both_codecs() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);

        let data: Vec<u8> = (0..=255).collect();
        assert_eq!(interop.echo(&data).await.unwrap(), Bytes::from(&*data));
        assert_eq!(interop.add(i64::MIN, -1).await.unwrap(), i64::MAX);
        let parts = ["\"quoted\"".to_owned(), "\n\u{0}\u{1F980}".to_owned()];
        assert_eq!(interop.concat(&parts).await.unwrap(), parts.concat());
        assert_eq!(interop.sleep(1).await.unwrap(), 1);
        let info = interop.peer_info().await.unwrap();
        assert_eq!(
            info,
            PeerInfo {
                address: client
                    .peer()
                    .connection()
                    .local_addr
                    .map(|address| address.to_string()),
                uri: "/".to_owned(),
                subprotocol: codec.subprotocol().to_owned(),
                user_agent: None,
            }
        );
        idle(&client).await;
    }
}

#[wirecall::service]
trait Computer {
    /// Keeps its thread busy for a moment, which is too short for a task of its own.
    async fn compute(&self);
}

#[derive(Clone, Default)]
struct Busy(Arc<AtomicU32>);

impl Computer for Busy {
    async fn compute(&self) {
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_micros(50) {
            std::hint::spin_loop();
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many of 400 calls in one message were executed when the first was answered.
async fn executed_before_the_first_answer(codec: Codec) -> u32 {
    let busy = Busy::default();
    let server = Server::builder().service(ComputerServer::new(busy.clone()));
    let client = connect(start(server).await, codec).await;
    let computer = ComputerClient::new(&client);
    let calls = (0..400).map(|_| computer.compute().start());
    let mut calls: FuturesUnordered<_> = calls.collect();
    soon(calls.next()).await.unwrap().unwrap();
    let executed = busy.0.load(Ordering::Relaxed);
    while let Some(answer) = soon(calls.next()).await {
        answer.unwrap();
    }
    assert_eq!(busy.0.load(Ordering::Relaxed), 400);
    executed
}

// One thread for the server's handlers, and one for who waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_many_answers_does_not_wait_for_the_handlers_of_the_others() {
    for codec in Codec::ALL {
        // A handler that the operating system holds up for a moment is taken for a slow one, and
        // those after it get tasks, which all come before the connection's. Try again then.
        let mut attempts = 0;
        while executed_before_the_first_answer(codec).await == 400 {
            attempts += 1;
            assert!(attempts < 50, "all had to end before one was answered");
        }
    }
}

#[wirecall::service]
trait Worker {
    /// Keeps its thread busy for longer than a handler should, and says in which task it ran, with
    /// so many blanks behind it.
    async fn task(&self, blanks: usize) -> String;
}

struct Toiling;

impl Worker for Toiling {
    async fn task(&self, blanks: usize) -> String {
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        format!("{}{}", tokio::task::id(), " ".repeat(blanks))
    }
}

#[tokio::test]
async fn handlers_that_hold_up_their_connection_get_tasks_of_their_own() {
    // Small answers are collected, and others go into the outbox at once.
    for blanks in [0, 4000] {
        let address = start(Server::builder().service(WorkerServer::new(Toiling))).await;
        let client = connect(address, Codec::MessagePack).await;
        let worker = WorkerClient::new(&client);
        let connection = worker.task(blanks).await.unwrap();
        // The first was slow, one after it is looked at for that, and those after that one are spawned.
        let mut calls = 1;
        while worker.task(blanks).await.unwrap() == connection {
            calls += 1;
            assert!(calls < 20, "with {blanks} blanks");
        }
    }
}

#[wirecall::service]
trait Alarm {
    /// Answers that many milliseconds after the service's beginning.
    async fn at(&self, milliseconds: u64) -> u64;
}

struct Clock(Instant);

impl Alarm for Clock {
    async fn at(&self, milliseconds: u64) -> u64 {
        tokio::time::sleep_until(self.0 + Duration::from_millis(milliseconds)).await;
        milliseconds
    }
}

#[tokio::test]
async fn of_1000_calls_in_flight_each_gets_its_own_answer_in_the_order_of_the_delays() {
    // Far enough ahead for all requests to have arrived.
    let beginning = Instant::now() + Duration::from_millis(500);
    let address = start(Server::builder().service(AlarmServer::new(Clock(beginning)))).await;
    let client = connect(address, Codec::MessagePack).await;
    let alarm = AlarmClient::new(&client);

    // A permutation without a pattern: 7919 is prime to 1000.
    let delays = (0..1000_u64).map(|n| n * 7919 % 1000);
    let mut calls: FuturesUnordered<_> = delays
        .map(|delay| {
            let call = alarm.at(delay);
            async move { (delay, call.await.unwrap()) }
        })
        .collect();
    let mut order = Vec::new();
    while let Some((asked, answered)) = soon(calls.next()).await {
        assert_eq!(asked, answered);
        order.push(answered);
    }
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
    idle(&client).await;
}

struct Caller;

impl InteropEvents for Caller {
    async fn event(&self, _index: u64, _data: &[u8]) {}

    async fn answer(&self, question: &str) -> String {
        format!("{question}? Yes.")
    }
}

#[tokio::test]
async fn a_handler_calls_its_caller_while_its_own_call_is_open() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = dial(address, codec)
            .serve(InteropEventsServer::new(Caller))
            .connect()
            .await
            .unwrap();
        let interop = InteropClient::new(&client);
        let questions = (0..100).map(|n| {
            let interop = interop.clone();
            async move {
                let question = n.to_string();
                let answer = interop.ask(&question).await.unwrap();
                assert_eq!(answer, format!("{n}? Yes."));
            }
        });
        soon(futures::future::join_all(questions)).await;
        idle(&client).await;
    }
}

#[wirecall::service]
trait PingPong {
    /// Calls the other side with one less, until nothing is left.
    async fn hit(&self, cx: &Context, left: u32) -> u32;
}

struct Player;

impl PingPong for Player {
    async fn hit(&self, cx: &Context, left: u32) -> u32 {
        match left {
            0 => 0,
            left => PingPongClient::new(cx).hit(left - 1).await.unwrap() + 1,
        }
    }
}

#[tokio::test]
async fn calls_nest_to_and_fro_on_one_connection() {
    let address = start(Server::builder().service(PingPongServer::new(Player))).await;
    let client = dial(address, Codec::MessagePack)
        .serve(PingPongServer::new(Player))
        .connect()
        .await
        .unwrap();
    assert_eq!(
        soon(PingPongClient::new(&client).hit(50)).await.unwrap(),
        50
    );
    idle(&client).await;
}

#[tokio::test]
async fn a_call_is_a_future_that_can_be_spawned_joined_and_started() {
    let address = start_interop().await;
    let client = connect(address, Codec::MessagePack).await;
    let interop = InteropClient::new(&client);

    // `spawn` wants it to be `Send` and to borrow nothing that ends.
    let spawned = tokio::spawn(interop.add(1, 2));
    let joined = futures::future::join_all([interop.add(3, 4), interop.add(5, 6)]);
    let started = {
        let parts = vec!["a".to_owned(), "b".to_owned()];
        interop.concat(&parts).start()
    };
    assert_eq!(soon(spawned).await.unwrap().unwrap(), 3);
    assert_eq!(
        soon(joined)
            .await
            .into_iter()
            .map(Result::unwrap)
            .sum::<i64>(),
        18
    );
    assert_eq!(soon(started).await.unwrap(), "ab");
}

#[wirecall::service]
trait Recorder {
    async fn record(&self, cx: &Context, what: &str);
}

#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Vec<String>>>);

impl Recorder for Tape {
    async fn record(&self, cx: &Context, what: &str) {
        let trace = cx.metadata().get("trace").unwrap_or("none");
        let blob = cx.metadata().get_bytes("blob-bin").unwrap_or_default();
        let line = format!("{what} {trace} {blob:?}");
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn metadata_reaches_the_handler_as_text_and_as_bytes() {
    for codec in Codec::ALL {
        let tape = Tape::default();
        let address = start(Server::builder().service(RecorderServer::new(tape.clone()))).await;
        let client = connect(address, codec).await;
        let recorder = RecorderClient::new(&client);
        recorder.record("bare").await.unwrap();
        recorder
            .record("full")
            .metadata("trace", "a \"b\"")
            .metadata("blob-bin", vec![0_u8, 255])
            .await
            .unwrap();
        assert_eq!(
            *tape.0.lock().unwrap(),
            ["bare none []", "full a \"b\" [0, 255]"]
        );
    }
}

#[tokio::test]
async fn nothing_is_sent_before_a_call_is_polled_and_everything_at_start() {
    let tape = Tape::default();
    let address = start(Server::builder().service(RecorderServer::new(tape.clone()))).await;
    let client = connect(address, Codec::MessagePack).await;
    let recorder = RecorderClient::new(&client);
    drop(recorder.record("never"));
    let first = recorder.record("first").start();
    recorder.record("second").await.unwrap();
    first.await.unwrap();
    assert_eq!(*tape.0.lock().unwrap(), ["first none []", "second none []"]);
}

#[tokio::test]
async fn each_shape_of_method_of_the_interop_service_works_in_both_codecs() {
    let address = start_interop().await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let interop = InteropClient::new(&client);

        let counted: Vec<_> = soon(interop.count(100)).await.unwrap().collect().await;
        let counted: Vec<_> = counted.into_iter().map(Result::unwrap).collect();
        assert_eq!(counted, (0..100).collect::<Vec<_>>());

        let numbers = futures::stream::iter(-1..=100_i64);
        assert_eq!(soon(interop.sum(numbers)).await.unwrap(), 5_049);

        let items = ["", "\u{0}", "x"].map(Bytes::from);
        let sent = futures::stream::iter(items.clone());
        let mut echoed = soon(interop.echo_stream(sent)).await.unwrap();
        for item in items {
            assert_eq!(soon(echoed.next()).await.unwrap().unwrap(), item);
        }
        assert!(soon(echoed.next()).await.is_none());

        let blob = soon(interop.blob(300_000)).await.unwrap();
        assert!(blob.iter().enumerate().all(|(n, byte)| *byte == n as u8));
        assert_eq!(soon(interop.sink(&blob)).await.unwrap(), 300_000);
        let failed = soon(interop.blob(1 << 40)).await.unwrap_err();
        assert_eq!(failed.code(), wirecall::Code::OUT_OF_RANGE);

        let mut forever = soon(interop.forever()).await.unwrap();
        for n in 0..1_000 {
            assert_eq!(soon(forever.next()).await.unwrap().unwrap(), n);
        }
        drop(forever);
        idle(&client).await;
    }
}
