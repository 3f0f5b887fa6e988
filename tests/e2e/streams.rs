//! Streams down, up and both ways, in both directions.

mod credit;
mod ends;
mod shapes;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc};
use wirecall::{Bytes, Client, Code, Codec, Context, Server, Status, Streaming};

use crate::support::{connect, start};

#[derive(Clone, Debug, PartialEq, thiserror::Error, Serialize, Deserialize, wirecall::RpcError)]
enum FlowError {
    #[error("no room {0:?}")]
    #[rpc(code = NOT_FOUND)]
    NoRoom(String),
    #[error("dry after {0}")]
    #[rpc(code = 64)]
    Dry(u64),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    number: u64,
    text: String,
}

#[wirecall::service]
trait Flows {
    async fn ping(&self) -> u64;

    fn count(&self, from: u64, to: u64) -> impl Stream<Item = u64>;
    /// There is one room, with as many lines as its name has words.
    async fn room(&self, cx: &Context, name: &str) -> Result<impl Stream<Item = Line>, FlowError>;
    /// Fails behind that many items.
    async fn dry_up(&self, after: u64) -> impl Stream<Item = Result<u64, FlowError>>;
    /// Accepted, and then nothing comes.
    fn silent(&self) -> impl Stream<Item = u64>;
    /// Not even accepted.
    async fn unaccepted(&self) -> impl Stream<Item = u64>;
    /// One each 20 s.
    fn slow(&self, count: u64) -> impl Stream<Item = u64>;
    /// Has no end, and counts how often it is polled.
    fn endless(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(items = 3))]
    fn endless_by_three(&self) -> impl Stream<Item = u64>;
    #[rpc(credit(items = 1000, bytes = 1000))]
    fn endless_by_bytes(&self, bytes_each: usize) -> impl Stream<Item = Bytes>;

    async fn sum(&self, numbers: Streaming<u64>) -> Result<u64, FlowError>;
    /// Takes that many, and answers only when the test lets it.
    async fn sum_of_first(&self, numbers: Streaming<u64>, count: usize) -> u64;
    /// Does not read.
    async fn hold(&self, numbers: Streaming<u64>);
    #[rpc(credit(items = 40))]
    async fn hold_forty(&self, numbers: Streaming<u64>);
    /// Reads in a task that outlives the call, and tells the test what comes there.
    async fn take_away(&self, numbers: Streaming<u64>);

    fn doubled(&self, numbers: Streaming<u64>) -> impl Stream<Item = Result<u64, Status>>;
    /// Answers when all of them have come: the sum, as often as it is asked for.
    async fn sums(
        &self,
        numbers: Streaming<u64>,
        times: usize,
    ) -> Result<impl Stream<Item = u64>, Status>;

    /// Has the caller count, and sums that up.
    async fn count_for_me(&self, cx: &Context, to: u64) -> Result<u64, Status>;
}

#[derive(Clone, Default)]
struct River(Arc<Signals>);

/// What came out of a stream, or its end.
type Taken = Option<Result<u64, Code>>;

/// What the handlers tell the test.
#[derive(Default)]
struct Signals {
    begun: Notify,
    dropped: Notify,
    drops: AtomicU64,
    /// By the test.
    go_on: Notify,
    polls: AtomicU64,
    taken: std::sync::Mutex<Option<mpsc::UnboundedSender<Taken>>>,
}

impl Signals {
    /// Waits until a producer has been polled that often.
    async fn polled(&self, times: u64) {
        while self.polls.load(Ordering::SeqCst) < times {
            tokio::task::yield_now().await;
        }
    }

    fn polls(&self) -> u64 {
        self.polls.load(Ordering::SeqCst)
    }

    fn numbers(self: &Arc<Self>) -> Numbers {
        self.begun.notify_one();
        Numbers {
            next: 0,
            signals: OnDrop(self.clone()),
        }
    }
}

struct OnDrop(Arc<Signals>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.drops.fetch_add(1, Ordering::SeqCst);
        self.0.dropped.notify_one();
    }
}

/// All numbers, without a pause.
struct Numbers {
    next: u64,
    signals: OnDrop,
}

impl Stream for Numbers {
    type Item = u64;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<u64>> {
        self.signals.0.polls.fetch_add(1, Ordering::SeqCst);
        self.next += 1;
        Poll::Ready(Some(self.next - 1))
    }
}

impl Flows for River {
    async fn ping(&self) -> u64 {
        7
    }

