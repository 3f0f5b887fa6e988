//! Calls with an idempotency key: executed once, however often they are repeated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, future::join_all};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use wirecall::{
    CallError, Client, Code, Codec, Context, Fate, KeptResults, Priority, RpcError, Server,
    ServerBuilder, Streaming,
};

use crate::{
    raw_client,
    support::{
        Door, LobbyClient, LobbyServer, breakable_proxy, connect, connect_once, dial, idle, soon,
        start,
    },
};

/// A till that counts how often it is really asked to do something.
#[wirecall::service]
trait Till {
    /// Answers with the number of the payment, and says it in the metadata too.
    async fn pay(&self, cx: &Context, amount: u64) -> Result<usize, TillError>;
    /// Like `pay`, but waits until it is let go on.
    async fn pay_slowly(&self, cx: &Context, amount: u64) -> usize;
    /// As many bytes as are asked for.
    async fn receipt(&self, bytes: usize) -> String;
    /// How many bytes came, and the number of the payment.
    async fn file(&self, receipt: &[u8]) -> (usize, usize);
    async fn panic(&self) -> u64;
    async fn left(&self, cx: &Context) -> Option<String>;
    async fn coins(&self, coins: Streaming<u64>) -> u64;
    fn change(&self, amount: u64) -> impl futures::Stream<Item = u64> + Send;
}

#[derive(Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, RpcError)]
enum TillError {
    #[error("the till has {has}")]
    #[rpc(code = 70)]
    TooMuch { has: u64 },
}

#[derive(Clone, Default)]
struct Counter(Arc<State>);

struct State {
    executed: AtomicUsize,
    begun: Notify,
    cancelled: Notify,
    /// A permit for each slow payment that may end.
    go_on: Semaphore,
}

impl Default for State {
    fn default() -> Self {
        State {
            executed: AtomicUsize::new(0),
            begun: Notify::new(),
            cancelled: Notify::new(),
            go_on: Semaphore::new(0),
        }
    }
}

impl Counter {
    fn executed(&self) -> usize {
        self.0.executed.load(Ordering::SeqCst)
    }

    fn count(&self) -> usize {
        self.0.executed.fetch_add(1, Ordering::SeqCst) + 1
    }
}

impl Till for Counter {
    async fn pay(&self, cx: &Context, amount: u64) -> Result<usize, TillError> {
        let number = self.count();
        let _ = cx.set_response_metadata("number", number.to_string());
        if amount > 100 {
            return Err(TillError::TooMuch { has: 100 });
        }
        Ok(number)
    }

    async fn pay_slowly(&self, cx: &Context, _amount: u64) -> usize {
        let number = self.count();
        let state = self.0.clone();
        let cancellation = cx.cancellation();
        tokio::spawn(async move {
            cancellation.cancelled().await;
            state.cancelled.notify_one();
        });
        self.0.begun.notify_one();
        self.0.go_on.acquire().await.unwrap().forget();
        number
    }

    async fn receipt(&self, bytes: usize) -> String {
        self.count();
        "x".repeat(bytes)
    }

    async fn file(&self, receipt: &[u8]) -> (usize, usize) {
        (receipt.len(), self.count())
    }

    async fn panic(&self) -> u64 {
        self.count();
        panic!("as the test wants it")
    }

    async fn left(&self, cx: &Context) -> Option<String> {
        cx.idempotency_key().map(str::to_owned)
    }

    async fn coins(&self, coins: Streaming<u64>) -> u64 {
        self.count();
        coins.count().await as u64
    }

    fn change(&self, amount: u64) -> impl futures::Stream<Item = u64> + Send {
        self.count();
        futures::stream::iter(0..amount)
    }
}

fn till() -> (Counter, ServerBuilder) {
    let counter = Counter::default();
    let server = Server::builder().service(TillServer::new(counter.clone()));
    (counter, server)
}

