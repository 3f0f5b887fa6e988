//! Where subscriptions begin, and how they end.

use futures::StreamExt as _;
use wirecall::{CallError, Code, Codec, Topic, TopicPosition, TopicSettings, Update};

use super::{FeedError, FeedsClient, desk, next, no_topics, subscribers, value};
use crate::support::{idle, soon};

#[tokio::test]
async fn what_is_published_comes_in_order_and_with_its_number() {
    for codec in Codec::ALL {
        let (hub, client) = desk(codec, TopicSettings::default()).await;
        let topic: Topic<u64> = hub.topic("a");
        assert_eq!(topic.publish(&1).unwrap().offset, 1);
        let mut feed = FeedsClient::new(&client).follow("a").await.unwrap();
        assert_eq!(feed.position().offset, 1);
        for number in 2..1000 {
            let published = topic.publish(&(number * 10)).unwrap();
            assert_eq!((published.offset, published.sent + published.waiting), (number, 1));
            if number % 100 == 0 {
                // A while later.
                FeedsClient::new(&client).ping().await.unwrap();
            }
        }
        for offset in 2..1000 {
            let value = offset * 10;
            assert_eq!(next(&mut feed).await, Update::Item { offset, value });
        }
        assert_eq!(feed.position(), topic.position().unwrap());
        drop(feed);
        subscribers(&topic, 0).await;
        drop(topic);
        no_topics(&hub).await;
        idle(&client).await;
    }
}
