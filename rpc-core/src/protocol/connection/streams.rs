//! Streams: items in both directions, and the credit for them.

use std::task::{Poll, Waker};

use bytes::Bytes;

use super::Connection;
use crate::{
    metadata::Metadata,
    protocol::{
        event::{Event, Events, MethodKind},
        failure::body_too_large,
        frame::{CallId, Frame, Head},
        inbound::Stop,
        item_queue::ItemQueue,
        options::{OptionKey, Options, OptionsBuilder},
        stream::{
            BeyondCredit, Incoming, Outgoing, STREAM_BYTES, STREAM_ITEMS, SendRoom, StreamCredit,
            Streams,
        },
        topic::{Opening, TopicPosition},
    },
    status::{Code, Fate, Status},
};

/// A call with a stream, as its handles know it. It may be over, and its id be another call's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamRef {
    pub(crate) id: CallId,
    pub(crate) generation: u64,
}

/// What a caller's streams are to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamSpec {
    pub(crate) kind: MethodKind,
    /// How much of the answer's stream may be on its way.
    pub(crate) credit: StreamCredit,
}

/// ITEM frames of one stream, none of them large.
#[derive(Debug, Default)]
pub(crate) struct EncodedItems {
    pub(crate) frames: Vec<u8>,
    /// Where each frame ends.
    pub(crate) ends: Vec<usize>,
    /// What counts for the credit.
    pub(crate) body_bytes: usize,
}

impl EncodedItems {
    /// Forgets the items.
    pub(crate) fn clear(&mut self) {
        self.frames.clear();
        self.ends.clear();
        self.body_bytes = 0;
    }
}

impl Connection {
    /// The streams of a call of this end.
    pub(super) fn own_streams(&self, spec: StreamSpec) -> Streams {
        Streams {
            incoming: spec
                .kind
                .returns_stream()
                .then(|| Incoming::new(spec.credit)),
            outgoing: spec
                .kind
                .takes_stream()
                .then(|| Outgoing::new(self.peer.stream_credit)),
            is_open: false,
            opening: None,
            asked: None,
            is_topic: false,
            opened_at: None,
        }
    }

    /// The streams of a call of the peer, which grants `credit` for the answer.
    pub(super) fn peer_streams(
        &self,
        kind: MethodKind,
        credit: StreamCredit,
        asked: Option<TopicPosition>,
    ) -> Streams {
        Streams {
            incoming: kind
                .takes_stream()
                .then(|| Incoming::new(self.limits.stream_credit)),
            outgoing: kind.returns_stream().then(|| Outgoing::new(credit)),
            is_open: false,
            opening: None,
            asked,
            is_topic: false,
            opened_at: None,
        }
    }

    pub(super) fn streams(&mut self, stream: StreamRef) -> Option<&mut Streams> {
        if stream.id.side() == self.side {
            let index = self.own_call(stream.id)?;
            self.calls.streams(index, stream.generation)
        } else {
            self.inbound.streams(stream.id, stream.generation)
        }
    }

    // ---- for the handles of a stream

    /// The caller waits for OPEN, or for the end of the call: `false` if that came first.
    pub(crate) fn poll_open(&mut self, stream: StreamRef, waker: &Waker) -> Poll<bool> {
        let Some(index) = self.own_call(stream.id) else {
            return Poll::Ready(false);
        };
        let is_done = self.calls.is_done(index);
        let Some(streams) = self.calls.streams(index, stream.generation) else {
            return Poll::Ready(false);
        };
        if streams.is_open {
            return Poll::Ready(true);
        }
        if is_done {
            return Poll::Ready(false);
        }
        streams.opening = Some(waker.clone());
        Poll::Pending
    }

    /// The callee accepts the call, and grants `credit` for the caller's stream if that is
    /// something else than what it has announced. `opening` says where a topic begins.
    pub(crate) fn accept_stream(
        &mut self,
        stream: StreamRef,
        credit: Option<StreamCredit>,
        opening: Option<Opening>,
        metadata: &Metadata,
    ) {
        let announced = self.limits.stream_credit;
        let Some(streams) = self.streams(stream) else {
            return;
        };
        if std::mem::replace(&mut streams.is_open, true) {
            return;
        }
        streams.is_topic = opening.is_some();
        let credit = credit.filter(|credit| *credit != announced);
        if let (Some(incoming), Some(credit)) = (&mut streams.incoming, credit) {
            incoming.grant(
                u64::from(credit.items.saturating_sub(announced.items)),
                u64::from(credit.bytes.saturating_sub(announced.bytes)),
            );
        }
        self.inbound.opened(stream.id);
        if self.closed.is_some() {
            return;
        }
        let mut options = OptionsBuilder::new(self.codec);
        if let Some(credit) = credit {
            credit.write(&mut options);
        }
        if let Some(opening) = opening {
            opening.write(&mut options);
        }
        metadata.write(&mut options);
        let options = options.finish();
        let frame = Frame {
            head: Head::Open { id: stream.id },
            options: options.as_options(),
            payload: &[],
        };
        self.outbox.push(self.priority(stream.id), &frame);
    }

