//! Calls and notifications of this end.

use std::{
    borrow::Cow,
    task::{Poll, Waker},
};

use tokio::time::Instant;

use super::{Connection, Phase, StreamSpec};
use crate::{
    metadata::Metadata,
    method::Method,
    priority::Priority,
    protocol::{
        calls::{Answer, Received},
        failure::{body_too_large, closed_status},
        frame::{CallId, Frame, Head, MethodRef, Side},
        large::{Aborted, FIRST_PIECE_BYTES},
        options::Options,
        waiters::{Ticket, Waiters},
    },
    status::{Code, Fate, Status},
};

/// A call or notification about to be sent.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) options: Options<'a>,
    /// Taken out if it is large.
    pub(crate) body: &'a mut Vec<u8>,
    /// For a call with a stream.
    pub(crate) streams: Option<StreamSpec>,
    /// For a call.
    pub(crate) priority: Priority,
}

/// Where a call that was sent is found in the pending table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    pub(crate) index: usize,
    /// What the handles of its streams know it by.
    pub(crate) generation: u64,
}

/// Whether there is room for a call or notification.
#[derive(Debug)]
pub(crate) enum Admission<T> {
    Sent(T),
    /// Wait for a turn with this ticket.
    Wait(Ticket),
    /// There is no room, and nobody to wait for it.
    Full,
}

/// So many are let in at a time: each may have a large body, and the next come once these have
/// taken their places.
const MAX_ADMITTED: usize = 16;

/// So many may wait for room.
const MAX_WAITING: usize = 1 << 16;

impl Connection {
    /// Writes a REQUEST and enters the call into the table. Without room in flight the call joins
    /// those who wait, if it has a waker.
    ///
    /// A caller whose turn has come passes the ticket that it waited with.
    #[inline]
    pub(crate) fn start_call(
        &mut self,
        call: Outgoing<'_>,
        deadline: Option<Instant>,
        waker: Option<&Waker>,
        ticket: Option<Ticket>,
        wakers: &mut Vec<Waker>,
    ) -> Result<Admission<Started>, Status> {
        let admitted = ticket.is_some_and(|ticket| self.calls_waiting.leave(ticket));
        if let Err(status) = self.check_outgoing(call.body.len()) {
            // The place that was kept goes to the next.
            self.admit_calls(wakers);
            return Err(status);
        }
        // How much of a stream may be sent is not known before the peer has announced it.
        let too_early = self.phase == Phase::Opening
            && call.streams.is_some_and(|spec| spec.kind.takes_stream());
        let has_room = self.calls_waiting.waiting() == 0 && self.call_places() > 0;
        if too_early || !(admitted || has_room) {
            let Some(waker) = waker else {
                return Ok(Admission::Full);
            };
            check_queue(&self.calls_waiting)?;
            let ticket = self.calls_waiting.join(waker.clone(), deadline);
            return Ok(Admission::Wait(ticket));
        }
        let method = self.method_ref(call.method);
        let (index, before, last) = self.calls.reserve();
        // Not higher than that of the slot's last call while frames of that wait, or the request
        // would come behind them and be taken for its own (W-ORD-1).
        let priority = if before < call.priority && !self.outbox.has_taken(before, last) {
            before
        } else {
            call.priority
        };
        let sequence = self.outbox.next_counted(priority);
        self.calls
            .insert(index, waker.cloned(), deadline, priority, sequence);
        let id = CallId::of(index + 1, self.side);
        match method {
            MethodRef::Alias(alias)
                if call.options.is_empty() && call.body.len() <= FIRST_PIECE_BYTES =>
            {
                self.outbox.push_request(priority, id, alias, call.body);
            }
            method => {
                let frame = Frame {
                    head: Head::Request { id, method },
                    options: call.options,
                    payload: &[],
                };
                self.outbox.push_body(priority, frame, call.body);
            }
        }
        let generation = call
            .streams
            .map(|spec| self.calls.attach(index, self.own_streams(spec)));
        if admitted {
            self.admit_calls(wakers);
        }
        Ok(Admission::Sent(Started {
            index,
            generation: generation.unwrap_or_default(),
        }))
    }

