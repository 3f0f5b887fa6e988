//! One end of a connection as a state machine: messages in, events out; commands in, messages
//! out. It owns no socket and reads no clock, so that a test can hold both ends in one hand.

use std::{
    borrow::Cow,
    task::{Poll, Waker},
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    calls::{Answer, Calls, Failure},
    frame::{CallId, Frame, FrameError, Head, MethodRef, Position, Side, next_frame},
    handshake::{self, PeerLimits},
    inbound::{Entry, Inbound, Stop},
    options::{EncodedOptions, OptionKey, Options, OptionsBuilder},
    outbox::{Batch, Outbox},
    waiters::{Ticket, Waiters},
};
use crate::{
    body::Codec,
    close::{CloseCode, CloseReason},
    limits::Limits,
    metadata::{CallOptions, Metadata},
    method::{MAX_ALIASES, Method},
    status::{Code, Fate, Status},
};

/// Room that a body must leave for its frame in a message: fields, a method name, options, an
/// error's text, all of them escaped in JSON.
const FRAME_BYTES: usize = 32 << 10;

/// The longest text of an error that is sent.
const MAX_ERROR_TEXT_BYTES: usize = 1 << 10;

/// No peer may ask for smaller messages.
const MIN_MESSAGE_BYTES: usize = 64 << 10;

/// Keys of options of ERROR.
const FATE: u64 = 1;
const RETRY_AFTER_MS: u64 = 3;

/// A method of this end, as the router numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service.
    pub service: u32,
    /// The method within it.
    pub method: u32,
}

/// Finds methods by the names that the peer uses.
pub trait Resolve {
    /// The method, or a message for the caller that says what there is instead.
    ///
    /// # Errors
    /// A lower-case phrase for the ERROR frame.
    fn resolve(&self, name: &str) -> Result<Target, String>;
}

/// What came in and needs somebody's attention.
#[derive(Debug)]
pub enum Event {
    /// HELLO or WELCOME has come: the connection is open.
    Open,
    /// A call is to be executed and answered exactly once.
    Request {
        /// To answer with.
        id: CallId,
        /// What is called.
        target: Target,
        /// Arguments.
        body: Bytes,
        /// When it is no longer of use.
        deadline: Option<Instant>,
        /// What the caller sent along.
        metadata: Metadata,
    },
    /// A notification is to be handled, in order. [`Connection::notification_handled`] gives its
    /// credit back.
    Notification {
        /// What is called.
        target: Target,
        /// Arguments.
        body: Bytes,
        /// What the caller sent along.
        metadata: Metadata,
        /// Whether it may be dropped when too many wait.
        volatile: bool,
    },
    /// The handler of this call is to be stopped.
    Stop {
        /// The call.
        id: CallId,
    },
}

/// Events of one step, and callers to be woken once no lock is held.
#[derive(Debug, Default)]
pub struct Events {
    /// In order of arrival.
    pub queue: Vec<Event>,
    /// Callers whose answers have come.
    pub wakers: Vec<Waker>,
}

/// Why the peer broke the connection's rules; it ends the connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A message is no sequence of frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame of this kind cannot come now.
    #[error("{0}")]
    Unexpected(&'static str),
    /// The id is of the wrong side, or names no call.
    #[error("id {0} cannot be opened by the peer")]
    WrongId(CallId),
    /// The id belongs to a call that has not ended.
    #[error("id {0} is in use")]
    LiveId(CallId),
    /// The alias was defined already, or is out of range.
    #[error("alias {0} cannot be defined")]
    Alias(u64),
    /// The peer takes only messages that are too small to be of use.
    #[error("messages of {0} bytes are too small, {MIN_MESSAGE_BYTES} is the least")]
    MessageLimit(usize),
    /// An option with an even key outside a call.
    #[error("option {0} is not understood")]
    Option(u64),
    /// Notifications beyond the credit, or calls far beyond the limit.
    #[error("{0}")]
    Flood(&'static str),
}

impl ProtocolError {
    /// What the Close frame says.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            ProtocolError::Frame(_) => CloseCode::FRAMING,
            ProtocolError::Flood(_) => CloseCode::FLOOD,
            _ => CloseCode::PROTOCOL,
        }
    }
}

