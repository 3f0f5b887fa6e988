//! Subscribers whose connections break, whose sessions are lost, whose servers go.

use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};

use futures::StreamExt as _;
use wirecall::{
    CallError, Client, Code, Codec, Drain, Hub, Limits, Server, ServerBuilder, Topic,
    TopicSettings, Update,
};

use super::{
    Desk, FeedError, FeedsClient, FeedsServer, expect, next, no_topics, publish, subscribers,
};
use crate::{
    relay::{Fault, Relay},
    resume::{backoff, process::Process},
    support::{dial, idle, soon, start},
};

/// A session ends with its connection.
fn without_resume() -> Limits {
    Limits::default().replay_bytes(0)
}

fn server(desk: &Desk, limits: Limits) -> ServerBuilder {
    let service = FeedsServer::new(desk.clone());
    Server::builder()
        .hub(&desk.hub)
        .limits(limits)
        .service(service)
}

async fn client(address: SocketAddr, codec: Codec) -> Client {
    let client = dial(address, codec).reconnect(backoff());
    client.connect().await.unwrap()
}

fn hub(history_items: usize) -> Hub {
    let hub = Hub::new();
    let settings = TopicSettings::<u64>::default().history_items(history_items);
    hub.declare_topics("", settings);
    hub
}

/// Cuts the connection, publishes while nobody is there, and lets the client come back.
async fn away(relay: &Relay, topic: &Topic<u64>, count: u64) {
    relay.set(Fault::Refuse);
    relay.cut();
    subscribers(topic, 0).await;
    publish(topic, count);
    relay.heal();
}

#[tokio::test]
async fn a_session_that_goes_on_shows_nothing_of_it() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(0));
        let relay = Relay::start(start(server(&desk, Limits::default())).await).await;
        let client = client(relay.addr(), codec).await;
        let topic = desk.hub.topic("a");
        let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
        for round in 0..10 {
            publish(&topic, 5);
            relay.cut();
            publish(&topic, 5);
            expect(&mut feed, round * 10 + 1..=round * 10 + 10).await;
        }
        assert_eq!(topic.subscribers(), 1);
    }
}

#[tokio::test]
async fn a_lost_session_is_followed_by_another_and_nothing_is_missed() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(100));
        let relay = Relay::start(start(server(&desk, without_resume())).await).await;
        let client = client(relay.addr(), codec).await;
        let topic = desk.hub.topic("a");
        let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
        publish(&topic, 3);
        expect(&mut feed, 1..=3).await;
        for round in 1..=5 {
            away(&relay, &topic, 10).await;
            assert_eq!(next(&mut feed).await, Update::Recovered);
            let first = round * 10 - 6;
            expect(&mut feed, first..first + 10).await;
        }
        publish(&topic, 1);
        expect(&mut feed, [54]).await;
        assert_eq!(topic.subscribers(), 1);
        drop(feed);
        subscribers(&topic, 0).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn what_the_history_has_no_more_is_a_gap_of_so_many() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(4));
        let relay = Relay::start(start(server(&desk, without_resume())).await).await;
        let client = client(relay.addr(), codec).await;
        let topic = desk.hub.topic("a");
        let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
        publish(&topic, 3);
        expect(&mut feed, 1..=3).await;
        away(&relay, &topic, 10).await;
        assert_eq!(next(&mut feed).await, Update::Gap { missed: Some(6) });
        expect(&mut feed, 10..=13).await;
    }
}

#[tokio::test]
async fn without_a_history_it_is_known_whether_something_was_published() {
    let desk = Desk::of(&hub(0));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let client = client(relay.addr(), Codec::Json).await;
    let topic = desk.hub.topic("a");
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    away(&relay, &topic, 0).await;
    assert_eq!(next(&mut feed).await, Update::Recovered);
    away(&relay, &topic, 2).await;
    assert_eq!(next(&mut feed).await, Update::Gap { missed: Some(2) });
    publish(&topic, 1);
    expect(&mut feed, [3]).await;
}

