use wirecall::{Status, Streaming, Topic};

type Outcome<T> = Result<T, Status>;

mod alias {
    pub type Result<T> = super::Outcome<T>;
}

#[derive(Debug)]
struct NotOnTheWire;

#[wirecall::service]
trait Returned {
    fn not_async(&self) -> Topic<u64>;
    async fn nested(&self) -> Option<Topic<u64>>;
    async fn listed(&self) -> Result<Vec<Topic<u64>>, Status>;
    async fn alias(&self) -> alias::Result<Topic<u64>>;
    async fn borrowed(&self) -> Topic<&str>;
    async fn of_topics(&self) -> Topic<Topic<u64>>;
    async fn of_two(&self) -> Topic<u64, u64>;
    async fn of_nothing(&self) -> Result<Topic<>, Status>;
    async fn with_a_stream(&self, lines: Streaming<String>) -> Topic<u64>;
    #[rpc(idempotent)]
    async fn idempotent(&self) -> Topic<u64>;
    #[notify]
    async fn notification(&self) -> Topic<u64>;
    async fn fine(&self) -> Topic<u64>;
}

#[wirecall::service]
trait Taken {
    async fn argument(&self, topic: Topic<u64>);
    async fn nested(&self, topics: Vec<Topic<u64>>);
    async fn items(&self, topics: Streaming<Topic<u64>>) -> u64;
}

fn main() {}
