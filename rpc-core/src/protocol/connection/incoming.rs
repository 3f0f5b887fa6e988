//! Calls and notifications of the peer, and the answers to them.

use std::{task::Waker, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Connection;
use crate::{
    body::Rope,
    metadata::{CallOptions, Metadata},
    method::MAX_ALIASES,
    priority::Priority,
    protocol::{
        event::{Body, Event, Events, MethodKind, ProtocolError, Resolve, Target},
        failure::{body_too_large, error_frame, error_options},
        frame::{CallId, Frame, Head, MethodRef},
        inbound::Stop,
    },
    status::{Code, Fate, Status},
};

/// What a method with these streams is.
fn shape(streams: u64) -> &'static str {
    match streams {
        0 => "one without streams",
        1 => "one that takes a stream",
        2 => "one that answers with a stream",
        3 => "one with a stream each way",
        _ => "one of a shape that is not known",
    }
}

/// What a peer has defined an alias for.
#[derive(Debug)]
pub(super) enum Alias {
    Known(Target),
    /// The name of a method that there is not.
    Unknown(Box<str>),
}

/// So many refusals may wait to be written, even if fewer calls may be in flight: a dialler may
/// have sent as many behind its HELLO, before it knew the limit.
pub(super) const MIN_REFUSALS: usize = 1024;

impl Connection {
    #[expect(clippy::too_many_arguments, reason = "the parts of one frame")]
    pub(super) fn request(
        &mut self,
        id: CallId,
        method: &MethodRef<'_>,
        frame: &Frame<'_>,
        message: &Bytes,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        self.check_new(id)?;
        let Some(target) = self.resolve(method, methods) else {
            let message = self.explain(method, methods);
            let status = Status::new(Code::UNIMPLEMENTED, message);
            return self.refuse(id, &status.with_fate(Fate::NotExecuted));
        };
        let options = match self.call_options(frame) {
            Ok(options) => options,
            Err(status) => return self.refuse(id, &status),
        };
        if self.is_leaving() {
            let status = Status::new(
                Code::UNAVAILABLE,
                "this connection takes no more calls: GOAWAY was sent",
            );
            return self.refuse(id, &status.with_fate(Fate::NotExecuted));
        }
        if target.kind == MethodKind::Notification {
            let status = Status::new(
                Code::UNIMPLEMENTED,
                "the method is a notification and has no answer",
            );
            return self.refuse(id, &status.with_fate(Fate::NotExecuted));
        }
        if let Some(streams) = options.streams
            && streams != target.kind.streams()
        {
            let status = Status::new(
                Code::UNIMPLEMENTED,
                format!(
                    "the caller takes the method for {}, and it is {}",
                    shape(streams),
                    shape(target.kind.streams())
                ),
            );
            return self.refuse(id, &status.with_fate(Fate::NotExecuted));
        }
        if !options.suit(target.kind) {
            let status = Status::new(
                Code::UNIMPLEMENTED,
                "an idempotency key is for calls without streams",
            );
            return self.refuse(id, &status.with_fate(Fate::NotExecuted));
        }
        if !self.has_slot(id) {
            let status = Status::new(
                Code::RESOURCE_EXHAUSTED,
                format!("more than {} calls in flight", self.limits.max_in_flight),
            )
            .with_fate(Fate::NotExecuted);
            return self.refuse(id, &status);
        }
        let body = Body::Shared(message.slice_ref(frame.payload));
        self.accept_call(id, target, body, options, now, events);
        Ok(())
    }

    /// Enters a call into the table and hands it over. Its id is neither live nor beyond the limit.
    fn accept_call(
        &mut self,
        id: CallId,
        target: Target,
        body: Body,
        options: CallOptions,
        now: Instant,
        events: &mut Events,
    ) {
        let timeout = match options.deadline_ms {
            None => self.peer.default_deadline,
            Some(0) => None,
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
        };
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.inbound.insert(id, options.priority, deadline);
        let mut generation = 0;
        if target.kind != MethodKind::Unary {
            let credit = options.credit.unwrap_or(self.peer.stream_credit);
            let streams = self.peer_streams(target.kind, credit, options.position);
            generation = self.inbound.attach(id, streams);
        }
        events.queue.push(Event::Request {
            id,
            target,
            generation,
            body,
            deadline,
            priority: options.priority,
            idempotency_key: options.idempotency_key,
            metadata: options.metadata,
        });
    }

