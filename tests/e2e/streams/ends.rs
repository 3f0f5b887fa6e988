//! How streams end other than by their last item.

use std::{sync::atomic::Ordering, time::Duration};

use futures::{FutureExt as _, Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use tokio::sync::mpsc;
use wirecall::{BySender, Client, Code, Codec, Fate, Server, Streaming};

use super::{FlowError, FlowsClient, FlowsServer, River, every_20_s, flow};
use crate::support::{breakable_proxy, connect, connect_once, idle, soon, start};

#[tokio::test]
async fn dropping_a_response_stream_drops_its_producer() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mut numbers = flows.endless().await.unwrap();
        assert_eq!(soon(numbers.next()).await, Some(Ok(0)));
        drop(numbers);
        soon(signals.dropped.notified()).await;

        let silent = flows.silent().await.unwrap();
        drop(silent);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn dropping_a_stream_call_before_it_is_accepted_drops_its_handler() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let call = FlowsClient::new(&client).unaccepted().start();
        soon(signals.begun.notified()).await;
        drop(call);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_handler_that_wants_no_more_items_ends_its_callers_producer() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let call = tokio::spawn(flows.sum_of_first(signals.numbers(), 5));
        // The call goes on meanwhile.
        soon(signals.dropped.notified()).await;
        assert!(!call.is_finished());
        signals.go_on.notify_one();
        assert_eq!(soon(call).await.unwrap(), Ok(10));
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_sender_learns_that_no_more_items_are_wanted() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let (mut sender, call) = flows.sum_of_first(BySender, 1).open().await.unwrap();
        assert!(sender.closed().now_or_never().is_none());
        sender.send(3).await.unwrap();
        soon(sender.closed()).await;
        let refused = soon(sender.send(4)).await.unwrap_err();
        assert_eq!(refused.code(), Code::CANCELLED);
        signals.go_on.notify_one();
        assert_eq!(soon(call).await, Ok(3));
        idle(&client).await;
    }
}

#[tokio::test]
async fn dropping_an_upload_drops_its_source() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mut call = flows.hold(signals.numbers());
        assert!(futures::poll!(&mut call).is_pending());
        // Once for the source itself, once for the handler.
        soon(signals.begun.notified()).await;
        soon(signals.begun.notified()).await;
        drop(call);
        soon(signals.dropped.notified()).await;
        idle(&client).await;

        // The same for a source that waits.
        let (items, receiver) = futures::channel::mpsc::unbounded::<u64>();
        let mut call = flows.hold(receiver);
        assert!(futures::poll!(&mut call).is_pending());
        drop(call);
        soon(async {
            while !items.is_closed() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn dropping_a_duplex_drops_its_source_and_its_handler() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mut doubled = flows.doubled(signals.numbers()).await.unwrap();
        assert_eq!(soon(doubled.next()).await, Some(Ok(0)));
        drop(doubled);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

/// A number that cannot be encoded if it is 13.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Superstitious(u64);

impl Serialize for Superstitious {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            13 => Err(S::Error::custom("unlucky")),
            number => serializer.serialize_u64(number),
        }
    }
}

fn superstitious() -> impl Stream<Item = Superstitious> + Send + 'static {
    stream::iter((0..20).map(Superstitious))
}

#[wirecall::service]
trait Failing {
    fn not_encoded(&self) -> impl Stream<Item = Superstitious>;
    fn panics(&self) -> impl Stream<Item = u64>;
    async fn count(&self, numbers: Streaming<Superstitious>) -> u64;
}

struct Fails;

impl Failing for Fails {
    fn not_encoded(&self) -> impl Stream<Item = Superstitious> {
        superstitious()
    }

    fn panics(&self) -> impl Stream<Item = u64> {
        stream::iter(0..200).inspect(|n| assert!(*n != 100, "on purpose"))
    }

    async fn count(&self, numbers: Streaming<Superstitious>) -> u64 {
        numbers.count().await as u64
    }
}

