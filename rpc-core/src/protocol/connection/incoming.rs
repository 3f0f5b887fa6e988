//! Calls and notifications of the peer, and the answers to them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Connection;
use crate::{
    metadata::CallOptions,
    method::MAX_ALIASES,
    protocol::{
        event::{Event, Events, ProtocolError, Resolve, Target},
        failure::{body_too_large, error_frame, error_options},
        frame::{CallId, Frame, Head, MethodRef},
        inbound::{Entry, Stop},
    },
    status::{Code, Fate, Status},
};

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
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
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

    pub(super) fn call_options(&self, frame: &Frame<'_>) -> Result<CallOptions, Status> {
        if frame.payload.len() > self.limits.max_body_bytes {
            let status = body_too_large(frame.payload.len(), self.limits.max_body_bytes);
            return Err(status.with_fate(Fate::NotExecuted));
        }
        if frame.options.is_empty() {
            return Ok(CallOptions::default());
        }
        CallOptions::read(frame.options, &self.limits)
    }

    pub(super) fn resolve(
        &self,
        method: &MethodRef<'_>,
        methods: &impl Resolve,
    ) -> Result<Target, Status> {
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
            self.aliases_received.resize(index + 1, None);
        }
        let place = &mut self.aliases_received[index];
        if place.is_some() {
            return Err(ProtocolError::Alias(alias));
        }
        *place = Some(methods.resolve(method));
        Ok(())
    }

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

    pub(super) fn write_error(&mut self, id: CallId, status: &Status) {
        if self.closed.is_some() {
            return;
        }
        let options = error_options(self.codec, status);
        self.outbox.push(&error_frame(id, status, &options, &[]));
    }

    /// Refuses a call that did not enter the table.
    pub(super) fn refuse(&mut self, id: CallId, status: &Status) -> Result<(), ProtocolError> {
        self.refusals += 1;
        if self.refusals > self.limits.max_in_flight.max(64) {
            return Err(ProtocolError::Flood(
                "more calls than may be in flight, without reading their answers",
            ));
        }
        self.write_error(id, status);
        Ok(())
    }
}
