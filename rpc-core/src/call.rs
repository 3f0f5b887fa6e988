//! A call from this end: what a stub's method returns.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use crate::{
    body::{self, Codec},
    error::{CallError, Details, RpcError},
    metadata::{CallOptions, MetadataValue},
    method::Methods,
    peer::Peer,
    protocol::{Admission, Answer, EncodedOptions, Options, Outgoing, Ticket, deadline_ms},
    scratch,
    status::{Code, Fate, Status},
};

/// A call that a stub has made ready. Await it to make it.
///
/// Nothing is sent before the first poll, or [`Call::start`]. Dropping it after that cancels the
/// call: the peer is told, and drops the handler at its next await.
///
/// The call fails with [`CallError::Method`] if the method returned its error and with
/// [`CallError::Status`] for anything else; see [`Fate`] for what is known of its execution then.
#[must_use = "a call is made when it is awaited or started"]
pub struct Call<A, T, E = Infallible> {
    raw: RawCall,
    arguments: A,
    result: PhantomData<fn() -> (T, E)>,
}

impl<A, T, E> Call<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    #[doc(hidden)]
    pub fn new(peer: &Peer, methods: &Methods, index: usize, arguments: A) -> Self {
        Call {
            raw: RawCall {
                peer: peer.clone(),
                methods: methods.clone(),
                index,
                options: None,
                deadline: Deadline::Default,
                phase: Phase::New,
            },
            arguments,
            result: PhantomData,
        }
    }

    /// Gives the call this long, instead of the connection's default deadline. The peer is told,
    /// and stops the handler then. [`Duration::MAX`] lets the call take forever.
    ///
    /// The time runs from the first poll or [`Call::start`]. After it the call fails with
    /// `DEADLINE_EXCEEDED`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.raw.deadline = Deadline::After(timeout);
        self
    }

    /// Sends an entry of [`Metadata`](crate::Metadata) along. The last one of a key counts.
    ///
    /// A bad key or too much metadata fails the call with `INVALID_ARGUMENT` or
    /// `RESOURCE_EXHAUSTED` before anything is sent.
    pub fn metadata(mut self, key: &str, value: impl Into<MetadataValue>) -> Self {
        let options = self.raw.options.get_or_insert_default();
        options.metadata.insert(key, value.into());
        self
    }

    /// Sends the request now and returns a handle to wait for the answer with, which borrows
    /// nothing. If as many calls are in flight as the peer allows, the request is sent once the
    /// handle is polled and there is room.
    ///
    /// Dropping the handle cancels the call.
    pub fn start(self) -> PendingCall<T, E> {
        let Call {
            mut raw, arguments, ..
        } = self;
        let codec = raw.peer.codec();
        let mut body = scratch::take();
        let started = body::encode(codec, &arguments, &mut body)
            .map_err(not_encoded)
            .and_then(|()| raw.send(&body, None, None));
        let (unsent, failed) = match started {
            Ok(true) => {
                scratch::put(body);
                (Vec::new(), None)
            }
            Ok(false) => (body, None),
            Err(status) => (Vec::new(), Some(status)),
        };
        PendingCall {
            raw,
            unsent,
            failed,
            result: PhantomData,
        }
    }
}

impl<A, T, E> Future for Call<A, T, E>
where
    A: Serialize,
    T: DeserializeOwned,
    E: RpcError,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Call { raw, arguments, .. } = self.get_mut();
        let codec = raw.peer.codec();
        raw.poll(cx, |out| {
            body::encode(codec, arguments, out).map_err(not_encoded)
        })
    }
}

/// The arguments are never pinned.
impl<A, T, E> Unpin for Call<A, T, E> {}

impl<A, T, E> fmt::Debug for Call<A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("Call", f)
    }
}

/// A call that has been started. Await it for the answer; dropping it cancels the call.
#[must_use = "dropping a call cancels it"]
pub struct PendingCall<T, E = Infallible> {
    raw: RawCall,
    /// The arguments, while there is no room in flight.
    unsent: Vec<u8>,
    failed: Option<Status>,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T: DeserializeOwned, E: RpcError> Future for PendingCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let PendingCall {
            raw,
            unsent,
            failed,
            ..
        } = self.get_mut();
        if let Some(status) = failed.take() {
            return Poll::Ready(Err(status.into()));
        }
        raw.poll(cx, |out| {
            out.extend_from_slice(unsent);
            Ok(())
        })
    }
}

impl<T, E> Unpin for PendingCall<T, E> {}

impl<T, E> fmt::Debug for PendingCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("PendingCall", f)
    }
}

/// A call without its types.
struct RawCall {
    peer: Peer,
    methods: Methods,
    index: usize,
    options: Option<Box<CallOptions>>,
    deadline: Deadline,
    phase: Phase,
}

#[derive(Clone, Copy)]
enum Deadline {
    /// The connection's.
    Default,
    After(Duration),
    /// The call has begun; it ends then.
    At(Option<Instant>),
}

enum Phase {
    New,
    /// Waiting for room in flight.
    Queued(Ticket),
    /// In this slot of the pending table.
    Sent(usize),
    Ended,
}

