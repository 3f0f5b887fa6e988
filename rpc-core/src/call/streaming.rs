//! Calls with a stream: down, up, or both.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Sink, Stream, StreamExt as _, future};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    PendingCall, call_options,
    raw::{RawCall, Unsent, not_encoded},
};
use crate::{
    body,
    error::{CallError, RpcError},
    items::{Gone, IncomingItems, OutgoingItems, SourceGuard},
    metadata::MetadataValue,
    method::Methods,
    peer::Peer,
    protocol::{MethodKind, StreamCredit, StreamRef, StreamSpec},
    status::{Code, Status},
};

/// Types that come out of a call, and are in none of its fields.
type Types<T> = PhantomData<fn() -> T>;

/// A call whose answer is a stream, that a stub has made ready. Await it to make it.
///
/// It is ready when the callee has accepted the call, not when the first item comes. Until then it
/// is like a [`Call`](super::Call): dropping it cancels it, and its deadline holds.
#[must_use = "a call is made when it is awaited or started"]
pub struct StreamCall<A, T, E = Infallible> {
    raw: RawCall,
    credit: StreamCredit,
    arguments: A,
    result: PhantomData<fn() -> (T, E)>,
}

call_options!(StreamCall<A, T, E>);

impl<A, T, E> StreamCall<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    #[doc(hidden)]
    pub fn new(
        peer: &Peer,
        methods: &Methods,
        index: usize,
        credit: Option<StreamCredit>,
        arguments: A,
    ) -> Self {
        let kind = MethodKind::ServerStreaming;
        let (raw, credit) = raw_call(peer, methods, index, kind, credit);
        StreamCall {
            raw,
            credit,
            arguments,
            result: PhantomData,
        }
    }

    /// Sends the request now and returns a handle to await the stream with, which borrows nothing.
    pub fn start(self) -> PendingStream<T, E> {
        let StreamCall {
            mut raw,
            credit,
            arguments,
            ..
        } = self;
        let unsent = raw.start(&arguments);
        PendingStream::new(raw, credit, unsent)
    }
}

impl<A, T, E> Future for StreamCall<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<ResponseStream<T, E>, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let codec = this.raw.codec();
        let arguments = &this.arguments;
        let opened = this.raw.poll_open(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        });
        opened.map_ok(|stream| ResponseStream::new(this.raw.take(), stream, this.credit))
    }
}

/// A call whose answer is a stream, that has been started. Await it for the stream; dropping it
/// cancels the call.
#[must_use = "dropping a call cancels it"]
pub struct PendingStream<T, E = Infallible> {
    raw: RawCall,
    credit: StreamCredit,
    unsent: Unsent,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T, E> PendingStream<T, E> {
    fn new(raw: RawCall, credit: StreamCredit, unsent: Unsent) -> Self {
        PendingStream {
            raw,
            credit,
            unsent,
            result: PhantomData,
        }
    }
}

impl<T: DeserializeOwned, E: RpcError> Future for PendingStream<T, E> {
    type Output = Result<ResponseStream<T, E>, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let unsent = &this.unsent;
        let opened = this.raw.poll_open(cx, |out| unsent.write(out));
        opened.map_ok(|stream| ResponseStream::new(this.raw.take(), stream, this.credit))
    }
}

/// The stream that a method answers with: a [`Stream`] of `Result<T, CallError<E>>`.
///
/// It ends with `None` when the callee has ended it well. An error is the last thing that comes,
/// be it the method's own or the loss of the connection. Dropping the stream cancels the call: the
/// callee drops what produces the items.
///
/// Items are taken when they are polled. A reader that stops polling stops the producer once the
/// credit is used up, and nothing else on the connection.
pub struct ResponseStream<T, E = Infallible> {
    raw: RawCall,
    /// None once the stream has ended.
    items: Option<IncomingItems>,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T, E> ResponseStream<T, E> {
    fn new(raw: RawCall, stream: StreamRef, credit: StreamCredit) -> Self {
        let items = IncomingItems::new(raw.peer().clone(), stream, credit);
        ResponseStream {
            raw,
            items: Some(items),
            result: PhantomData,
        }
    }
}

impl<T: DeserializeOwned, E: RpcError> Stream for ResponseStream<T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(items) = &mut this.items else {
            return Poll::Ready(None);
        };
        let item = match ready!(items.poll_next(cx)) {
            Ok(Some(body)) => body::decode(this.raw.codec(), &body).map_err(|error| {
                // What comes behind it is of no use to anyone.
                this.raw.cancel();
                CallError::Status(Status::new(
                    Code::INTERNAL,
                    format!("cannot decode an item: {error}"),
                ))
            }),
            Ok(None) | Err(Gone) => match ready!(this.raw.poll_end(cx)) {
                Ok(()) => {
                    this.items = None;
                    return Poll::Ready(None);
                }
                Err(error) => Err(error),
            },
        };
        if item.is_err() {
            this.items = None;
        }
        Poll::Ready(Some(item))
    }
}

