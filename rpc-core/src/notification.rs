//! Notifications from this end: to one peer, or to many at once.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    body::{self, Codec},
    close::{CloseCode, CloseReason},
    connection::Shared,
    delivery::Delivery,
    error::CallError,
    line::NextSession,
    method::{Method, Methods},
    peer::Peer,
    pressure::Pressure,
    priority::Priority,
    protocol::{Admission, EncodedNotification, Options, Outgoing, Ticket, Told, closed_status},
    scratch,
    status::{Code, Fate, Status},
};

/// A notification that a stub has made ready. Await it to send it.
///
/// It is done once the notification is queued for writing, behind all that was queued before; it
/// waits while the peer has no credit left for notifications, for the connection's default deadline
/// at the most. Dropping it before that sends nothing.
///
/// One whose method says what becomes of it when the peer is behind ([`Pressure`]) does not wait for
/// credit. It is done, with `Ok`, once it is queued, or dropped, or kept until the peer has caught up:
/// to learn which it was, send it with a notifier.
///
/// It fails with `DEADLINE_EXCEEDED` when the credit does not come, with `UNAVAILABLE` when the
/// connection has ended or is ended by this, and when the arguments cannot be encoded or are too large:
/// for a volatile one that is above 64 KiB.
#[must_use = "a notification is sent when it is awaited"]
pub struct Notification<A> {
    session: Arc<Shared>,
    methods: Methods,
    index: usize,
    arguments: A,
    ticket: Option<Ticket>,
    deadline: Option<Instant>,
    /// The session is over: what comes after it.
    next: Option<NextSession>,
}

impl<A: Serialize> Notification<A> {
    #[doc(hidden)]
    pub fn new(peer: &Peer, methods: &Methods, index: usize, arguments: A) -> Self {
        Notification {
            session: peer.session(),
            methods: methods.clone(),
            index,
            arguments,
            ticket: None,
            deadline: None,
            next: None,
        }
    }
}

impl<A: Serialize> Future for Notification<A> {
    type Output = Result<(), CallError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(next) = &mut this.next {
            let next = ready!(next.as_mut().poll(cx));
            this.next = None;
            this.session = next?;
        }
        let shared = this.session.clone();
        if let Some(ticket) = this.ticket {
            let turn =
                shared.update(|state, _| state.connection.poll_notify_turn(ticket, cx.waker()));
            let is_late = this
                .deadline
                .is_some_and(|deadline| deadline <= Instant::now());
            if turn.is_pending() && is_late {
                this.leave();
                return Poll::Ready(Err(Status::new(
                    Code::DEADLINE_EXCEEDED,
                    "the peer gave no credit for notifications within the default deadline",
                )
                .with_fate(Fate::NotSent)
                .into()));
            }
            if turn.is_pending() {
                return Poll::Pending;
            }
        } else if this.deadline.is_none() {
            let timeout = shared.limits.default_deadline;
            this.deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        }
        if this.methods.get(this.index).pressure() != Pressure::Wait {
            return this.send_without_waiting(cx);
        }
        let mut body = scratch::take();
        if let Err(error) = body::encode(shared.codec, &this.arguments, &mut body) {
            return Poll::Ready(Err(not_encoded(&error).into()));
        }
        let outgoing = Outgoing {
            method: this.methods.get(this.index),
            options: Options::EMPTY,
            body: &mut body,
            streams: None,
            priority: Priority::Normal,
        };
        let sent = shared.update(|state, wakers| {
            state
                .connection
                .notify(outgoing, this.deadline, cx.waker(), this.ticket, wakers)
        });
        scratch::put(body);
        this.ticket = None;
        match sent {
            Ok(Admission::Wait(ticket)) => {
                this.ticket = Some(ticket);
                Poll::Pending
            }
            Ok(_) => Poll::Ready(Ok(())),
            Err(status) => {
                this.next = shared.next(&status, this.deadline);
                if this.next.is_none() {
                    return Poll::Ready(Err(status.into()));
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<A: Serialize> Notification<A> {
    /// What its method says of a peer that is behind spares the wait for credit.
    fn send_without_waiting(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        let method = self.methods.get(self.index);
        let encoded = match encode(self.session.codec, method, &self.arguments) {
            Ok(encoded) => encoded,
            Err(status) => return Poll::Ready(Err(status.into())),
        };
        let status = match tell(&self.session, method, &encoded).0 {
            Ok(Told::Disconnect) => closed_status(&is_behind(method), Fate::NotSent),
            Ok(_) => return Poll::Ready(Ok(())),
            Err(status) => status,
        };
        self.next = self.session.next(&status, self.deadline);
        match (&self.next, method.pressure()) {
            (None, _) => Poll::Ready(Err(status.into())),
            // Dropped, as it is while there is no connection.
            (Some(_), Pressure::Volatile | Pressure::DropNewest) => Poll::Ready(Ok(())),
            (Some(_), _) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }
}

impl<A> Notification<A> {
    fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.session
                .update(|state, wakers| state.connection.leave_notify_queue(ticket, wakers));
        }
    }
}

impl<A> Drop for Notification<A> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<A> Unpin for Notification<A> {}

impl<A> fmt::Debug for Notification<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notification")
            .field("method", self.methods.get(self.index))
            .finish_non_exhaustive()
    }
}

/// Many peers that are told the same thing: what a generated `ChatNotifier` is made of.
#[derive(Clone)]
pub struct Broadcast(To);

#[derive(Clone)]
enum To {
    Peers(Vec<Peer>),
    Receivers(Arc<dyn Receivers>),
}

/// Who is to be told, found anew each time: an audience of a server's hub, as a rule.
pub trait Receivers: fmt::Debug + Send + Sync + 'static {
    /// The peers, and how many of those who are to be told are not there: [`Delivery::absent`].
    fn find(&self) -> (Vec<Peer>, usize);
}

