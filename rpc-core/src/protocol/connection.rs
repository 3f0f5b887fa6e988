//! One end of a connection as a state machine: messages in, events out; commands in, messages
//! out. It owns no socket and reads no clock, so that a test can hold both ends in one hand.

mod auth;
mod bodies;
mod incoming;
mod outgoing;
mod pressure;
mod session;
mod streams;
#[cfg(test)]
mod tests;
mod topics;

use std::{
    sync::Arc,
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    assembly::Assembly,
    calls::{COPY_BYTES, Calls, earliest},
    event::{Body, Event, Events, ProtocolError, Resolve},
    failure::{closed_status, read_failure},
    frame::{CallId, Frame, Head, MethodRef, Position, Side, next_frame},
    handshake::{self, PeerLimits, Terms},
    inbound::{Inbound, Stop},
    large::{self, TOTAL_BYTES},
    messagepack::{self, Plain},
    options::OptionKey,
    outbox::{Outbox, WINDOW_BYTES},
    packer::Batch,
    stream::{STREAM_BYTES, STREAM_ITEMS},
    waiters::Waiters,
};
use crate::{
    body::Codec,
    close::{CloseCode, CloseReason},
    limits::Limits,
    metadata::Metadata,
    priority::Priority,
    status::{Code, Fate, Status},
};
use auth::Auth;
use incoming::{Alias, MIN_REFUSALS};
pub(crate) use outgoing::{Admission, Outgoing, Started};
use pressure::Kept;
pub(crate) use pressure::{EncodedNotification, Told};
pub use session::GoAway;
use session::Session;
pub(crate) use streams::{EncodedItems, StreamRef, StreamSpec};
pub(crate) use topics::Offered;

/// No peer may ask for smaller messages.
const MIN_MESSAGE_BYTES: usize = 256 << 10;

/// So many bytes of large bodies may wait to be written.
const MAX_LARGE_BYTES: usize = 32 << 20;

/// How often a peer is helped with a misspelt name: looking for the right one takes a while.
const MAX_SUGGESTIONS: u8 = 16;

/// The most calls that may be in flight, whatever is configured: a peer chooses which entry of the
/// table it uses.
const MAX_IN_FLIGHT: usize = 1 << 16;

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The peer's HELLO or WELCOME has not come.
    Opening,
    /// The peer's HELLO has come, and it is being found out who the peer is.
    Authenticating,
    /// The peer's HELLO asks to go on with a session, which is being looked for.
    Deciding,
    Open,
    /// There is no socket.
    Suspended,
    /// There is a new socket, and WELCOME has not come on it.
    Resuming,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    codec: Codec,
    limits: Arc<Limits>,
    /// The protocol's defaults until the peer has announced its own.
    peer: PeerLimits,
    phase: Phase,
    closed: Option<CloseReason>,
    /// Why this end starts no more calls, although the connection is still there.
    closing: Option<CloseReason>,

    /// This end's calls.
    calls: Calls,
    calls_waiting: Waiters,
    /// The peer's calls.
    inbound: Inbound,
    /// Refusals written since the outbox was last empty. An honest peer cannot cause more than its
    /// calls in flight without reading.
    refusals: usize,

    /// Which of the process's aliases this connection's peer knows.
    aliases_sent: Vec<u64>,
    aliases_received: Vec<Option<Alias>>,
    /// How many more times an unknown name is worth looking for one that is like it.
    suggestions: u8,

    outbox: Outbox,
    /// Large bodies of the peer that are not complete.
    assembly: Assembly,
    /// Handlers that have ended and wait for room for their answers.
    room_wakers: Vec<Waker>,
    /// Whether something was dropped that waited to be written, so that there may be room again.
    has_freed_room: bool,
    /// What outlives a socket.
    session: Session,
    auth: Auth,
    /// Bytes of messages that were taken in, and for which the peer's window was not opened again
    /// (W-FLOW-8).
    taken_in: usize,
    /// Whether the message that is being read has a frame that is more than control.
    is_beyond_control: bool,

    /// Notifications that this end may send.
    notify_credit: usize,
    notify_waiting: Waiters,
    /// Those that are kept until they may be sent. Boxed: few connections ever have any.
    backlog: Kept,
    /// Notifications that the peer may send.
    notify_granted: usize,
    /// Notifications that were handled and whose credit has not been given back.
    notify_handled: usize,
    /// The token of the last PING that is unanswered; an older one needs no answer.
    pong: Option<u64>,
}

impl Connection {
    /// An end of a new connection. The dialler's HELLO is the first thing in its outbox.
    #[must_use]
    pub fn new(side: Side, codec: Codec, limits: impl Into<Arc<Limits>>) -> Self {
        let limits = possible(limits.into());
        let notify_granted = limits.notification_credit;
        let mut connection = Connection {
            side,
            codec,
            limits,
            peer: PeerLimits::default(),
            phase: Phase::Opening,
            closed: None,
            closing: None,
            calls: Calls::default(),
            calls_waiting: Waiters::default(),
            inbound: Inbound::default(),
            refusals: 0,
            aliases_sent: Vec::new(),
            aliases_received: Vec::new(),
            suggestions: MAX_SUGGESTIONS,
            outbox: Outbox::new(codec),
            assembly: Assembly::default(),
            room_wakers: Vec::new(),
            has_freed_room: false,
            session: Session::default(),
            auth: Auth::default(),
            taken_in: 0,
            is_beyond_control: false,
            notify_credit: 0,
            notify_waiting: Waiters::default(),
            backlog: None,
            notify_granted,
            notify_handled: 0,
            pong: None,
        };
        if side == Side::Dialler {
            connection.push_hello(None);
            connection
                .outbox
                .limit_replay(connection.limits.replay_bytes);
            connection.widen_window();
        }
        connection
    }

