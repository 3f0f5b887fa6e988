//! A call without its types: from its first poll to its answer.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    body::{self, Codec},
    connection::Shared,
    error::{CallError, Details, RpcError},
    inherited,
    line::{Line, NextSession},
    metadata::{CallOptions, Metadata},
    method::Methods,
    peer::Peer,
    protocol::{
        Admission, Answer, CallId, EncodedOptions, Failure, Opening, Options, Outgoing, Received,
        Started, StreamRef, StreamSpec, Ticket, TopicPosition, deadline_ms,
    },
    scratch,
    status::{Code, Fate, Status},
};

/// The arguments of a call that was started and has not been sent: there was no room in flight, or
/// they could not be encoded.
///
/// On a connection that is made anew they are kept in any case: the call may have to be sent again.
pub(super) struct Unsent(Result<Vec<u8>, Status>);

impl Unsent {
    /// For a call that was sent and is not sent again.
    pub(super) fn nothing() -> Self {
        Unsent(Ok(Vec::new()))
    }

    /// Appends the arguments.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), Status> {
        match &self.0 {
            Ok(body) => {
                out.extend_from_slice(body);
                Ok(())
            }
            Err(status) => Err(status.clone()),
        }
    }
}

/// A call without its types.
pub(super) struct RawCall {
    /// Where the call goes, or has gone.
    session: Arc<Shared>,
    methods: Methods,
    index: usize,
    streams: Option<StreamSpec>,
    options: Option<Box<CallOptions>>,
    deadline: Deadline,
    phase: Phase,
    /// Whether the call could not be sent at once, so that less than its time is left.
    has_waited: bool,
    /// Whether there is somebody who still has the arguments.
    is_repeatable: bool,
    /// What they are encoded for, if they were encoded before the call waited.
    encoded_for: Option<Codec>,
    /// Whether an attempt has failed that may have been executed.
    may_have_run: bool,
    /// Whether it waits for a connection where others fail at once.
    is_patient: bool,
    /// What came along with the answer.
    pub(super) metadata: Metadata,
}

#[derive(Clone, Copy)]
enum Deadline {
    /// The connection's.
    Default,
    After(Duration),
    /// The call has begun; it ends then.
    At(Option<Instant>),
}

/// How long a call that is about to be sent may take.
#[derive(Clone, Copy)]
enum Limit {
    Never,
    /// The connection's default.
    AsAlways(Duration),
    After(Duration),
    At(Instant),
}

enum Phase {
    New,
    /// Waiting for room in flight.
    Queued(Ticket),
    /// In this slot of the pending table.
    Sent(Started),
    /// The session has ended. Waiting for the next one, to be sent there.
    Renewing(NextSession),
    Ended,
}

impl RawCall {
    #[inline]
    pub(super) fn new(
        peer: &Peer,
        methods: &Methods,
        index: usize,
        streams: Option<StreamSpec>,
    ) -> Self {
        RawCall::on(peer.session(), methods, index, streams)
    }

    #[inline]
    fn on(
        session: Arc<Shared>,
        methods: &Methods,
        index: usize,
        streams: Option<StreamSpec>,
    ) -> Self {
        RawCall {
            session,
            methods: methods.clone(),
            index,
            streams,
            options: None,
            deadline: Deadline::Default,
            phase: Phase::New,
            has_waited: false,
            is_repeatable: true,
            encoded_for: None,
            may_have_run: false,
            is_patient: false,
            metadata: Metadata::default(),
        }
    }

    pub(super) fn session(&self) -> &Arc<Shared> {
        &self.session
    }

    #[inline]
    pub(super) fn codec(&self) -> Codec {
        self.session.codec
    }

    pub(super) fn options(&mut self) -> &mut CallOptions {
        self.options.get_or_insert_default()
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.deadline = Deadline::After(timeout);
    }

    /// Moves the call to another handle, and leaves one that has ended.
    pub(super) fn take(&mut self) -> Self {
        let mut moved = RawCall::on(
            self.session.clone(),
            &self.methods,
            self.index,
            self.streams,
        );
        std::mem::swap(self, &mut moved);
        self.phase = Phase::Ended;
        moved
    }

