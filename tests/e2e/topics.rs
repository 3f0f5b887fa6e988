//! Topics: what is published reaches all who are subscribed, in order, and nothing is missing that
//! is not told of.

mod begin;
mod hostile;
mod pressure;
mod returning;
mod soak;

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::{Stream, StreamExt as _};
use serde::{Deserialize, Serialize};
use wirecall::{
    CallError, Client, Codec, Context, Hub, RpcError, Server, Status, Subscription, Topic,
    TopicPosition, TopicSettings, Update,
};

use crate::support::{connect, soon, start};

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error, RpcError)]
pub enum FeedError {
    #[error("no feed {0:?}")]
    #[rpc(code = NOT_FOUND)]
    NoFeed(String),
}

#[wirecall::service]
pub trait Feeds {
    async fn ping(&self) -> u64;
    /// With what comes.
    async fn follow(&self, name: &str) -> Topic<u64>;
    /// There are those that begin with a letter.
    async fn follow_some(&self, cx: &Context, name: &str) -> Result<Topic<u64>, FeedError>;
    async fn last(&self, name: &str, items: usize) -> Topic<u64>;
    async fn since(&self, name: &str, position: TopicPosition) -> Topic<u64>;
    #[rpc(credit(items = 4))]
    async fn follow_by_four(&self, name: &str) -> Topic<u64>;
    async fn texts(&self, name: &str) -> Result<Topic<String>, Status>;
    /// With arguments of any size.
    async fn follow_padded(&self, name: &str, padding: &[u8]) -> Topic<u64>;
    /// Does not accept.
    async fn never(&self, name: &str) -> Topic<u64>;
}

/// Serves the topics of a hub.
#[derive(Clone, Default)]
pub struct Desk {
    pub hub: Hub,
    /// No feed of [`Feeds::follow_some`] is there any more.
    pub is_closed: Arc<AtomicBool>,
}

impl Desk {
    pub fn of(hub: &Hub) -> Self {
        Desk {
            hub: hub.clone(),
            is_closed: Arc::default(),
        }
    }
}

impl Feeds for Desk {
    async fn ping(&self) -> u64 {
        7
    }

    async fn follow(&self, name: &str) -> Topic<u64> {
        self.hub.topic(name)
    }

    async fn follow_some(&self, cx: &Context, name: &str) -> Result<Topic<u64>, FeedError> {
        if self.is_closed.load(Ordering::SeqCst) || !name.starts_with(char::is_alphabetic) {
            return Err(FeedError::NoFeed(name.to_owned()));
        }
        let _ = cx.set_response_metadata("feed", name);
        Ok(self.hub.topic(name))
    }

    async fn last(&self, name: &str, items: usize) -> Topic<u64> {
        self.hub.topic(name).last(items)
    }

    async fn since(&self, name: &str, position: TopicPosition) -> Topic<u64> {
        self.hub.topic(name).since(position)
    }

    async fn follow_by_four(&self, name: &str) -> Topic<u64> {
        self.hub.topic(name)
    }

    async fn follow_padded(&self, name: &str, _: &[u8]) -> Topic<u64> {
        self.hub.topic(name)
    }

    async fn never(&self, name: &str) -> Topic<u64> {
        let _kept: Topic<u64> = self.hub.topic(name);
        std::future::pending().await
    }

    async fn texts(&self, name: &str) -> Result<Topic<String>, Status> {
        Ok(self.hub.topic(name))
    }
}

/// A server of a hub's topics, and a client.
pub async fn desk(codec: Codec, settings: TopicSettings<u64>) -> (Hub, Client) {
    let hub = Hub::new();
    hub.declare_topics("", settings);
    let server = Server::builder()
        .hub(&hub)
        .service(FeedsServer::new(Desk::of(&hub)));
    let client = connect(start(server).await, codec).await;
    (hub, client)
}

/// What comes next, which is not the end.
pub async fn next<S, T, E>(stream: &mut S) -> T
where
    S: Stream<Item = Result<T, CallError<E>>> + Unpin,
    E: Debug,
{
    soon(stream.next())
        .await
        .expect("has ended")
        .expect("has failed")
}

/// Checks that these are the next items, whose values are their numbers.
pub async fn expect<E: RpcError + Debug>(
    feed: &mut Subscription<u64, E>,
    offsets: impl IntoIterator<Item = u64>,
) {
    for offset in offsets {
        assert_eq!(
            next(feed).await,
            Update::Item {
                offset,
                value: offset
            }
        );
    }
}

/// Publishes the next items, whose values are their numbers.
pub fn publish(topic: &Topic<u64>, count: u64) {
    for _ in 0..count {
        let next = topic.position().unwrap().offset + 1;
        assert_eq!(topic.publish(&next).unwrap().offset, next);
    }
}

/// Waits until a topic has that many subscribers.
pub async fn subscribers(topic: &Topic<u64>, count: usize) {
    soon(async {
        while topic.subscribers() != count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until a hub has no topic left.
pub async fn no_topics(hub: &Hub) {
    soon(async {
        while hub.topics() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