#[tokio::test]
async fn a_producer_that_fails_ends_its_stream_with_an_error() {
    let address = start(Server::builder().service(FailingServer::new(Fails))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let failing = FailingClient::new(&client);
        let items: Vec<_> = soon(failing.not_encoded().await.unwrap().collect()).await;
        let (last, items) = items.split_last().unwrap();
        assert_eq!(last.as_ref().unwrap_err().code(), Code::INTERNAL);
        assert_eq!(items.len(), 13);

        let items: Vec<_> = soon(failing.panics().await.unwrap().collect()).await;
        let (last, items) = items.split_last().unwrap();
        assert_eq!(last.as_ref().unwrap_err().code(), Code::INTERNAL);
        assert_eq!(items.len(), 100);
        idle(&client).await;
    }
}

#[tokio::test]
async fn an_item_that_a_sender_cannot_encode_is_not_sent_and_others_are() {
    let address = start(Server::builder().service(FailingServer::new(Fails))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let failing = FailingClient::new(&client);
        let (mut sender, count) = failing.count(BySender).open().await.unwrap();
        sender.send(Superstitious(1)).await.unwrap();
        let failed = sender.send(Superstitious(13)).await.unwrap_err();
        assert_eq!(failed.code(), Code::INTERNAL);
        sender.send(Superstitious(2)).await.unwrap();
        sender.finish();
        assert_eq!(soon(count).await, Ok(2));
        idle(&client).await;
    }
}

/// The same service as `Flows`, as one that has other types would call it.
#[wirecall::service(name = "Flows")]
trait Mistaken {
    fn count(&self, from: u64, to: u64) -> impl Stream<Item = String>;
    async fn sum(&self, numbers: Streaming<String>) -> Result<u64, FlowError>;
    fn doubled(
        &self,
        numbers: Streaming<bool>,
    ) -> impl Stream<Item = Result<u64, wirecall::Status>>;
}

#[tokio::test]
async fn an_item_that_does_not_decode_ends_its_own_stream_alone() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mistaken = MistakenClient::new(&client);
        let mut other = flows.endless().await.unwrap();

        let mut texts = mistaken.count(0, 1_000_000).await.unwrap();
        let failed = soon(texts.next()).await.unwrap().unwrap_err();
        assert_eq!(failed.code(), Code::INTERNAL);
        assert!(failed.to_string().contains("item"), "{failed}");
        assert!(soon(texts.next()).await.is_none());

        // The handler has the error and tells in its own words what it makes of it.
        let call = mistaken.sum(stream::repeat("text".to_owned()));
        let failed = soon(call).await.unwrap_err();
        assert_eq!(failed.method(), Some(FlowError::Dry(0)));

        let mut doubled = mistaken.doubled(stream::repeat(true)).await.unwrap();
        let failed = soon(doubled.next()).await.unwrap().unwrap_err();
        assert_eq!(failed.code(), Code::INVALID_ARGUMENT);
        assert!(soon(doubled.next()).await.is_none());

        for number in 0..100 {
            assert_eq!(soon(other.next()).await, Some(Ok(number)));
        }
        drop(other);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

/// `Flows`, as those would call it who take its methods for others than they are.
#[wirecall::service(name = "Flows")]
trait AsUnary {
    async fn count(&self, from: u64, to: u64) -> u64;
    async fn sum(&self) -> u64;
    async fn doubled(&self) -> u64;
}

#[wirecall::service(name = "Flows")]
trait AsDown {
    fn ping(&self) -> impl Stream<Item = u64>;
}

#[wirecall::service(name = "Flows")]
trait AsUp {
    async fn ping(&self, numbers: Streaming<u64>) -> String;
}

#[wirecall::service(name = "Flows")]
trait AsBoth {
    fn ping(&self, numbers: Streaming<u64>) -> impl Stream<Item = u64>;
}