    /// Gives up on the call, like dropping it.
    pub(super) fn cancel(&mut self) {
        if let Phase::Sent(started) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.session.update(|state, wakers| {
                let connection = &mut state.connection;
                connection.abandon_call(started.index, Instant::now(), wakers);
            });
        }
    }

    /// Sends the request now, if there is room in flight. What is left to be done is returned.
    pub(super) fn start<A: Serialize>(&mut self, arguments: &A) -> Unsent {
        let mut body = scratch::take();
        let encoded = body::encode(self.codec(), arguments, &mut body);
        if let Err(error) = encoded {
            scratch::put(body);
            return Unsent(Err(not_encoded(error)));
        }
        match self.send(&mut body, None, None) {
            // A large body has been taken over.
            Ok(true) if self.session.line.get().is_none() || body.is_empty() => {
                self.is_repeatable = false;
                scratch::put(body);
                Unsent::nothing()
            }
            Ok(true) => self.unsent(body),
            Ok(false) => self.unsent(body),
            Err(status) if self.renew(&status) => self.unsent(body),
            Err(status) => {
                scratch::put(body);
                self.phase = Phase::New;
                Unsent(Err(status))
            }
        }
    }

    fn unsent(&mut self, body: Vec<u8>) -> Unsent {
        self.encoded_for = Some(self.codec());
        Unsent(Ok(body))
    }

    /// The arguments are not there any more, or something else is bound to this session.
    pub(super) fn only_once(mut self) -> Self {
        self.is_repeatable = false;
        self
    }

    /// `encode` appends the arguments. It is called again after waiting for room.
    #[inline]
    pub(super) fn poll<T: DeserializeOwned, E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Status>,
    ) -> Poll<Result<T, CallError<E>>> {
        if let Phase::Sent(started) = self.phase {
            let answer = ready!(self.poll_answer(cx, started));
            if let Err(CallError::Status(status)) = &answer
                && self.renew(status)
            {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(match answer {
                Err(CallError::Status(status)) => Err(self.of_all_attempts(status).into()),
                answer => answer,
            });
        }
        ready!(self.poll_sent(cx, encode))?;
        // The waker was left with the request.
        Poll::Pending
    }

    /// Ready when the request has been sent.
    #[inline]
    pub(super) fn poll_sent(
        &mut self,
        cx: &mut Context<'_>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Status>,
    ) -> Poll<Result<Started, Status>> {
        let ticket = match self.phase {
            Phase::New => None,
            Phase::Queued(ticket) => {
                ready!(self.poll_turn(cx, ticket))
                    .map_err(|status| self.of_all_attempts(status))?;
                Some(ticket)
            }
            Phase::Sent(started) => return Poll::Ready(Ok(started)),
            Phase::Renewing(ref mut next) => {
                let next = ready!(next.as_mut().poll(cx));
                self.phase = Phase::Ended;
                let next = next.map_err(|status| self.of_all_attempts(status))?;
                if self.encoded_for.is_some_and(|codec| codec != next.codec) {
                    let status = Status::new(
                        Code::UNAVAILABLE,
                        "the call was encoded before, and the next session has another codec",
                    );
                    let status = status.with_fate(Fate::NotSent);
                    return Poll::Ready(Err(self.of_all_attempts(status)));
                }
                self.session = next;
                self.phase = Phase::New;
                // The arguments are encoded as that session wants them.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            // Like a future that is polled after its end.
            Phase::Ended => return Poll::Pending,
        };
        let mut body = scratch::take();
        let sent = encode(&mut body).and_then(|()| self.send(&mut body, Some(cx.waker()), ticket));
        scratch::put(body);
        if let Err(status) = sent {
            self.leave_queue();
            if self.renew(&status) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Err(self.of_all_attempts(status)));
        }
        match self.phase {
            Phase::Sent(started) => Poll::Ready(Ok(started)),
            _ => Poll::Pending,
        }
    }

    /// Ready when the callee has accepted a call with a stream, or has failed it.
    pub(super) fn poll_open<E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Status>,
    ) -> Poll<Result<StreamRef, CallError<E>>> {
        let started = ready!(self.poll_sent(cx, encode))?;
        let stream = self.stream(started);
        let metadata = &mut self.metadata;
        let is_open = self.session.update(|state, _| {
            let is_open = state.connection.poll_open(stream, cx.waker());
            if matches!(is_open, Poll::Ready(true)) {
                *metadata = state.connection.take_metadata(started.index);
            }
            is_open
        });
        if ready!(is_open) {
            return Poll::Ready(Ok(stream));
        }
        match ready!(self.poll_end(cx)) {
            Err(CallError::Status(status)) if !self.has_source() && self.renew(&status) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(()) => Poll::Ready(Err(CallError::Status(Status::new(
                Code::UNIMPLEMENTED,
                "the callee answers without the stream that the caller expects",
            )))),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Ready when a call with a stream has ended, well or not.
    pub(super) fn poll_end<E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), CallError<E>>> {
        let Phase::Sent(started) = self.phase else {
            return Poll::Ready(Ok(()));
        };
        let codec = self.codec();
        self.poll_raw_answer(cx, started, |answer, _| match answer {
            Answer::Failed(failure) => Err(decode_failure(codec, &failure)),
            _ => Ok(()),
        })
    }

    /// The streams of a call that was sent, for their handles.
    pub(super) fn stream(&self, started: Started) -> StreamRef {
        StreamRef {
            id: CallId::of(started.index + 1, self.session.side),
            generation: started.generation,
        }
    }

    #[inline]
    pub(super) fn poll_answer<T: DeserializeOwned, E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
        started: Started,
    ) -> Poll<Result<T, CallError<E>>> {
        let codec = self.codec();
        self.poll_raw_answer(cx, started, |answer, received| {
            decode_answer(codec, answer, received)
        })
    }

    #[inline]
    fn poll_raw_answer<T>(
        &mut self,
        cx: &mut Context<'_>,
        started: Started,
        read: impl FnOnce(Answer, &Received) -> T,
    ) -> Poll<T> {
        let mut received = Received::default();
        let answer = self.session.receive(|connection, wakers| {
            connection.poll_answer(started.index, cx.waker(), &mut received, wakers)
        });
        let answer = answer.map(|answer| {
            self.phase = Phase::Ended;
            read(answer, &received)
        });
        if self.metadata.is_empty() && !received.metadata.is_empty() {
            self.metadata = received.metadata;
        }
        if received.copied.capacity() > 0 {
            scratch::put(received.copied);
        }
        answer
    }

    /// What is known of the call after all its attempts, of which this was the last.
    fn of_all_attempts(&self, status: Status) -> Status {
        match status.fate() {
            Fate::NotSent | Fate::NotExecuted if self.may_have_run => {
                status.with_fate(Fate::Unknown)
            }
            _ => status,
        }
    }

    /// Whether the caller sends a stream, of which something may be gone.
    fn has_source(&self) -> bool {
        self.streams.is_some_and(|spec| spec.kind.takes_stream())
    }

    /// Whether the call may be executed twice, or is not although it is sent twice.
    fn is_idempotent(&self) -> bool {
        let has_key = |options: &CallOptions| options.idempotency_key.is_some();
        self.methods.get(self.index).is_idempotent() || self.options.as_deref().is_some_and(has_key)
    }

    /// Makes the call wait for the next session, if it failed with this one and may be sent again:
    /// it was not executed, or it may be executed twice.
    fn renew(&mut self, status: &Status) -> bool {
        if !self.is_repeatable {
            return false;
        }
        let may_be_repeated = match status.fate() {
            Fate::NotSent | Fate::NotExecuted => true,
            Fate::Unknown => self.is_idempotent(),
            Fate::Executed => false,
        };
        if !may_be_repeated {
            return false;
        }
        let Deadline::At(deadline) = self.deadline else {
            return false;
        };
        let Some(next) = self.session.next(status, deadline) else {
            return false;
        };
        self.has_waited = true;
        self.may_have_run |= status.fate() == Fate::Unknown;
        self.phase = Phase::Renewing(next);
        true
    }

    /// How long the call may take, if it was said.
    pub(super) fn timeout(&self) -> Option<Duration> {
        match self.deadline {
            Deadline::After(timeout) => Some(timeout),
            Deadline::Default | Deadline::At(_) => None,
        }
    }

    /// Where a subscription has begun.
    pub(super) fn take_opening(&self, stream: StreamRef) -> Option<Opening> {
        self.session
            .update(|state, _| state.connection.take_opening(stream))
    }

    /// Makes a subscription that has ended with this status again, in the next session of the line,
    /// if it has ended because its own is over. It waits for that as long as it takes, and has all
    /// of its time then.
    pub(super) fn follow_line(
        &mut self,
        line: &Arc<Line>,
        status: &Status,
        position: TopicPosition,
        timeout: Option<Duration>,
    ) -> bool {
        let session = &self.session;
        let encoded_for = *self.encoded_for.get_or_insert(session.codec);
        let (is_current, can_read) = line.with_current(|current| {
            let can_read = current.codec == encoded_for;
            (Arc::ptr_eq(current, session), can_read)
        });
        let is_for_that = match status.code() {
            Code::UNAVAILABLE => !is_current || session.is_over(),
            // There was no connection all the while.
            Code::DEADLINE_EXCEEDED => session.lock().connection.is_suspended(),
            _ => false,
        };
        if !is_for_that || !can_read || line.ended().is_some() {
            return false;
        }
        self.phase = match status.code() {
            Code::UNAVAILABLE => {
                let next = line.clone().after(session.clone(), None, status.fate());
                Phase::Renewing(next)
            }
            _ => Phase::New,
        };
        self.deadline = timeout.map_or(Deadline::Default, Deadline::After);
        // It is made again here, and not by itself.
        self.is_repeatable = false;
        self.is_patient = true;
        self.has_waited = false;
        self.may_have_run = false;
        let options = self.options();
        options.deadline_ms = None;
        options.position = Some(position);
        true
    }

    /// Gives up waiting for room.
    fn leave_queue(&mut self) {
        if let Phase::Queued(ticket) = std::mem::replace(&mut self.phase, Phase::Ended) {
            self.session
                .update(|state, wakers| state.connection.leave_queue(ticket, wakers));
        }
    }

    /// Sends the request, or joins the queue for room with the waker. Says whether it did either.
    #[inline]
    fn send(
        &mut self,
        body: &mut Vec<u8>,
        waker: Option<&Waker>,
        ticket: Option<Ticket>,
    ) -> Result<bool, Status> {
        let limit = self.begin()?;
        if let (Limit::At(deadline), true) = (limit, self.has_waited) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Status::new(
                    Code::DEADLINE_EXCEEDED,
                    "the deadline passed before the request could be sent",
                )
                .with_fate(Fate::NotSent));
            }
            self.options().deadline_ms = Some(deadline_ms(Some(left)));
        }
        self.has_waited = true;
        let options = self
            .options
            .as_ref()
            .map(|options| options.write(self.session.codec).finish());
        let priority = self.options.as_ref().map(|options| options.priority);
        let priority = priority.unwrap_or_default();
        let outgoing = Outgoing {
            method: self.methods.get(self.index),
            options: options
                .as_ref()
                .map_or(Options::EMPTY, EncodedOptions::as_options),
            body,
            streams: self.streams,
            priority,
        };
        self.phase = Phase::Ended;
        let ends = &mut self.deadline;
        let fails_fast = self.session.fails_fast() && !self.is_patient;
        let admission = self.session.update(|state, wakers| {
            if fails_fast && state.connection.is_suspended() {
                return Err(not_connected());
            }
            let deadline = match limit {
                Limit::Never => None,
                Limit::At(deadline) => Some(deadline),
                Limit::After(timeout) => Instant::now().checked_add(timeout),
                Limit::AsAlways(timeout) => state.now().checked_add(timeout),
            };
            *ends = Deadline::At(deadline);
            state
                .connection
                .start_call(outgoing, deadline, waker, ticket, wakers)
        })?;
        self.phase = match admission {
            Admission::Sent(started) => Phase::Sent(started),
            Admission::Wait(ticket) => Phase::Queued(ticket),
            Admission::Full => Phase::New,
        };
        Ok(!matches!(self.phase, Phase::New))
    }

    /// Looks at the options, the first time, and says how long the call may take.
    #[inline]
    fn begin(&mut self) -> Result<Limit, Status> {
        let default = self.session.limits.default_deadline;
        let timeout = match self.deadline {
            Deadline::At(deadline) => return Ok(deadline.map_or(Limit::Never, Limit::At)),
            Deadline::Default => default,
            Deadline::After(timeout) => {
                let timeout = Some(timeout).filter(|timeout| *timeout != Duration::MAX);
                if timeout != default {
                    let options = self.options.get_or_insert_default();
                    options.deadline_ms = Some(deadline_ms(timeout));
                }
                timeout
            }
        };
        if let Some(options) = &self.options {
            let checked = options.check(&self.session.limits);
            checked.map_err(|status| status.with_fate(Fate::NotSent))?;
        }
        Ok(match inherited::deadline() {
            Some(inherited) => self.inherit(timeout, inherited),
            None => match self.deadline {
                Deadline::Default => timeout.map_or(Limit::Never, Limit::AsAlways),
                _ => timeout.map_or(Limit::Never, Limit::After),
            },
        })
    }

    /// The earlier one of the call's own deadline and of its maker's.
    fn inherit(&mut self, timeout: Option<Duration>, inherited: Instant) -> Limit {
        let now = Instant::now();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        if deadline.is_some_and(|deadline| deadline <= inherited) {
            return timeout.map_or(Limit::Never, Limit::After);
        }
        let left = inherited.saturating_duration_since(now);
        // One that is almost what the callee assumes anyway is not worth its bytes: the caller
        // cancels in time.
        if timeout.is_none_or(|timeout| left < timeout - timeout / 10) {
            self.options().deadline_ms = Some(deadline_ms(Some(left)));
        }
        Limit::At(inherited)
    }

    /// Waits for room in flight, until the deadline.
    fn poll_turn(&mut self, cx: &mut Context<'_>, ticket: Ticket) -> Poll<Result<(), Status>> {
        if let Deadline::At(Some(deadline)) = self.deadline
            && deadline <= Instant::now()
        {
            self.leave_queue();
            return Poll::Ready(Err(Status::new(
                Code::DEADLINE_EXCEEDED,
                "the request could not be sent within the deadline, as the caller noticed",
            )
            .with_fate(Fate::NotSent)));
        }
        self.session
            .update(|state, _| state.connection.poll_turn(ticket, cx.waker()))
            .map(Ok)
    }

    pub(super) fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("method", self.methods.get(self.index))
            .finish_non_exhaustive()
    }
}

