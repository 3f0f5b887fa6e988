use std::{io, pin::Pin};

use futures::Stream;
use wirecall::{Status, Streaming};

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize, wirecall::RpcError)]
#[error("failed")]
struct Failed;

#[wirecall::service]
trait Returned {
    fn taken(&self) -> Streaming<String>;
    async fn taken_in_result(&self, room: &str) -> Result<Streaming<String>, Status>;
    async fn nested(&self) -> Vec<impl Stream<Item = u64>>;
    fn nested_at_once(&self) -> Option<impl Stream<Item = u64>>;
    async fn of_streams(&self) -> impl Stream<Item = Streaming<u64>>;
    async fn deep(&self) -> Result<Option<impl Stream<Item = u64>>, Status>;
    async fn boxed(&self) -> Pin<Box<dyn Stream<Item = u64> + Send>>;
    fn unknown(&self) -> impl Stream;
    fn bounded(&self) -> impl Stream<Item: Send>;
    fn borrowed(&self) -> impl Stream<Item = &str>;
    fn opaque(&self) -> impl Stream<Item = impl Send>;
    fn not_async(&self) -> u64;
    fn not_async_result(&self) -> Result<u64, Status>;
    async fn alias(&self) -> impl Stream<Item = io::Result<u64>>;
    async fn two_errors(&self) -> Result<impl Stream<Item = Result<u64, Failed>>, Status>;
    fn fine(&self) -> impl Stream<Item = u64>;
}

#[wirecall::service]
trait Taken {
    async fn sum(&self, numbers: impl Stream<Item = u64>) -> u64;
    async fn boxed(&self, numbers: Box<dyn Stream<Item = u64> + Send>) -> u64;
    async fn two(&self, left: Streaming<u64>, right: Streaming<u64>) -> u64;
    async fn option(&self, lines: Option<Streaming<String>>);
    async fn by_reference(&self, lines: &mut Streaming<String>);
    async fn of_streams(&self, lines: Streaming<Streaming<String>>);
    async fn of_what(&self, lines: Streaming<u64, u64>);
    async fn borrowed(&self, lines: Streaming<&str>);
    async fn pattern(&self, mut lines: Streaming<String>) {
        let _ = &mut lines;
    }
    fn not_async(&self, lines: Streaming<String>) -> u64;
    async fn fine(&self, lines: Streaming<String>) -> u64;
}

#[wirecall::service]
trait Notifications {
    #[notify]
    async fn takes(&self, lines: Streaming<String>);
    #[notify]
    fn returns(&self) -> impl Stream<Item = u64>;
    #[notify]
    async fn fine(&self);
}

#[wirecall::service]
trait Credits {
    #[rpc(credit(items = 1))]
    async fn unary(&self);
    #[rpc(credit(bytes = 1))]
    #[notify]
    async fn notification(&self);
    #[rpc(credit(items = 0))]
    fn none(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(bytes = 4294967296))]
    fn too_much(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(item = 1))]
    fn misspelt(&self) -> impl Stream<Item = u64>;
    #[rpc(credit())]
    fn empty(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(items = 1, items = 2))]
    fn twice(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(items = 1), credit(bytes = 1))]
    fn twice_apart(&self) -> impl Stream<Item = u64>;
    #[rpc(credit = 16)]
    fn value(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(items = "16"))]
    fn text(&self) -> impl Stream<Item = u64>;
}

#[wirecall::service]
trait Shapes {
    #[cfg(unix)]
    fn moved(&self) -> impl Stream<Item = u64>;
    #[cfg(not(unix))]
    async fn moved(&self) -> u64;
}

fn main() {}
