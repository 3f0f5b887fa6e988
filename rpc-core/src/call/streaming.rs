//! Calls with a stream: down, up, or both.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    PendingCall, call_options,
    raw::{RawCall, Unsent, not_encoded},
    response_stream::ResponseStream,
    sending::{BySender, ItemSender, spawn_pump},
};
use crate::{
    body,
    error::{CallError, RpcError},
    metadata::MetadataValue,
    method::Methods,
    peer::Peer,
    priority::Priority,
    protocol::{MethodKind, StreamCredit, StreamRef, StreamSpec},
    status::Status,
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

/// A call that sends a stream and has one answer, that a stub has made ready. Await it to make it:
/// the stream is polled in a task of its own, until its end or that of the call.
#[must_use = "a call is made when it is awaited or opened"]
pub struct UploadCall<A, S, I, T, E = Infallible> {
    pub(super) raw: RawCall,
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
        let sender = ItemSender::new(raw.session().clone(), stream);
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
        let sender = ItemSender::new(raw.session().clone(), stream);
        Ok((
            sender,
            PendingStream::new(raw.only_once(), credit, Unsent::nothing()),
        ))
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

pub(super) fn raw_call(
    peer: &Peer,
    methods: &Methods,
    index: usize,
    kind: MethodKind,
    credit: Option<StreamCredit>,
) -> (RawCall, StreamCredit) {
    let announced = peer.with_session(|session| session.limits.stream_credit);
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
    let started = poll_fn(|cx| {
        let codec = raw.codec();
        raw.poll_sent(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        })
    })
    .await?;
    Ok(raw.stream(started))
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
    UploadCall<A, S, I, T, E>,
    DuplexCall<A, S, I, T, E>,
}

/// Arguments and sources are never pinned before they are moved to where they are polled.
impl<A, T, E> Unpin for StreamCall<A, T, E> {}
impl<T, E> Unpin for PendingStream<T, E> {}
impl<A, S, I, T, E> Unpin for UploadCall<A, S, I, T, E> {}
impl<A, S, I, T, E> Unpin for DuplexCall<A, S, I, T, E> {}
