//! What a subscriber gets: items, and what became of those that it has not got.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use serde::{
    Deserialize,
    de::{DeserializeOwned, Deserializer, Error as _, IgnoredAny, SeqAccess, Visitor},
};

use super::raw::RawCall;
use crate::{
    body,
    error::{CallError, RpcError},
    items::{Gone, IncomingItems},
    line::Line,
    metadata::Metadata,
    protocol::{Opening, Standing, StreamCredit, StreamRef, TopicPosition},
    status::{Code, Status},
};

/// What comes in a [`Subscription`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update<T> {
    /// Something was published.
    Item {
        /// Its number in the topic. That of the next is one more, or a [`Update::Gap`] comes before.
        offset: u64,
        /// What was published.
        value: T,
    },
    /// The subscription was away, and has missed nothing: what was published meanwhile follows.
    Recovered,
    /// Something is left out here: the topic's history did not reach back far enough when the
    /// subscription came back, or this subscriber took the items too slowly, and the topic's
    /// [`TopicPressure`](crate::TopicPressure) has let some go.
    Gap {
        /// How many items. `None` when that is not known, since the topic began anew.
        missed: Option<u64>,
    },
}

/// A subscription to a topic: a [`Stream`] of `Result<Update<T>, CallError<E>>`.
///
/// It outlives the client's session. When that is lost, or its server sends the client elsewhere,
/// it subscribes again in the client's next session, with the same arguments, behind the last item
/// that has come, and says what has become of the items in between: [`Update::Recovered`] or
/// [`Update::Gap`]. A session that goes on after a broken connection is not noticed at all. Between
/// what comes there is never a hole that is not told of.
///
/// An error is the last thing that comes: the method's own, also when it subscribes again; that the
/// client was closed, or gives up; that the topic ends the subscription. Of a call whose arguments
/// have more than 64 KiB nothing is kept, and it ends with its session; so does one of a server that
/// subscribes at its client, and one whose client's next session has another codec. It ends with `None`
/// only when a callee that is not this library says so.
///
/// Items are taken when they are polled, and it subscribes again while it is polled. Dropping it
/// cancels the call.
pub struct Subscription<T, E = Infallible> {
    raw: RawCall,
    phase: Phase,
    credit: StreamCredit,
    /// Where the next session comes from.
    line: Option<Arc<Line>>,
    /// The encoded arguments, to subscribe again with.
    arguments: Option<Vec<u8>>,
    timeout: Option<Duration>,
    position: TopicPosition,
    /// What comes next, before anything that is read.
    next: Option<Update<T>>,
    result: PhantomData<fn() -> E>,
}

enum Phase {
    Following(IncomingItems),
    /// The session was lost.
    Returning,
    Ended,
}

impl<T, E> Subscription<T, E> {
    pub(super) fn begin(
        raw: RawCall,
        stream: StreamRef,
        credit: StreamCredit,
        arguments: Option<Vec<u8>>,
        timeout: Option<Duration>,
    ) -> Result<Self, CallError<E>> {
        let opening = raw.take_opening(stream).ok_or_else(not_a_topic)?;
        let items = IncomingItems::new(raw.session().clone(), stream, credit).without_growth();
        let mut subscription = Subscription {
            line: raw.session().line.get(),
            raw,
            phase: Phase::Following(items),
            credit,
            arguments,
            timeout,
            position: opening.position,
            next: None,
            result: PhantomData,
        };
        subscription.opened(opening);
        Ok(subscription)
    }

    /// The place behind what was handed out last: an item, or a gap. A later subscription can begin
    /// there, see [`TopicCall::since`](crate::TopicCall::since).
    #[must_use]
    pub fn position(&self) -> TopicPosition {
        let mut position = self.position;
        if let Some(Update::Item { offset, .. }) = &self.next {
            // Only the gap before it was.
            position.offset = offset - 1;
        }
        position
    }

    /// What the callee sent along when it accepted the call, the last time.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.raw.metadata
    }

    /// The values alone, for those to whom it does not matter if some are left out.
    #[must_use]
    pub fn values(self) -> Values<T, E> {
        Values(self)
    }

    fn opened(&mut self, opening: Opening) {
        self.position = opening.position;
        self.next = match opening.standing {
            Standing::Fresh => None,
            Standing::Recovered => Some(Update::Recovered),
            Standing::Gap { missed } => Some(Update::Gap { missed }),
        };
    }

    /// Takes in what was published, or a marker that says that nothing is left to come before it.
    fn came(&mut self, published: Published<T>) -> Result<Option<Update<T>>, Status> {
        let Published { offset, value } = published;
        let expected = self.position.offset.checked_add(1);
        let Some(ahead) = expected.and_then(|expected| offset.checked_sub(expected)) else {
            // A marker may say again where the subscription is.
            return match value {
                None if offset == self.position.offset => Ok(None),
                _ => Err(Status::new(
                    Code::INTERNAL,
                    "the callee sent items of a topic out of order",
                )),
            };
        };
        self.position.offset = offset;
        let (item, missed) = match value {
            Some(value) => (Some(Update::Item { offset, value }), ahead),
            None => (None, ahead + 1),
        };
        if missed == 0 {
            return Ok(item);
        }
        self.next = item;
        let missed = Some(missed);
        Ok(Some(Update::Gap { missed }))
    }

    /// Subscribes again in the next session, if the call has ended because its session has.
    fn returns_after(&mut self, status: &Status) -> bool {
        let (Some(line), Some(_)) = (&self.line, &self.arguments) else {
            return false;
        };
        let returns = self
            .raw
            .follow_line(line, status, self.position, self.timeout);
        if returns {
            self.phase = Phase::Returning;
        }
        returns
    }

    /// Whether the client's calls go to another session by now.
    fn has_moved(&self) -> bool {
        let line = self.line.as_ref().filter(|_| self.arguments.is_some());
        line.is_some_and(|line| line.with_current(|now| !Arc::ptr_eq(now, self.raw.session())))
    }
}

