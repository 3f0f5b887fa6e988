//! How far a producer runs ahead of its reader.

use futures::StreamExt as _;
use wirecall::{Codec, StreamCredit};

use super::{FlowsClient, flow};
use crate::support::{idle, soon};

#[tokio::test]
async fn nobody_reads_so_nothing_is_produced_and_other_calls_go_on() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let credit = u64::from(StreamCredit::default().items);
        let mut numbers = flows.endless().await.unwrap();
        soon(signals.polled(credit)).await;
        for _ in 0..100 {
            assert_eq!(soon(flows.ping()).await, Ok(7));
        }
        assert_eq!(signals.polls(), credit);

        // Each one that is taken makes room for one, though not at once; and a reader that has taken
        // all that came may have twice as much on its way.
        for number in 0..credit {
            assert_eq!(soon(numbers.next()).await, Some(Ok(number)));
        }
        soon(signals.polled(3 * credit)).await;
        for _ in 0..100 {
            assert_eq!(soon(flows.ping()).await, Ok(7));
        }
        assert_eq!(signals.polls(), 3 * credit);
        drop(numbers);
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn the_credit_of_an_eager_reader_grows_and_has_an_end() {
    let (signals, client) = flow(Codec::MessagePack).await;
    let flows = FlowsClient::new(&client);
    let mut numbers = flows.endless().await.unwrap();
    for number in 0..100_000 {
        assert_eq!(soon(numbers.next()).await, Some(Ok(number)));
    }
    for _ in 0..100 {
        assert_eq!(soon(flows.ping()).await, Ok(7));
    }
    let ahead = signals.polls() - 100_000;
    assert!(ahead > u64::from(StreamCredit::default().items), "{ahead}");
    assert!(ahead <= 4096, "{ahead}");
    drop(numbers);
    idle(&client).await;
}

#[tokio::test]
async fn a_handler_does_not_read_so_its_caller_produces_nothing_and_other_calls_go_on() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let credit = u64::from(StreamCredit::default().items);
        let call = tokio::spawn(flows.hold(signals.numbers()));
        soon(signals.polled(credit)).await;
        for _ in 0..100 {
            assert_eq!(soon(flows.ping()).await, Ok(7));
        }
        assert_eq!(signals.polls(), credit);
        signals.go_on.notify_one();
        soon(call).await.unwrap().unwrap();
        soon(signals.dropped.notified()).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_sender_waits_for_credit() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let (mut sender, held) = flows.hold(wirecall::BySender).open().await.unwrap();
        for number in 0..StreamCredit::default().items {
            soon(sender.send(u64::from(number))).await.unwrap();
        }
        {
            let mut beyond = std::pin::pin!(sender.send(0));
            assert!(futures::poll!(&mut beyond).is_pending());
            soon(flows.ping()).await.unwrap();
            assert!(futures::poll!(&mut beyond).is_pending());
        }
        signals.go_on.notify_one();
        soon(held).await.unwrap();
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_method_has_the_credit_that_it_asks_for() {
    for codec in Codec::ALL {
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let numbers = flows.endless_by_three().await.unwrap();
        soon(signals.polled(3)).await;
        flows.ping().await.unwrap();
        assert_eq!(signals.polls(), 3);
        let read: Vec<_> = soon(numbers.take(1000).collect()).await;
        assert!(read.into_iter().map(Result::unwrap).eq(0..1000));
        soon(signals.dropped.notified()).await;
        idle(&client).await;

        // The third one overshoots the 1,000 bytes, in either encoding.
        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let bytes_each = if codec == Codec::Json { 300 } else { 400 };
        let pieces = flows.endless_by_bytes(bytes_each).await.unwrap();
        soon(signals.polled(3)).await;
        flows.ping().await.unwrap();
        assert_eq!(signals.polls(), 3);
        let read: Vec<_> = soon(pieces.take(100).collect()).await;
        assert!(read.iter().all(Result::is_ok));
        soon(signals.dropped.notified()).await;
        idle(&client).await;

        let (signals, client) = flow(codec).await;
        let flows = FlowsClient::new(&client);
        let call = tokio::spawn(flows.hold_forty(signals.numbers()));
        soon(signals.polled(40)).await;
        flows.ping().await.unwrap();
        assert_eq!(signals.polls(), 40);
        signals.go_on.notify_one();
        soon(call).await.unwrap().unwrap();
        idle(&client).await;
    }
}