#[tokio::test]
async fn a_server_that_begins_anew_knows_nothing_of_what_was_missed() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(10));
        let process = Process::start(server(&desk, Limits::default())).await;
        let address = process.address;
        let client = client(address, codec).await;
        let mut feed = soon(FeedsClient::new(&client).last("a", 2)).await.unwrap();
        publish(&desk.hub.topic("a"), 3);
        expect(&mut feed, 1..=3).await;
        process.kill();

        let desk = Desk::of(&hub(10));
        let topic = desk.hub.topic("a");
        publish(&topic, 7);
        let process = Process::start_at(address, server(&desk, Limits::default())).await;
        assert_eq!(next(&mut feed).await, Update::Gap { missed: None });
        // It begins as it would for anyone.
        expect(&mut feed, 6..=7).await;
        publish(&topic, 1);
        expect(&mut feed, [8]).await;
        assert_eq!(feed.position(), topic.position().unwrap());
        drop(process);
    }
}

#[tokio::test]
async fn a_handler_that_refuses_now_ends_the_subscription() {
    let desk = Desk::of(&hub(10));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let client = client(relay.addr(), Codec::MessagePack).await;
    let mut feed = soon(FeedsClient::new(&client).follow_some("a"))
        .await
        .unwrap();
    desk.is_closed.store(true, Ordering::SeqCst);
    relay.cut();
    let refused = soon(feed.next()).await.unwrap().unwrap_err();
    assert_eq!(
        refused,
        CallError::Method(FeedError::NoFeed("a".to_owned()))
    );
    assert!(soon(feed.next()).await.is_none());
    idle(&client).await;
}

#[tokio::test]
async fn closing_the_client_ends_it_and_dropping_the_client_does_not() {
    let desk = Desk::of(&hub(10));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let topic = desk.hub.topic("a");
    let client = client(relay.addr(), Codec::MessagePack).await;
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    drop(client);
    away(&relay, &topic, 1).await;
    assert_eq!(next(&mut feed).await, Update::Recovered);
    expect(&mut feed, [1]).await;
    drop(feed);
    subscribers(&topic, 0).await;

    let client = self::client(relay.addr(), Codec::MessagePack).await;
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    client.close().await;
    let ended = soon(feed.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::UNAVAILABLE);
    assert!(soon(feed.next()).await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_connect_again_is_told_of_the_end() {
    let desk = Desk::of(&hub(10));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let client = dial(relay.addr(), Codec::MessagePack).no_reconnect();
    let client = client.connect().await.unwrap();
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    relay.cut();
    let ended = soon(feed.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::UNAVAILABLE);
    let topic: Topic<u64> = desk.hub.topic("a");
    subscribers(&topic, 0).await;
    drop(topic);
    no_topics(&desk.hub).await;
}

/// Both servers have the topics of one hub.
#[tokio::test]
async fn a_subscription_moves_with_its_client_and_holds_no_drain_up() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(100));
        let bind = async |desk: &Desk| {
            let server = server(desk, Limits::default())
                .bind("127.0.0.1:0")
                .await
                .unwrap();
            let (address, handle) = (server.local_addr().unwrap(), server.handle());
            tokio::spawn(server.run());
            (address, handle)
        };
        let (first, leaving) = bind(&desk).await;
        let (second, staying) = bind(&desk).await;
        let client = client(first, codec).await;
        let topic = desk.hub.topic("a");
        let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
        publish(&topic, 3);
        expect(&mut feed, 1..=3).await;
        let drain = Drain::within(Duration::from_secs(600)).spread(Duration::ZERO);
        let draining = {
            let drain = drain.url(format!("ws://{second}"));
            tokio::spawn(async move { leaving.drain(drain).await })
        };
        assert_eq!(next(&mut feed).await, Update::Recovered);
        publish(&topic, 3);
        expect(&mut feed, 4..=6).await;
        let drained = soon(draining).await.unwrap();
        assert_eq!(drained.left, 1, "{drained:?}");
        assert_eq!(staying.sessions(), 1);
        subscribers(&topic, 1).await;
    }
}

