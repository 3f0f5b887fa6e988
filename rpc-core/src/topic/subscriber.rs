//! One subscription as its topic sees it: live, or behind.

use std::{sync::Arc, task::Waker};

use super::{
    history::History,
    item::{Item, marker},
    queue::{Pushed, Queue},
    settings::{Bounds, TopicPressure},
};
use crate::{
    body::Codec,
    connection::Shared,
    protocol::{Offered, StreamRef, body_too_large},
    status::{Code, Fate, Status},
};

/// So many items are written to a subscriber that is behind before others have their turn.
const BATCH: usize = 64;

/// A stream to which the items of a topic go.
pub(super) struct Subscriber {
    session: Arc<Shared>,
    stream: StreamRef,
    /// That of the session, which is far away in memory.
    codec: Codec,
    flow: Flow,
    /// The task of the handler that has returned the topic. It sleeps while the subscriber is live.
    pub(super) waker: Option<Waker>,
}

enum Flow {
    /// It has had all that was published, and gets what comes at once.
    Live,
    /// It has had all up to here that it was to get, and reads on in the history.
    Reading { had: u64 },
    /// The same, and the rest waits for it.
    Queued { had: u64, queue: Queue },
    /// Its stream ends with this.
    Ended(Status),
}

/// What became of an item for one subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Sent,
    /// It comes later.
    Waiting,
    /// It, or an older one for it, does not come at all.
    Dropped,
    /// The subscription is over.
    Ended,
}

/// What the task of a subscriber has to do.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing before it is woken.
    Live,
    /// Wait for credit and room, and write what waits.
    Behind,
    /// End the stream.
    Ended(Status),
}

impl Subscriber {
    /// One that has had all up to `had`, of which `last` is the last.
    pub(super) fn new(session: Arc<Shared>, stream: StreamRef, had: u64, last: u64) -> Self {
        let flow = if had == last {
            Flow::Live
        } else {
            Flow::Reading { had }
        };
        Subscriber {
            codec: session.codec,
            session,
            stream,
            flow,
            waker: None,
        }
    }

    /// Hands over an item that was just published.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        item: &Arc<Item>,
        bounds: &Bounds,
        wakers: &mut Vec<Waker>,
    ) -> Delivered {
        match &mut self.flow {
            Flow::Live => match self.offer(item, wakers) {
                Ok(true) => Delivered::Sent,
                Ok(false) => {
                    wakers.extend(self.waker.take());
                    self.fall_behind(item, bounds, wakers)
                }
                Err(status) => self.end(status, wakers),
            },
            Flow::Reading { .. } => Delivered::Waiting,
            Flow::Queued { queue, .. } => match queue.push(item, bounds) {
                Pushed::Kept => Delivered::Waiting,
                Pushed::Dropped => Delivered::Dropped,
                Pushed::Overflow => self.end(too_slow(bounds), wakers),
            },
            Flow::Ended(_) => Delivered::Ended,
        }
    }

    fn fall_behind(
        &mut self,
        item: &Arc<Item>,
        bounds: &Bounds,
        wakers: &mut Vec<Waker>,
    ) -> Delivered {
        let had = item.offset - 1;
        if bounds.pressure == TopicPressure::CatchUp {
            self.flow = Flow::Reading { had };
            return Delivered::Waiting;
        }
        let mut queue = Queue::new(self.session.clone());
        let delivered = match queue.push(item, bounds) {
            Pushed::Kept => Delivered::Waiting,
            Pushed::Dropped => Delivered::Dropped,
            Pushed::Overflow => return self.end(too_slow(bounds), wakers),
        };
        self.flow = Flow::Queued { had, queue };
        delivered
    }

    fn end(&mut self, status: Status, wakers: &mut Vec<Waker>) -> Delivered {
        self.flow = Flow::Ended(status);
        wakers.extend(self.waker.take());
        Delivered::Ended
    }

    /// Says what its task has to do.
    pub(super) fn turn(&self) -> Turn {
        match &self.flow {
            Flow::Live => Turn::Live,
            Flow::Reading { .. } | Flow::Queued { .. } => Turn::Behind,
            Flow::Ended(status) => Turn::Ended(status.clone()),
        }
    }

    /// Writes what waits, as far as it goes now. Once nothing is left the subscriber is live again:
    /// under the same lock, so that nothing is published in between.
    pub(super) fn catch_up(
        &mut self,
        history: &History,
        last: u64,
        bounds: &Bounds,
        wakers: &mut Vec<Waker>,
    ) {
        for _ in 0..BATCH {
            let (next, had) = match &self.flow {
                Flow::Reading { had } => (history.after(*had), *had),
                Flow::Queued { had, queue } => (queue.front(), *had),
                Flow::Live | Flow::Ended(_) => return,
            };
            let Some(item) = next.cloned() else {
                return self.go_live(had, last, wakers);
            };
            let is_reading = matches!(self.flow, Flow::Reading { .. });
            let is_overrun = is_reading && item.offset > had + 1;
            if is_overrun && bounds.pressure == TopicPressure::Disconnect {
                self.end(too_slow(bounds), wakers);
                return;
            }
            match self.offer(&item, wakers) {
                Ok(true) => self.had(item.offset),
                Ok(false) => return,
                Err(status) => {
                    self.end(status, wakers);
                    return;
                }
            }
        }
    }

    fn had(&mut self, offset: u64) {
        match &mut self.flow {
            Flow::Reading { had } => *had = offset,
            Flow::Queued { had, queue } => {
                *had = offset;
                queue.pop();
            }
            Flow::Live | Flow::Ended(_) => {}
        }
    }

    /// Nothing waits. If the last items were left out, the subscriber is told so now, and not when
    /// the next one is published.
    fn go_live(&mut self, had: u64, last: u64, wakers: &mut Vec<Waker>) {
        if had < last {
            let marker = marker(self.codec, last);
            let offered = self.session.update_quietly(wakers, |state, _| {
                state.connection.offer_item(self.stream, &marker)
            });
            match offered {
                Offered::Sent => {}
                Offered::Behind => return,
                Offered::Gone | Offered::TooLarge(_) => {
                    self.end(gone(), wakers);
                    return;
                }
            }
        }
        self.flow = Flow::Live;
    }

    /// Writes an item, if it can go now. An error ends the stream.
    #[inline]
    fn offer(&self, item: &Item, wakers: &mut Vec<Waker>) -> Result<bool, Status> {
        let Some(body) = item.body(self.codec) else {
            return Err(Status::new(
                Code::INTERNAL,
                format!("an item cannot be encoded in {:?}", self.codec),
            ));
        };
        let offered = self.session.update_quietly(wakers, |state, _| {
            state.connection.offer_item(self.stream, body)
        });
        match offered {
            Offered::Sent => Ok(true),
            Offered::Behind => Ok(false),
            Offered::TooLarge(limit) => Err(body_too_large(body.len(), limit)),
            Offered::Gone => Err(gone()),
        }
    }
}

fn too_slow(bounds: &Bounds) -> Status {
    Status::new(
        Code::RESOURCE_EXHAUSTED,
        format!(
            "the subscriber takes the items too slowly: more than {} of them, or {} bytes, wait",
            bounds.queue_items, bounds.queue_bytes
        ),
    )
}

pub(super) fn gone() -> Status {
    Status::new(Code::CANCELLED, "the subscription has ended").with_fate(Fate::Unknown)
}