impl Broadcast {
    /// To these peers.
    #[must_use]
    pub fn new(peers: Vec<Peer>) -> Self {
        Broadcast(To::Peers(peers))
    }

    /// To those who are found when it is sent.
    pub fn to(receivers: impl Receivers) -> Self {
        Broadcast(To::Receivers(Arc::new(receivers)))
    }

    /// Encodes the notification once (for each codec in use) and queues it for each peer, without
    /// waiting for any of them. What becomes of it for a peer that is behind, its method says
    /// ([`Pressure`]), and [`Delivery`] counts.
    ///
    /// # Errors
    /// When the arguments cannot be encoded, or those of a volatile one have more than 64 KiB; nobody
    /// was told then.
    #[expect(
        clippy::unused_async,
        reason = "peers on other servers will be told by way of a message broker"
    )]
    pub async fn send<A: Serialize>(
        &self,
        methods: &Methods,
        index: usize,
        arguments: &A,
    ) -> Result<Delivery, Status> {
        let method = methods.get(index);
        let mut delivery = Delivery::default();
        let found;
        let peers = match &self.0 {
            To::Peers(peers) => peers,
            To::Receivers(receivers) => {
                (found, delivery.absent) = receivers.find();
                &found
            }
        };
        let mut encoded = [None, None];
        for peer in peers {
            let frame = &mut encoded[peer.codec() as usize];
            if frame.is_none() {
                *frame = Some(encode(peer.codec(), method, arguments)?);
            }
        }
        for peer in peers {
            let Some(encoded) = &encoded[peer.codec() as usize] else {
                continue;
            };
            let (told, is_suspended) = tell(&peer.session(), method, encoded);
            delivery.count(&told, is_suspended);
        }
        Ok(delivery)
    }
}

impl<I> From<I> for Broadcast
where
    I: IntoIterator,
    I::Item: AsRef<Peer>,
{
    fn from(peers: I) -> Self {
        let peers = peers.into_iter().map(|peer| peer.as_ref().clone());
        Broadcast::new(peers.collect())
    }
}

impl fmt::Debug for Broadcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            To::Peers(peers) => f.debug_tuple("Broadcast").field(peers).finish(),
            To::Receivers(receivers) => f.debug_tuple("Broadcast").field(receivers).finish(),
        }
    }
}

/// A notification as all connections of a codec have it.
fn encode<A: Serialize>(
    codec: Codec,
    method: &Method,
    arguments: &A,
) -> Result<EncodedNotification, Status> {
    let mut body = scratch::take();
    body::encode(codec, arguments, &mut body).map_err(|error| not_encoded(&error))?;
    let encoded = EncodedNotification::new(codec, method, &mut body);
    scratch::put(body);
    encoded
}

/// Sends a notification to one peer without waiting. Says also whether there is no connection at the
/// moment.
fn tell(
    session: &Shared,
    method: &Method,
    encoded: &EncodedNotification,
) -> (Result<Told, Status>, bool) {
    let (told, is_suspended) = session.update(|state, _| {
        let connection = &mut state.connection;
        let told = connection.notify_encoded(method, encoded);
        (told, connection.is_suspended())
    });
    if matches!(told, Ok(Told::Disconnect)) {
        session.close(is_behind(method));
    }
    (told, is_suspended)
}

/// Why the session of a peer ends that has missed this notification.
fn is_behind(method: &Method) -> CloseReason {
    let message = format!(
        "too far behind with notifications to miss one of {}",
        method.name()
    );
    CloseReason::local(CloseCode::BEHIND, message)
}

fn not_encoded(error: &body::BodyError) -> Status {
    Status::new(Code::INVALID_ARGUMENT, error.to_string()).with_fate(Fate::NotSent)
}