impl<T, E> Unpin for ResponseStream<T, E> {}

/// In the place of the stream that a stub's method takes: the items will be sent by hand, with the
/// [`ItemSender`] that [`UploadCall::open`] or [`DuplexCall::open`] returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct BySender;

/// A call that sends a stream and has one answer, that a stub has made ready. Await it to make it:
/// the stream is polled in a task of its own, until its end or that of the call.
#[must_use = "a call is made when it is awaited or opened"]
pub struct UploadCall<A, S, I, T, E = Infallible> {
    raw: RawCall,
    arguments: A,
    source: Option<S>,
    result: Types<(I, T, E)>,
}

call_options!(UploadCall<A, S, I, T, E>);

impl<A, S, I, T, E> UploadCall<A, S, I, T, E>
where
    A: Serialize,
    I: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    #[doc(hidden)]
    pub fn new(peer: &Peer, methods: &Methods, index: usize, arguments: A, source: S) -> Self {
        let kind = MethodKind::ClientStreaming;
        let (raw, _) = raw_call(peer, methods, index, kind, None);
        UploadCall {
            raw,
            arguments,
            source: Some(source),
            result: PhantomData,
        }
    }
}

impl<A, I, T, E> UploadCall<A, BySender, I, T, E>
where
    A: Serialize,
    I: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    /// Sends the request, as soon as there is room in flight, and returns the sender of the items
    /// and the answer to wait for. Both borrow nothing.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn open(self) -> Result<(ItemSender<I>, PendingCall<T, E>), CallError<E>> {
        let UploadCall {
            mut raw, arguments, ..
        } = self;
        let stream = sent(&mut raw, &arguments).await?;
        let sender = ItemSender::new(raw.peer().clone(), stream);
        Ok((sender, PendingCall::sent(raw)))
    }
}

impl<A, S, I, T, E> Future for UploadCall<A, S, I, T, E>
where
    A: Serialize,
    S: Stream<Item = I> + Send + 'static,
    I: Serialize + Send + 'static,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let codec = this.raw.codec();
        let arguments = &this.arguments;
        let started = ready!(this.raw.poll_sent(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        }))?;
        if let Some(source) = this.source.take() {
            let stream = this.raw.stream(started);
            spawn_pump(&this.raw, source, stream);
        }
        this.raw.poll_answer(cx, started)
    }
}

/// A call with a stream each way, that a stub has made ready. Await it to make it: it is ready when
/// the callee has accepted it; the stream that is sent is polled in a task of its own, until its
/// end or that of the call.
#[must_use = "a call is made when it is awaited or opened"]
pub struct DuplexCall<A, S, I, T, E = Infallible> {
    raw: RawCall,
    credit: StreamCredit,
    arguments: A,
    source: Option<S>,
    result: Types<(I, T, E)>,
}

call_options!(DuplexCall<A, S, I, T, E>);

impl<A, S, I, T, E> DuplexCall<A, S, I, T, E>
where
    A: Serialize,
    I: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    #[doc(hidden)]
    pub fn new(
        peer: &Peer,
        methods: &Methods,
        index: usize,
        credit: Option<StreamCredit>,
        arguments: A,
        source: S,
    ) -> Self {
        let kind = MethodKind::Bidirectional;
        let (raw, credit) = raw_call(peer, methods, index, kind, credit);
        DuplexCall {
            raw,
            credit,
            arguments,
            source: Some(source),
            result: PhantomData,
        }
    }
}

impl<A, I, T, E> DuplexCall<A, BySender, I, T, E>
where
    A: Serialize,
    I: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    /// Sends the request, as soon as there is room in flight, and returns the sender of the items
    /// and the stream to wait for. Both borrow nothing.
    ///
    /// # Errors
    /// When the request cannot be sent.
    pub async fn open(self) -> Result<(ItemSender<I>, PendingStream<T, E>), CallError<E>> {
        let DuplexCall {
            mut raw,
            credit,
            arguments,
            ..
        } = self;
        let stream = sent(&mut raw, &arguments).await?;
        let sender = ItemSender::new(raw.peer().clone(), stream);
        Ok((sender, PendingStream::new(raw, credit, Unsent::nothing())))
    }
}

impl<A, S, I, T, E> Future for DuplexCall<A, S, I, T, E>
where
    A: Serialize,
    S: Stream<Item = I> + Send + 'static,
    I: Serialize + Send + 'static,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<ResponseStream<T, E>, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let codec = this.raw.codec();
        let arguments = &this.arguments;
        let started = ready!(this.raw.poll_sent(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        }))?;
        if let Some(source) = this.source.take() {
            let stream = this.raw.stream(started);
            spawn_pump(&this.raw, source, stream);
        }
        let opened = this.raw.poll_open(cx, |_| Ok(()));
        opened.map_ok(|stream| ResponseStream::new(this.raw.take(), stream, this.credit))
    }
}

