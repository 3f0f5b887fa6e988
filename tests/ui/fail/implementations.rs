use std::{cell::Cell, rc::Rc};

use wirecall::Status;

#[wirecall::service]
trait Chat {
    async fn post(&self, text: &str) -> Result<u64, Status>;
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

fn main() {
    ChatServer::new(NotAChat);
}