    /// A frame of a call of this end has just been queued.
    pub(super) fn note_frame(&mut self, id: CallId) {
        if let Some(index) = self.own_call(id) {
            let priority = self.calls.priority(index);
            let number = self.outbox.next_counted(priority) - 1;
            self.calls.note_frame(index, number);
        }
    }

    /// The peer has ended a call of this end: what is left of its body is of no use to anyone, and
    /// would be in the way of the slot's next call.
    #[inline]
    pub(super) fn drop_body(&mut self, index: usize) {
        if self.outbox.large_bytes() > 0 {
            let id = CallId::of(index + 1, self.side);
            let priority = self.calls.priority(index);
            let aborted = self.outbox.abort_large(priority, id);
            if aborted == Aborted::Begun {
                self.note_frame(id);
            }
            self.has_freed_room |= aborted != Aborted::Nothing;
        }
    }

    /// Calls that may be started by those who have not waited.
    #[inline]
    pub(super) fn call_places(&self) -> usize {
        // The acceptor's WELCOME comes before anything else of it; the dialler has said HELLO.
        let too_early = self.phase == Phase::Opening && self.side == Side::Acceptor;
        // Without a socket a call could not be taken back once it was queued.
        let has_no_socket = self.is_suspended();
        if too_early || has_no_socket || self.is_congested() || self.is_clogged() {
            return 0;
        }
        self.peer
            .max_in_flight
            .saturating_sub(self.calls.in_use() + self.calls_waiting.admitted())
    }

    /// Asks whether a waiting call's turn has come.
    pub(crate) fn poll_turn(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        if self.closed.is_some() || self.going().is_some() {
            return Poll::Ready(());
        }
        self.calls_waiting.poll(ticket, waker)
    }

    /// A waiting call has given up.
    pub(crate) fn leave_queue(&mut self, ticket: Ticket, wakers: &mut Vec<Waker>) {
        self.calls_waiting.leave(ticket);
        self.admit_calls(wakers);
    }

    /// Asks for a call's answer.
    #[inline]
    pub(crate) fn poll_answer(
        &mut self,
        index: usize,
        waker: &Waker,
        received: &mut Received,
        wakers: &mut Vec<Waker>,
    ) -> Poll<Answer> {
        let answer = self.calls.poll(index, waker, received);
        if answer.is_ready() {
            self.admit_calls(wakers);
        }
        answer
    }

    /// What came along with the acceptance of a call.
    pub(crate) fn take_metadata(&mut self, index: usize) -> Metadata {
        self.calls.take_metadata(index)
    }

    /// A caller has given up. The peer is told if it still works on the call.
    pub(crate) fn abandon_call(&mut self, index: usize, now: Instant, wakers: &mut Vec<Waker>) {
        if self.calls.abandon(index, wakers) {
            self.cancel(index, wakers);
        }
        if !self.is_suspended() {
            self.calls.is_crowded(self.peer.max_in_flight, now);
        }
        self.admit_calls(wakers);
    }

    pub(super) fn cancel(&mut self, index: usize, wakers: &mut Vec<Waker>) {
        if self.closed.is_none() {
            let id = CallId::of(index + 1, self.side);
            let priority = self.calls.priority(index);
            let aborted = self.outbox.abort_large(priority, id);
            if aborted == Aborted::NotBegun {
                // The peer knows nothing of the call, and owes nothing.
                self.calls.terminated(index, wakers);
            } else {
                let frame = Frame::new(Head::Cancel { id });
                self.outbox.push(priority, &frame);
                self.note_frame(id);
            }
            if aborted != Aborted::Nothing {
                self.offer_room(wakers);
            }
        }
    }

    #[inline]
    pub(super) fn admit_calls(&mut self, wakers: &mut Vec<Waker>) {
        while self.calls_waiting.waiting() > 0
            && self.calls_waiting.admitted() < MAX_ADMITTED
            && self.call_places() > 0
        {
            self.calls_waiting.admit(wakers);
        }
    }