/// Sends the items of a call that was opened with [`BySender`].
///
/// It is a [`Sink`] too. Dropping it ends the stream, like [`ItemSender::finish`].
pub struct ItemSender<I> {
    items: OutgoingItems,
    item: PhantomData<fn(I)>,
}

impl<I: Serialize> ItemSender<I> {
    fn new(peer: Peer, stream: StreamRef) -> Self {
        ItemSender {
            items: OutgoingItems::new(peer, stream),
            item: PhantomData,
        }
    }

    /// Sends an item, once there is credit for it.
    ///
    /// Cancel safe: the item is sent or not.
    ///
    /// # Errors
    /// `CANCELLED` when the call is over or its handler wants no more items; the answer says why.
    /// `INTERNAL` or `RESOURCE_EXHAUSTED` when the item cannot be encoded or is too large; then
    /// others may still be sent.
    pub async fn send(&mut self, item: I) -> Result<(), Status> {
        poll_fn(|cx| self.items.poll_ready(cx)).await?;
        self.items.send(&item)
    }

    /// Waits until no item is wanted any more.
    ///
    /// Cancel safe.
    pub async fn closed(&self) {
        poll_fn(|cx| self.items.poll_gone(cx)).await;
    }

    /// Ends the stream. What was sent before still arrives.
    pub fn finish(self) {}
}

impl<I: Serialize> Sink<I> for ItemSender<I> {
    type Error = Status;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.items.poll_ready(cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, item: I) -> Result<(), Status> {
        self.items.send(&item)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.items.end();
        Poll::Ready(Ok(()))
    }
}

impl<I> Drop for ItemSender<I> {
    fn drop(&mut self) {
        self.items.end();
    }
}

fn raw_call(
    peer: &Peer,
    methods: &Methods,
    index: usize,
    kind: MethodKind,
    credit: Option<StreamCredit>,
) -> (RawCall, StreamCredit) {
    let announced = peer.shared().limits.stream_credit;
    let spec = StreamSpec {
        kind,
        credit: credit.unwrap_or(announced),
    };
    let mut raw = RawCall::new(peer, methods, index, Some(spec));
    raw.options().streams = Some(kind.streams());
    if kind.returns_stream() && spec.credit != announced {
        raw.options().credit = Some(spec.credit);
    }
    (raw, spec.credit)
}

async fn sent<A: Serialize>(raw: &mut RawCall, arguments: &A) -> Result<StreamRef, Status> {
    let codec = raw.codec();
    let started = poll_fn(|cx| {
        raw.poll_sent(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        })
    })
    .await?;
    Ok(raw.stream(started))
}

fn spawn_pump<S>(raw: &RawCall, source: S, stream: StreamRef)
where
    S: Stream + Send + 'static,
    S::Item: Serialize + Send,
{
    let items = OutgoingItems::new(raw.peer().clone(), stream);
    tokio::spawn(pump(source, SourceGuard::new(items)));
}

/// Sends the items of a stream until it ends, or until nobody wants them.
async fn pump<S>(source: S, guard: SourceGuard)
where
    S: Stream,
    S::Item: Serialize,
{
    let items = guard.items();
    let mut source = pin!(source);
    // Credit before the item: a producer is not asked for what cannot be sent.
    while poll_fn(|cx| items.poll_ready(cx)).await.is_ok() {
        let gone = poll_fn(|cx| items.poll_gone(cx));
        let future::Either::Left((Some(item), _)) = future::select(source.next(), gone).await
        else {
            break;
        };
        if let Err(status) = items.send(&item) {
            guard.fail(status);
            return;
        }
        tokio::task::coop::consume_budget().await;
    }
    guard.end();
}

macro_rules! debug {
    ($($call:ident<$($parameter:ident),*>,)*) => {
        $(
            impl<$($parameter),*> fmt::Debug for $call<$($parameter),*> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    self.raw.fmt(stringify!($call), f)
                }
            }
        )*
    };
}

debug! {
    StreamCall<A, T, E>,
    PendingStream<T, E>,
    ResponseStream<T, E>,
    UploadCall<A, S, I, T, E>,
    DuplexCall<A, S, I, T, E>,
}

impl<I> fmt::Debug for ItemSender<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSender").finish_non_exhaustive()
    }
}

/// Arguments and sources are never pinned before they are moved to where they are polled.
impl<A, T, E> Unpin for StreamCall<A, T, E> {}
impl<T, E> Unpin for PendingStream<T, E> {}
impl<A, S, I, T, E> Unpin for UploadCall<A, S, I, T, E> {}
impl<A, S, I, T, E> Unpin for DuplexCall<A, S, I, T, E> {}
impl<I> Unpin for ItemSender<I> {}
