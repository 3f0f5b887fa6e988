//! The macros of [Wirecall](https://docs.rs/wirecall): [`macro@service`] and
//! [`macro@RpcError`]. Users reach them through the `wirecall` crate, and everything that they
//! expand to lives under `wirecall::__private`.
//!
//! - `service`: the attribute. `contract` reads and checks the trait, then `trait_item`,
//!   `server`, `client` and `notifier` each write one part of the expansion.
//! - `rpc_error`: the derive.
//! - `errors`: what went wrong, all of it at once; `facade`: the path of the `wirecall` crate.

mod errors;
mod facade;
mod rpc_error;
mod service;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes a trait the contract between two peers.
///
/// The trait stays as it reads. Beside it there are now, for a trait `Chat`:
/// - `ChatServer<S>`, which serves an implementation `S` of the trait: `ChatServer::new(service)`.
/// - `ChatClient`, with a method for each one of the trait, to be called on any peer:
///   `ChatClient::new(&peer)`.
/// - `ChatNotifier`, if the trait has `#[notify]` methods, which sends them to many peers:
///   `ChatNotifier::to(peers)`, also `to(hub.user("alice"))`.
///
/// ```
/// use futures::{Stream, StreamExt as _, stream};
/// use wirecall::{Context, Status, Streaming};
///
/// #[wirecall::service]
/// pub trait Chat {
///     /// Posts a line and returns its number.
///     async fn post(&self, cx: &Context, room: &str, text: &str) -> Result<u64, Status>;
///     /// The lines of a room.
///     async fn lines(&self, room: &str) -> Result<impl Stream<Item = String>, Status>;
///     /// Counts the words of all the lines sent.
///     async fn count(&self, lines: Streaming<String>) -> Result<u64, Status>;
///     /// Somebody has left.
///     #[notify]
///     async fn left(&self, room: &str, who: &str);
/// }
///
/// struct Silent;
///
/// impl Chat for Silent {
///     async fn post(&self, _cx: &Context, _room: &str, _text: &str) -> Result<u64, Status> {
///         Ok(1)
///     }
///     async fn lines(&self, room: &str) -> Result<impl Stream<Item = String>, Status> {
///         Ok(stream::iter([format!("welcome to {room}")]))
///     }
///     async fn count(&self, mut lines: Streaming<String>) -> Result<u64, Status> {
///         let mut words = 0;
///         while let Some(line) = lines.next().await {
///             words += line?.split_whitespace().count() as u64;
///         }
///         Ok(words)
///     }
///     async fn left(&self, _room: &str, _who: &str) {}
/// }
/// let service = ChatServer::new(Silent);
///
/// async fn talk(peer: &wirecall::Peer) -> Result<(), wirecall::CallError<Status>> {
///     let chat = ChatClient::new(peer);
///     chat.post("lobby", "hi").await?;
///     let mut lines = chat.lines("lobby").await?;
///     while let Some(line) = lines.next().await {
///         println!("{}", line?);
///     }
///     let words = chat.count(stream::iter(["one two".to_owned()])).await?;
///     assert_eq!(words, 2);
///     Ok(())
/// }
/// ```
///
/// An implementation needs no attribute: `impl Chat for MyChat { async fn post(…) … }`. Its
/// futures have to be `Send`, and it has to be `Send + Sync + 'static`.
///
/// # Options of the trait
/// - `#[service(name = "Other")]`: the name of the service on the wire, where it is not to be
///   that of the trait.
/// - `#[service(crate = path::to::wirecall)]`: where the `wirecall` crate is, if not at
///   `::wirecall`.
///
/// # Options of a method
/// - `#[notify]`: one-way. The caller learns that it was sent and nothing more, so the method
///   returns nothing. What becomes of it when its peer is behind can be said, see
///   [below](#slow-readers).
/// - `#[rpc(name = "other")]`: the name of the method on the wire.
/// - `#[rpc(spawn)]`: run it in a task of its own at once. Without it, a method is first polled
///   where it arrives, which is cheaper for all that finish or wait soon.
/// - `#[rpc(credit(items = 64, bytes = 1048576))]`: how much of a stream may be on its way before
///   its reader has taken it. Either may be left out, which is that of `StreamCredit::default()`;
///   without the option it is the `Limits::stream_credit` of the end that reads. A caller may send
///   its first items before it knows what the method asks for, so for a stream that is taken the
///   option can give more than the limit and not less. While a reader takes all that comes it is
///   doubled, up to 4,096 items, but for subscriptions to topics: what is not sent can be left out.
/// - `#[rpc(idempotent)]`: to execute a call a second time does no more than to execute it once, as
///   with reading, or with writing a given value. The client knows it, and may repeat a call of
///   which it is not known whether it was executed. Not for notifications and methods with streams.
/// - `#[rpc(scope = "chat.moderate")]`: its caller has to be allowed to do this, as
///   `Identity::has_scope` says when the call is started. Others are refused before the arguments are
///   looked at: `PERMISSION_DENIED`, or `UNAUTHENTICATED` where nobody has said who they are; a
///   notification is dropped. Only a server with an authenticator knows its callers, so it is for
///   methods that a server offers.
///
/// # Methods
/// Each is an `async fn` of `&self` without type parameters, or returns a stream. `cx: &Context`, at any place, is not
/// on the wire and not in the client. Up to twelve others are, and each is one of
/// - `T`, that implements serde's `Serialize` and `Deserialize` and is `Send`,
/// - `&str` or `&[u8]`, which are decoded without a copy where the encoding allows it,
/// - `&T` or `&[T]`, decoded as a `T` or a `Vec<T>`,
/// - `Option<&str>` or `Option<&[u8]>`.
///
/// What is returned is `Result<T, E>`, where `E` is an `RpcError`, or any other type, and
/// owned.
///
/// # Streams
/// - A method returns one as `impl Stream<Item = T>`. It may be refused, as
///   `Result<impl Stream<Item = T>, E>`, and it may fail, as `impl Stream<Item = Result<T, E>>`,
///   or both, with one type of error. If the stream is there at once the method need not be
///   `async`. Streams have to be `Send`, and may borrow `self` and the arguments. In the client it
///   is a `StreamCall`, to be awaited for a `ResponseStream`.
/// - A method takes one as an argument `Streaming<T>`, at any place and at most one. In the client
///   it is a stream of `T` that is `Send + 'static`, or `BySender`; the call is an `UploadCall`.
/// - If it does both, it is a `DuplexCall`.
///
/// A notification has no streams.
///
/// # Slow readers
/// A peer is behind with notifications when it has given no credit for more, since it has not handled
/// those before, or when too much waits to be written to it (`Limits::outbound_queue_bytes`). As a rule
/// a sender to one peer waits then, up to its default deadline, and a notifier leaves the peer out, as
/// `Delivery` tells. For a notification that is sent often, one of these says something better; with it
/// nobody ever waits for credit.
///
/// | | what becomes of it when the peer is behind |
/// | --- | --- |
/// | `#[notify(drop_newest)]` | it is dropped |
/// | `#[notify(drop_oldest)]` | it is kept until the peer has caught up; when too much is kept, the oldest is dropped |
/// | `#[notify(conflate(symbol))]` | it is kept, in the place of the one before with the same `symbol` |
/// | `#[notify(conflate)]` | it is kept, in the place of the one before |
/// | `#[notify(disconnect)]` | the peer's session ends, with the close code 4106; its client begins another one, and so knows that it has missed something |
/// | `#[notify(volatile)]` | it is dropped, and also where there is no connection at the moment |
///
/// - What is kept is bounded by `Limits::backlog_bytes` for each session, all methods together. To make
///   room, the oldest of those with `drop_oldest` go; if that does not do, the new one is dropped. It is
///   lost when the session ends.
/// - The key of `conflate(symbol)` is an argument of the method, compared as it is encoded. The latest
///   of a key goes when it would have been the turn of the first.
/// - A volatile notification takes no credit, and none is ever sent twice. Positions and progress are
///   of that kind: the next one makes up for it. Its arguments have 64 KiB at the most, or sending it
///   fails with `RESOURCE_EXHAUSTED`. Where the reader is slower than its network, it is the reader's
///   end that drops it.
/// - Notifications of one method come in the order in which they were sent, and so do all of those with
///   `drop_oldest` and `conflate` that one peer is sent while it is behind. Beyond that, one of a
///   method that waits may come behind a later one of another method, and a volatile one before or
///   behind any other.
///
/// ```
/// #[wirecall::service]
/// trait Market {
///     #[notify(conflate(symbol))]
///     async fn price(&self, symbol: &str, cents: u64);
///     #[notify(drop_oldest)]
///     async fn traded(&self, symbol: &str, count: u64);
///     #[notify(volatile)]
///     async fn pointer(&self, x: f64, y: f64);
/// }
/// ```
///
/// # Generic traits
/// `trait Store<T>` gives `StoreServer<S, T>`, `StoreClient<T>` and `StoreNotifier<T>`. Type
/// parameters have to be `Serialize + DeserializeOwned + Send + Sync + 'static`, beside what the
/// trait asks of them. (A method with a default body may need `T: Send` in the trait itself.)
/// Lifetime parameters, associated types and associated constants are errors.
#[proc_macro_attribute]
pub fn service(options: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(options.into(), item.into()).into()
}

