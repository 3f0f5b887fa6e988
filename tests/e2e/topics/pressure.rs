//! Subscribers that take the items more slowly than they are published, and all the others.

use futures::StreamExt as _;
use wirecall::{
    Client, Code, Codec, Hub, Limits, Server, Subscription, Topic, TopicPressure, TopicSettings,
    Update,
};

use super::{Desk, FeedsClient, FeedsServer, desk, expect, next, publish, subscribers};
use crate::{
    relay::{Fault, Relay},
    resume,
    support::{connect, dial, idle, soon, start},
};

const CREDIT: u64 = 4;

fn settings(pressure: TopicPressure) -> TopicSettings<u64> {
    TopicSettings::default().queue_items(8).pressure(pressure)
}

/// Publishes 100 items to readers that take them, and to one that takes none before the end.
async fn paused(
    codec: Codec,
    settings: TopicSettings<u64>,
) -> (Hub, Client, Topic<u64>, Subscription<u64>) {
    let (hub, client) = desk(codec, settings).await;
    let topic = hub.topic("a");
    let feeds = FeedsClient::new(&client);
    let paused = soon(feeds.follow_by_four("a")).await.unwrap();
    let mut others = Vec::new();
    for _ in 0..20 {
        others.push(soon(feeds.follow("a")).await.unwrap());
    }
    for number in 1..=100 {
        publish(&topic, 1);
        for other in &mut others {
            expect(other, [number]).await;
        }
    }
    drop(others);
    (hub, client, topic, paused)
}

/// Checks what comes for the one that was paused, and that it is live then.
async fn comes(pressure: TopicSettings<u64>, expected: impl Fn() -> Vec<Result<u64, u64>>) {
    for codec in Codec::ALL {
        let (hub, client, topic, mut feed) = paused(codec, pressure.clone()).await;
        for expected in expected() {
            match expected {
                Ok(offset) => expect(&mut feed, [offset]).await,
                Err(missed) => {
                    let missed = Some(missed);
                    assert_eq!(next(&mut feed).await, Update::Gap { missed });
                }
            }
        }
        assert_eq!(feed.position(), topic.position().unwrap());
        publish(&topic, 3);
        expect(&mut feed, 101..=103).await;
        drop(feed);
        subscribers(&topic, 0).await;
        idle(&client).await;
        drop(hub);
    }
}

fn items(offsets: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Result<u64, u64>> {
    offsets.map(Ok)
}

#[tokio::test]
async fn the_oldest_are_dropped() {
    comes(settings(TopicPressure::DropOldest), || {
        items(1..=CREDIT)
            .chain([Err(88)])
            .chain(items(93..=100))
            .collect()
    })
    .await;
}

#[tokio::test]
async fn the_newest_are_dropped_and_that_is_told_though_nothing_follows() {
    comes(settings(TopicPressure::DropNewest), || {
        items(1..=CREDIT + 8).chain([Err(88)]).collect()
    })
    .await;
}

/// Whoever stores it with each update, and begins there later, has had all before it.
#[tokio::test]
async fn the_position_is_not_ahead_of_what_was_handed_out() {
    let settings = settings(TopicPressure::DropOldest);
    let (hub, _client, _topic, mut feed) = paused(Codec::MessagePack, settings).await;
    expect(&mut feed, 1..=CREDIT).await;
    assert_eq!(feed.position().offset, CREDIT);
    assert_eq!(next(&mut feed).await, Update::Gap { missed: Some(88) });
    assert_eq!(feed.position().offset, 92);
    expect(&mut feed, [93]).await;
    assert_eq!(feed.position().offset, 93);
    drop(hub);
}

#[tokio::test]
async fn the_latest_of_each_key_are_kept() {
    let settings = settings(TopicPressure::Conflate).conflate_by(|number| number % 3);
    comes(settings, || {
        items(1..=CREDIT)
            .chain([Err(93)])
            .chain(items(98..=100))
            .collect()
    })
    .await;
}

#[tokio::test]
async fn one_that_is_behind_catches_up_from_the_history() {
    let settings = settings(TopicPressure::CatchUp);
    comes(settings.clone().history_items(1000), || {
        items(1..=100).collect()
    })
    .await;
    comes(settings.clone().history_items(10), || {
        items(1..=CREDIT)
            .chain([Err(86)])
            .chain(items(91..=100))
            .collect()
    })
    .await;
    comes(settings, || items(1..=CREDIT).chain([Err(96)]).collect()).await;
}

#[tokio::test]
async fn the_subscription_ends_and_nothing_else_does() {
    for codec in Codec::ALL {
        let settings = settings(TopicPressure::Disconnect);
        let (_hub, client, topic, mut feed) = paused(codec, settings).await;
        expect(&mut feed, 1..=CREDIT).await;
        let ended = soon(feed.next()).await.unwrap().unwrap_err();
        assert_eq!(ended.code(), Code::RESOURCE_EXHAUSTED);
        assert!(soon(feed.next()).await.is_none());
        assert_eq!(soon(FeedsClient::new(&client).ping()).await, Ok(7));
        subscribers(&topic, 0).await;
        idle(&client).await;
    }
}

/// It reads the history when the rest of that goes.
#[tokio::test]
async fn one_that_reads_the_history_too_slowly_is_told_of_the_gap_or_ends() {
    for (pressure, ends) in [
        (TopicPressure::DropOldest, false),
        (TopicPressure::Disconnect, true),
    ] {
        let settings = settings(pressure).history_items(20);
        let (hub, client) = desk(Codec::MessagePack, settings).await;
        let topic = hub.topic("a");
        publish(&topic, 600);
        // As much as its credit lets through.
        let mut feed = soon(FeedsClient::new(&client).last("a", 20)).await.unwrap();
        expect(&mut feed, 581..=600).await;
        publish(&topic, 264);
        let mut slow = soon(FeedsClient::new(&client).last("a", 20)).await.unwrap();
        publish(&topic, 600);
        if ends {
            let mut last = None;
            while let Some(update) = soon(slow.next()).await {
                last = Some(update);
            }
            let ended = last.unwrap().unwrap_err();
            assert_eq!(ended.code(), Code::RESOURCE_EXHAUSTED);
            continue;
        }
        let mut had = slow.position().offset;
        let mut missed_in_all = 0;
        while had < 1464 {
            match next(&mut slow).await {
                Update::Item { offset, value } => {
                    assert_eq!((offset, value), (had + 1, had + 1));
                    had = offset;
                }
                Update::Gap { missed } => {
                    had += missed.unwrap();
                    missed_in_all += missed.unwrap();
                }
                Update::Recovered => panic!("it was never away"),
            }
        }
        assert!(missed_in_all > 0);
    }
}

/// Nobody else notices, nor does the publisher.
#[tokio::test]
async fn one_connection_that_takes_nothing_changes_nothing_for_a_thousand() {
    let hub = Hub::new();
    let server = Server::builder()
        .hub(&hub)
        .service(FeedsServer::new(Desk::of(&hub)));
    let address = start(server).await;
    let relay = Relay::start(address).await;
    let dead = connect(relay.addr(), Codec::MessagePack).await;
    let _stuck = soon(FeedsClient::new(&dead).follow("a")).await.unwrap();
    relay.set(Fault::HalfOpen);
    let topic: Topic<u64> = hub.topic("a");
    let (mut clients, mut feeds) = (Vec::new(), Vec::new());
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let stub = FeedsClient::new(&client);
        for _ in 0..500 {
            feeds.push(soon(stub.follow("a")).await.unwrap());
        }
        clients.push(client);
    }
    // More than the credit and the queue of the one that is stuck.
    for number in 1..=600 {
        let published = topic.publish(&number).unwrap();
        let others = published.sent + published.waiting + published.dropped - 1;
        assert_eq!((others, published.ended), (1000, 0));
        if number % 50 == 0 {
            for feed in &mut feeds {
                expect(feed, number - 49..=number).await;
            }
        }
    }
    let last = topic.publish(&601).unwrap();
    assert_eq!((last.sent, last.dropped), (1000, 1));
}