    /// How frames and bodies are encoded.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What the peer accepts, as far as it has said so.
    #[must_use]
    pub fn peer_limits(&self) -> &PeerLimits {
        &self.peer
    }

    /// Why the connection is over, once it is.
    #[must_use]
    pub fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// This end's calls that occupy a slot, and the peer's calls that are executed.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> (usize, usize) {
        (self.calls.in_use(), self.inbound.len())
    }

    // ---- what comes in

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
                if !self.is_congested() {
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
    fn widen_window(&mut self) {
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
    fn dispatch(
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
    fn write_pong(&mut self) {
        if let Some(token) = self.pong.take() {
            let count = self.told();
            self.outbox
                .push_control(&Frame::new(Head::Pong { count, token }));
        }
    }

    // ---- time

    /// Ends what has run out of time.
    ///
    /// # Errors
    /// A reason to close the connection: the peer leaves half of the given-up calls unanswered.
    pub fn handle_timeout(&mut self, now: Instant, events: &mut Events) -> Result<(), CloseReason> {
        let mut expired = Vec::new();
        self.calls
            .expire(now, &mut events.wakers, |index| expired.push(index));
        for index in expired {
            self.cancel(index, &mut events.wakers);
        }
        self.calls_waiting.expire(now, &mut events.wakers);
        self.notify_waiting.expire(now, &mut events.wakers);
        let side = self.side.other();
        self.inbound.expire(now, |slot| {
            events.queue.push(Event::Stop {
                id: CallId::of(slot, side),
            });
        });
        self.check_ack(now);
        if !self.is_suspended() && self.calls.is_crowded(self.peer.max_in_flight, now) {
            return Err(CloseReason::local(
                CloseCode::TOMBSTONES,
                "the peer does not end calls that were given up",
            ));
        }
        Ok(())
    }

    /// When [`Connection::handle_timeout`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let calls = earliest(self.calls.next_timeout(), self.inbound.next_timeout());
        let waiting = earliest(
            self.calls_waiting.next_timeout(),
            self.notify_waiting.next_timeout(),
        );
        earliest(earliest(calls, waiting), self.ack_due())
    }

    // ---- what goes out

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
    fn priority(&self, id: CallId) -> Priority {
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
    fn is_clogged(&self) -> bool {
        self.outbox.large_bytes() > MAX_LARGE_BYTES
    }

    /// How many bytes may be added to what waits before it is too much.
    #[must_use]
    #[inline]
    pub fn room_bytes(&self) -> usize {
        let limit = self.limits.outbound_queue_bytes;
        limit.saturating_sub(self.outbox.len())
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
    fn offer_room(&mut self, wakers: &mut Vec<Waker>) {
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

    /// This end is about to close the connection: it starts no more calls.
    pub(crate) fn refuse_calls(&mut self, reason: &CloseReason) {
        self.closing.get_or_insert_with(|| reason.clone());
    }

    /// Ends the connection: every pending call fails, and says whether it was sent.
    pub fn close(&mut self, reason: CloseReason, wakers: &mut Vec<Waker>) {
        if self.closed.is_some() {
            return;
        }
        let not_accepted = self.not_accepted();
        let (outbox, side) = (&self.outbox, self.side);
        self.calls.end_all(wakers, |index, priority, sequence| {
            let fate = if !outbox.has_taken(priority, sequence) {
                Fate::NotSent
            } else if not_accepted.contains(&CallId::of(index + 1, side)) {
                Fate::NotExecuted
            } else {
                Fate::Unknown
            };
            closed_status(&reason, fate)
        });
        self.inbound.end_all(wakers);
        self.calls_waiting.wake_all(wakers);
        self.notify_waiting.wake_all(wakers);
        wakers.append(&mut self.room_wakers);
        // Handles of a connection may outlive it for long: its buffers go now.
        self.inbound = Inbound::default();
        self.outbox = Outbox::new(self.codec);
        self.backlog = None;
        self.assembly = Assembly::default();
        self.aliases_received = Vec::new();
        self.aliases_sent = Vec::new();
        self.closed = Some(reason);
    }
}

/// Limits that make sense together: the same ones, as a rule.
fn possible(mut limits: Arc<Limits>) -> Arc<Limits> {
    let max_in_flight = limits.max_in_flight.min(MAX_IN_FLIGHT);
    let window = limits.connection_window_bytes.max(WINDOW_BYTES);
    let assembly = limits.max_assembly_bytes.max(limits.max_body_bytes);
    let wanted = (max_in_flight, window, assembly);
    let given = (
        limits.max_in_flight,
        limits.connection_window_bytes,
        limits.max_assembly_bytes,
    );
    if given != wanted {
        let limits = Arc::make_mut(&mut limits);
        (
            limits.max_in_flight,
            limits.connection_window_bytes,
            limits.max_assembly_bytes,
        ) = wanted;
    }
    limits
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
