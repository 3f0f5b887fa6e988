//! The stream that a call is answered with.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use serde::de::DeserializeOwned;

use super::raw::RawCall;
use crate::{
    body,
    error::{CallError, RpcError},
    items::{Gone, IncomingItems},
    metadata::Metadata,
    protocol::{StreamCredit, StreamRef},
    status::{Code, Status},
};

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
    pub(super) fn new(raw: RawCall, stream: StreamRef, credit: StreamCredit) -> Self {
        let items = IncomingItems::new(raw.session().clone(), stream, credit);
        ResponseStream {
            raw,
            items: Some(items),
            result: PhantomData,
        }
    }

    /// What the callee sent along when it accepted the call.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.raw.metadata
    }
}

impl<T: DeserializeOwned, E: RpcError> Stream for ResponseStream<T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(items) = &mut this.items else {
            return Poll::Ready(None);
        };
        let codec = this.raw.codec();
        let item = match ready!(items.poll_next(cx, |body| body::decode(codec, body))) {
            Ok(Some(item)) => item.map_err(|error| {
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

impl<T, E> fmt::Debug for ResponseStream<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("ResponseStream", f)
    }
}
