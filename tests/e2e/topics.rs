//! Topics: what is published reaches all who are subscribed, in order, and nothing is missing that
//! is not told of.

mod begin;

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
}

/// Serves the topics of a hub.
#[derive(Clone, Default)]
pub struct Desk(pub Hub);

impl Feeds for Desk {
    async fn ping(&self) -> u64 {
        7
    }

    async fn follow(&self, name: &str) -> Topic<u64> {
        self.0.topic(name)
    }

    async fn follow_some(&self, cx: &Context, name: &str) -> Result<Topic<u64>, FeedError> {
        if !name.starts_with(char::is_alphabetic) {
            return Err(FeedError::NoFeed(name.to_owned()));
        }
        let _ = cx.set_response_metadata("feed", name);
        Ok(self.0.topic(name))
    }

    async fn last(&self, name: &str, items: usize) -> Topic<u64> {
        self.0.topic(name).last(items)
    }

    async fn since(&self, name: &str, position: TopicPosition) -> Topic<u64> {
        self.0.topic(name).since(position)
    }

    async fn follow_by_four(&self, name: &str) -> Topic<u64> {
        self.0.topic(name)
    }

    async fn texts(&self, name: &str) -> Result<Topic<String>, Status> {
        Ok(self.0.topic(name))
    }
}

/// A server of a hub's topics, and a client.
pub async fn desk(codec: Codec, settings: TopicSettings<u64>) -> (Hub, Client) {
    let hub = Hub::new();
    hub.declare_topics("", settings);
    let server = Server::builder()
        .hub(&hub)
        .service(FeedsServer::new(Desk(hub.clone())));
    let client = connect(start(server).await, codec).await;
    (hub, client)
}

/// What comes next, which is not the end.
pub async fn next<S, T, E>(stream: &mut S) -> T
where
    S: Stream<Item = Result<T, CallError<E>>> + Unpin,
    E: std::fmt::Debug,
{
    soon(stream.next()).await.expect("has ended").expect("has failed")
}

/// The value of the item that comes next, which is no word of a gap.
pub async fn value<E: RpcError + std::fmt::Debug>(subscription: &mut Subscription<u64, E>) -> u64 {
    match next(subscription).await {
        Update::Item { value, .. } => value,
        other => panic!("{other:?}"),
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