    /// Moves the items that have come to `taken`, which must be empty. Ready with none moved is the end of the stream,
    /// `false` the end of the call before it.
    pub(crate) fn poll_items(
        &mut self,
        stream: StreamRef,
        waker: &Waker,
        taken: &mut ItemQueue,
    ) -> Poll<bool> {
        match self.streams(stream) {
            Some(Streams {
                incoming: Some(incoming),
                ..
            }) => incoming.take(waker, taken).map(|()| true),
            _ => Poll::Ready(false),
        }
    }

    /// Lets the peer send that much more, unless its stream or the connection has ended.
    pub(crate) fn give_credit(&mut self, stream: StreamRef, items: u64, bytes: u64) {
        let is_closed = self.closed.is_some();
        if let Some(streams) = self.streams(stream)
            && let Some(incoming) = &mut streams.incoming
            && !incoming.has_ended()
            && !is_closed
        {
            incoming.grant(items, bytes);
            let id = stream.id;
            let frame = Frame::new(Head::Credit { id, items, bytes });
            self.outbox.push(self.priority(id), &frame);
            self.note_frame(id);
        }
    }

    /// The callee wants no more items. (A caller gives up its whole call.)
    pub(crate) fn refuse_items(&mut self, stream: StreamRef) {
        let is_closed = self.closed.is_some();
        if let Some(streams) = self.streams(stream)
            && let Some(incoming) = &mut streams.incoming
            && !incoming.refuse()
            && !is_closed
        {
            let id = stream.id;
            let frame = Frame::new(Head::Cancel { id });
            self.outbox.push(self.priority(id), &frame);
        }
    }

    /// Ready when items may be sent, with how many; with nothing when nobody wants one any more.
    pub(crate) fn poll_send(&mut self, stream: StreamRef, waker: &Waker) -> Poll<Option<SendRoom>> {
        let has_room = !self.is_congested() && !self.is_clogged();
        match self.streams(stream) {
            Some(Streams {
                outgoing: Some(outgoing),
                ..
            }) => outgoing.poll_ready(waker, has_room),
            _ => Poll::Ready(None),
        }
    }

    /// Ready when nobody wants an item any more.
    pub(crate) fn poll_stopped(&mut self, stream: StreamRef, waker: &Waker) -> Poll<()> {
        match self.streams(stream) {
            Some(Streams {
                outgoing: Some(outgoing),
                ..
            }) => outgoing.poll_stopped(waker),
            _ => Poll::Ready(()),
        }
    }

    /// Writes an item, after [`Connection::poll_send`] has said that it may be sent.
    pub(crate) fn send_item(
        &mut self,
        stream: StreamRef,
        body: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let limit = self.max_outgoing_body_bytes();
        if body.len() > limit {
            return Err(body_too_large(body.len(), limit));
        }
        let is_closed = self.closed.is_some();
        if let Some(streams) = self.streams(stream)
            && let Some(outgoing) = &mut streams.outgoing
            && !outgoing.has_stopped()
            && !is_closed
        {
            outgoing.spend(1, body.len());
            let frame = Frame::new(Head::Item { id: stream.id });
            let priority = self.priority(stream.id);
            self.outbox.push_body(priority, frame, body);
            self.note_frame(stream.id);
        }
        Ok(())
    }

    /// Writes small items that were encoded before, with the connection's codec, within the room
    /// that [`Connection::poll_send`] has told.
    pub(crate) fn send_items(&mut self, stream: StreamRef, items: &EncodedItems) {
        let is_closed = self.closed.is_some();
        if let Some(streams) = self.streams(stream)
            && let Some(outgoing) = &mut streams.outgoing
            && !outgoing.has_stopped()
            && !is_closed
        {
            outgoing.spend(items.ends.len() as u64, items.body_bytes);
            let priority = self.priority(stream.id);
            let mut start = 0;
            for end in &items.ends {
                let frame = &items.frames[start..*end];
                self.outbox.push_encoded(priority, stream.id, frame);
                start = *end;
            }
            self.note_frame(stream.id);
        }
    }

    /// The caller has sent its last item.
    pub(crate) fn end_items(&mut self, stream: StreamRef) {
        let is_closed = self.closed.is_some();
        if let Some(streams) = self.streams(stream)
            && let Some(outgoing) = &mut streams.outgoing
            && outgoing.finish()
            && !is_closed
        {
            let id = stream.id;
            let frame = Frame::new(Head::End { id });
            self.outbox.push_in_order(self.priority(id), frame);
            self.note_frame(id);
        }
    }