impl<T: DeserializeOwned, E: RpcError> Subscription<T, E> {
    fn poll_following(&mut self, cx: &mut Context<'_>) -> Poll<Step<T, E>> {
        let Phase::Following(items) = &mut self.phase else {
            return Poll::Ready(Step::Again);
        };
        let codec = self.raw.codec();
        let read = items.poll_next(cx, |body| body::decode::<Published<T>>(codec, body));
        let came = match read {
            Poll::Ready(Ok(Some(published))) => published,
            Poll::Ready(Ok(None) | Err(Gone)) => {
                let end = ready!(self.raw.poll_end(cx));
                return Poll::Ready(self.ended(end));
            }
            Poll::Pending if self.has_moved() => {
                // All that has come was taken. The rest comes there.
                self.raw.cancel();
                let moved = Status::new(
                    Code::UNAVAILABLE,
                    "the client has moved on to where the subscription cannot follow it",
                );
                return Poll::Ready(match self.returns_after(&moved) {
                    true => Step::Again,
                    false => Step::End(Some(moved.into())),
                });
            }
            Poll::Pending => return Poll::Pending,
        };
        let came = came
            .map_err(|error| {
                let message = format!("cannot decode an item: {error}");
                Status::new(Code::INTERNAL, message)
            })
            .and_then(|published| self.came(published));
        Poll::Ready(match came {
            Ok(Some(update)) => Step::Update(update),
            Ok(None) => Step::Again,
            Err(status) => {
                // What comes behind it is of no use to anyone.
                self.raw.cancel();
                Step::End(Some(status.into()))
            }
        })
    }

    fn poll_returning(&mut self, cx: &mut Context<'_>) -> Poll<Step<T, E>> {
        let arguments = &self.arguments;
        let opened = ready!(self.raw.poll_open(cx, |out| {
            out.extend(arguments.iter().flatten());
            Ok(())
        }));
        Poll::Ready(match opened {
            Ok(stream) => match self.raw.take_opening(stream) {
                Some(opening) => {
                    let session = self.raw.session().clone();
                    let items = IncomingItems::new(session, stream, self.credit).without_growth();
                    self.phase = Phase::Following(items);
                    self.opened(opening);
                    Step::Again
                }
                None => {
                    self.raw.cancel();
                    Step::End(Some(not_a_topic()))
                }
            },
            Err(error) => self.ended(Err(error)),
        })
    }

    fn ended(&mut self, end: Result<(), CallError<E>>) -> Step<T, E> {
        match end {
            Ok(()) => Step::End(None),
            Err(CallError::Status(status)) if self.returns_after(&status) => Step::Again,
            Err(error) => Step::End(Some(error)),
        }
    }
}

/// What a poll has led to.
enum Step<T, E> {
    Update(Update<T>),
    End(Option<CallError<E>>),
    /// There is something else to be polled.
    Again,
}

impl<T: DeserializeOwned, E: RpcError> Stream for Subscription<T, E> {
    type Item = Result<Update<T>, CallError<E>>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(update) = this.next.take() {
                return Poll::Ready(Some(Ok(update)));
            }
            let step = match &this.phase {
                Phase::Following(_) => ready!(this.poll_following(cx)),
                Phase::Returning => ready!(this.poll_returning(cx)),
                Phase::Ended => return Poll::Ready(None),
            };
            match step {
                Step::Update(update) => return Poll::Ready(Some(Ok(update))),
                Step::Again => {}
                Step::End(error) => {
                    this.phase = Phase::Ended;
                    this.line = None;
                    return Poll::Ready(error.map(Err));
                }
            }
        }
    }
}

impl<T, E> Unpin for Subscription<T, E> {}

impl<T, E> fmt::Debug for Subscription<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.raw.fmt("Subscription", f)
    }
}

/// The values of a [`Subscription`], without word of those that are left out: a [`Stream`] of
/// `Result<T, CallError<E>>`.
pub struct Values<T, E = Infallible>(Subscription<T, E>);

impl<T: DeserializeOwned, E: RpcError> Stream for Values<T, E> {
    type Item = Result<T, CallError<E>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match ready!(Pin::new(&mut self.0).poll_next(cx)) {
                Some(Ok(Update::Item { value, .. })) => return Poll::Ready(Some(Ok(value))),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
    }
}

impl<T, E> fmt::Debug for Values<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Values").field(&self.0).finish()
    }
}

fn not_a_topic<E>() -> CallError<E> {
    CallError::Status(Status::new(
        Code::UNIMPLEMENTED,
        "the callee answers with a stream that is not that of a topic",
    ))
}

/// The body of an ITEM: `[offset, value]`, or `[offset]`.
struct Published<T> {
    offset: u64,
    value: Option<T>,
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Published<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Elements<T> {
            type Value = Published<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the offset of an item, and its value")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut elements: A,
            ) -> Result<Self::Value, A::Error> {
                let offset = elements.next_element()?;
                let offset = offset.ok_or_else(|| A::Error::invalid_length(0, &self))?;
                let value = elements.next_element()?;
                // What a later version may add.
                while elements.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Published { offset, value })
            }
        }

        deserializer.deserialize_seq(Elements(PhantomData))
    }
}