#[tokio::test]
async fn a_stub_of_another_shape_than_its_method_gets_an_error() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let unary = AsUnaryClient::new(&client);
        for call in [unary.sum(), unary.doubled()] {
            let failed = soon(call).await.unwrap_err();
            assert_eq!(failed.code(), Code::UNIMPLEMENTED);
        }
        let failed = soon(unary.count(0, 1_000_000)).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNIMPLEMENTED);

        let failed = soon(AsDownClient::new(&client).ping()).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNIMPLEMENTED);
        let call = AsUpClient::new(&client).ping(stream::repeat(1));
        assert_eq!(soon(call).await.unwrap_err().code(), Code::UNIMPLEMENTED);
        let call = AsBothClient::new(&client).ping(stream::repeat(1));
        assert_eq!(soon(call).await.unwrap_err().code(), Code::UNIMPLEMENTED);
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_stream_whose_connection_breaks_ends_with_an_error_at_both_ends() {
    for codec in Codec::ALL {
        let river = River::default();
        let (telling, mut taken) = mpsc::unbounded_channel();
        *river.0.taken.lock().unwrap() = Some(telling);
        let server = start(Server::builder().service(FlowsServer::new(river.clone()))).await;
        let (address, proxy) = breakable_proxy(server).await;
        let client = connect_once(address, codec).await;
        let flows = FlowsClient::new(&client);

        let mut silent = flows.silent().await.unwrap();
        let mut endless = flows.endless().await.unwrap();
        let mut doubled = flows.doubled(stream::pending()).await.unwrap();
        let upload = tokio::spawn(flows.sum(stream::pending()));
        let (mut sender, answer) = flows.take_away(BySender).open().await.unwrap();
        sender.send(5).await.unwrap();
        assert_eq!(soon(taken.recv()).await, Some(Some(Ok(5))));
        assert_eq!(soon(endless.next()).await, Some(Ok(0)));
        proxy.abort();

        let lost = (Code::UNAVAILABLE, Fate::Unknown);
        let failed = soon(silent.next()).await.unwrap().unwrap_err();
        assert_eq!((failed.code(), failed.fate()), lost);
        assert_eq!(soon(silent.next()).await, None);
        let failed = soon(doubled.next()).await.unwrap().unwrap_err();
        assert_eq!((failed.code(), failed.fate()), lost);
        // What had come before is not lost.
        let items: Vec<_> = soon(endless.collect()).await;
        let (last, items) = items.split_last().unwrap();
        assert_eq!(last.as_ref().unwrap_err().code(), Code::UNAVAILABLE);
        assert!(items.iter().all(Result::is_ok));
        assert_eq!(
            soon(upload).await.unwrap().unwrap_err().code(),
            Code::UNAVAILABLE
        );
        let failed = soon(answer).await.unwrap_err();
        assert_eq!((failed.code(), failed.fate()), lost);
        soon(sender.closed()).await;
        assert_eq!(
            soon(sender.send(6)).await.unwrap_err().code(),
            Code::CANCELLED
        );

        // The server: the producers of `silent` and `endless` are dropped, and the stream that
        // outlived its handler has not ended well.
        soon(async {
            while river.0.drops.load(Ordering::SeqCst) < 2 {
                river.0.dropped.notified().await;
            }
        })
        .await;
        assert_eq!(soon(taken.recv()).await, Some(Some(Err(Code::CANCELLED))));
        assert_eq!(soon(taken.recv()).await, Some(None));
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_its_stream_with_an_error_wherever_it_was_moved() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let (telling, mut taken) = mpsc::unbounded_channel();
        *signals.taken.lock().unwrap() = Some(telling);
        let flows = FlowsClient::new(&client);
        let (mut sender, answer) = flows.take_away(BySender).open().await.unwrap();
        sender.send(5).await.unwrap();
        assert_eq!(soon(taken.recv()).await, Some(Some(Ok(5))));
        drop(answer);
        assert_eq!(soon(taken.recv()).await, Some(Some(Err(Code::CANCELLED))));
        assert_eq!(soon(taken.recv()).await, Some(None));
        soon(sender.closed()).await;
        idle(&client).await;
    }
}