impl RawCall {
    /// `encode` appends the arguments. It is called again after waiting for room.
    fn poll<T: DeserializeOwned, E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
        mut encode: impl FnMut(&mut Vec<u8>) -> Result<(), Status>,
    ) -> Poll<Result<T, CallError<E>>> {
        let ticket = match self.phase {
            Phase::New => None,
            Phase::Queued(ticket) => {
                ready!(self.poll_turn(cx, ticket))?;
                Some(ticket)
            }
            Phase::Sent(slot) => return self.poll_answer(cx, slot),
            // Like a future that is polled after its end.
            Phase::Ended => return Poll::Pending,
        };
        let mut body = scratch::take();
        let sent = encode(&mut body).and_then(|()| self.send(&body, Some(cx.waker()), ticket));
        scratch::put(body);
        sent?;
        Poll::Pending
    }

    fn poll_answer<T: DeserializeOwned, E: RpcError>(
        &mut self,
        cx: &mut Context<'_>,
        slot: usize,
    ) -> Poll<Result<T, CallError<E>>> {
        let mut buffer = scratch::take();
        let answer = self.peer.shared().update(|state, wakers| {
            state
                .connection
                .poll_answer(slot, cx.waker(), &mut buffer, wakers)
        });
        let result = answer.map(|answer| {
            self.phase = Phase::Ended;
            decode_answer(self.peer.shared().codec, answer, &buffer)
        });
        scratch::put(buffer);
        result
    }

    /// Sends the request, or joins the queue for room with the waker. Says whether it did either.
    fn send(
        &mut self,
        body: &[u8],
        waker: Option<&Waker>,
        ticket: Option<Ticket>,
    ) -> Result<bool, Status> {
        let deadline = self.begin()?;
        let options = self
            .options
            .as_ref()
            .map(|options| options.write(self.peer.shared().codec).finish());
        let outgoing = Outgoing {
            method: self.methods.get(self.index),
            options: options
                .as_ref()
                .map_or(Options::EMPTY, EncodedOptions::as_options),
            body,
        };
        self.phase = Phase::Ended;
        let admission = self.peer.shared().update(|state, wakers| {
            state
                .connection
                .start_call(outgoing, deadline, waker, ticket, wakers)
        })?;
        self.phase = match admission {
            Admission::Sent(slot) => Phase::Sent(slot),
            Admission::Wait(ticket) => Phase::Queued(ticket),
            Admission::Full => Phase::New,
        };
        Ok(!matches!(self.phase, Phase::New))
    }

    /// Fixes the deadline, the first time.
    fn begin(&mut self) -> Result<Option<Instant>, Status> {
        let default = self.peer.shared().limits.default_deadline;
        let timeout = match self.deadline {
            Deadline::At(deadline) => return Ok(deadline),
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
            options.metadata.check(&self.peer.shared().limits)?;
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.deadline = Deadline::At(deadline);
        Ok(deadline)
    }

    /// Waits for room in flight, until the deadline.
    fn poll_turn(&mut self, cx: &mut Context<'_>, ticket: Ticket) -> Poll<Result<(), Status>> {
        if let Deadline::At(Some(deadline)) = self.deadline
            && deadline <= Instant::now()
        {
            self.phase = Phase::Ended;
            self.peer
                .shared()
                .update(|state, wakers| state.connection.leave_queue(ticket, wakers));
            return Poll::Ready(Err(Status::new(
                Code::DEADLINE_EXCEEDED,
                "no room in flight within the deadline, as the caller noticed",
            )
            .with_fate(Fate::NotSent)));
        }
        self.peer
            .shared()
            .update(|state, _| state.connection.poll_turn(ticket, cx.waker()))
            .map(Ok)
    }

    fn fmt(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(name)
            .field("method", self.methods.get(self.index))
            .finish_non_exhaustive()
    }
}

impl Drop for RawCall {
    fn drop(&mut self) {
        match self.phase {
            Phase::Sent(slot) => self.peer.shared().update(|state, wakers| {
                state.connection.abandon_call(slot, Instant::now(), wakers);
            }),
            Phase::Queued(ticket) => self
                .peer
                .shared()
                .update(|state, wakers| state.connection.leave_queue(ticket, wakers)),
            Phase::New | Phase::Ended => {}
        }
    }
}

fn not_encoded(error: body::BodyError) -> Status {
    Status::new(Code::INVALID_ARGUMENT, error.to_string()).with_fate(Fate::NotSent)
}

fn decode_answer<T: DeserializeOwned, E: RpcError>(
    codec: Codec,
    answer: Answer,
    buffer: &[u8],
) -> Result<T, CallError<E>> {
    let body = match &answer {
        Answer::Copied => buffer,
        Answer::Shared(body) => body,
        Answer::Failed(failure) => {
            let executed = failure.status.fate() == Fate::Executed;
            let details = Details::new(codec, &failure.details, executed);
            return Err(E::from_wire(failure.status.clone(), details));
        }
    };
    body::decode(codec, body).map_err(|error| {
        CallError::Status(Status::new(
            Code::INTERNAL,
            format!("cannot decode the result: {error}"),
        ))
    })
}