impl Drop for RawCall {
    fn drop(&mut self) {
        match self.phase {
            Phase::Sent(_) => self.cancel(),
            Phase::Queued(_) => self.leave_queue(),
            Phase::New | Phase::Renewing(_) | Phase::Ended => {}
        }
    }
}

fn not_connected() -> Status {
    Status::new(Code::UNAVAILABLE, "there is no connection at the moment").with_fate(Fate::NotSent)
}

pub(super) fn not_encoded(error: body::BodyError) -> Status {
    Status::new(Code::INVALID_ARGUMENT, error.to_string()).with_fate(Fate::NotSent)
}

#[inline]
fn decode_answer<T: DeserializeOwned, E: RpcError>(
    codec: Codec,
    answer: Answer,
    received: &Received,
) -> Result<T, CallError<E>> {
    let decoded = match (&answer, &received.shared) {
        (Answer::Failed(failure), _) => return Err(decode_failure(codec, failure)),
        (Answer::Small, _) => body::decode(codec, received.small.bytes()),
        (_, Some(shared)) => body::bytes::sharing(shared, || body::decode(codec, shared)),
        (_, None) => body::decode(codec, &received.copied),
    };
    decoded.map_err(|error| {
        CallError::Status(Status::new(
            Code::INTERNAL,
            format!("cannot decode the result: {error}"),
        ))
    })
}

fn decode_failure<E: RpcError>(codec: Codec, failure: &Failure) -> CallError<E> {
    let executed = failure.status.fate() == Fate::Executed;
    let details = Details::new(codec, &failure.details, executed);
    E::from_wire(failure.status.clone(), details)
}