/// Both ends within the process, with the paused clock of the test.
async fn in_memory(river: &River) -> Client {
    let server = Server::builder()
        .service(FlowsServer::new(river.clone()))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    Client::connect(endpoint).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_outlives_the_deadline_of_its_call() {
    let client = in_memory(&River::default()).await;
    let flows = FlowsClient::new(&client);
    let begun = tokio::time::Instant::now();
    let items: Vec<_> = flows.slow(5).await.unwrap().collect().await;
    assert!(items.into_iter().map(Result::unwrap).eq(0..5));
    assert_eq!(begun.elapsed().as_secs(), 100);

    let call = flows.sum(every_20_s(5)).timeout(Duration::from_secs(1));
    assert_eq!(call.await, Ok(10));
    assert_eq!(begun.elapsed().as_secs(), 200);

    let doubled = flows.doubled(every_20_s(5)).await.unwrap();
    let doubled: Vec<_> = doubled.collect().await;
    assert!(doubled.into_iter().map(Result::unwrap).eq([0, 2, 4, 6, 8]));
    assert_eq!(begun.elapsed().as_secs(), 300);
    idle(&client).await;
}

#[tokio::test(start_paused = true)]
async fn the_opening_of_a_stream_does_not_outlive_its_deadline() {
    let river = River::default();
    let client = in_memory(&river).await;
    let flows = FlowsClient::new(&client);
    let begun = tokio::time::Instant::now();
    let failed = flows.unaccepted().await.unwrap_err();
    assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED);
    assert_eq!(begun.elapsed().as_secs(), 30);
    soon(river.0.dropped.notified()).await;

    let call = flows.unaccepted().timeout(Duration::from_secs(1));
    assert_eq!(call.await.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    soon(river.0.dropped.notified()).await;

    // It reads its caller's stream before it accepts.
    let call = flows.sums(stream::pending(), 1);
    assert_eq!(call.await.unwrap_err().code(), Code::DEADLINE_EXCEEDED);
    idle(&client).await;
}

/// `Flows`, as those would call it who take its streams for others than they are.
#[wirecall::service(name = "Flows")]
trait AsOtherDown {
    fn sum(&self) -> impl Stream<Item = u64>;
    fn doubled(&self) -> impl Stream<Item = u64>;
}

#[wirecall::service(name = "Flows")]
trait AsOtherUp {
    async fn count(&self, from: u64, to: u64, numbers: Streaming<u64>) -> u64;
    async fn doubled(&self, numbers: Streaming<u64>) -> u64;
}

#[wirecall::service(name = "Flows")]
trait AsOtherBoth {
    fn sum(&self, numbers: Streaming<u64>) -> impl Stream<Item = u64>;
}

#[tokio::test]
async fn a_stub_of_other_streams_than_its_method_gets_an_error() {
    let (_, client) = flow(Codec::MessagePack).await;
    let down = AsOtherDownClient::new(&client);
    for call in [down.sum(), down.doubled()] {
        let failed = soon(async { call.await?.next().await.unwrap() }).await;
        assert_eq!(failed.unwrap_err().code(), Code::UNIMPLEMENTED);
    }
    let up = AsOtherUpClient::new(&client);
    let failed = soon(up.count(0, 5_000, stream::repeat(1))).await;
    assert_eq!(failed.unwrap_err().code(), Code::UNIMPLEMENTED);
    let failed = soon(up.doubled(stream::iter(0..1_000))).await;
    assert_eq!(failed.unwrap_err().code(), Code::UNIMPLEMENTED);
    let both = AsOtherBothClient::new(&client).sum(stream::iter(0..10));
    let failed = soon(async { both.await?.next().await.unwrap() }).await;
    assert_eq!(failed.unwrap_err().code(), Code::UNIMPLEMENTED);
    idle(&client).await;
}

#[tokio::test]
async fn a_source_with_an_item_that_cannot_be_encoded_fails_its_call() {
    let address = start(Server::builder().service(FailingServer::new(Fails))).await;
    let client = connect(address, Codec::MessagePack).await;
    let call = FailingClient::new(&client).count(superstitious());
    assert!(soon(call).await.is_err());
    idle(&client).await;
}

#[tokio::test]
async fn a_source_that_panics_fails_its_call() {
    let address = start(Server::builder().service(FailingServer::new(Fails))).await;
    let client = connect(address, Codec::MessagePack).await;
    let source = superstitious().inspect(|n| assert!(n.0 != 5, "on purpose"));
    assert!(
        soon(FailingClient::new(&client).count(source))
            .await
            .is_err()
    );
    idle(&client).await;
}