    /// The items of the caller's stream cannot go on: the call fails, and the callee is told.
    pub(crate) fn fail_stream(
        &mut self,
        stream: StreamRef,
        status: Status,
        wakers: &mut Vec<Waker>,
    ) {
        if let Some(index) = self.own_call(stream.id)
            && self.calls.streams(index, stream.generation).is_some()
            && self.calls.give_up(index, status, wakers)
        {
            self.cancel(index, wakers);
        }
    }

    // ---- frames of the peer

    #[inline]
    pub(super) fn item(&mut self, id: CallId, body: &[u8], message: &Bytes, events: &mut Events) {
        let own = (id.side() == self.side).then(|| self.own_call(id));
        let streams = match own {
            Some(index) => index.and_then(|index| self.calls.open_streams(index)),
            None => self.inbound.open_streams(id),
        };
        let Some(incoming) = streams.and_then(|streams| streams.incoming.as_mut()) else {
            return;
        };
        if let Err(BeyondCredit) = incoming.push(body, message, &mut events.wakers) {
            match own.flatten() {
                Some(index) => self.fail_own(
                    index,
                    Status::new(
                        Code::INTERNAL,
                        "the callee sent more items than it had credit for",
                    )
                    .with_fate(Fate::Unknown),
                    events,
                ),
                None => {
                    if self.inbound.stop(id, Stop::BeyondCredit) {
                        events.queue.push(Event::Stop { id });
                    }
                }
            }
        }
    }

    /// Ends a call of this end because of what the peer did.
    pub(super) fn fail_own(&mut self, index: usize, status: Status, events: &mut Events) {
        if self.calls.give_up(index, status, &mut events.wakers) {
            self.cancel(index, &mut events.wakers);
        }
    }

    /// The peer has ended a call of this end with something that is of no use: nothing to cancel.
    pub(super) fn end_own(&mut self, index: usize, status: Status, events: &mut Events) {
        self.drop_body(index);
        self.calls.give_up(index, status, &mut events.wakers);
        self.calls.terminated(index, &mut events.wakers);
        self.admit_calls(&mut events.wakers);
    }

    pub(super) fn items_ended(&mut self, id: CallId, events: &mut Events) {
        if id.side() != self.side
            && let Some(streams) = self.inbound.open_streams(id)
            && let Some(incoming) = &mut streams.incoming
        {
            incoming.end(&mut events.wakers);
        }
    }

    pub(super) fn stream_credit(
        &mut self,
        id: CallId,
        items: u64,
        bytes: u64,
        events: &mut Events,
    ) {
        let streams = if id.side() == self.side {
            self.own_call(id)
                .and_then(|index| self.calls.open_streams(index))
        } else {
            self.inbound.open_streams(id)
        };
        if let Some(outgoing) = streams.and_then(|streams| streams.outgoing.as_mut()) {
            outgoing.grant(items, bytes, &mut events.wakers);
        }
    }

    /// A CANCEL of the callee: it wants no more items.
    pub(super) fn items_refused(&mut self, id: CallId, events: &mut Events) {
        if let Some(index) = self.own_call(id)
            && let Some(streams) = self.calls.open_streams(index)
            && let Some(outgoing) = &mut streams.outgoing
        {
            outgoing.stop(&mut events.wakers);
        }
    }

    pub(super) fn opened(&mut self, id: CallId, options: Options<'_>, events: &mut Events) {
        let Some(index) = self.own_call(id) else {
            return;
        };
        if self.calls.is_unary(index) {
            let status = Status::new(
                Code::UNIMPLEMENTED,
                "the callee answers with a stream or takes one, and the caller knows of none",
            );
            self.fail_own(index, status.with_fate(Fate::Unknown), events);
            return;
        }
        match self.calls.open_streams(index) {
            Some(streams) if !streams.is_open => streams.opened_at = Opening::read(options),
            _ => return,
        }
        match Metadata::of_response(options, &self.limits) {
            Ok(metadata) => self.calls.set_metadata(index, metadata),
            Err(status) => return self.fail_own(index, status.with_fate(Fate::Unknown), events),
        }
        let announced = self.peer.stream_credit;
        let mut credit = announced;
        for (key, value) in options.entries() {
            if let OptionKey::Integer(key @ (STREAM_ITEMS | STREAM_BYTES)) = key {
                credit.read(key, &value);
            }
        }
        if let Some(streams) = self.calls.open_streams(index)
            && !streams.is_open
            && let Some(outgoing) = &mut streams.outgoing
        {
            outgoing.grant(
                u64::from(credit.items.saturating_sub(announced.items)),
                u64::from(credit.bytes.saturating_sub(announced.bytes)),
                &mut events.wakers,
            );
        }
        self.calls.opened(index, &mut events.wakers);
    }
}
