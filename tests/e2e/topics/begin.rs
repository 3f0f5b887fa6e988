//! Where subscriptions begin, what they refuse, and how they end.

use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use wirecall::{
    CallError, Code, Codec, Hub, Topic, TopicLimits, TopicPosition, TopicSettings, Update,
};

use super::{FeedError, FeedsClient, desk, expect, next, no_topics, publish, subscribers};
use crate::support::{idle, soon};

#[tokio::test]
async fn what_is_published_comes_in_order_and_with_its_number() {
    for codec in Codec::ALL {
        let (hub, client) = desk(codec, TopicSettings::default().queue_items(2000)).await;
        let topic: Topic<u64> = hub.topic("a");
        assert_eq!(topic.publish(&1).unwrap().offset, 1);
        let mut feed = FeedsClient::new(&client).follow("a").await.unwrap();
        assert_eq!(feed.position(), topic.position().unwrap());
        for number in 2..1000 {
            let published = topic.publish(&(number * 10)).unwrap();
            let got = (published.offset, published.sent + published.waiting);
            assert_eq!(got, (number, 1));
        }
        for offset in 2..1000 {
            let value = offset * 10;
            assert_eq!(next(&mut feed).await, Update::Item { offset, value });
        }
        assert_eq!(feed.position(), topic.position().unwrap());
        // It was far behind, and is live again.
        assert_eq!(topic.publish(&5).unwrap().sent, 1);
        drop(feed);
        subscribers(&topic, 0).await;
        idle(&client).await;
        drop(topic);
        no_topics(&hub).await;
    }
}

#[tokio::test]
async fn a_handler_may_refuse_and_send_something_along() {
    for codec in Codec::ALL {
        let (hub, client) = desk(codec, TopicSettings::default()).await;
        let feeds = FeedsClient::new(&client);
        let refused = soon(feeds.follow_some("1")).await.unwrap_err();
        assert_eq!(
            refused,
            CallError::Method(FeedError::NoFeed("1".to_owned()))
        );
        let feed = soon(feeds.follow_some("a")).await.unwrap();
        assert_eq!(feed.metadata().get("feed"), Some("a"));
        let mut values = feed.values();
        hub.topic("a").publish(&4_u64).unwrap();
        assert_eq!(soon(values.next()).await, Some(Ok(4)));
        drop(values);
        no_topics(&hub).await;
        idle(&client).await;
    }
}

#[tokio::test]
async fn a_topic_has_items_of_one_type() {
    let (hub, client) = desk(Codec::MessagePack, TopicSettings::default()).await;
    let numbers: Topic<u64> = hub.topic("a");
    let wrong = hub.topic("a").publish(&"text".to_owned()).unwrap_err();
    assert_eq!(wrong.code(), Code::FAILED_PRECONDITION);
    let refused = soon(FeedsClient::new(&client).texts("a"))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FAILED_PRECONDITION);
    drop(numbers);
    // What was declared holds for those that are not there, too.
    let wrong = hub.topic("b").publish(&"text".to_owned()).unwrap_err();
    assert_eq!(wrong.code(), Code::FAILED_PRECONDITION);
    no_topics(&hub).await;
    idle(&client).await;
}

#[tokio::test]
async fn what_cannot_be_encoded_is_not_published() {
    #[derive(serde::Serialize)]
    struct Odd(std::collections::HashMap<(u8, u8), u8>);

    let hub = Hub::new();
    hub.declare_topics("", TopicSettings::<Odd>::default().history_items(1));
    let topic = hub.topic("a");
    let odd = Odd([((1, 2), 3)].into());
    // JSON has no such keys, and MessagePack does.
    assert_eq!(topic.publish(&odd).unwrap().offset, 1);

    struct Never;
    impl serde::Serialize for Never {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("never"))
        }
    }
    let hub = Hub::new();
    hub.declare_topics("", TopicSettings::<Never>::default().history_items(1));
    let topic = hub.topic("a");
    let refused = topic.publish(&Never).unwrap_err();
    assert_eq!(refused.code(), Code::INVALID_ARGUMENT);
    assert_eq!(topic.position().unwrap().offset, 0);
}

#[tokio::test]
async fn the_last_come_first_and_then_what_is_published() {
    for codec in Codec::ALL {
        let (hub, client) = desk(codec, TopicSettings::default().history_items(5)).await;
        let topic = hub.topic("a");
        let feeds = FeedsClient::new(&client);
        publish(&topic, 8);
        let mut two = soon(feeds.last("a", 2)).await.unwrap();
        let mut all = soon(feeds.last("a", 1000)).await.unwrap();
        let mut none = soon(feeds.follow("a")).await.unwrap();
        publish(&topic, 1);
        expect(&mut two, 7..=9).await;
        expect(&mut all, 4..=9).await;
        expect(&mut none, [9]).await;

        let epoch = topic.position().unwrap().epoch;
        let at = |offset| TopicPosition { epoch, offset };
        let mut since = soon(feeds.since("a", at(6))).await.unwrap();
        assert_eq!(next(&mut since).await, Update::Recovered);
        expect(&mut since, 7..=9).await;
        drop(since);
        let mut since = soon(feeds.since("a", at(2))).await.unwrap();
        assert_eq!(next(&mut since).await, Update::Gap { missed: Some(2) });
        expect(&mut since, 5..=9).await;
        drop(since);
        // What the subscriber says goes before what the handler does.
        let mut since = soon(feeds.last("a", 5).since(at(8))).await.unwrap();
        assert_eq!(next(&mut since).await, Update::Recovered);
        expect(&mut since, [9]).await;
        drop((two, all, none, since));
        idle(&client).await;
    }
}

