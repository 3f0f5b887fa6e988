//! Large bodies of the peer: the frame with the first piece, and the CHUNKs behind it.

use std::borrow::Cow;

use bytes::Bytes;
use tokio::time::Instant;

use super::Connection;
use crate::protocol::{
    assembly::{Refused, without_total},
    event::{Event, Events, MethodKind, ProtocolError, Resolve},
    failure::body_too_large,
    frame::{CallId, ChunkState, Frame, Head},
    inbound::Stop,
    json, large,
};
use crate::{
    body::Codec,
    priority::Priority,
    status::{Code, Fate, Status},
};

impl Connection {
    /// A frame has come whose body goes on in CHUNKs.
    pub(super) fn begin_body(
        &mut self,
        frame: &Frame<'_>,
        total: u64,
        now: Instant,
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let Some(key) = large::key(&frame.head) else {
            return Err(ProtocolError::Unexpected("a frame without a body goes on"));
        };
        if self.assembly.contains(key) {
            return Err(ProtocolError::Unexpected("a body begins within another"));
        }
        let piece = self.piece(frame.payload)?;
        let total = usize::try_from(total).unwrap_or(usize::MAX);
        if total > self.limits.max_body_bytes {
            let status = body_too_large(total, self.limits.max_body_bytes);
            return self.refuse_body(&frame.head, &status, events);
        }
        if let Head::Request { id, method } = &frame.head {
            self.check_new(*id)?;
            // What would be refused in the end is refused before its body has come.
            let is_callable = match (self.resolve(method, methods), self.call_options(frame)) {
                (Some(target), Ok(options)) => {
                    target.kind != MethodKind::Notification && options.suit(target.kind)
                }
                _ => false,
            };
            if !is_callable || !self.has_slot(*id) {
                let without_body = Frame {
                    payload: &[],
                    ..frame.clone()
                };
                let no_message = Bytes::new();
                return self.request(
                    *id,
                    method,
                    &without_body,
                    &no_message,
                    now,
                    methods,
                    events,
                );
            }
        } else if !self.expects_body(&frame.head) {
            return Ok(());
        }
        let options = without_total(self.codec, frame.options);
        self.assembly.begin(key, &frame.head, options, total, now);
        self.add_piece(key, &piece, events)
    }

    /// A further piece has come.
    pub(super) fn chunk(
        &mut self,
        key: CallId,
        state: ChunkState,
        piece: &[u8],
        methods: &impl Resolve,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        if state == ChunkState::Abort {
            if let Some(partial) = self.assembly.take(key)
                && let Head::Request { id, .. } = partial.head
            {
                let status = Stop::Cancelled.status().with_fate(Fate::NotExecuted);
                self.write_error(id, Priority::Normal, &status);
            }
            return Ok(());
        }
        self.add_piece(key, piece, events)?;
        if state == ChunkState::More {
            return Ok(());
        }
        // Gone if it was refused meanwhile.
        let Some(partial) = self.assembly.take(key) else {
            return Ok(());
        };
        if !partial.is_whole() {
            return Err(ProtocolError::Unexpected(
                "a body is shorter than announced",
            ));
        }
        let body = Bytes::from(partial.body);
        let frame = Frame {
            head: partial.head,
            options: partial.options.as_options(),
            payload: &body,
        };
        self.dispatch(&frame, &body, partial.since, methods, events)
    }

    fn add_piece(
        &mut self,
        key: CallId,
        piece: &[u8],
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let status = match self
            .assembly
            .add(key, piece, self.limits.max_assembly_bytes)
        {
            Ok(()) => return Ok(()),
            Err(Refused::TooLong) => {
                return Err(ProtocolError::Unexpected("a body is longer than announced"));
            }
            Err(Refused::Full) => Status::new(
                Code::RESOURCE_EXHAUSTED,
                format!(
                    "more than {} bytes of bodies are on their way",
                    self.limits.max_assembly_bytes
                ),
            ),
        };
        match self.assembly.take(key) {
            Some(partial) => self.refuse_body(&partial.head, &status, events),
            None => Ok(()),
        }
    }

    /// Ends what a body belongs to. Its further pieces find nothing that they belong to.
    fn refuse_body(
        &mut self,
        head: &Head<'_>,
        status: &Status,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        match head {
            Head::Request { id, .. } => {
                self.check_new(*id)?;
                let status = status.clone().with_fate(Fate::NotExecuted);
                self.refuse(*id, &status)?;
            }
            Head::Item { id } if id.side() != self.side => {
                if self.inbound.stop(*id, Stop::BodyTooLarge) {
                    events.queue.push(Event::Stop { id: *id });
                }
            }
            Head::Item { id } => {
                if let Some(index) = self.own_call(*id) {
                    self.fail_own(index, status.clone().with_fate(Fate::Unknown), events);
                }
            }
            Head::Response { id } | Head::Error { id, .. } => {
                if let Some(index) = self.own_call(*id) {
                    self.end_own(index, status.clone(), events);
                }
            }
            _ => self.spend_notification()?,
        }
        Ok(())
    }

    /// Whether anybody waits for the body of this answer, item or notification.
    fn expects_body(&mut self, head: &Head<'_>) -> bool {
        match head {
            Head::Item { id } if id.side() != self.side => self.inbound.contains(*id),
            Head::Item { id } | Head::Response { id } | Head::Error { id, .. } => self
                .own_call(*id)
                .is_some_and(|index| self.calls.is_open(index)),
            _ => true,
        }
    }

    /// The bytes of a first piece: in JSON it is a string that holds a part of the body's text.
    fn piece<'a>(&self, payload: &'a [u8]) -> Result<Cow<'a, [u8]>, ProtocolError> {
        if self.codec == Codec::MessagePack {
            return Ok(Cow::Borrowed(payload));
        }
        let text = std::str::from_utf8(payload).unwrap_or_default();
        Ok(match json::string(text)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }
}