    fn count(&self, from: u64, to: u64) -> impl Stream<Item = u64> {
        stream::iter(from..to)
    }

    async fn room(&self, cx: &Context, name: &str) -> Result<impl Stream<Item = Line>, FlowError> {
        assert!(!cx.peer().is_closed());
        if name.starts_with("no") {
            return Err(FlowError::NoRoom(name.to_owned()));
        }
        // Borrows the argument for as long as it flows.
        let lines = name.split(' ').zip(0..).map(|(word, number)| Line {
            number,
            text: word.to_owned(),
        });
        Ok(stream::iter(lines))
    }

    async fn dry_up(&self, after: u64) -> impl Stream<Item = Result<u64, FlowError>> {
        stream::iter((0..=after).map(move |n| {
            if n < after {
                Ok(n)
            } else {
                Err(FlowError::Dry(n))
            }
        }))
        .chain(stream::iter([Ok(999)]))
    }

    fn silent(&self) -> impl Stream<Item = u64> {
        self.0.begun.notify_one();
        let on_drop = OnDrop(self.0.clone());
        stream::pending().map(move |n| {
            let _ = &on_drop;
            n
        })
    }

    async fn unaccepted(&self) -> impl Stream<Item = u64> {
        let _on_drop = OnDrop(self.0.clone());
        self.0.begun.notify_one();
        std::future::pending::<stream::Empty<u64>>().await
    }

    fn slow(&self, count: u64) -> impl Stream<Item = u64> {
        every_20_s(count)
    }

    fn endless(&self) -> impl Stream<Item = u64> {
        self.0.numbers()
    }

    fn endless_by_three(&self) -> impl Stream<Item = u64> {
        self.0.numbers()
    }

    fn endless_by_bytes(&self, bytes_each: usize) -> impl Stream<Item = Bytes> {
        self.0
            .numbers()
            .map(move |_| Bytes::from(vec![0; bytes_each]))
    }

    async fn sum(&self, mut numbers: Streaming<u64>) -> Result<u64, FlowError> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number.map_err(|_| FlowError::Dry(sum))?;
        }
        Ok(sum)
    }

    async fn sum_of_first(&self, numbers: Streaming<u64>, count: usize) -> u64 {
        let first: Vec<_> = numbers.take(count).collect().await;
        self.0.go_on.notified().await;
        first.into_iter().map(Result::unwrap).sum()
    }

    async fn hold(&self, numbers: Streaming<u64>) {
        self.0.begun.notify_one();
        self.0.go_on.notified().await;
        drop(numbers);
    }

    async fn hold_forty(&self, numbers: Streaming<u64>) {
        self.hold(numbers).await;
    }

    async fn take_away(&self, mut numbers: Streaming<u64>) {
        let taken = self.0.taken.lock().unwrap().clone().unwrap();
        tokio::spawn(async move {
            loop {
                let item = numbers.next().await;
                let is_end = item.is_none();
                let item = item.map(|item| item.map_err(|status| status.code()));
                if taken.send(item).is_err() || is_end {
                    break;
                }
            }
        });
        self.0.go_on.notified().await;
    }

    fn doubled(&self, numbers: Streaming<u64>) -> impl Stream<Item = Result<u64, Status>> {
        numbers.map(|number| Ok(number? * 2))
    }

    async fn sums(
        &self,
        mut numbers: Streaming<u64>,
        times: usize,
    ) -> Result<impl Stream<Item = u64>, Status> {
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number?;
        }
        Ok(stream::iter(vec![sum; times]))
    }

    async fn count_for_me(&self, cx: &Context, to: u64) -> Result<u64, Status> {
        let unavailable = |_| Status::new(Code::UNAVAILABLE, "the caller does not count");
        let numbers = FlowsClient::new(cx.peer()).count(0, to);
        let mut numbers = numbers.await.map_err(unavailable)?;
        let mut sum = 0;
        while let Some(number) = numbers.next().await {
            sum += number.map_err(unavailable)?;
        }
        Ok(sum)
    }
}

fn every_20_s(count: u64) -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(0..count).then(async |n| {
        tokio::time::sleep(Duration::from_secs(20)).await;
        n
    })
}

/// A server with signals of its own, and a client of it.
async fn flow(codec: Codec) -> (Arc<Signals>, Client) {
    let river = River::default();
    let address = start(Server::builder().service(FlowsServer::new(river.clone()))).await;
    (river.0, connect(address, codec).await)
}
