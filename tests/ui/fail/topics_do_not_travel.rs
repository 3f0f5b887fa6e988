use wirecall::{Status, Topic};

#[derive(Debug)]
struct NotOnTheWire;

#[derive(Debug)]
struct NoError;

#[wirecall::service]
trait Items {
    async fn follow(&self) -> Topic<NotOnTheWire>;
    async fn refused(&self) -> Result<Topic<NotOnTheWire>, Status>;
}

#[wirecall::service]
trait Errors {
    async fn follow(&self) -> Result<Topic<u64>, NoError>;
}

#[wirecall::service]
trait Numbers {
    async fn follow(&self) -> Topic<u64>;
}

struct Texts(Topic<String>);

impl Numbers for Texts {
    async fn follow(&self) -> Topic<u64> {
        self.0.clone()
    }
}

fn main() {}
