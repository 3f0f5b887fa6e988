//! What comes in: messages, frame by frame, and to whom each frame goes.

use bytes::Bytes;
use tokio::time::Instant;

use super::{Connection, MIN_MESSAGE_BYTES, Phase, incoming::MIN_REFUSALS};
use crate::{
    body::Codec,
    metadata::Metadata,
    priority::Priority,
    protocol::{
        calls::COPY_BYTES,
        event::{Body, Event, Events, ProtocolError, Resolve},
        failure::read_failure,
        frame::{CallId, Frame, Head, MethodRef, Position, Side, next_frame},
        handshake::{self, Terms},
        inbound::Stop,
        large::{self, TOTAL_BYTES},
        messagepack::{self, Plain},
        options::OptionKey,
        outbox::WINDOW_BYTES,
        stream::{STREAM_BYTES, STREAM_ITEMS},
    },
    status::{Code, Fate, Status},
};

impl Connection {
    /// Reads up to `limit` frames of a message from `position` on. Says whether the message is at
    /// its end. After [`Event::Authenticate`] of a HELLO nothing more is to be read until the answer.
    ///
    /// # Errors
    /// [`ProtocolError`], which ends the connection.
    #[inline]
    pub fn receive(
        &mut self,
        message: &Bytes,
        position: &mut Position,
        limit: usize,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<bool, ProtocolError> {
        let first = events.queue.len();
        let mut finished = false;
        let is_new = self.phase == Phase::Open && self.session.executed == 0;
        let may_be_plain = self.codec == Codec::MessagePack && is_new;
        for _ in 0..limit {
            if may_be_plain && let Some(plain) = messagepack::next_plain(message, position) {
                self.plain(plain, message, position.offset, now, methods, events)?;
                continue;
            }
            let Some(frame) = next_frame(self.codec, message, position)? else {
                self.taken_in(message.len());
                self.count_message(message.len(), now);
                if self.pong.is_some() && !self.is_congested() {
                    self.write_pong();
                }
                finished = true;
                break;
            };
            self.is_beyond_control |= frame.head.takes_window();
            self.frame(&frame, message, now, methods, events)?;
            if self.phase == Phase::Authenticating {
                break;
            }
        }
        unpin_message(message, &mut events.queue[first..]);
        Ok(finished)
    }

    /// Executes what most frames are without taking them apart first. This one, and so its payload,
    /// ends at `end`.
    #[inline]
    fn plain(
        &mut self,
        plain: Plain<'_>,
        message: &Bytes,
        end: usize,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        self.is_beyond_control = true;
        self.session.received += 1;
        match plain {
            Plain::Response { id, payload } => {
                if let Some(index) = self.own_call(id) {
                    self.drop_body(index);
                    self.calls
                        .respond(index, payload, message, &mut events.wakers);
                }
                self.admit_calls(&mut events.wakers);
                Ok(())
            }
            Plain::Item { id, payload } => {
                self.item(id, payload, message, events);
                Ok(())
            }
            Plain::Request { id, alias, payload } => {
                if let Some(target) = self.unary_method(alias)
                    && payload.len() <= self.limits.max_body_bytes
                    && self.has_slot(id)
                    && !self.is_leaving()
                {
                    self.check_new(id)?;
                    let body = if payload.len() <= COPY_BYTES {
                        Body::Within(end - payload.len()..end)
                    } else {
                        Body::Shared(message.slice_ref(payload))
                    };
                    self.accept_plain(id, target, body, now, events);
                    return Ok(());
                }
                let method = MethodRef::Alias(alias);
                let frame = Frame::with_payload(
                    Head::Request {
                        id,
                        method: method.clone(),
                    },
                    payload,
                );
                self.request(id, &method, &frame, message, now, methods, events)
            }
        }
    }

    /// A message has been taken in, and what stood in it handed over: the peer may send as much
    /// again. It is told when that is half of the window.
    #[inline]
    fn taken_in(&mut self, bytes: usize) {
        if std::mem::take(&mut self.is_beyond_control) {
            self.taken_in += bytes;
            if self.taken_in * 2 >= self.limits.connection_window_bytes {
                let bytes = std::mem::take(&mut self.taken_in);
                self.open_window(bytes);
            }
        }
    }

    /// Lets the peer send more than is agreed on for the beginning, if the limits do.
    pub(super) fn widen_window(&mut self) {
        let more = self.limits.connection_window_bytes - WINDOW_BYTES;
        if more > 0 {
            self.open_window(more);
        }
    }

    fn open_window(&mut self, bytes: usize) {
        self.outbox.push_control(&Frame::new(Head::Credit {
            id: CallId::CONNECTION,
            items: 0,
            bytes: bytes as u64,
        }));
    }

    fn frame(
        &mut self,
        frame: &Frame<'_>,
        message: &Bytes,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if self.phase != Phase::Open {
            return self.open(frame, events);
        }
        if self.refusals > self.limits.max_in_flight + MIN_REFUSALS {
            return Err(ProtocolError::Flood(
                "more calls that fail, without reading their errors, than may be in flight",
            ));
        }
        if frame.head.is_counted() {
            self.session.received += 1;
            if self.session.executed > 0 {
                self.session.executed -= 1;
                return Ok(());
            }
        }
        if !frame.options.is_empty() {
            if let Some(key) = misunderstood(frame) {
                return self.not_understood(frame, key, events);
            }
            if let Some(total) = large::total_bytes(frame.options) {
                return self.begin_body(frame, total, now, methods, events);
            }
        }
        if let Head::Chunk { id, state, piece } = &frame.head {
            return self.chunk(*id, *state, piece, methods, events);
        }
        self.dispatch(frame, message, now, methods, events)
    }

    /// Executes a frame whose body is complete.
    pub(super) fn dispatch(
        &mut self,
        frame: &Frame<'_>,
        message: &Bytes,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        match &frame.head {
            Head::Response { id } => {
                // An unknown id is a race that was lost: a late answer.
                if let Some(index) = self.own_call(*id) {
                    self.response(index, frame, message, events);
                }
                self.admit_calls(&mut events.wakers);
            }
            Head::Error {
                id,
                code,
                message: text,
            } => {
                if let Some(index) = self.own_call(*id) {
                    self.drop_body(index);
                    let failure = || read_failure(*code, text, frame, message);
                    self.calls.fail(index, failure, &mut events.wakers);
                }
                self.admit_calls(&mut events.wakers);
            }
            Head::Request { id, method } => {
                self.request(*id, method, frame, message, now, methods, events)?;
            }
            Head::Cancel { id } => {
                if id.side() == self.side {
                    self.items_refused(*id, events);
                } else if !self.inbound.contains(*id) && self.assembly.take(*id).is_some() {
                    let status = Stop::Cancelled.status().with_fate(Fate::NotExecuted);
                    self.write_error(*id, Priority::Normal, &status);
                } else if self.inbound.stop(*id, Stop::Cancelled) {
                    events.queue.push(Event::Stop { id: *id });
                }
            }
            Head::Notify { method } | Head::Volatile { method } => {
                self.notification(method, frame, message, methods, events)?;
            }
            Head::Define { alias, method } => self.define(*alias, method, methods)?,
            Head::Credit { id, items, bytes } => {
                if *id == CallId::NOTIFICATIONS {
                    let items = usize::try_from(*items).unwrap_or(usize::MAX);
                    self.notify_credit = self.notify_credit.saturating_add(items);
                    self.admit_notifications(&mut events.wakers);
                } else if *id == CallId::CONNECTION {
                    self.outbox.open_window(*bytes);
                } else {
                    self.stream_credit(*id, *items, *bytes, events);
                }
            }
            Head::Open { id } => self.opened(*id, frame.options, events),
            Head::Item { id } => self.item(*id, frame.payload, message, events),
            Head::End { id } => self.items_ended(*id, events),
            Head::Ping { count, token } => {
                self.counted_by_peer(*count)?;
                self.pong = Some(*token);
            }
            Head::Pong { count, token } => {
                self.counted_by_peer(*count)?;
                self.ponged(*token, now, events);
            }
            Head::Ack { count } => self.counted_by_peer(*count)?,
            Head::GoAway { code, count } => self.told_to_go(frame, *code, *count, events),
            Head::Hello | Head::Welcome => {
                return Err(ProtocolError::Unexpected("a second HELLO or WELCOME"));
            }
            Head::Auth => self.auth(Terms::read(frame.options), events)?,
            Head::Chunk { .. } | Head::Ignored { .. } => {}
        }
        Ok(())
    }

    fn response(&mut self, index: usize, frame: &Frame<'_>, message: &Bytes, events: &mut Events) {
        if !frame.options.is_empty() {
            match Metadata::of_response(frame.options, &self.limits) {
                Ok(metadata) => self.calls.set_metadata(index, metadata),
                Err(status) => return self.end_own(index, status, events),
            }
        }
        self.drop_body(index);
        self.calls
            .respond(index, frame.payload, message, &mut events.wakers);
    }

    /// A frame that says something which this end would get wrong: it ends the call that it belongs
    /// to, or the connection.
    fn not_understood(
        &mut self,
        frame: &Frame<'_>,
        key: u64,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let (Head::Response { id } | Head::Error { id, .. } | Head::Item { id }) = frame.head
        else {
            return Err(ProtocolError::Option(key));
        };
        if let Some(index) = self.own_call(id) {
            let status = Status::new(
                Code::UNIMPLEMENTED,
                format!("option {key} of the answer is not understood"),
            );
            if matches!(frame.head, Head::Item { .. }) {
                self.fail_own(index, status, events);
            } else {
                self.end_own(index, status, events);
            }
        } else if matches!(frame.head, Head::Item { .. })
            && self.inbound.stop(id, Stop::NotUnderstood)
        {
            events.queue.push(Event::Stop { id });
        }
        Ok(())
    }

    fn open(&mut self, frame: &Frame<'_>, events: &mut Events) -> Result<(), ProtocolError> {
        if matches!(
            self.phase,
            Phase::Authenticating | Phase::Deciding | Phase::Suspended
        ) {
            return Err(ProtocolError::Unexpected(
                "something follows a HELLO that asks to resume, before WELCOME",
            ));
        }
        match (&frame.head, self.side) {
            (Head::Hello, Side::Acceptor) | (Head::Welcome, Side::Dialler) => {}
            (_, Side::Acceptor) => {
                return Err(ProtocolError::Unexpected("the first frame is not HELLO"));
            }
            (_, Side::Dialler) => {
                return Err(ProtocolError::Unexpected("the first frame is not WELCOME"));
            }
        }
        let terms = Terms::read(frame.options);
        if self.phase == Phase::Resuming {
            return self.resume_answered(terms, events);
        }
        self.peer = handshake::read(frame.options).map_err(ProtocolError::Option)?;
        if self.peer.max_message_bytes < MIN_MESSAGE_BYTES {
            return Err(ProtocolError::MessageLimit(self.peer.max_message_bytes));
        }
        self.outbox.limit_messages(self.peer.max_message_bytes);
        self.outbox.limit_assembly(self.peer.max_assembly_bytes);
        self.notify_credit = self.peer.notification_credit;
        match self.side {
            Side::Acceptor => self.hello(terms, events),
            Side::Dialler => self.welcomed(terms, events),
        }
        Ok(())
    }

    /// One PONG for all the PINGs of a message: an answer to the last proves as much. While too
    /// much waits to be written, one for those of several.
    #[inline]
    pub(super) fn write_pong(&mut self) {
        if let Some(token) = self.pong.take() {
            let count = self.told();
            self.outbox
                .push_control(&Frame::new(Head::Pong { count, token }));
        }
    }
}

/// Copies bodies that are small beside the message that they stand in, so that a call which takes
/// long does not keep a large message alive. Many calls that share a message may share its bytes.
#[inline]
fn unpin_message(message: &Bytes, events: &mut [Event]) {
    const SMALL_MESSAGE_BYTES: usize = 4 << 10;
    if message.len() <= SMALL_MESSAGE_BYTES {
        return;
    }
    let is_call =
        |event: &&mut Event| matches!(event, Event::Request { .. } | Event::Notification { .. });
    let calls = events.iter_mut().filter(is_call).count();
    for event in events {
        if let Event::Request { body, .. } | Event::Notification { body, .. } = event
            && let Body::Shared(body) = body
        {
            let share = message.len() / calls;
            if share > SMALL_MESSAGE_BYTES && body.len() < share / 4 {
                *body = Bytes::copy_from_slice(body);
            }
        }
    }
}

/// The key of an option that must be understood and is not. Those of calls are looked at by
/// themselves, since they refuse the call.
fn misunderstood(frame: &Frame<'_>) -> Option<u64> {
    let known: &[u64] = match frame.head {
        Head::Request { .. } | Head::Notify { .. } | Head::Volatile { .. } => return None,
        Head::Open { .. } => &[STREAM_ITEMS, STREAM_BYTES],
        Head::Response { .. } | Head::Error { .. } | Head::Item { .. } => &[TOTAL_BYTES],
        _ => &[],
    };
    frame.options.entries().find_map(|(key, _)| match key {
        OptionKey::Integer(key) if key % 2 == 0 && !known.contains(&key) => Some(key),
        _ => None,
    })
}
