use wirecall::Status;

trait Stream {
    type Item;
}

struct Streaming<T>(T);

#[wirecall::service]
trait Streams {
    fn primes(&self, limit: u64) -> impl Stream<Item = u64>;
    fn lines(&self) -> Streaming<String>;
    async fn follow(&self, room: &str) -> Result<Streaming<String>, Status>;
    async fn count(&self, lines: Streaming<String>) -> u64;
    async fn sum(&self, numbers: impl Stream<Item = u64>) -> u64;
}

fn main() {}
