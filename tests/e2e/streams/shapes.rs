//! What each shape is for.

use futures::{SinkExt as _, StreamExt as _, TryStreamExt as _, stream};
use wirecall::{BySender, CallError, Code, Codec, Peer, Server};

use super::{FlowError, FlowsClient, FlowsServer, Line, River, flow};
use crate::support::{Door, LobbyClient, LobbyServer, dial, idle, soon, start};

/// Far beyond the credit.
const MANY: u64 = 10_000;
/// The sum of those below.
const TO_MANY: u64 = MANY * (MANY - 1) / 2;

async fn items_arrive_once_and_in_order(callee: &Peer) {
    let flows = FlowsClient::new(callee);
    let numbers = flows.count(5, MANY).await.unwrap();
    let numbers: Vec<u64> = soon(numbers.try_collect()).await.unwrap();
    assert!(numbers.into_iter().eq(5..MANY));

    let sum = soon(flows.sum(stream::iter(0..MANY))).await.unwrap();
    assert_eq!(sum, TO_MANY);

    let doubled = flows.doubled(stream::iter(0..MANY)).await.unwrap();
    let doubled: Vec<u64> = soon(doubled.try_collect()).await.unwrap();
    assert!(doubled.into_iter().eq((0..MANY).map(|n| n * 2)));
}

#[tokio::test]
async fn a_client_calls_each_shape_of_its_server() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        items_arrive_once_and_in_order(client.peer()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_server_calls_each_shape_of_its_client() {
    let (door, mut entering) = Door::new();
    let address = start(Server::builder().service(LobbyServer::new(door))).await;
    for codec in Codec::ALL {
        let serving = dial(address, codec).serve(FlowsServer::new(River::default()));
        let client = serving.connect().await.unwrap();
        LobbyClient::new(&client).enter().await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        items_arrive_once_and_in_order(&peer).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_handler_streams_from_its_caller() {
    let address = start(Server::builder().service(FlowsServer::new(River::default()))).await;
    for codec in Codec::ALL {
        let serving = dial(address, codec).serve(FlowsServer::new(River::default()));
        let client = serving.connect().await.unwrap();
        let sum = FlowsClient::new(&client).count_for_me(MANY);
        assert_eq!(soon(sum).await.unwrap(), TO_MANY);
        idle(&client).await;
    }
}

#[tokio::test]
async fn streams_of_one_connection_do_not_mix() {
    let (_, client) = flow(Codec::MessagePack).await;
    let flows = FlowsClient::new(&client);
    let streams = (0..50).map(|n| flows.count(n * 1000, n * 1000 + 500).start());
    let collected = streams.map(async |numbers| {
        let numbers: Vec<u64> = numbers.await.unwrap().try_collect().await.unwrap();
        numbers
    });
    let collected = soon(futures::future::join_all(collected)).await;
    for (n, numbers) in (0..).zip(collected) {
        assert!(numbers.into_iter().eq(n * 1000..n * 1000 + 500));
    }
    idle(&client).await;
}

#[tokio::test]
async fn empty_streams_end() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mut nothing = flows.count(0, 0).await.unwrap();
        assert!(soon(nothing.next()).await.is_none());
        assert!(soon(nothing.next()).await.is_none());
        assert_eq!(soon(flows.sum(stream::empty())).await, Ok(0));
        let mut nothing = flows.doubled(stream::empty()).await.unwrap();
        assert!(soon(nothing.next()).await.is_none());
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_stream_call_is_ready_when_it_is_accepted_though_no_item_comes() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let mut silent = soon(flows.silent()).await.unwrap();
        assert!(futures::poll!(silent.next()).is_pending());
        drop(silent);
        let duplex = soon(flows.doubled(stream::pending())).await.unwrap();
        drop(duplex);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_stream_is_refused_with_the_error_of_its_method() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let refused = soon(flows.room("nowhere")).await.unwrap_err();
        assert_eq!(refused.code(), Code::NOT_FOUND);
        let expected = CallError::Method(FlowError::NoRoom("nowhere".to_owned()));
        assert_eq!(refused, expected);

        let lines = soon(flows.room("a \"b\" c").start()).await.unwrap();
        let lines: Vec<Line> = soon(lines.try_collect()).await.unwrap();
        let numbered: Vec<_> = lines
            .iter()
            .map(|line| (line.number, &*line.text))
            .collect();
        assert_eq!(numbered, [(0, "a"), (1, "\"b\""), (2, "c")]);
        idle(&client).await;
    }
}

#[tokio::test]
async fn an_error_in_a_stream_is_that_of_its_method_and_the_last_that_comes() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        for after in [0, 5, 100] {
            let items = soon(flows.dry_up(after)).await.unwrap();
            let mut items: Vec<_> = soon(items.collect()).await;
            let last = items.pop();
            assert_eq!(last, Some(Err(CallError::Method(FlowError::Dry(after)))));
            assert!(items.into_iter().map(Result::unwrap).eq(0..after));
        }
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_caller_ends_its_stream_and_the_callee_answers_after() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let (mut sender, sums) = flows.sums(BySender, 3).open().await.unwrap();
        let mut sums = std::pin::pin!(sums);
        for number in 1..=100 {
            soon(sender.send(number)).await.unwrap();
        }
        flows.ping().await.unwrap();
        assert!(futures::poll!(&mut sums).is_pending());
        sender.finish();
        let sums: Vec<u64> = soon(soon(sums).await.unwrap().try_collect()).await.unwrap();
        assert_eq!(sums, [5050; 3]);
        idle(&client).await;
    }
}

#[tokio::test]
async fn items_are_sent_by_hand_and_dropping_the_sender_ends_them() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let (mut sender, sum) = flows.sum(BySender).open().await.unwrap();
        for number in 0..MANY {
            soon(sender.send(number)).await.unwrap();
        }
        drop(sender);
        assert_eq!(soon(sum).await, Ok(TO_MANY));

        let (mut sender, doubled) = flows.doubled(BySender).open().await.unwrap();
        let mut doubled = soon(doubled).await.unwrap();
        for number in 0..100 {
            soon(sender.send(number)).await.unwrap();
            assert_eq!(soon(doubled.next()).await, Some(Ok(number * 2)));
        }
        sender.finish();
        assert_eq!(soon(doubled.next()).await, None);
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_sender_is_a_sink() {
    for codec in Codec::ALL {
        let (_, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let (sender, sum) = flows.sum(BySender).open().await.unwrap();
        let sent = stream::iter(0..MANY).map(Ok).forward(sender);
        soon(sent).await.unwrap();
        assert_eq!(soon(sum).await, Ok(TO_MANY));

        let (mut sender, sum) = flows.sum(BySender).open().await.unwrap();
        let mut numbers = stream::iter(0..100).map(Ok);
        soon(sender.send_all(&mut numbers)).await.unwrap();
        soon(sender.send(50)).await.unwrap();
        soon(sender.close()).await.unwrap();
        assert_eq!(soon(sum).await, Ok(5000));
        drop(sender);
        idle(&client).await;
    }
}