/// A session that waits for its client is one that takes nothing.
#[tokio::test]
async fn a_suspended_session_is_under_pressure_like_any_other() {
    let hub = Hub::new();
    hub.declare_topics("", settings(TopicPressure::DropOldest));
    let server = Server::builder()
        .hub(&hub)
        .service(FeedsServer::new(Desk::of(&hub)));
    let relay = Relay::start(start(server).await).await;
    let client = dial(relay.addr(), Codec::MessagePack).reconnect(resume::backoff());
    let client = client.connect().await.unwrap();
    let mut feed = soon(FeedsClient::new(&client).follow_by_four("a"))
        .await
        .unwrap();
    relay.set(Fault::Refuse);
    relay.cut();
    soon(async {
        while !client.peer().is_suspended() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let topic = hub.topic("a");
    publish(&topic, 100);
    relay.heal();
    expect(&mut feed, 1..=CREDIT).await;
    assert_eq!(next(&mut feed).await, Update::Gap { missed: Some(88) });
    expect(&mut feed, 93..=100).await;
}

/// However many subscriptions it has, and whatever their topics let wait for each.
#[tokio::test]
async fn what_waits_for_all_subscriptions_of_a_session_is_bounded() {
    const LIMIT: usize = 4 << 10;
    for pressure in [TopicPressure::DropOldest, TopicPressure::DropNewest] {
        let hub = Hub::new();
        hub.declare_topics("", settings(pressure).queue_items(1000));
        let server = Server::builder()
            .hub(&hub)
            .limits(Limits::default().topic_queue_bytes(LIMIT))
            .service(FeedsServer::new(Desk::of(&hub)));
        let client = connect(start(server).await, Codec::MessagePack).await;
        let feeds = FeedsClient::new(&client);
        let topic = hub.topic("a");
        let mut paused = Vec::new();
        for _ in 0..20 {
            paused.push(soon(feeds.follow_by_four("a")).await.unwrap());
        }
        let session = hub.all().peers().remove(0);
        let mut most = 0;
        for _ in 0..100 {
            publish(&topic, 1);
            // What is in the outbox goes at once.
            assert_eq!(soon(feeds.ping()).await, Ok(7));
            most = most.max(session.waiting_bytes());
        }
        assert!(0 < most && most <= LIMIT, "{pressure:?}: {most}");
        for feed in &mut paused {
            expect(feed, 1..=CREDIT).await;
            let mut told = CREDIT;
            while told < 100 {
                told += match next(feed).await {
                    Update::Gap { missed } => missed.unwrap(),
                    _ => 1,
                };
            }
            assert_eq!((told, feed.position().offset), (100, 100));
        }
        assert_eq!(soon(feeds.ping()).await, Ok(7));
        assert_eq!(session.waiting_bytes(), 0);
    }
}
