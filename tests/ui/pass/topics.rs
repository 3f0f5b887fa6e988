//! Topics in all places, and their implementations as users write them.

#![deny(warnings)]

use serde::{Deserialize, Serialize};
use wirecall::{
    CallError, Context, Hub, Peer, Status, StreamCredit, Subscription, Topic as Feed, TopicCall,
    TopicPosition, Update, Values,
};

#[derive(Debug, Serialize, Deserialize, thiserror::Error, wirecall::RpcError)]
#[error("failed")]
pub struct Failed;

/// A type of the user's own, which is no topic of ours.
#[derive(Debug, Serialize, Deserialize)]
pub struct Topic {
    title: String,
}

mod feeds {
    pub use wirecall::Topic;
}

#[wirecall::service]
pub trait Feeds {
    async fn numbers(&self) -> feeds::Topic<u64>;
    async fn of_room(&self, cx: &Context, room: &str) -> Result<feeds::Topic<String>, Failed>;
    async fn with_status(&self, since: Option<TopicPosition>) -> Result<wirecall::Topic<Vec<u8>>, Status>;
    #[rpc(credit(items = 4), scope = "feeds")]
    async fn with_options(&self) -> feeds::Topic<()>;
    async fn by_default(&self, hub: u8) -> Result<feeds::Topic<u64>, Status> {
        let _ = hub;
        Err(Status::new(wirecall::Code::NOT_FOUND, "none"))
    }
    async fn title(&self) -> Topic;
}

struct Service {
    hub: Hub,
    numbers: Feed<u64>,
}

impl Feeds for Service {
    async fn numbers(&self) -> Feed<u64> {
        self.numbers.clone()
    }

    async fn of_room(&self, _cx: &Context, room: &str) -> Result<Feed<String>, Failed> {
        match room {
            "" => Err(Failed),
            room => Ok(self.hub.topic(room).last(10)),
        }
    }

    async fn with_status(&self, since: Option<TopicPosition>) -> Result<Feed<Vec<u8>>, Status> {
        let topic = self.hub.topic("bytes");
        Ok(since.map_or(topic.clone(), |since| topic.since(since)))
    }

    async fn with_options(&self) -> Feed<()> {
        self.hub.topic("nothing")
    }

    async fn title(&self) -> Topic {
        Topic {
            title: String::new(),
        }
    }
}

fn shapes(peer: &Peer) {
    let feeds = FeedsClient::new(peer);
    let call: TopicCall<_, u64> = feeds.numbers();
    let _ = call.timeout(std::time::Duration::MAX).metadata("key", "value");
    let room = String::from("lobby");
    let call: TopicCall<_, String, Failed> = feeds.of_room(&room);
    let _ = call.since(TopicPosition { epoch: 1, offset: 2 });
    let _: wirecall::Call<_, Topic> = feeds.title();
}

async fn read(feeds: &FeedsClient) -> Result<(), CallError<Failed>> {
    use futures::StreamExt as _;

    let mut room: Subscription<String, Failed> = feeds.of_room("lobby").await?;
    while let Some(update) = room.next().await {
        match update? {
            Update::Item { offset, value } => drop((offset, value)),
            Update::Recovered | Update::Gap { missed: _ } => {}
        }
    }
    let mut values: Values<String, Failed> = feeds.of_room("lobby").await?.values();
    let _: Option<Result<String, CallError<Failed>>> = values.next().await;
    Ok(())
}

fn is_send<T: Send + Unpin + 'static>() {}

fn main() {
    is_send::<Subscription<u64, Failed>>();
    is_send::<Values<u64>>();
    let _ = (shapes, read, StreamCredit::default());
    let hub = Hub::new();
    let numbers = hub.topic("numbers");
    let _ = FeedsServer::new(Service { hub, numbers });
}