#[tokio::test]
async fn a_repetition_gets_the_kept_answer_on_any_connection() {
    for codec in Codec::ALL {
        let (counter, server) = till();
        let address = start(server).await;
        for _ in 0..3 {
            let client = connect(address, codec).await;
            let till = TillClient::new(&client);
            let (number, metadata) = till
                .pay(7)
                .idempotency_key("order-17")
                .with_metadata()
                .await
                .unwrap();
            assert_eq!((number, metadata.get("number")), (1, Some("1")));
            // As an answer of an urgent call, and in a slot that has been used.
            let started = till.pay(7).idempotency_key("order-17");
            assert_eq!(started.priority(Priority::High).start().await, Ok(1));
            idle(&client).await;
        }
        assert_eq!(counter.executed(), 1);
        let client = connect(address, codec).await;
        let till = TillClient::new(&client);
        assert_eq!(till.pay(7).idempotency_key("order-18").await, Ok(2));
        assert_eq!(till.pay(7).await, Ok(3));
    }
}

#[tokio::test]
async fn an_error_and_a_panic_are_kept_like_a_result() {
    for codec in Codec::ALL {
        let (counter, server) = till();
        let address = start(server).await;
        let client = connect(address, codec).await;
        let till = TillClient::new(&client);
        for _ in 0..2 {
            let failed = till.pay(101).idempotency_key("a").await;
            let expected = CallError::Method(TillError::TooMuch { has: 100 });
            assert_eq!(failed, Err(expected));
            let panicked = till.panic().idempotency_key("a").await.unwrap_err();
            assert_eq!(
                (panicked.code(), panicked.fate()),
                (Code::INTERNAL, Fate::Executed)
            );
        }
        assert_eq!(counter.executed(), 2);
    }
}

#[tokio::test]
async fn repetitions_at_the_same_time_are_executed_once() {
    for codec in Codec::ALL {
        let (counter, server) = till();
        let address = start(server).await;
        let clients = [connect(address, codec).await, connect(address, codec).await];
        let calls = (0..20).map(|number| {
            let till = TillClient::new(&clients[number % 2]);
            till.pay_slowly(7).idempotency_key("a").start()
        });
        let calls = join_all(calls.collect::<Vec<_>>());
        let all_have_come = async {
            counter.0.begun.notified().await;
            for client in &clients {
                // What was sent before has come once this is answered.
                TillClient::new(client).pay(1).await.unwrap();
            }
            counter.0.go_on.add_permits(1);
        };
        let (answers, ()) = soon(async { tokio::join!(calls, all_have_come) }).await;
        assert!(answers.iter().all(|answer| *answer == Ok(1)), "{answers:?}");
        assert_eq!(counter.executed(), 3);
        for client in &clients {
            idle(client).await;
        }
    }
}