/// Lets a type be the error of a method.
///
/// The type, an enum or a struct, also implements serde's `Serialize` and `Deserialize` and
/// `Display`. Its text becomes the message, `#[rpc(code = …)]` says what the code is, and the
/// value itself reaches the caller.
///
/// ```
/// #[derive(Debug, thiserror::Error, serde::Serialize, serde::Deserialize, wirecall::RpcError)]
/// enum ChatError {
///     #[error("no room {0:?}")]
///     #[rpc(code = NOT_FOUND)]
///     NoRoom(String),
///     #[error("{who} is muted")]
///     #[rpc(code = 64)]
///     Muted { who: String },
/// }
/// ```
///
/// # Options
/// - `#[rpc(code = NOT_FOUND)]`, on the type or on a variant: a constant of `wirecall::Code`. A
///   variant without one has that of its type, and a type without one `UNKNOWN`.
/// - `#[rpc(code = 64)]`: the same as a number. 1 to 16 are the constants of `Code`, 64 to 65535
///   belong to the application, and the others cannot be used.
/// - `#[rpc(crate = path::to::wirecall)]`, on the type: where the `wirecall` crate is, if not at
///   `::wirecall`.
#[proc_macro_derive(RpcError, attributes(rpc))]
pub fn rpc_error(item: TokenStream) -> TokenStream {
    rpc_error::expand(item.into()).into()
}