/// A call or notification about to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) options: Options<'a>,
    pub(crate) body: &'a [u8],
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

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The peer's HELLO or WELCOME has not come.
    Opening,
    Open,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    side: Side,
    codec: Codec,
    limits: Limits,
    /// The protocol's defaults until the peer has announced its own.
    peer: PeerLimits,
    phase: Phase,
    closed: Option<CloseReason>,

    /// This end's calls.
    calls: Calls,
    calls_waiting: Waiters,
    /// The peer's calls.
    inbound: Inbound,
    /// Refusals written since the outbox was last taken. An honest peer cannot cause more than its
    /// calls in flight without reading.
    refusals: usize,

    /// Which of the process's aliases this connection's peer knows.
    aliases_sent: Vec<u64>,
    aliases_received: Vec<Option<Result<Target, String>>>,

    outbox: Outbox,
    /// Counted frames that were handed to the transport.
    transmitted: u64,
    /// Counted frames that came in.
    received: u64,

    /// Notifications that this end may send.
    notify_credit: usize,
    notify_waiting: Waiters,
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
    pub fn new(side: Side, codec: Codec, limits: Limits) -> Self {
        let notify_granted = limits.notification_credit;
        let mut connection = Connection {
            side,
            codec,
            limits,
            peer: PeerLimits::default(),
            phase: Phase::Opening,
            closed: None,
            calls: Calls::default(),
            calls_waiting: Waiters::default(),
            inbound: Inbound::default(),
            refusals: 0,
            aliases_sent: Vec::new(),
            aliases_received: Vec::new(),
            outbox: Outbox::new(codec),
            transmitted: 0,
            received: 0,
            notify_credit: 0,
            notify_waiting: Waiters::default(),
            notify_granted,
            notify_handled: 0,
            pong: None,
        };
        if side == Side::Dialler {
            let options = handshake::announce(codec, &connection.limits);
            connection
                .outbox
                .push(&handshake::frame(Head::Hello, &options));
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
    pub fn in_flight(&self) -> (usize, usize) {
        (self.calls.in_use(), self.inbound.len())
    }

    // ---- calls of this end

    /// Writes a REQUEST and enters the call into the table. Without room in flight the call joins
    /// those who wait, if it has a waker.
    ///
    /// A caller whose turn has come passes the ticket that it waited with.
    pub(crate) fn start_call(
        &mut self,
        call: Outgoing<'_>,
        deadline: Option<Instant>,
        waker: Option<&Waker>,
        ticket: Option<Ticket>,
        wakers: &mut Vec<Waker>,
    ) -> Result<Admission<usize>, Status> {
        let admitted = ticket.is_some_and(|ticket| self.calls_waiting.leave(ticket));
        if let Err(status) = self.check_outgoing(call.body.len()) {
            // The place that was kept goes to the next.
            self.admit_calls(wakers);
            return Err(status);
        }
        if !admitted && (self.calls_waiting.waiting() > 0 || self.call_places() == 0) {
            return Ok(waker.map_or(Admission::Full, |waker| {
                Admission::Wait(self.calls_waiting.join(waker.clone(), deadline))
            }));
        }
        let method = self.method_ref(call.method);
        let sequence = self.outbox.counted() + 1;
        let index = self.calls.insert(waker.cloned(), deadline, sequence);
        self.outbox.push(&Frame {
            head: Head::Request {
                id: CallId::of(index + 1, self.side),
                method,
            },
            options: call.options,
            payload: call.body,
        });
        Ok(Admission::Sent(index))
    }

    /// Calls that may be started by those who have not waited.
    fn call_places(&self) -> usize {
        // The acceptor's WELCOME comes before anything else of it; the dialler has said HELLO.
        let too_early = self.phase == Phase::Opening && self.side == Side::Acceptor;
        if too_early || self.is_congested() {
            return 0;
        }
        self.peer
            .max_in_flight
            .saturating_sub(self.calls.in_use() + self.calls_waiting.admitted())
    }

    /// Asks whether a waiting call's turn has come.
    pub(crate) fn poll_turn(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        if self.closed.is_some() {
            return Poll::Ready(());
        }
        self.calls_waiting.poll(ticket, waker)
    }

    /// A waiting call has given up.
    pub(crate) fn leave_queue(&mut self, ticket: Ticket, wakers: &mut Vec<Waker>) {
        self.calls_waiting.leave(ticket);
        self.admit_calls(wakers);
    }

    /// Asks for a call's answer. A small one is put into `buffer`.
    pub(crate) fn poll_answer(
        &mut self,
        index: usize,
        waker: &Waker,
        buffer: &mut Vec<u8>,
        wakers: &mut Vec<Waker>,
    ) -> Poll<Answer> {
        let answer = self.calls.poll(index, waker, buffer);
        if answer.is_ready() {
            self.admit_calls(wakers);
        }
        answer
    }

    /// A caller has given up. The peer is told if it still works on the call.
    pub(crate) fn abandon_call(&mut self, index: usize, now: Instant, wakers: &mut Vec<Waker>) {
        if self.calls.abandon(index) {
            self.cancel(index);
        }
        self.calls.is_crowded(self.peer.max_in_flight, now);
        self.admit_calls(wakers);
    }

    fn cancel(&mut self, index: usize) {
        if self.closed.is_none() {
            self.outbox.push(&Frame::new(Head::Cancel {
                id: CallId::of(index + 1, self.side),
            }));
        }
    }

    fn admit_calls(&mut self, wakers: &mut Vec<Waker>) {
        while self.calls_waiting.waiting() > 0 && self.call_places() > 0 {
            self.calls_waiting.admit(wakers);
        }
    }

    // ---- notifications of this end

    /// Writes a NOTIFY if there is credit, or joins those who wait for it.
    ///
    /// A caller whose turn has come passes the ticket that it waited with.
    pub(crate) fn notify(
        &mut self,
        call: Outgoing<'_>,
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
            let ticket = self.notify_waiting.join(waker.clone(), None);
            return Ok(Admission::Wait(ticket));
        }
        self.notify_credit -= 1;
        let method = self.method_ref(call.method);
        self.outbox.push(&Frame {
            head: Head::Notify { method },
            options: call.options,
            payload: call.body,
        });
        Ok(Admission::Sent(()))
    }

    /// Like [`Connection::notify`], for a NOTIFY that was encoded before, with this connection's
    /// codec and without options. Says whether it was sent: it does not wait for credit.
    pub(crate) fn notify_encoded(
        &mut self,
        method: &Method,
        frame: &[u8],
        body_bytes: usize,
    ) -> Result<bool, Status> {
        self.check_outgoing(body_bytes)?;
        if !self.may_notify() {
            return Ok(false);
        }
        self.notify_credit -= 1;
        self.method_ref(method);
        self.outbox.push_encoded(frame, true);
        Ok(true)
    }

    fn may_notify(&self) -> bool {
        self.notify_waiting.waiting() == 0 && self.notify_places() > 0
    }

    /// None before the peer has announced its credit.
    fn notify_places(&self) -> usize {
        if self.is_congested() {
            return 0;
        }
        self.notify_credit
            .saturating_sub(self.notify_waiting.admitted())
    }

    pub(crate) fn poll_notify_turn(&mut self, ticket: Ticket, waker: &Waker) -> Poll<()> {
        if self.closed.is_some() {
            return Poll::Ready(());
        }
        self.notify_waiting.poll(ticket, waker)
    }

    pub(crate) fn leave_notify_queue(&mut self, ticket: Ticket, wakers: &mut Vec<Waker>) {
        self.notify_waiting.leave(ticket);
        self.admit_notifications(wakers);
    }

    fn admit_notifications(&mut self, wakers: &mut Vec<Waker>) {
        while self.notify_waiting.waiting() > 0 && self.notify_places() > 0 {
            self.notify_waiting.admit(wakers);
        }
    }

    /// Whether a call or notification with a body of this size can be sent at all.
    fn check_outgoing(&self, body_bytes: usize) -> Result<(), Status> {
        if let Some(reason) = &self.closed {
            return Err(closed_status(reason, Fate::NotSent));
        }
        let limit = self.max_outgoing_body_bytes();
        if body_bytes > limit {
            return Err(body_too_large(body_bytes, limit).with_fate(Fate::NotSent));
        }
        Ok(())
    }

    /// The largest body that the peer takes.
    pub(crate) fn max_outgoing_body_bytes(&self) -> usize {
        self.peer
            .max_body_bytes
            .min(self.peer.max_message_bytes.saturating_sub(FRAME_BYTES))
    }

    /// The method as it is named on this connection; an alias is defined before it is used.
    fn method_ref<'m>(&mut self, method: &'m Method) -> MethodRef<'m> {
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
            self.outbox.push(&Frame::new(Head::Define {
                alias: u64::from(alias),
                method: Cow::Borrowed(method.name()),
            }));
        }
        reference
    }

    // ---- answers to the peer's calls

    /// Writes a terminal frame that was encoded before, unless the call is over.
    pub(crate) fn answer_encoded(&mut self, id: CallId, frame: &[u8]) {
        if self.inbound.remove(id).is_some() && self.closed.is_none() {
            self.outbox.push_encoded(frame, true);
        }
    }

    /// Whether the peer's call has not been answered yet.
    pub(crate) fn is_running(&self, id: CallId) -> bool {
        self.inbound.contains(id)
    }

    /// The handler was dropped before it had ended.
    pub(crate) fn handler_dropped(&mut self, id: CallId) {
        let Some(stopped) = self.inbound.remove(id) else {
            return;
        };
        let status = stopped.map_or_else(
            || {
                Status::new(Code::ABORTED, "the handler was dropped before it ended")
                    .with_fate(Fate::Unknown)
            },
            Stop::status,
        );
        self.write_error(id, &status);
    }

    /// A notification's handler has ended; its credit goes back, half of all at a time.
    pub(crate) fn notification_handled(&mut self) {
        self.notify_handled += 1;
        if self.notify_handled * 2 < self.limits.notification_credit || self.closed.is_some() {
            return;
        }
        let items = std::mem::take(&mut self.notify_handled);
        self.notify_granted += items;
        self.outbox.push(&Frame::new(Head::Credit {
            id: CallId::NOTIFICATIONS,
            items: items as u64,
            bytes: 0,
        }));
    }

    fn write_error(&mut self, id: CallId, status: &Status) {
        if self.closed.is_some() {
            return;
        }
        let options = error_options(self.codec, status);
        self.outbox.push(&error_frame(id, status, &options, &[]));
    }

    /// Refuses a call that did not enter the table.
    fn refuse(&mut self, id: CallId, status: &Status) -> Result<(), ProtocolError> {
        self.refusals += 1;
        if self.refusals > self.limits.max_in_flight.max(64) {
            return Err(ProtocolError::Flood(
                "more calls than may be in flight, without reading their answers",
            ));
        }
        self.write_error(id, status);
        Ok(())
    }

    // ---- what comes in

    /// Reads up to `limit` frames of a message from `position` on. Says whether the message is at
    /// its end.
    ///
    /// # Errors
    /// [`ProtocolError`], which ends the connection.
    pub fn receive(
        &mut self,
        message: &Bytes,
        position: &mut Position,
        limit: usize,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<bool, ProtocolError> {
        for _ in 0..limit {
            let Some(frame) = next_frame(self.codec, message, position)? else {
                self.write_pong();
                return Ok(true);
            };
            self.frame(&frame, message, now, methods, events)?;
        }
        Ok(false)
    }

    fn frame(
        &mut self,
        frame: &Frame<'_>,
        message: &Bytes,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if self.phase == Phase::Opening {
            return self.open(frame, events);
        }
        self.received += u64::from(frame.head.is_counted());
        match &frame.head {
            Head::Response { id } => {
                if let Some(index) = self.own_call(*id) {
                    // An unknown id is a race that was lost: a late answer.
                    self.calls
                        .respond(index, frame.payload, message, &mut events.wakers);
                }
                self.admit_calls(&mut events.wakers);
            }
            Head::Error {
                id,
                code,
                message: text,
            } => {
                if let Some(index) = self.own_call(*id) {
                    let failure = || read_failure(*code, text, frame, message);
                    self.calls.fail(index, failure, &mut events.wakers);
                }
                self.admit_calls(&mut events.wakers);
            }
            Head::Request { id, method } => {
                self.request(*id, method, frame, message, now, methods, events)?;
            }
            Head::Cancel { id } => {
                if id.side() != self.side && self.inbound.stop(*id, Stop::Cancelled) {
                    events.queue.push(Event::Stop { id: *id });
                }
            }
            Head::Notify { method } | Head::Volatile { method } => {
                self.notification(method, frame, message, methods, events)?;
            }
            Head::Define { alias, method } => self.define(*alias, method, methods)?,
            Head::Credit { id, items, .. } => {
                if *id == CallId::NOTIFICATIONS {
                    let items = usize::try_from(*items).unwrap_or(usize::MAX);
                    self.notify_credit = self.notify_credit.saturating_add(items);
                    self.admit_notifications(&mut events.wakers);
                }
            }
            Head::Ping { token, .. } => self.pong = Some(*token),
            Head::Hello | Head::Welcome => {
                return Err(ProtocolError::Unexpected("a second HELLO or WELCOME"));
            }
            // Streams, large bodies and resume: frames of calls that this version does not open,
            // and acknowledgements that it does not need.
            Head::Item { .. }
            | Head::End { .. }
            | Head::Chunk { .. }
            | Head::Open { .. }
            | Head::Pong { .. }
            | Head::Ack { .. }
            | Head::GoAway { .. }
            | Head::Ignored { .. } => {}
        }
        Ok(())
    }

    fn open(&mut self, frame: &Frame<'_>, events: &mut Events) -> Result<(), ProtocolError> {
        match (&frame.head, self.side) {
            (Head::Hello, Side::Acceptor) | (Head::Welcome, Side::Dialler) => {}
            (_, Side::Acceptor) => {
                return Err(ProtocolError::Unexpected("the first frame is not HELLO"));
            }
            (_, Side::Dialler) => {
                return Err(ProtocolError::Unexpected("the first frame is not WELCOME"));
            }
        }
        self.peer = handshake::read(frame.options).map_err(ProtocolError::Option)?;
        if self.peer.max_message_bytes < MIN_MESSAGE_BYTES {
            return Err(ProtocolError::MessageLimit(self.peer.max_message_bytes));
        }
        self.outbox.limit_messages(self.peer.max_message_bytes);
        self.phase = Phase::Open;
        self.notify_credit = self.peer.notification_credit;
        if self.side == Side::Acceptor {
            let options = handshake::announce(self.codec, &self.limits);
            self.outbox.push(&handshake::frame(Head::Welcome, &options));
        }
        events.queue.push(Event::Open);
        self.admit_calls(&mut events.wakers);
        self.admit_notifications(&mut events.wakers);
        Ok(())
    }

    fn own_call(&self, id: CallId) -> Option<usize> {
        if id.side() != self.side {
            return None;
        }
        usize::try_from(id.slot()).ok()?.checked_sub(1)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one frame")]
    fn request(
        &mut self,
        id: CallId,
        method: &MethodRef<'_>,
        frame: &Frame<'_>,
        message: &Bytes,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if id.side() == self.side || id.slot() == 0 {
            return Err(ProtocolError::WrongId(id));
        }
        // Before anything that can refuse the call: the answer would be taken for the other's.
        if self.inbound.is_live(id) {
            return Err(ProtocolError::LiveId(id));
        }
        let accepted = self
            .resolve(method, methods)
            .and_then(|target| Ok((target, self.call_options(frame)?)));
        let (target, options) = match accepted {
            Ok(accepted) => accepted,
            Err(status) => return self.refuse(id, &status),
        };
        let deadline = match options.deadline_ms {
            None => self.peer.default_deadline,
            Some(0) => None,
            Some(milliseconds) => Some(std::time::Duration::from_millis(milliseconds)),
        };
        let deadline = deadline.and_then(|deadline| now.checked_add(deadline));
        match self.inbound.insert(id, deadline, self.limits.max_in_flight) {
            Entry::Accepted => {}
            Entry::Full => {
                let status = Status::new(
                    Code::RESOURCE_EXHAUSTED,
                    format!("more than {} calls in flight", self.limits.max_in_flight),
                )
                .with_fate(Fate::NotExecuted);
                return self.refuse(id, &status);
            }
        }
        events.queue.push(Event::Request {
            id,
            target,
            body: message.slice_ref(frame.payload),
            deadline,
            metadata: options.metadata,
        });
        Ok(())
    }

    fn notification(
        &mut self,
        method: &MethodRef<'_>,
        frame: &Frame<'_>,
        message: &Bytes,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let volatile = matches!(frame.head, Head::Volatile { .. });
        if !volatile {
            self.notify_granted =
                self.notify_granted
                    .checked_sub(1)
                    .ok_or(ProtocolError::Flood(
                        "more notifications than there was credit for",
                    ))?;
        }
        let accepted = self
            .resolve(method, methods)
            .and_then(|target| Ok((target, self.call_options(frame)?)));
        match accepted {
            Ok((target, options)) => events.queue.push(Event::Notification {
                target,
                body: message.slice_ref(frame.payload),
                metadata: options.metadata,
                volatile,
            }),
            // Nobody waits for an answer, and nobody here knows the method.
            Err(_) if volatile => {}
            Err(_) => self.notification_handled(),
        }
        Ok(())
    }

    fn call_options(&self, frame: &Frame<'_>) -> Result<CallOptions, Status> {
        if frame.payload.len() > self.limits.max_body_bytes {
            let status = body_too_large(frame.payload.len(), self.limits.max_body_bytes);
            return Err(status.with_fate(Fate::NotExecuted));
        }
        if frame.options.is_empty() {
            return Ok(CallOptions::default());
        }
        CallOptions::read(frame.options, &self.limits)
    }

    fn resolve(&self, method: &MethodRef<'_>, methods: &impl Resolve) -> Result<Target, Status> {
        let found = match method {
            MethodRef::Name(name) => methods.resolve(name),
            MethodRef::Alias(alias) => usize::try_from(*alias)
                .ok()
                .and_then(|alias| self.aliases_received.get(alias)?.clone())
                .unwrap_or_else(|| Err(format!("alias {alias} is not defined"))),
        };
        found.map_err(|message| {
            Status::new(Code::UNIMPLEMENTED, message).with_fate(Fate::NotExecuted)
        })
    }

    fn define(
        &mut self,
        alias: u64,
        method: &str,
        methods: &impl Resolve,
    ) -> Result<(), ProtocolError> {
        let index = usize::try_from(alias)
            .ok()
            .filter(|index| *index < MAX_ALIASES)
            .ok_or(ProtocolError::Alias(alias))?;
        if self.aliases_received.len() <= index {
            self.aliases_received.resize(index + 1, None);
        }
        let place = &mut self.aliases_received[index];
        if place.is_some() {
            return Err(ProtocolError::Alias(alias));
        }
        *place = Some(methods.resolve(method));
        Ok(())
    }

    /// One PONG for all the PINGs of a message: an answer to the last proves as much.
    fn write_pong(&mut self) {
        if self.is_congested() {
            return;
        }
        if let Some(token) = self.pong.take() {
            let count = self.received;
            self.outbox.push(&Frame::new(Head::Pong { count, token }));
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
            self.cancel(index);
        }
        self.calls_waiting.expire(now, &mut events.wakers);
        let side = self.side.other();
        self.inbound.expire(now, |slot| {
            events.queue.push(Event::Stop {
                id: CallId::of(slot, side),
            });
        });
        if self.calls.is_crowded(self.peer.max_in_flight, now) {
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
        [
            self.calls.next_timeout(),
            self.calls_waiting.next_timeout(),
            self.inbound.next_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- what goes out

    /// Whether nothing waits to be written.
    #[must_use]
    pub fn outbox_is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Whether so much waits to be written that no further handler is to be started.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.outbox.len() > self.limits.outbound_queue_bytes
    }

    /// Takes all that waits. It counts as sent from now on.
    pub fn take_output(&mut self, batch: &mut Batch, wakers: &mut Vec<Waker>) {
        let congested = self.is_congested();
        self.outbox.take(batch);
        self.transmitted = self.outbox.counted();
        self.refusals = 0;
        if congested {
            self.admit_calls(wakers);
            self.admit_notifications(wakers);
        }
    }

    /// Ends the connection: every pending call fails, and says whether it was sent.
    pub fn close(&mut self, reason: CloseReason, wakers: &mut Vec<Waker>) {
        if self.closed.is_some() {
            return;
        }
        let transmitted = self.transmitted;
        self.calls.end_all(wakers, |sequence| {
            let fate = if sequence <= transmitted {
                Fate::Unknown
            } else {
                Fate::NotSent
            };
            closed_status(&reason, fate)
        });
        self.calls_waiting.wake_all(wakers);
        self.notify_waiting.wake_all(wakers);
        self.closed = Some(reason);
    }
}

fn closed_status(reason: &CloseReason, fate: Fate) -> Status {
    Status::new(Code::UNAVAILABLE, reason.to_string()).with_fate(fate)
}

pub(crate) fn body_too_large(bytes: usize, limit: usize) -> Status {
    Status::new(
        Code::RESOURCE_EXHAUSTED,
        format!("a body of {bytes} bytes is larger than the limit of {limit}"),
    )
}

/// The options of an ERROR with this status; none in the usual case of an executed call.
pub(crate) fn error_options(codec: Codec, status: &Status) -> EncodedOptions {
    let mut options = OptionsBuilder::new(codec);
    if status.fate() != Fate::Executed {
        options.uint(FATE, status.fate().to_wire());
    }
    if let Some(retry_after) = status.retry_after() {
        let milliseconds = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
        options.uint(RETRY_AFTER_MS, milliseconds);
    }
    options.finish()
}

pub(crate) fn error_frame<'a>(
    id: CallId,
    status: &'a Status,
    options: &'a EncodedOptions,
    details: &'a [u8],
) -> Frame<'a> {
    let text = status.message();
    let end = (0..=text.len().min(MAX_ERROR_TEXT_BYTES)).rfind(|end| text.is_char_boundary(*end));
    Frame {
        head: Head::Error {
            id,
            code: status.code().value(),
            message: Cow::Borrowed(&text[..end.unwrap_or_default()]),
        },
        options: options.as_options(),
        payload: details,
    }
}

fn read_failure(code: u16, text: &str, frame: &Frame<'_>, message: &Bytes) -> Failure {
    let mut status = Status::new(Code::new(code), text.to_owned());
    for (key, value) in frame.options.entries() {
        match (key, value.uint()) {
            (OptionKey::Integer(FATE), Some(fate)) => {
                status = status.with_fate(Fate::from_wire(fate));
            }
            (OptionKey::Integer(RETRY_AFTER_MS), Some(milliseconds)) => {
                status = status.with_retry_after(std::time::Duration::from_millis(milliseconds));
            }
            _ => {}
        }
    }
    Failure {
        status,
        details: message.slice_ref(frame.payload),
    }
}