    /// Like [`Connection::accept_call`], for a call without options or streams.
    #[inline]
    pub(super) fn accept_plain(
        &mut self,
        id: CallId,
        target: Target,
        body: Body,
        now: Instant,
        events: &mut Events,
    ) {
        let timeout = self.peer.default_deadline;
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        self.inbound.insert(id, Priority::Normal, deadline);
        events.queue.push(Event::Request {
            id,
            target,
            generation: 0,
            body,
            deadline,
            priority: Priority::Normal,
            idempotency_key: None,
            metadata: Metadata::default(),
        });
    }

    /// The method that this alias stands for, if it is one without streams.
    #[inline]
    pub(super) fn unary_method(&self, alias: u64) -> Option<Target> {
        match self.alias(alias)? {
            Alias::Known(target) if target.kind == MethodKind::Unary => Some(*target),
            _ => None,
        }
    }

    /// Whether a call can be opened with this id. Asked before anything that can refuse the call:
    /// the answer would be taken for another's.
    #[inline]
    pub(super) fn check_new(&self, id: CallId) -> Result<(), ProtocolError> {
        if id.side() == self.side || id.slot() == 0 {
            return Err(ProtocolError::WrongId(id));
        }
        if self.inbound.contains(id) || self.assembly.contains(id) {
            return Err(ProtocolError::LiveId(id));
        }
        Ok(())
    }

    /// Whether the id is within the calls that may be in flight.
    #[inline]
    pub(super) fn has_slot(&self, id: CallId) -> bool {
        id.slot() <= self.limits.max_in_flight as u64
    }

    /// A notification has come, for which there must have been credit.
    pub(super) fn spend_notification(&mut self) -> Result<(), ProtocolError> {
        let left = self.notify_granted.checked_sub(1);
        self.notify_granted = left.ok_or(ProtocolError::Flood(
            "more notifications than there was credit for",
        ))?;
        Ok(())
    }

    pub(super) fn notification(
        &mut self,
        method: &MethodRef<'_>,
        frame: &Frame<'_>,
        message: &Bytes,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let volatile = matches!(frame.head, Head::Volatile { .. });
        if !volatile {
            self.spend_notification()?;
        }
        let target = self
            .resolve(method, methods)
            .filter(|target| target.kind == MethodKind::Notification);
        match (target, self.call_options(frame)) {
            (Some(target), Ok(options)) if options.suit(target.kind) => {
                events.queue.push(Event::Notification {
                    target,
                    body: Body::Shared(message.slice_ref(frame.payload)),
                    metadata: options.metadata,
                    volatile,
                })
            }
            // Nobody waits for an answer that could say what is wrong.
            _ if volatile => {}
            _ => self.notification_handled(),
        }
        Ok(())
    }

    pub(super) fn call_options(&self, frame: &Frame<'_>) -> Result<CallOptions, Status> {
        if frame.payload.len() > self.limits.max_body_bytes {
            let status = body_too_large(frame.payload.len(), self.limits.max_body_bytes);
            return Err(status.with_fate(Fate::NotExecuted));
        }
        if frame.options.is_empty() {
            return Ok(CallOptions::default());
        }
        CallOptions::read(frame.options, &self.limits, self.peer.stream_credit)
    }

    pub(super) fn resolve(&self, method: &MethodRef<'_>, methods: &impl Resolve) -> Option<Target> {
        match method {
            MethodRef::Name(name) => methods.resolve(name),
            MethodRef::Alias(alias) => match self.alias(*alias)? {
                Alias::Known(target) => Some(*target),
                Alias::Unknown(_) => None,
            },
        }
    }

    #[inline]
    fn alias(&self, alias: u64) -> Option<&Alias> {
        let index = usize::try_from(alias).ok()?;
        self.aliases_received.get(index)?.as_ref()
    }

    /// Why a method was not found, for its caller.
    fn explain(&mut self, method: &MethodRef<'_>, methods: &impl Resolve) -> String {
        let name = match method {
            MethodRef::Name(name) => name,
            MethodRef::Alias(alias) => match self.alias(*alias) {
                Some(Alias::Unknown(name)) => &**name,
                _ => return format!("alias {alias} is not defined"),
            },
        };
        if self.suggestions == 0 {
            return format!("no method {name:?}");
        }
        let explanation = methods.explain(name);
        self.suggestions -= 1;
        explanation
    }

