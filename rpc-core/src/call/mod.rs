//! Calls from this end: what a stub's methods return.
//!
//! - [`Call`], [`PendingCall`]: one request, one response
//! - `streaming`: [`StreamCall`], [`UploadCall`] and [`DuplexCall`], with a stream down, up, or both
//! - [`ResponseStream`] and [`ItemSender`]: the streams of such calls
//! - [`TopicCall`] and [`Subscription`]: subscribes to a topic, and what comes of that
//! - [`WithMetadata`]: the answer together with what came along with it
//! - `raw`: what they have in common, without the types

mod raw;
mod response_stream;
mod sending;
mod streaming;
mod subscribing;
mod subscription;
mod with_metadata;

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    body,
    error::{CallError, RpcError},
    metadata::MetadataValue,
    method::Methods,
    peer::Peer,
    priority::Priority,
};
use raw::{RawCall, Unsent, not_encoded};
pub use response_stream::ResponseStream;
pub use sending::{BySender, ItemSender};
pub use streaming::{DuplexCall, PendingStream, StreamCall, UploadCall};
pub use subscribing::TopicCall;
pub use subscription::{Subscription, Update, Values};
pub use with_metadata::WithMetadata;

/// What can be said of a call of any shape before it is made.
macro_rules! call_options {
    ($call:ident<$($parameter:ident),*>) => {
        impl<$($parameter),*> $call<$($parameter),*> {
            /// Gives the call this long, instead of the connection's default deadline. The peer is
            /// told, and stops the handler then. [`Duration::MAX`] lets the call take forever.
            ///
            /// The time runs from when the call is made; for a call with a stream it runs until
            /// the callee has accepted it. After it the call fails with `DEADLINE_EXCEEDED`.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.raw.set_timeout(timeout);
                self
            }

            /// What is to go first when more waits to be written than the connection can take: it
            /// holds for the frames of this call, in both directions.
            pub fn priority(mut self, priority: Priority) -> Self {
                self.raw.options().priority = priority;
                self
            }

            /// Sends an entry of [`Metadata`](crate::Metadata) along. The last one of a key counts.
            ///
            /// A bad key or too much metadata fails the call with `INVALID_ARGUMENT` or
            /// `RESOURCE_EXHAUSTED` before anything is sent.
            pub fn metadata(mut self, key: &str, value: impl Into<MetadataValue>) -> Self {
                self.raw.options().metadata.insert(key, value.into());
                self
            }
        }
    };
}
use call_options;

/// A call that a stub has made ready. Await it to make it.
///
/// Nothing is sent before the first poll, or [`Call::start`]. Dropping it after that cancels the
/// call: the peer is told, and drops the handler at its next await.
///
/// The call fails with [`CallError::Method`] if the method returned its error and with
/// [`CallError::Status`] for anything else; see [`Fate`](crate::Fate) for what is known of its execution then.
#[must_use = "a call is made when it is awaited or started"]
pub struct Call<A, T, E = Infallible> {
    raw: RawCall,
    arguments: A,
    result: PhantomData<fn() -> (T, E)>,
}

call_options!(Call<A, T, E>);

impl<A, T, E> Call<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    #[doc(hidden)]
    #[inline]
    pub fn new(peer: &Peer, methods: &Methods, index: usize, arguments: A) -> Self {
        Call {
            raw: RawCall::new(peer, methods, index, None),
            arguments,
            result: PhantomData,
        }
    }

    /// Has the call executed once, however often it is repeated with the same key: also on another
    /// connection, when nothing is known of what became of it on the first one. 1 to 128 bytes of
    /// printable ASCII without blanks; another one fails the call with `INVALID_ARGUMENT` before
    /// anything is sent.
    ///
    /// The callee executes the first call of a method with this key to its end, whatever becomes of
    /// the call and of its connection. A repetition gets that call's answer, be it a result, with
    /// its metadata, or an error. It has to have the same arguments. How long that holds, and for
    /// what, the callee says with [`KeptResults`](crate::KeptResults); it does not outlive the
    /// callee's process.
    ///
    /// Whoever uses the same key gets the same answer: take something that nobody else comes up
    /// with, such as a random UUID, and take another one for another call.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.raw.options().idempotency_key = Some(key.into().into());
        self
    }

    /// Sends the request now and returns a handle to wait for the answer with, which borrows
    /// nothing. If as many calls are in flight as the peer allows, the request is sent once the
    /// handle is polled and there is room.
    ///
    /// Dropping the handle cancels the call.
    pub fn start(self) -> PendingCall<T, E> {
        let Call {
            mut raw, arguments, ..
        } = self;
        let unsent = raw.start(&arguments);
        PendingCall {
            raw,
            unsent,
            result: PhantomData,
        }
    }
}

impl<A, T, E> Future for Call<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<T, CallError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Call { raw, arguments, .. } = self.get_mut();
        let codec = raw.codec();
        raw.poll(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        })
    }
}

/// The arguments are never pinned.
impl<A, T, E> Unpin for Call<A, T, E> {}

impl<A, T, E> fmt::Debug for Call<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("Call", f)
    }
}

/// A call that has been started. Await it for the answer; dropping it cancels the call.
#[must_use = "dropping a call cancels it"]
pub struct PendingCall<T, E = Infallible> {
    raw: RawCall,
    unsent: Unsent,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T, E> PendingCall<T, E> {
    /// For a call that was sent.
    fn sent(raw: RawCall) -> Self {
        PendingCall {
            raw: raw.only_once(),
            unsent: Unsent::nothing(),
            result: PhantomData,
        }
    }
}

impl<T: DeserializeOwned, E: RpcError> Future for PendingCall<T, E> {
    type Output = Result<T, CallError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let PendingCall { raw, unsent, .. } = self.get_mut();
        raw.poll(cx, |out| unsent.write(out))
    }
}

impl<T, E> Unpin for PendingCall<T, E> {}

impl<T, E> fmt::Debug for PendingCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("PendingCall", f)
    }
}
