//! The options of the attribute.

#![deny(warnings)]

extern crate wirecall as rpc;

mod deep {
    pub use wirecall;
}

#[rpc::service(name = "Talk")]
trait Chat {
    #[rpc(name = "say")]
    async fn post(&self, text: &str);
}

#[rpc::service(crate = crate::deep::wirecall)]
trait Path {
    #[rpc(idempotent)]
    async fn ping(&self);
    #[rpc(name = "find", idempotent, spawn, scope = "books.find")]
    async fn search(&self, words: &str) -> Option<u64>;
}

#[rpc::service(crate = "deep::wirecall", name = "other-name/2")]
trait Text {
    async fn ping(&self);
    #[notify]
    #[rpc(scope = "tell")]
    async fn told(&self, text: Option<&str>, bytes: Option<&[u8]>);
    #[notify(volatile)]
    async fn at(&self, x: f64, y: f64);
    #[notify(drop_newest)]
    #[rpc(name = "new")]
    async fn newest(&self);
    #[notify(drop_oldest)]
    async fn oldest(&self);
    #[notify(conflate)]
    async fn total(&self, count: u64);
    #[notify(conflate(r#type))]
    async fn latest(&self, cx: &rpc::Context, text: &str, r#type: u8);
    #[notify(disconnect,)]
    async fn entry(&self, number: u64);
}

#[rpc::service(crate = rpc)]
trait Pairs<T> {
    #[notify(conflate(key))]
    async fn changed(&self, value: &T, key: &T);
}

#[rpc::service(crate = rpc,)]
trait Renamed {
    async fn ping(&self) -> Result<(), Failure>;
}

#[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize, rpc::RpcError)]
#[error("failed")]
#[rpc(crate = rpc)]
struct Failure;

struct Implementation;

impl Chat for Implementation {
    async fn post(&self, _text: &str) {}
}

fn main() {
    use rpc::Service;

    let server = ChatServer::new(Implementation);
    assert_eq!(server.name(), "Talk");
    assert_eq!(server.methods()[0].name(), "say");
    assert_eq!(server.clone().named("Chat").name(), "Chat");
    assert_eq!(server.named(String::from("Third")).name(), "Third");
    assert_eq!(ChatClient::NAME, "Talk");
    assert_eq!(TextClient::NAME, "other-name/2");
    let _ = Failure;
}
