//! The items of a stream, at either end: as bytes that come in, and as values that go out.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures::Stream;
use serde::Serialize;

use crate::{
    body::{self, Codec},
    connection::Shared,
    protocol::{
        EncodedItems, FIRST_PIECE_BYTES, Frame, Head, ItemQueue, SendRoom, StreamCredit, StreamRef,
        begin_item, body_too_large, end_item,
    },
    scratch,
    status::{Code, Fate, Status},
};

/// The credit of a stream whose items are taken as they come grows to so many; their bytes stay
/// within what was granted at first.
const MAX_GROWN_ITEMS: u32 = 4096;

/// Items that come in. Takes all that have come under one lock, and gives credit back once half of
/// it is used up.
#[derive(Debug)]
pub(crate) struct IncomingItems {
    session: Arc<Shared>,
    stream: StreamRef,
    taken: ItemQueue,
    /// What the peer may have on its way.
    credit: StreamCredit,
    /// To how many items that may grow.
    max_items: u32,
    used_items: u64,
    used_bytes: u64,
}

impl IncomingItems {
    /// `credit` is what the peer was granted at first.
    pub(crate) fn new(session: Arc<Shared>, stream: StreamRef, credit: StreamCredit) -> Self {
        IncomingItems {
            session,
            stream,
            taken: ItemQueue::default(),
            credit,
            max_items: MAX_GROWN_ITEMS,
            used_items: 0,
            used_bytes: 0,
        }
    }

    /// Never has more on its way than at first: what is not sent yet can still be left out.
    pub(crate) fn without_growth(mut self) -> Self {
        self.max_items = self.credit.items;
        self
    }

    /// Hands the next item's body to `read`. The end is `Ok(None)` if the peer has ended the stream,
    /// and an error if its call was over before.
    pub(crate) fn poll_next<T>(
        &mut self,
        cx: &mut Context<'_>,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Poll<Result<Option<T>, Gone>> {
        if self.taken.is_empty() {
            let taken = &mut self.taken;
            let is_there = ready!(self.session.update(|state, _| {
                let connection = &mut state.connection;
                connection.poll_items(self.stream, cx.waker(), taken)
            }));
            if !is_there {
                return Poll::Ready(Err(Gone));
            }
        }
        let Some((item, bytes)) = self.taken.pop(|body| (read(body), body.len())) else {
            return Poll::Ready(Ok(None));
        };
        self.use_up(bytes);
        Poll::Ready(Ok(Some(item)))
    }

    fn use_up(&mut self, bytes: usize) {
        self.used_items += 1;
        self.used_bytes += bytes as u64;
        let half_of_items = self.used_items * 2 >= u64::from(self.credit.items);
        let half_of_bytes = self.used_bytes * 2 >= u64::from(self.credit.bytes);
        if half_of_items || half_of_bytes {
            let mut items = std::mem::take(&mut self.used_items);
            let bytes = std::mem::take(&mut self.used_bytes);
            let is_short = self.taken.is_empty() && !half_of_bytes;
            if is_short && self.credit.items < self.max_items {
                // Whoever takes all that comes waits for the credit to travel, as a rule.
                let more = self.credit.items.min(self.max_items - self.credit.items);
                items += u64::from(more);
                self.credit.items += more;
            }
            self.session.update(|state, _| {
                state.connection.give_credit(self.stream, items, bytes);
            });
        }
    }

    /// Wants no more.
    pub(crate) fn refuse(&mut self) {
        self.session
            .update(|state, _| state.connection.refuse_items(self.stream));
    }
}

/// The call that a stream belongs to is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// So many items are encoded before they are handed over.
const ITEMS_A_BATCH: usize = 64;

/// And so many bytes of them.
const BATCH_BYTES: usize = 16 << 10;

/// Items that were encoded. They are sent in any case, also when the source panics behind them.
struct Unsent<'a> {
    out: &'a OutgoingItems,
    items: EncodedItems,
}

impl Unsent<'_> {
    fn send(&mut self) {
        if !self.items.ends.is_empty() {
            let shared = &self.out.session;
            shared.update(|state, _| state.connection.send_items(self.out.stream, &self.items));
            self.items.clear();
        }
    }
}

impl Drop for Unsent<'_> {
    fn drop(&mut self) {
        self.send();
    }
}

/// Why no more items of a source are sent.
pub(crate) enum SourceEnd<E> {
    /// It has ended.
    Ended,
    /// With this error.
    Failed(E),
    /// Nobody wants more.
    Gone,
    /// An item cannot be sent.
    NotSent(Status),
}

/// Why no more items are encoded for now.
enum Pulled<E> {
    /// The source has none that is ready.
    Pending,
    /// They are as many as may be sent, or be encoded at a time.
    Enough,
    /// The next has a large body, which is this.
    Large(Vec<u8>),
    End(SourceEnd<E>),
}

/// Items that go out.
#[derive(Debug)]
pub(crate) struct OutgoingItems {
    session: Arc<Shared>,
    stream: StreamRef,
}

impl OutgoingItems {
    pub(crate) fn new(session: Arc<Shared>, stream: StreamRef) -> Self {
        OutgoingItems { session, stream }
    }

