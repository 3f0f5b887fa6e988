use std::{cell::Cell, rc::Rc};

use wirecall::{Peer, Status};

#[wirecall::service]
trait Chat {
    async fn post(&self, text: &str) -> Result<u64, Status>;
}

#[wirecall::service]
trait Store<T> {
    async fn get(&self, key: &str) -> Option<T>;
}

struct KeepsAnRc;

impl Chat for KeepsAnRc {
    async fn post(&self, _text: &str) -> Result<u64, Status> {
        let count = Rc::new(1);
        std::future::ready(()).await;
        Ok(*count)
    }
}

struct NotSync(Cell<u8>);

impl Chat for NotSync {
    async fn post(&self, _text: &str) -> Result<u64, Status> {
        Ok(0)
    }
}

struct NotAChat;

struct NotSerde;

fn calls(peer: &Peer) {
    ChatServer::new(NotAChat);
    StoreClient::<NotSerde>::new(peer);
}

fn main() {}
