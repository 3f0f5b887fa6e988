//! Subscriptions: streams whose items are the same for many connections.

use std::task::Waker;

use bytes::Bytes;

use super::{Connection, StreamRef};
use crate::protocol::{
    frame::{Frame, Head},
    large::FIRST_PIECE_BYTES,
    topic::{Opening, TopicPosition},
};

/// What became of an item that was offered to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It waits to be written.
    Sent,
    /// There is no credit for it, or too much waits to be written.
    Behind,
    /// It is larger than the peer takes: so many bytes are the limit.
    TooLarge(usize),
    /// Nobody wants it any more.
    Gone,
}

impl Connection {
    /// The position that the subscriber came with.
    pub(crate) fn asked_position(&mut self, stream: StreamRef) -> Option<TopicPosition> {
        self.streams(stream)?.asked
    }

    /// Where the subscription begins, for its caller, as OPEN has said.
    pub(crate) fn take_opening(&mut self, stream: StreamRef) -> Option<Opening> {
        self.streams(stream)?.opened_at.take()
    }

    /// Wakes whoever waits for an item of a call of this end.
    pub(crate) fn wake_readers(&mut self, wakers: &mut Vec<Waker>) {
        self.calls.wake_readers(wakers);
    }

    /// Queues an item that was encoded before, with this connection's codec, if it can go now. It
    /// does not wait for credit or room.
    #[inline]
    pub(crate) fn offer_item(&mut self, stream: StreamRef, body: &Bytes) -> Offered {
        let has_room = !self.is_congested() && !self.is_clogged();
        let limit = self.max_outgoing_body_bytes();
        let is_closed = self.closed.is_some();
        // The calls of this end have no answers to send.
        debug_assert_ne!(stream.id.side(), self.side);
        let (outgoing, priority) = match self.inbound.answer(stream.id, stream.generation) {
            Some(found) if !found.0.has_stopped() && !is_closed => found,
            _ => return Offered::Gone,
        };
        if body.len() > limit {
            return Offered::TooLarge(limit);
        }
        if !(has_room && outgoing.has_credit()) {
            return Offered::Behind;
        }
        outgoing.spend(1, body.len());
        if body.len() > FIRST_PIECE_BYTES {
            let frame = Frame::new(Head::Item { id: stream.id });
            self.outbox
                .push_large(priority, &frame, body.clone().into());
        } else {
            self.outbox.push_item(priority, stream.id, body);
        }
        Offered::Sent
    }
}
