//! A call that subscribes to a topic.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    call_options,
    raw::{RawCall, not_encoded},
    streaming::raw_call,
    subscription::Subscription,
};
use crate::{
    body,
    error::{CallError, RpcError},
    metadata::MetadataValue,
    method::Methods,
    peer::Peer,
    priority::Priority,
    protocol::{MethodKind, StreamCredit, TopicPosition},
};

/// How much of a subscription may be on its way, unless its method says otherwise: items are small
/// as a rule, and come in bursts.
const CREDIT: StreamCredit = StreamCredit {
    items: 256,
    bytes: 256 << 10,
};

/// Arguments up to this size are kept, to subscribe again with them.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// A call whose answer is a topic, that a stub has made ready. Await it to subscribe.
///
/// It is ready when the callee has accepted the call. Until then it is like a
/// [`Call`](super::Call): dropping it cancels it, and its deadline holds.
#[must_use = "a call is made when it is awaited"]
pub struct TopicCall<A, T, E = Infallible> {
    raw: RawCall,
    credit: StreamCredit,
    arguments: A,
    /// As they were sent last.
    encoded: Option<Vec<u8>>,
    timeout: Option<Duration>,
    result: PhantomData<fn() -> (T, E)>,
}

call_options!(TopicCall<A, T, E>);

impl<A, T, E> TopicCall<A, T, E>
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
        let credit = Some(credit.unwrap_or(CREDIT));
        let kind = MethodKind::ServerStreaming;
        let (raw, credit) = raw_call(peer, methods, index, kind, credit);
        TopicCall {
            raw,
            credit,
            arguments,
            encoded: None,
            timeout: None,
            result: PhantomData,
        }
    }

    /// Goes on behind this place, where an earlier subscription was, perhaps in another process:
    /// [`Subscription::position`]. What became of what was published since is the first thing that
    /// comes.
    pub fn since(mut self, position: TopicPosition) -> Self {
        self.raw.options().position = Some(position);
        self
    }
}

impl<A, T, E> Future for TopicCall<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<Subscription<T, E>, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let codec = this.raw.codec();
        this.timeout = this.timeout.or(this.raw.timeout());
        let (arguments, encoded) = (&this.arguments, &mut this.encoded);
        let opened = this.raw.poll_open(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)?;
            *encoded = (out.len() <= MAX_KEPT_BYTES).then(|| out.clone());
            Ok(())
        });
        let stream = ready!(opened)?;
        let arguments = this.encoded.take();
        Poll::Ready(Subscription::begin(
            this.raw.take(),
            stream,
            this.credit,
            arguments,
            this.timeout,
        ))
    }
}

/// The arguments are never pinned.
impl<A, T, E> Unpin for TopicCall<A, T, E> {}

impl<A, T, E> fmt::Debug for TopicCall<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("TopicCall", f)
    }
}