    pub(super) fn define(
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
            self.aliases_received.resize_with(index + 1, || None);
        }
        let place = &mut self.aliases_received[index];
        if place.is_some() {
            return Err(ProtocolError::Alias(alias));
        }
        *place = Some(match methods.resolve(method) {
            Some(target) => Alias::Known(target),
            None => Alias::Unknown(method.into()),
        });
        Ok(())
    }

    /// Writes a terminal frame that was encoded before, unless the call is over.
    #[inline]
    pub(crate) fn answer_encoded(&mut self, id: CallId, frame: &[u8], wakers: &mut Vec<Waker>) {
        if let Some(ended) = self.inbound.remove(id, wakers)
            && self.closed.is_none()
        {
            self.outbox.push_encoded(ended.priority, id, frame);
        }
    }

    /// Writes a RESPONSE with a large body, unless the call is over.
    pub(crate) fn answer_large(
        &mut self,
        id: CallId,
        body: Rope,
        metadata: &Metadata,
        wakers: &mut Vec<Waker>,
    ) {
        if let Some(ended) = self.inbound.remove(id, wakers)
            && self.closed.is_none()
        {
            let options = metadata.options(self.codec);
            let frame = Frame {
                options: options.as_options(),
                ..Frame::new(Head::Response { id })
            };
            self.outbox.push_large(ended.priority, &frame, body);
        }
    }

    /// Whether the peer's call has not been answered yet.
    #[inline]
    pub(crate) fn is_running(&self, id: CallId) -> bool {
        self.inbound.contains(id)
    }

    /// What tells a handler to stop; none when it was told, or has ended.
    pub(crate) fn cancellation(&mut self, id: CallId) -> Option<CancellationToken> {
        self.inbound.cancellation(id)
    }

    /// Takes out what tells a handler to stop, so that it is told when no lock is held.
    pub(crate) fn take_cancellation(&mut self, id: CallId) -> Option<CancellationToken> {
        self.inbound.take_cancellation(id)
    }

    /// Those of all handlers.
    pub(crate) fn take_cancellations(&mut self) -> Vec<CancellationToken> {
        self.inbound.take_cancellations()
    }

    /// The handler was dropped before it had ended.
    pub(crate) fn handler_dropped(&mut self, id: CallId, wakers: &mut Vec<Waker>) {
        let Some(ended) = self.inbound.remove(id, wakers) else {
            return;
        };
        let status = ended.stopped.map_or_else(
            || {
                Status::new(Code::ABORTED, "the handler was dropped before it ended")
                    .with_fate(Fate::Unknown)
            },
            Stop::status,
        );
        self.write_error(id, ended.priority, &status);
    }

    /// The call was cancelled, or ran out of time, before its handler was started.
    pub(crate) fn handler_not_started(&mut self, id: CallId, wakers: &mut Vec<Waker>) {
        if let Some(ended) = self.inbound.remove(id, wakers)
            && let Some(stopped) = ended.stopped
        {
            let status = stopped.status().with_fate(Fate::NotExecuted);
            self.write_error(id, ended.priority, &status);
        }
    }

    /// A notification's handler has ended; its credit goes back, half of all at a time.
    pub(crate) fn notification_handled(&mut self) {
        self.notify_handled += 1;
        if self.notify_handled * 2 < self.limits.notification_credit || self.closed.is_some() {
            return;
        }
        let items = std::mem::take(&mut self.notify_handled);
        self.notify_granted += items;
        self.outbox.push_control(&Frame::new(Head::Credit {
            id: CallId::NOTIFICATIONS,
            items: items as u64,
            bytes: 0,
        }));
    }

    pub(super) fn write_error(&mut self, id: CallId, priority: Priority, status: &Status) {
        if self.closed.is_some() {
            return;
        }
        self.refusals += 1;
        if self.outbox.large_bytes() > 0 {
            self.outbox.abort_large(priority, id);
            self.has_freed_room = true;
        }
        let options = error_options(self.codec, status);
        let frame = error_frame(id, status, &options, &[]);
        self.outbox.push(priority, &frame);
    }

    /// Refuses a call that did not enter the table.
    pub(super) fn refuse(&mut self, id: CallId, status: &Status) -> Result<(), ProtocolError> {
        if self.refusals >= self.limits.max_in_flight.max(MIN_REFUSALS) {
            return Err(ProtocolError::Flood(
                "more calls than may be in flight, without reading their answers",
            ));
        }
        self.write_error(id, Priority::Normal, status);
        Ok(())
    }
}
