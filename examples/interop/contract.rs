//! The service against which clients in other languages are tried out, and its implementation.
//!
//! There are two services. `Interop`, here, has calls, streams, large bodies and pushes. `InteropHub`,
//! in `hub.rs`, has what a server knows of all its clients:
//!
//! | to try | do |
//! | --- | --- |
//! | a topic (W-TOPIC-3, W-TOPIC-4) | `subscribe`, `publish` on another connection or the same |
//! | its history | `subscribe(topic, 3)` for the last three items, `subscribe(topic, null, position)` |
//! | going on where one was (W-TOPIC-2) | options 5 and 7 of the REQUEST of `subscribe` |
//! | a gap that is known, one that is not | position 0 of a topic `short.…` after four items; another epoch |
//! | slow readers (W-TOPIC-5 to W-TOPIC-7) | give no credit, and publish to `conflated.…` or `strict.…` |
//! | credentials (W-AUTH-2, W-AUTH-8) | `whoami`, and `admin`, which only alice may call |
//! | renewing one (W-AUTH-4, W-AUTH-5) | come with `brief-token`, and send it again in AUTH |
//! | presence | `presence`, and other connections with other credentials; `users` |
//! | VOLATILE (W-NOTE-4) | `hint`, and serve `InteropHubEvents.hint` |
//! | resume (W-RESUME-6) | `interrupt`, whose answer comes over the next connection |
//! | a new session, subscribing again (W-TOPIC-8) | `close` with 4104, say |
//! | GOAWAY (W-DRAIN-2) | `send_away` |
//!
//! Topics are of texts, and keep 100 items; those that begin with `short.` keep three, with `live.`
//! none. Of `conflated.` only the latest of each key waits for a slow reader, which is the text before
//! the first `=`; a subscription to `strict.` ends when more than four items wait.
//!
//! | credential | who that is |
//! | --- | --- |
//! | none | `guest` |
//! | `alice-token`, `alice-token-2` | `alice`, with the scope `admin` |
//! | `bob-token` | `bob` |
//! | `brief-token` | `carol`, for five seconds each time that it is said |
//! | `unavailable-token` | nobody knows now (1013) |
//! | any other | nobody (4100) |

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use wirecall::{Bytes, Code, Context, RpcError, Status, Streaming};

/// Each method shows one thing that a client has to get right.
#[wirecall::service]
pub trait Interop {
    /// The same bytes.
    async fn echo(&self, data: &[u8]) -> Bytes;

    /// The sum, which wraps around.
    async fn add(&self, a: i64, b: i64) -> i64;

    /// All parts, one behind the other.
    async fn concat(&self, parts: &[String]) -> String;

    /// Answers after that many milliseconds, with their number.
    async fn sleep(&self, ms: u64) -> u64;

    /// Fails with exactly this error.
    async fn fail(&self, code: u16, message: &str) -> Result<(), Status>;

    /// Fails with an error that carries data: `not_found`, `quota` or `custom`.
    async fn typed_fail(&self, kind: &str) -> Result<(), InteropError>;

    /// Panics.
    async fn panic(&self);

    /// Sends that many `InteropEvents.event`s to the caller, then answers.
    async fn push(&self, cx: &Context, count: u64, data: &[u8]) -> Result<(), Status>;

    /// Calls `InteropEvents.answer` on the caller, and answers with its answer.
    async fn ask(&self, cx: &Context, question: &str) -> Result<String, Status>;

    /// What the server knows of the connection.
    async fn peer_info(&self, cx: &Context) -> PeerInfo;

    /// The numbers from 0 up to `n`, without it.
    fn count(&self, n: u64) -> impl Stream<Item = u64>;

    /// The sum of all numbers that come, which wraps around.
    async fn sum(&self, numbers: Streaming<i64>) -> Result<i64, Status>;

    /// What comes, as it comes.
    fn echo_stream(&self, items: Streaming<Bytes>) -> impl Stream<Item = Result<Bytes, Status>>;

    /// That many bytes: 0, 1, 2 and so on, and 0 again after 255.
    async fn blob(&self, size: u64) -> Result<Bytes, Status>;

    /// How many bytes came.
    async fn sink(&self, data: &[u8]) -> u64;

    /// All numbers from 0 on, as fast as they are taken.
    fn forever(&self) -> impl Stream<Item = u64>;
}

