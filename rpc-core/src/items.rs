//! The items of a stream, at either end: as bytes that come in, and as values that go out.

use std::{
    collections::VecDeque,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use serde::Serialize;

use crate::{
    body,
    peer::Peer,
    protocol::{StreamCredit, StreamRef},
    scratch,
    status::{Code, Fate, Status},
};

/// Items that come in. Takes all that have come under one lock, and gives credit back once half of
/// it is used up.
#[derive(Debug)]
pub(crate) struct IncomingItems {
    peer: Peer,
    stream: StreamRef,
    taken: VecDeque<Bytes>,
    credit: StreamCredit,
    used_items: u64,
    used_bytes: u64,
}

impl IncomingItems {
    /// `credit` is what the peer was granted at first.
    pub(crate) fn new(peer: Peer, stream: StreamRef, credit: StreamCredit) -> Self {
        IncomingItems {
            peer,
            stream,
            taken: VecDeque::new(),
            credit,
            used_items: 0,
            used_bytes: 0,
        }
    }

    /// The next item's body. The end is `Ok(None)` if the peer has ended the stream, and an error
    /// if its call was over before.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Gone>> {
        if self.taken.is_empty() {
            let taken = &mut self.taken;
            let is_there = ready!(self.peer.shared().update(|state, _| {
                let connection = &mut state.connection;
                connection.poll_items(self.stream, cx.waker(), taken)
            }));
            if !is_there {
                return Poll::Ready(Err(Gone));
            }
        }
        let Some(body) = self.taken.pop_front() else {
            return Poll::Ready(Ok(None));
        };
        self.use_up(body.len());
        Poll::Ready(Ok(Some(body)))
    }

    fn use_up(&mut self, bytes: usize) {
        self.used_items += 1;
        self.used_bytes += bytes as u64;
        let half_of_items = self.used_items * 2 >= u64::from(self.credit.items);
        let half_of_bytes = self.used_bytes * 2 >= u64::from(self.credit.bytes);
        if half_of_items || half_of_bytes {
            let items = std::mem::take(&mut self.used_items);
            let bytes = std::mem::take(&mut self.used_bytes);
            self.peer.shared().update(|state, _| {
                state.connection.give_credit(self.stream, items, bytes);
            });
        }
    }

    /// Wants no more.
    pub(crate) fn refuse(&mut self) {
        self.peer
            .shared()
            .update(|state, _| state.connection.refuse_items(self.stream));
    }
}

/// The call that a stream belongs to is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Items that go out.
#[derive(Debug)]
pub(crate) struct OutgoingItems {
    peer: Peer,
    stream: StreamRef,
}

impl OutgoingItems {
    pub(crate) fn new(peer: Peer, stream: StreamRef) -> Self {
        OutgoingItems { peer, stream }
    }

    /// Ready when there is credit for an item, and room to write it.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let wanted = self.peer.shared().update(|state, _| {
            let connection = &mut state.connection;
            connection.poll_send(self.stream, cx.waker())
        });
        wanted.map(|wanted| if wanted { Ok(()) } else { Err(Gone) })
    }

    /// Ready when no item is wanted any more.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.peer.shared().update(|state, _| {
            let connection = &mut state.connection;
            connection.poll_stopped(self.stream, cx.waker())
        })
    }

    /// Writes an item, once [`OutgoingItems::poll_ready`] has said that it may be written.
    pub(crate) fn send<T: Serialize>(&self, item: &T) -> Result<(), Status> {
        let mut body = scratch::take();
        let sent = body::encode(self.peer.codec(), item, &mut body)
            .map_err(|error| Status::new(Code::INTERNAL, error.to_string()))
            .and_then(|()| {
                let shared = self.peer.shared();
                shared.update(|state, _| state.connection.send_item(self.stream, &mut body))
            });
        scratch::put(body);
        sent
    }

    /// The last item has been sent.
    pub(crate) fn end(&self) {
        self.peer
            .shared()
            .update(|state, _| state.connection.end_items(self.stream));
    }
}

/// Sees to it that a source which stops before its end, be it by a panic, fails its call: the callee
/// would take a part for the whole.
pub(crate) struct SourceGuard {
    items: OutgoingItems,
    status: Option<Status>,
}

impl SourceGuard {
    pub(crate) fn new(items: OutgoingItems) -> Self {
        let panicked = Status::new(Code::INTERNAL, "the source of the items panicked");
        SourceGuard {
            items,
            status: Some(panicked.with_fate(Fate::Unknown)),
        }
    }

    pub(crate) fn items(&self) -> &OutgoingItems {
        &self.items
    }

    /// An item cannot be sent.
    pub(crate) fn fail(mut self, status: Status) {
        self.status = Some(status.with_fate(Fate::Unknown));
    }

    /// The source has ended, or nobody wants more of it.
    pub(crate) fn end(mut self) {
        self.status = None;
        self.items.end();
    }
}

impl Drop for SourceGuard {
    fn drop(&mut self) {
        if let Some(status) = self.status.take() {
            let stream = self.items.stream;
            self.items.peer.shared().update(|state, wakers| {
                state.connection.fail_stream(stream, status, wakers);
            });
        }
    }
}

impl From<Gone> for Status {
    fn from(_: Gone) -> Self {
        Status::new(
            Code::CANCELLED,
            "the call has ended, or wants no more items",
        )
        .with_fate(Fate::Unknown)
    }
}
