//! The answer of a method that returns a topic: what its handler's future does.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::{
    log::{Begin, Log},
    subscriber::{Turn, gone},
    table::Lease,
};
use crate::{connection::Shared, metadata::Metadata, protocol::StreamRef, status::Status};

/// A subscription, from OPEN to its end. Dropping it takes it out of the topic.
pub(crate) struct Feed {
    session: Arc<Shared>,
    stream: StreamRef,
    lease: Arc<Lease>,
    key: u64,
}

impl Feed {
    /// Accepts the call.
    pub(super) fn begin(
        lease: Arc<Lease>,
        session: Arc<Shared>,
        stream: StreamRef,
        begin: Begin,
        metadata: &Metadata,
    ) -> Self {
        let key = lease
            .log()
            .subscribe(session.clone(), stream, begin, metadata);
        Feed {
            session,
            stream,
            lease,
            key,
        }
    }

    /// Writes what waits while the subscriber is behind, and sleeps while it is not. Says with what
    /// the stream ends: a topic has no end of its own.
    pub(crate) async fn run(self) -> Status {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Status> {
        loop {
            let mut waker = Some(cx.waker().clone());
            match self.log().turn(self.key, &mut waker) {
                Some(Turn::Behind) => {}
                Some(Turn::Live) => return Poll::Pending,
                Some(Turn::Ended(status)) => return Poll::Ready(status),
                None => return Poll::Ready(gone()),
            }
            let room = self.session.update(|state, _| {
                let connection = &mut state.connection;
                connection.poll_send(self.stream, cx.waker())
            });
            if ready!(room).is_none() {
                return Poll::Ready(gone());
            }
            self.log().catch_up(self.key);
            // One that has much to catch up with must not hold up everything else.
            ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
        }
    }

    fn log(&self) -> &Log {
        self.lease.log()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.log().unsubscribe(self.key);
    }
}