#[tokio::test]
async fn a_call_whose_connection_breaks_is_executed_to_its_end_and_its_result_kept() {
    for codec in Codec::ALL {
        let (counter, server) = till();
        let address = start(server).await;
        let (proxy, connection) = breakable_proxy(address).await;
        let client = connect_once(proxy, codec).await;
        let till = TillClient::new(&client);
        let lost = till.pay_slowly(7).idempotency_key("a").start();
        soon(counter.0.begun.notified()).await;
        connection.abort();
        assert_eq!(soon(lost).await.unwrap_err().fate(), Fate::Unknown);
        // The handler learns of it, and goes on.
        soon(counter.0.cancelled.notified()).await;

        let client = connect(address, codec).await;
        let till = TillClient::new(&client);
        let repeated = till.pay_slowly(7).idempotency_key("a").start();
        assert_eq!(till.pay(1).await, Ok(2));
        counter.0.go_on.add_permits(1);
        assert_eq!(soon(repeated).await, Ok(1));
        assert_eq!(till.pay_slowly(7).idempotency_key("a").await, Ok(1));
        assert_eq!(counter.executed(), 2);
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_is_executed_to_its_end_and_keeps_its_place_until_then() {
    let (counter, server) = till();
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let till = TillClient::new(&client);
    let cancelled = till.pay_slowly(7).idempotency_key("a").start();
    soon(counter.0.begun.notified()).await;
    drop(cancelled);
    soon(counter.0.cancelled.notified()).await;
    // A repetition that is given up ends at once, and stops nobody.
    let given_up = till.pay_slowly(7).idempotency_key("a");
    let given_up = given_up.timeout(Duration::from_millis(20)).await;
    assert_eq!(given_up.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    let cancelled = till.pay_slowly(7).idempotency_key("a").start();
    assert_eq!(till.pay(1).await, Ok(2));
    drop(cancelled);
    soon(async {
        while client.peer().in_flight() != (1, 0) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(till.pay(1).await, Ok(3));
    assert_eq!(client.peer().in_flight(), (1, 0));

    counter.0.go_on.add_permits(1);
    idle(&client).await;
    assert_eq!(till.pay_slowly(7).idempotency_key("a").await, Ok(1));
    assert_eq!(counter.executed(), 3);
}

#[tokio::test]
async fn a_key_is_refused_with_other_arguments_and_in_another_codec() {
    let (counter, server) = till();
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let till = TillClient::new(&client);
    assert_eq!(till.pay(7).idempotency_key("a").await, Ok(1));
    let others = till.pay(8).idempotency_key("a").await.unwrap_err();
    let json = connect(address, Codec::Json).await;
    let json = TillClient::new(&json);
    let in_json = json.pay(7).idempotency_key("a").await.unwrap_err();
    for refused in [others, in_json] {
        assert_eq!(refused.code(), Code::INVALID_ARGUMENT);
        assert_eq!(refused.fate(), Fate::NotExecuted);
        assert!(refused.to_string().contains("key"), "{refused}");
    }
    // Another method has keys of its own.
    assert_eq!(till.receipt(1).idempotency_key("a").await.unwrap(), "x");
    assert_eq!(counter.executed(), 2);
}

#[tokio::test]
async fn a_key_of_a_call_with_a_stream_is_refused_by_a_server() {
    let (counter, server) = till();
    let mut socket = raw_client::open(start(server).await, Codec::Json).await;
    raw_client::send_text(&mut socket, "[0,{}]").await;
    assert_eq!(raw_client::frames(&mut socket).await[0][0], 1);
    for (id, method) in [(3, "coins"), (5, "change")] {
        let call = format!(r#"[6,{id},"Till.{method}",{{"8":"a"}},[]]"#);
        raw_client::send_text(&mut socket, &call).await;
        let answer = &raw_client::frames(&mut socket).await[0];
        // ERROR with UNIMPLEMENTED, not executed.
        let expected = [8, id, 12].map(serde_json::Value::from);
        assert_eq!(answer.as_array().unwrap()[..3], expected);
        assert_eq!(answer[4]["1"], 1);
    }
    assert_eq!(counter.executed(), 0);
}

#[tokio::test]
async fn a_bad_key_is_not_sent() {
    let (counter, server) = till();
    let address = start(server).await;
    let client = connect(address, Codec::MessagePack).await;
    let till = TillClient::new(&client);
    for key in ["", "a b", "\n", "ä", &"x".repeat(129)] {
        let failed = till.pay(7).idempotency_key(key).await.unwrap_err();
        assert_eq!(failed.code(), Code::INVALID_ARGUMENT);
        assert_eq!(failed.fate(), Fate::NotSent);
    }
    assert_eq!(counter.executed(), 0);
}

#[tokio::test]
async fn a_handler_knows_the_key_of_its_call() {
    for codec in Codec::ALL {
        let (_, server) = till();
        let client = connect(start(server).await, codec).await;
        let till = TillClient::new(&client);
        for key in ["!", "\"\\/~", &"x".repeat(128)] {
            let left = till.left().idempotency_key(key).await.unwrap();
            assert_eq!(left.as_deref(), Some(key));
        }
        assert_eq!(till.left().await, Ok(None));
    }
}

#[tokio::test]
async fn a_handler_with_a_key_goes_on_after_the_deadline_of_its_call() {
    let (counter, server) = till();
    let address = start(server).await;
    let client = connect(address, Codec::Json).await;
    let till = TillClient::new(&client);
    let call = till.pay_slowly(7).idempotency_key("a");
    let late = call.timeout(Duration::from_millis(20)).await;
    assert_eq!(late.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    soon(counter.0.cancelled.notified()).await;
    counter.0.go_on.add_permits(1);
    let repeated = soon(till.pay_slowly(7).idempotency_key("a")).await;
    assert_eq!(repeated, Ok(1));
}

#[tokio::test]
async fn a_large_result_reaches_those_who_wait_and_is_not_repeated_later() {
    for codec in Codec::ALL {
        let (counter, server) = till();
        let address = start(server).await;
        let client = connect(address, codec).await;
        let till = TillClient::new(&client);
        for bytes in [60_000, 60_000] {
            let receipt = till.receipt(bytes).idempotency_key("kept").await;
            assert_eq!(receipt.unwrap().len(), bytes);
        }
        assert_eq!(counter.executed(), 1);
        for bytes in [70_000, 3_000_000] {
            let key = bytes.to_string();
            let receipt = till.receipt(bytes).idempotency_key(&key).await;
            assert_eq!(receipt.unwrap().len(), bytes);
            let repeated = till.receipt(bytes).idempotency_key(&key).await.unwrap_err();
            assert_eq!(repeated.code(), Code::FAILED_PRECONDITION);
            assert_eq!(repeated.fate(), Fate::Executed);
        }
        assert_eq!(counter.executed(), 3);
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_call_whose_arguments_come_in_pieces_has_its_key_too() {
    for codec in Codec::ALL {
        let (_, server) = till();
        let client = connect(start(server).await, codec).await;
        let till = TillClient::new(&client);
        let mut receipt = vec![7; 300_000];
        for _ in 0..2 {
            let filed = till.file(&receipt).idempotency_key("a").await;
            assert_eq!(filed, Ok((300_000, 1)));
        }
        receipt[299_999] = 8;
        let refused = till.file(&receipt).idempotency_key("a").await.unwrap_err();
        assert_eq!(refused.code(), Code::INVALID_ARGUMENT);
    }
}

#[tokio::test]
async fn a_server_bounds_what_it_keeps() {
    let (counter, server) = till();
    let kept = KeptResults::default().max_results(2);
    let address = start(server.kept_results(kept)).await;
    let client = connect(address, Codec::MessagePack).await;
    let till = TillClient::new(&client);
    for (key, number) in [("a", 1), ("b", 2), ("c", 3), ("b", 2), ("a", 4)] {
        assert_eq!(till.pay(7).idempotency_key(key).await, Ok(number), "{key}");
    }
    let running: Vec<_> = ["x", "y"]
        .map(|key| till.pay_slowly(7).idempotency_key(key).start())
        .into();
    let refused = till.pay(7).idempotency_key("z").await.unwrap_err();
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(refused.fate(), Fate::NotExecuted);
    counter.0.go_on.add_permits(2);
    for call in running {
        soon(call).await.unwrap();
    }
    assert_eq!(till.pay(7).idempotency_key("z").await, Ok(7));

    let (_, server) = self::till();
    let kept = KeptResults::default().max_results(0);
    let address = start(server.kept_results(kept)).await;
    let client = connect(address, Codec::MessagePack).await;
    let till = TillClient::new(&client);
    let refused = till.pay(7).idempotency_key("a").await.unwrap_err();
    assert_eq!(refused.code(), Code::RESOURCE_EXHAUSTED);
    assert_eq!(till.pay(7).await, Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_result_is_kept_for_its_time() {
    let (counter, server) = till();
    let server = server.build().unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    let till = TillClient::new(&client);
    assert_eq!(till.pay(7).idempotency_key("a").await, Ok(1));
    tokio::time::advance(Duration::from_secs(299)).await;
    assert_eq!(till.pay(7).idempotency_key("a").await, Ok(1));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(till.pay(7).idempotency_key("a").await, Ok(2));
    assert_eq!(counter.executed(), 2);
}

#[tokio::test]
async fn calls_of_the_server_have_keys_too() {
    let counter = Counter::default();
    let (door, mut entering) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    let client = dial(address, Codec::MessagePack)
        .serve(TillServer::new(counter.clone()))
        .connect()
        .await
        .unwrap();
    LobbyClient::new(&client).enter().await.unwrap();
    let peer = soon(entering.recv()).await.unwrap();
    let till = TillClient::new(&peer);
    for _ in 0..2 {
        assert_eq!(till.pay(7).idempotency_key("a").await, Ok(1));
    }
    assert_eq!(counter.executed(), 1);
}
