//! The stream that a method takes.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use serde::de::DeserializeOwned;

use crate::{
    body,
    body::Codec,
    items::{Gone, IncomingItems},
    status::{Code, Fate, Status},
};

/// A stream of the caller, as an argument of a method: `lines: Streaming<String>`.
///
/// It is a [`Stream`] of `Result<T, Status>`. It ends with `None` when the caller has sent its last
/// item. When the connection breaks or the call is cancelled, the handler is dropped; a `Streaming`
/// that was moved elsewhere yields an error then, and never a `None` that would look like the end.
/// An item that does not decode is an error too, and the last thing that comes.
///
/// Dropping it before its end tells the caller to send no more. Items are taken when they are
/// polled; a handler that stops polling stops its caller once the credit is used up.
pub struct Streaming<T> {
    items: Option<IncomingItems>,
    codec: Codec,
    item: PhantomData<fn() -> T>,
}

impl<T> Streaming<T> {
    pub(crate) fn new(codec: Codec, items: IncomingItems) -> Self {
        Streaming {
            items: Some(items),
            codec,
            item: PhantomData,
        }
    }

    fn give_up(&mut self) {
        if let Some(mut items) = self.items.take() {
            items.refuse();
        }
    }
}

impl<T: DeserializeOwned> Stream for Streaming<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(items) = &mut this.items else {
            return Poll::Ready(None);
        };
        let codec = this.codec;
        match ready!(items.poll_next(cx, |body| body::decode(codec, body))) {
            Ok(Some(item)) => {
                let item = item.map_err(|error| {
                    Status::new(
                        Code::INVALID_ARGUMENT,
                        format!("cannot decode an item: {error}"),
                    )
                });
                if item.is_err() {
                    this.give_up();
                }
                Poll::Ready(Some(item))
            }
            Ok(None) => {
                this.items = None;
                Poll::Ready(None)
            }
            Err(Gone) => {
                this.items = None;
                Poll::Ready(Some(Err(Status::new(
                    Code::CANCELLED,
                    "the call has ended before its stream",
                )
                .with_fate(Fate::Unknown))))
            }
        }
    }
}

impl<T> Unpin for Streaming<T> {}

impl<T> Drop for Streaming<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streaming").finish_non_exhaustive()
    }
}