/// Many subscribe while somebody publishes without a pause, on other threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn between_the_last_and_what_comes_nothing_is_lost_or_doubled() {
    static IS_OVER: AtomicBool = AtomicBool::new(false);

    let settings = TopicSettings::default()
        .history_items(100_000)
        .queue_items(100_000);
    let (hub, client) = desk(Codec::MessagePack, settings.queue_bytes(1 << 30)).await;
    let topic: Topic<u64> = hub.topic("a");
    publish(&topic, 50);
    let publishing = std::thread::spawn({
        let topic = topic.clone();
        move || {
            while !IS_OVER.load(Ordering::SeqCst) && topic.position().unwrap().offset < 20_000 {
                publish(&topic, 1);
                std::thread::yield_now();
            }
        }
    });
    let feeds = FeedsClient::new(&client);
    let mut following = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let feeds = feeds.clone();
        following.spawn(async move {
            let mut feed = feeds.last("a", 20).await.unwrap();
            let first = feed.position().offset + 1;
            expect(&mut feed, first..first + 120).await;
        });
    }
    while let Some(followed) = soon(following.join_next()).await {
        followed.unwrap();
    }
    IS_OVER.store(true, Ordering::SeqCst);
    publishing.join().unwrap();
    idle(&client).await;
    assert_eq!(topic.subscribers(), 0);
}

#[tokio::test]
async fn topics_are_bounded_and_those_that_only_have_a_history_give_way() {
    let hub = Hub::with_topic_limits(TopicLimits::default().max_topics(3));
    hub.declare_topics("kept.", TopicSettings::<u64>::default().history_items(1));
    let name = |number: u64| format!("kept.{number}");
    for number in 0..3 {
        hub.topic(&name(number)).publish(&number).unwrap();
    }
    assert_eq!(hub.topics(), 3);
    let first: Topic<u64> = hub.topic(&name(0));
    // 1 has been left alone for the longest time.
    let fourth: Topic<u64> = hub.topic("other");
    assert_eq!(hub.topic::<u64>(&name(2)).position().unwrap().offset, 1);
    let fifth: Topic<u64> = hub.topic("another");
    assert_eq!((hub.topics(), first.position().unwrap().offset), (3, 1));
    let full = hub.topic("one more").publish(&1_u64).unwrap_err();
    assert_eq!(full.code(), Code::RESOURCE_EXHAUSTED);
    drop((fourth, fifth));
    assert_eq!(hub.topics(), 1);
    let long = hub.topic(&"x".repeat(257)).publish(&1_u64).unwrap_err();
    assert_eq!(long.code(), Code::INVALID_ARGUMENT);
}

/// Those that were left alone would leave no room to those that are in use, for ever.
#[tokio::test]
async fn histories_that_nobody_holds_give_way_to_new_ones() {
    let limits = TopicLimits::default().max_history_bytes(64 << 10);
    let hub = Hub::with_topic_limits(limits);
    hub.declare_topics("", TopicSettings::<String>::default().history_items(9));
    let text = "x".repeat(1000);
    let held: Topic<String> = hub.topic("held");
    held.publish(&text).unwrap();
    for number in 0..200 {
        let name = number.to_string();
        assert_eq!(hub.topic(&name).publish(&text).unwrap().offset, 1);
        // It is there, and so is what it has.
        let last: Topic<String> = hub.topic(&name);
        assert_eq!(last.position().unwrap().offset, 1, "{number}");
    }
    assert_eq!(hub.topic::<String>("0").position().unwrap().offset, 0);
    assert!((20..35).contains(&hub.topics()), "{}", hub.topics());
    assert_eq!(held.position().unwrap().offset, 1);
}

#[tokio::test]
async fn a_topic_that_cannot_be_had_takes_nobodys_place() {
    let hub = Hub::with_topic_limits(TopicLimits::default().max_topics(1));
    hub.declare_topics("", TopicSettings::<u64>::default().history_items(1));
    hub.topic("a").publish(&1_u64).unwrap();
    let refused = hub.topic("b").publish(&"text".to_owned()).unwrap_err();
    assert_eq!(refused.code(), Code::FAILED_PRECONDITION);
    assert_eq!(hub.topic::<u64>("a").position().unwrap().offset, 1);
}

#[tokio::test(start_paused = true)]
async fn a_topic_is_there_as_long_as_its_history() {
    let age = std::time::Duration::from_secs(60);
    let hub = Hub::new();
    let settings = TopicSettings::<u64>::default();
    hub.declare_topics("", settings.history_items(9).history_age(age));
    hub.topic("a").publish(&1_u64).unwrap();
    let before = hub.topic::<u64>("a").position().unwrap();
    tokio::time::advance(age / 2).await;
    hub.topic("b").publish(&1_u64).unwrap();
    assert_eq!(hub.topics(), 2);
    tokio::time::advance(age / 2).await;
    assert_eq!(hub.topics(), 1);
    let after = hub.topic::<u64>("a").position().unwrap();
    assert_eq!(after.offset, 0);
    assert_ne!(after.epoch, before.epoch, "it is another topic");
    tokio::time::advance(age / 2).await;
    assert_eq!(hub.topics(), 0);
}