    /// Ready when there is credit for an item, and room to write it.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let wanted = self.session.update(|state, _| {
            let connection = &mut state.connection;
            connection.poll_send(self.stream, cx.waker())
        });
        wanted.map(|room| room.map(drop).ok_or(Gone))
    }

    /// Ready when no item is wanted any more.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.update(|state, _| {
            let connection = &mut state.connection;
            connection.poll_stopped(self.stream, cx.waker())
        })
    }

    /// Writes an item, once [`OutgoingItems::poll_ready`] has said that it may be written.
    pub(crate) fn send<T: Serialize>(&self, item: &T) -> Result<(), Status> {
        let mut body = scratch::take();
        let sent = body::encode(self.session.codec, item, &mut body)
            .map_err(|error| Status::new(Code::INTERNAL, error.to_string()))
            .and_then(|()| {
                let shared = &self.session;
                shared.update(|state, _| state.connection.send_item(self.stream, &mut body))
            });
        scratch::put(body);
        sent
    }

    /// Sends the items of a source, as many as are there and as may be sent under one lock.
    ///
    /// Credit comes before the items: a producer is not asked for what cannot be sent.
    pub(crate) async fn send_all<S, T, E>(&self, source: S) -> SourceEnd<E>
    where
        S: Stream<Item = Result<T, E>>,
        T: Serialize,
    {
        let mut source = pin!(source);
        let mut unsent = Unsent {
            out: self,
            items: EncodedItems::default(),
        };
        poll_fn(|cx| {
            loop {
                let room = self.session.update(|state, _| {
                    let connection = &mut state.connection;
                    let max_body_bytes = connection.max_outgoing_body_bytes();
                    let room = connection.poll_send(self.stream, cx.waker());
                    room.map(|room| Some((room?, max_body_bytes)))
                });
                let Some((room, max_body_bytes)) = ready!(room) else {
                    return Poll::Ready(SourceEnd::Gone);
                };
                let items = &mut unsent.items;
                let pulled = self.pull(cx, source.as_mut(), room, max_body_bytes, items);
                unsent.send();
                match pulled {
                    Pulled::End(end) => return Poll::Ready(end),
                    Pulled::Large(mut body) => {
                        let shared = &self.session;
                        let sent = shared
                            .update(|state, _| state.connection.send_item(self.stream, &mut body));
                        if let Err(status) = sent {
                            return Poll::Ready(SourceEnd::NotSent(status));
                        }
                    }
                    Pulled::Enough => {}
                    Pulled::Pending => {
                        ready!(self.poll_gone(cx));
                        return Poll::Ready(SourceEnd::Gone);
                    }
                }
                // An endless stream of items that are there must not hold up everything else.
                ready!(tokio::task::coop::poll_proceed(cx)).made_progress();
            }
        })
        .await
    }

    /// Takes items out of a source, and encodes them.
    fn pull<S, T, E>(
        &self,
        cx: &mut Context<'_>,
        mut source: Pin<&mut S>,
        room: SendRoom,
        max_body_bytes: usize,
        items: &mut EncodedItems,
    ) -> Pulled<E>
    where
        S: Stream<Item = Result<T, E>>,
        T: Serialize,
    {
        while (items.ends.len() as u64) < room.items
            && (items.body_bytes as u64) < room.bytes
            && items.ends.len() < ITEMS_A_BATCH
            && items.frames.len() < BATCH_BYTES
        {
            let item = match source.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(item))) => item,
                Poll::Ready(Some(Err(error))) => return Pulled::End(SourceEnd::Failed(error)),
                Poll::Ready(None) => return Pulled::End(SourceEnd::Ended),
                Poll::Pending => return Pulled::Pending,
            };
            let start = items.frames.len();
            let body = match self.encode(&item, &mut items.frames) {
                Ok(body) => body,
                Err(status) => {
                    items.frames.truncate(start);
                    return Pulled::End(SourceEnd::NotSent(status));
                }
            };
            if body > max_body_bytes || body > FIRST_PIECE_BYTES {
                // It stands at the end, in MessagePack and in JSON before a bracket.
                let end = items.frames.len() - usize::from(self.session.codec == Codec::Json);
                let large = items.frames[end - body..end].to_vec();
                items.frames.truncate(start);
                return match body > max_body_bytes {
                    true => Pulled::End(SourceEnd::NotSent(body_too_large(body, max_body_bytes))),
                    false => Pulled::Large(large),
                };
            }
            items.ends.push(items.frames.len());
            items.body_bytes += body;
        }
        Pulled::Enough
    }

    /// Appends an ITEM, and says how many bytes its body has.
    fn encode<T: Serialize>(&self, item: &T, frames: &mut Vec<u8>) -> Result<usize, Status> {
        let codec = self.session.codec;
        let id = self.stream.id;
        let not_encoded = |error: body::BodyError| Status::new(Code::INTERNAL, error.to_string());
        if codec == Codec::MessagePack {
            let start = begin_item(frames, id);
            body::encode(codec, item, frames).map_err(not_encoded)?;
            let start = end_item(frames, start);
            return Ok(frames.len() - start);
        }
        let mut body = scratch::take();
        body::encode(codec, item, &mut body).map_err(not_encoded)?;
        Frame::with_payload(Head::Item { id }, &body).encode(codec, frames);
        let bytes = body.len();
        scratch::put(body);
        Ok(bytes)
    }

    /// The last item has been sent.
    pub(crate) fn end(&self) {
        self.session
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
            self.items.session.update(|state, wakers| {
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