    /// Writes a NOTIFY if there is credit, or joins those who wait for it.
    ///
    /// A caller whose turn has come passes the ticket that it waited with.
    pub(crate) fn notify(
        &mut self,
        call: Outgoing<'_>,
        deadline: Option<Instant>,
        waker: &Waker,
        ticket: Option<Ticket>,
        wakers: &mut Vec<Waker>,
    ) -> Result<Admission<()>, Status> {
        let admitted = ticket.is_some_and(|ticket| self.notify_waiting.leave(ticket));
        if let Err(status) = self.check_outgoing(call.body.len()) {
            self.admit_notifications(wakers);
            return Err(status);
        }
        if !admitted && !self.may_notify() {
            check_queue(&self.notify_waiting)?;
            let ticket = self.notify_waiting.join(waker.clone(), deadline);
            return Ok(Admission::Wait(ticket));
        }
        self.notify_credit -= 1;
        let method = self.method_ref(call.method);
        let frame = Frame {
            head: Head::Notify { method },
            options: call.options,
            payload: &[],
        };
        self.outbox.push_body(Priority::Normal, frame, call.body);
        if admitted {
            self.admit_notifications(wakers);
        }
        Ok(Admission::Sent(()))
    }

    pub(super) fn may_notify(&self) -> bool {
        self.notify_waiting.waiting() == 0 && self.notify_places() > 0
    }

    /// Notifications that may be sent by those who have not waited. None before the peer has announced
    /// its credit, and none while too much waits to be written.
    pub(super) fn notify_places(&self) -> usize {
        if self.outbox.notify_bytes() > self.limits.outbound_queue_bytes {
            return 0;
        }
        self.notify_credit
            .saturating_sub(self.notify_waiting.admitted())
    }

    pub(crate) fn poll_notify_turn(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        if self.closed.is_some() || self.going().is_some() {
            return Poll::Ready(());
        }
        self.notify_waiting.poll(ticket, waker)
    }

    pub(crate) fn leave_notify_queue(&mut self, ticket: Ticket, wakers: &mut Vec<Waker>) {
        self.notify_waiting.leave(ticket);
        self.admit_notifications(wakers);
    }

    /// Whether a call or notification with a body of this size can be sent at all.
    #[inline]
    pub(super) fn check_outgoing(&self, body_bytes: usize) -> Result<(), Status> {
        if let Some(reason) = self.closed.as_ref().or(self.closing.as_ref()) {
            return Err(closed_status(reason, Fate::NotSent));
        }
        if self.going().is_some()
            && let Some(reason) = self.going_reason()
        {
            return Err(closed_status(&reason, Fate::NotSent));
        }
        let limit = self.max_outgoing_body_bytes();
        if body_bytes > limit {
            return Err(body_too_large(body_bytes, limit).with_fate(Fate::NotSent));
        }
        Ok(())
    }

    /// The largest body that the peer takes.
    #[inline]
    pub(crate) fn max_outgoing_body_bytes(&self) -> usize {
        self.peer.max_body_bytes
    }

    /// The method as it is named on this connection; an alias is defined before it is used.
    #[inline]
    pub(super) fn method_ref<'m>(&mut self, method: &'m Method) -> MethodRef<'m> {
        let reference = method.reference(self.codec);
        let (MethodRef::Alias(_), Some(alias)) = (&reference, method.alias()) else {
            return reference;
        };
        let word = usize::from(alias / 64);
        let bit = 1 << (alias % 64);
        if self.aliases_sent.len() <= word {
            self.aliases_sent.resize(word + 1, 0);
        }
        if self.aliases_sent[word] & bit == 0 {
            self.aliases_sent[word] |= bit;
            self.outbox.push_control(&Frame::new(Head::Define {
                alias: u64::from(alias),
                method: Cow::Borrowed(method.name()),
            }));
        }
        reference
    }

    #[inline]
    pub(super) fn own_call(&self, id: CallId) -> Option<usize> {
        if id.side() != self.side {
            return None;
        }
        usize::try_from(id.slot()).ok()?.checked_sub(1)
    }
}

fn check_queue(waiters: &Waiters) -> Result<(), Status> {
    if waiters.len() < MAX_WAITING {
        return Ok(());
    }
    Err(Status::new(
        Code::RESOURCE_EXHAUSTED,
        format!("{MAX_WAITING} others wait for room already"),
    )
    .with_fate(Fate::NotSent))
}
