//! The stream that a call sends: by hand, or out of a source.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{Sink, Stream, StreamExt as _};
use serde::Serialize;

use super::raw::RawCall;
use crate::{
    connection::Shared,
    items::{OutgoingItems, SourceEnd, SourceGuard},
    protocol::StreamRef,
    status::Status,
};

/// In the place of the stream that a stub's method takes: the items will be sent by hand, with the
/// [`ItemSender`] that [`UploadCall::open`](super::UploadCall::open) or
/// [`DuplexCall::open`](super::DuplexCall::open) returns.
#[derive(Clone, Copy, Debug, Default)]
pub struct BySender;

/// Sends the items of a call that was opened with [`BySender`].
///
/// It is a [`Sink`] too. Dropping it ends the stream, like [`ItemSender::finish`].
pub struct ItemSender<I> {
    items: OutgoingItems,
    item: PhantomData<fn(I)>,
}

impl<I: Serialize> ItemSender<I> {
    pub(super) fn new(session: Arc<Shared>, stream: StreamRef) -> Self {
        ItemSender {
            items: OutgoingItems::new(session, stream),
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

impl<I> fmt::Debug for ItemSender<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ItemSender").finish_non_exhaustive()
    }
}

impl<I> Unpin for ItemSender<I> {}

/// Sends the items of a source in a task of its own.
pub(super) fn spawn_pump<S>(raw: &RawCall, source: S, stream: StreamRef)
where
    S: Stream + Send + 'static,
    S::Item: Serialize + Send,
{
    let items = OutgoingItems::new(raw.session().clone(), stream);
    tokio::spawn(pump(source, SourceGuard::new(items)));
}

/// Sends the items of a stream until it ends, or until nobody wants them.
async fn pump<S>(source: S, guard: SourceGuard)
where
    S: Stream,
    S::Item: Serialize,
{
    let items = source.map(Ok::<_, Infallible>);
    match guard.items().send_all(items).await {
        SourceEnd::NotSent(status) => guard.fail(status),
        SourceEnd::Ended | SourceEnd::Gone => guard.end(),
    }
}
