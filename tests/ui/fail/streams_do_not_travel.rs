use std::rc::Rc;

use futures::{Stream, StreamExt as _, stream};
use wirecall::{Peer, Streaming};

struct Neither;

#[derive(serde::Deserialize)]
struct OnlyIn;

#[derive(serde::Serialize)]
struct OnlyOut;

#[wirecall::service]
trait Returned {
    fn only_in(&self) -> impl Stream<Item = OnlyIn>;
    fn only_out(&self) -> impl Stream<Item = OnlyOut>;
    fn no_error(&self) -> impl Stream<Item = Result<u64, String>>;
    async fn refused(&self) -> Result<impl Stream<Item = u64>, String>;
}

#[wirecall::service]
trait Taken {
    async fn only_in(&self, items: Streaming<OnlyIn>) -> u64;
    async fn answer(&self, items: Streaming<u64>) -> OnlyOut;
    async fn beside(&self, value: Neither, items: Streaming<u64>);
}

#[wirecall::service]
trait Service {
    fn here(&self) -> impl Stream<Item = u64>;
    async fn later(&self) -> Result<impl Stream<Item = u64>, wirecall::Status>;
    async fn count(&self, items: Streaming<u64>) -> u64;
}

struct Implementation;

impl Service for Implementation {
    fn here(&self) -> impl Stream<Item = u64> {
        let rc = Rc::new(1);
        stream::iter([1]).map(move |n| n + *rc)
    }
    async fn later(&self) -> Result<impl Stream<Item = u64>, wirecall::Status> {
        let rc = Rc::new(1);
        Ok(stream::iter([1]).map(move |n| n + *rc))
    }
    async fn count(&self, items: Streaming<u64>) -> u64 {
        items.count().await as u64
    }
}

async fn calls(peer: Peer) {
    let client = ServiceClient::new(&peer);
    let _ = client.count(stream::iter(["text"])).await;
    let _ = client.count(7).await;
    let numbers = vec![1];
    let _ = client.count(stream::iter(&numbers).map(|n| *n)).await;
}

fn main() {}