/// What a client of [`Interop`] offers to the server.
#[wirecall::service]
pub trait InteropEvents {
    /// One of the notifications that `Interop.push` sends, counted from 0.
    #[notify]
    async fn event(&self, index: u64, data: &[u8]);

    /// The answer to a question of `Interop.ask`.
    async fn answer(&self, question: &str) -> String;
}

/// An error in each shape that an enum's variants have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error, RpcError)]
pub enum InteropError {
    #[error("no {what}")]
    #[rpc(code = NOT_FOUND)]
    NotFound { what: String },
    #[error("{used} of {limit} used")]
    #[rpc(code = RESOURCE_EXHAUSTED)]
    Quota { used: u64, limit: u64 },
    #[error("custom: {0}")]
    #[rpc(code = 64)]
    Custom(String),
    #[error("no such kind of error")]
    #[rpc(code = INVALID_ARGUMENT)]
    UnknownKind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// `192.0.2.1:5678`; none within a process.
    pub address: Option<String>,
    /// Path and query of the upgrade request.
    pub uri: String,
    pub subprotocol: String,
    pub user_agent: Option<String>,
}

pub struct Implementation;

/// Larger ones than any body may be need not be made.
const MAX_BLOB_BYTES: usize = 64 << 20;

impl Interop for Implementation {
    async fn echo(&self, data: &[u8]) -> Bytes {
        data.into()
    }

    async fn add(&self, a: i64, b: i64) -> i64 {
        a.wrapping_add(b)
    }

    async fn concat(&self, parts: &[String]) -> String {
        parts.concat()
    }

    async fn sleep(&self, ms: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        ms
    }

    async fn fail(&self, code: u16, message: &str) -> Result<(), Status> {
        Err(Status::new(Code::new(code), message.to_owned()))
    }

    async fn typed_fail(&self, kind: &str) -> Result<(), InteropError> {
        Err(match kind {
            "not_found" => InteropError::NotFound {
                what: "such thing".to_owned(),
            },
            "quota" => InteropError::Quota { used: 3, limit: 3 },
            "custom" => InteropError::Custom("as you like".to_owned()),
            _ => InteropError::UnknownKind,
        })
    }

    async fn panic(&self) {
        panic!("as asked for by the caller");
    }

    async fn push(&self, cx: &Context, count: u64, data: &[u8]) -> Result<(), Status> {
        let events = InteropEventsClient::new(cx);
        for index in 0..count {
            events.event(index, data).await?;
        }
        Ok(())
    }

    async fn ask(&self, cx: &Context, question: &str) -> Result<String, Status> {
        Ok(InteropEventsClient::new(cx).answer(question).await?)
    }

    async fn peer_info(&self, cx: &Context) -> PeerInfo {
        let connection = cx.connection();
        let user_agent = connection.headers.get("user-agent");
        PeerInfo {
            address: connection.peer_addr.map(|address| address.to_string()),
            uri: connection.uri.to_string(),
            subprotocol: cx.peer().codec().subprotocol().to_owned(),
            user_agent: user_agent.and_then(|agent| Some(agent.to_str().ok()?.to_owned())),
        }
    }

    fn count(&self, n: u64) -> impl Stream<Item = u64> {
        stream::iter(0..n)
    }

    async fn sum(&self, mut numbers: Streaming<i64>) -> Result<i64, Status> {
        let mut sum = 0_i64;
        while let Some(number) = numbers.next().await {
            sum = sum.wrapping_add(number?);
        }
        Ok(sum)
    }

    fn echo_stream(&self, items: Streaming<Bytes>) -> impl Stream<Item = Result<Bytes, Status>> {
        items
    }

    async fn blob(&self, size: u64) -> Result<Bytes, Status> {
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size <= MAX_BLOB_BYTES);
        let size = size.ok_or_else(|| {
            let message = format!("a blob has {MAX_BLOB_BYTES} bytes at the most");
            Status::new(Code::OUT_OF_RANGE, message)
        })?;
        Ok((0..size).map(|n| n as u8).collect::<Vec<_>>().into())
    }

    async fn sink(&self, data: &[u8]) -> u64 {
        data.len() as u64
    }

    fn forever(&self) -> impl Stream<Item = u64> {
        stream::iter(0..)
    }
}