/// There is nowhere to go until the server has left.
#[tokio::test]
async fn a_subscription_alone_keeps_no_server_from_leaving() {
    let desk = Desk::of(&hub(100));
    let first = server(&desk, Limits::default());
    let first = first.bind("127.0.0.1:0").await.unwrap();
    let relay = Relay::start(first.local_addr().unwrap()).await;
    let leaving = first.handle();
    tokio::spawn(first.run());
    let client = client(relay.addr(), Codec::MessagePack).await;
    let topic = desk.hub.topic("a");
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    publish(&topic, 3);
    expect(&mut feed, 1..=3).await;

    let drain = Drain::within(Duration::from_secs(2)).spread(Duration::ZERO);
    let drained = soon(leaving.drain(drain)).await;
    assert_eq!((drained.closed, drained.cut), (1, 0), "{drained:?}");
    publish(&topic, 3);
    relay.lead_to(start(server(&desk, Limits::default())).await);
    assert_eq!(next(&mut feed).await, Update::Recovered);
    expect(&mut feed, 4..=6).await;
}

/// Its arguments are kept as they were encoded.
#[tokio::test]
async fn a_subscription_that_cannot_follow_its_client_to_another_codec_says_so() {
    let desk = Desk::of(&hub(100));
    let first = server(&desk, Limits::default());
    let first = first.bind("127.0.0.1:0").await.unwrap();
    let (address, leaving) = (first.local_addr().unwrap(), first.handle());
    tokio::spawn(first.run());
    let second = start(server(&desk, Limits::default()).codecs([Codec::Json])).await;
    let client = Client::builder(format!("ws://{address}")).reconnect(backoff());
    let client = client.connect().await.unwrap();
    assert_eq!(client.peer().codec(), Codec::MessagePack);
    let topic = desk.hub.topic("a");
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    publish(&topic, 3);
    let drain = Drain::within(Duration::from_secs(600)).spread(Duration::ZERO);
    let drain = drain.url(format!("ws://{second}"));
    let draining = tokio::spawn(async move { leaving.drain(drain).await });
    expect(&mut feed, 1..=3).await;
    let ended = soon(feed.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::UNAVAILABLE);
    assert!(soon(feed.next()).await.is_none());
    soon(draining).await.unwrap();
    // Another one begins there.
    let mut feed = soon(FeedsClient::new(&client).last("a", 1)).await.unwrap();
    assert_eq!(client.peer().codec(), Codec::Json);
    expect(&mut feed, [3]).await;
}

#[tokio::test]
async fn it_comes_back_also_where_calls_fail_at_once() {
    let desk = Desk::of(&hub(10));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let client = dial(relay.addr(), Codec::MessagePack).reconnect(backoff());
    let client = client.fail_fast().connect().await.unwrap();
    let topic = desk.hub.topic("a");
    let mut feed = soon(FeedsClient::new(&client).follow("a")).await.unwrap();
    for round in 1..=3 {
        away(&relay, &topic, 1).await;
        assert_eq!(next(&mut feed).await, Update::Recovered);
        expect(&mut feed, [round]).await;
    }
}

#[tokio::test]
async fn arguments_that_are_too_large_to_be_kept_are_not_sent_again() {
    let desk = Desk::of(&hub(10));
    let relay = Relay::start(start(server(&desk, without_resume())).await).await;
    let client = client(relay.addr(), Codec::MessagePack).await;
    let feeds = FeedsClient::new(&client);
    let mut feed = soon(feeds.follow_padded("a", &vec![0; 70_000]))
        .await
        .unwrap();
    let topic = desk.hub.topic("a");
    publish(&topic, 1);
    expect(&mut feed, [1]).await;
    relay.cut();
    let ended = soon(feed.next()).await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::UNAVAILABLE);
}

#[tokio::test]
async fn the_deadline_holds_until_the_subscription_is_accepted() {
    for codec in Codec::ALL {
        let desk = Desk::of(&hub(10));
        let client = client(start(server(&desk, Limits::default())).await, codec).await;
        let feeds = FeedsClient::new(&client);
        let late = feeds.never("a").timeout(Duration::from_millis(50));
        assert_eq!(
            soon(late).await.unwrap_err().code(),
            Code::DEADLINE_EXCEEDED
        );
        let timeout = Duration::from_millis(200);
        let mut feed = soon(feeds.follow("a").timeout(timeout)).await.unwrap();
        tokio::time::sleep(2 * timeout).await;
        publish(&desk.hub.topic("a"), 1);
        expect(&mut feed, [1]).await;
        drop(feed);
        idle(&client).await;
    }
}
