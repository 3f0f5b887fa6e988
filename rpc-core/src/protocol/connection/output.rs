//! What goes out, and who waits for room in it.

use std::task::{Poll, Waker};

use super::{Connection, MAX_LARGE_BYTES};
use crate::{
    priority::Priority,
    protocol::{frame::CallId, packer::Batch},
};

impl Connection {
    /// Whether something waits that may be written now.
    #[must_use]
    #[inline]
    pub fn has_output(&self) -> bool {
        self.outbox.has_output()
    }

    /// Whether something waits until the peer has taken in what was sent before.
    #[must_use]
    pub fn is_window_shut(&self) -> bool {
        self.outbox.is_window_shut()
    }

    /// How urgent the frames of a call are that is live.
    pub(super) fn priority(&self, id: CallId) -> Priority {
        if id.side() == self.side {
            self.own_call(id)
                .map_or(Priority::Normal, |index| self.calls.priority(index))
        } else {
            self.inbound.priority(id)
        }
    }

    /// Whether so much waits to be written that no further handler is to be started.
    #[must_use]
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.outbox.len() > self.limits.outbound_queue_bytes
    }

    /// Whether so much of large bodies waits to be written that no other call is to be made.
    #[inline]
    pub(super) fn is_clogged(&self) -> bool {
        self.outbox.large_bytes() > MAX_LARGE_BYTES
    }

    /// How many bytes may be added to what waits before it is too much; `None` if it is.
    #[must_use]
    #[inline]
    pub fn room_bytes(&self) -> Option<usize> {
        let limit = self.limits.outbound_queue_bytes;
        limit.checked_sub(self.outbox.len())
    }

    /// Ready when an answer may be written.
    pub(crate) fn poll_room(&mut self, is_large: bool, waker: &Waker) -> Poll<()> {
        let is_clogged = is_large && self.is_clogged();
        if self.closed.is_some() || !(self.is_congested() || is_clogged) {
            return Poll::Ready(());
        }
        self.room_wakers.push(waker.clone());
        Poll::Pending
    }

    /// Takes what goes next. It counts as sent from now on.
    pub fn take_output(&mut self, batch: &mut Batch, wakers: &mut Vec<Waker>) {
        let freed = std::mem::take(&mut self.has_freed_room);
        let had_no_room = freed || self.is_congested() || self.is_clogged();
        let had_large = self.outbox.large_bytes() > 0;
        self.write_pong();
        self.write_ack();
        self.outbox.take(batch);
        if !self.outbox.has_calls() {
            self.refusals = 0;
        }
        if had_no_room {
            self.offer_room(wakers);
        } else if had_large {
            self.admit_notifications(wakers);
        }
    }

    /// Wakes those who wait for room, if there is some.
    pub(super) fn offer_room(&mut self, wakers: &mut Vec<Waker>) {
        if self.is_congested() {
            return;
        }
        wakers.append(&mut self.room_wakers);
        if !self.is_clogged() {
            self.admit_calls(wakers);
            self.admit_notifications(wakers);
            self.calls.wake_senders(wakers);
            self.inbound.wake_senders(wakers);
        }
    }

    /// Takes all frames that wait, whatever the peer's window is: the connection is about to end.
    /// Bodies that are not complete stay behind.
    pub(crate) fn take_rest(&mut self, batch: &mut Batch) {
        self.send_rest_kept();
        self.outbox.take_rest(batch);
    }

    /// Whether calls wait to be made, or frames of calls or notifications wait to be written.
    pub(crate) fn has_calls_queued(&self) -> bool {
        let waiting = self.calls_waiting.waiting() + self.calls_waiting.admitted();
        self.outbox.has_calls() || waiting > 0
    }

    /// Nothing is to be written for now: what is written next may use other buffers.
    #[inline]
    pub(crate) fn give_back_buffers(&mut self) {
        self.outbox.give_back_buffers();
    }
}
