//! One end of a connection as a state machine: messages in, events out; commands in, messages
//! out. It owns no socket and reads no clock, so that a test can hold both ends in one hand.
//!
//! - `receiving`, `output`: messages that come and go, whatever they are about
//! - `outgoing`, `incoming`: this end's calls, and the peer's; `bodies`: those of the peer that come in
//!   pieces
//! - `streams`, `topics`: the items of calls
//! - `pressure`: notifications for a peer that is behind
//! - `session`: the opening, what has been counted, the break, and how it goes on
//! - `auth`: credentials
//! - `liveness`: PING and PONG
//! - `leaving`: GOAWAY

mod auth;
mod bodies;
mod incoming;
mod leaving;
mod liveness;
mod outgoing;
mod output;
mod pressure;
mod receiving;
mod session;
mod streams;
#[cfg(test)]
mod tests;
mod topics;

use std::{sync::Arc, task::Waker};

use tokio::time::Instant;

use super::{
    assembly::Assembly,
    calls::{Calls, earliest},
    event::{Event, Events},
    failure::closed_status,
    frame::{CallId, Side},
    handshake::PeerLimits,
    inbound::Inbound,
    outbox::{Outbox, WINDOW_BYTES},
    waiters::Waiters,
};
use crate::{
    body::Codec,
    close::{CloseCode, CloseReason},
    limits::Limits,
    status::Fate,
};
use auth::Auth;
use incoming::Alias;
pub use leaving::GoAway;
use leaving::Leaving;
use liveness::Liveness;
pub(crate) use outgoing::{Admission, Outgoing, Started};
use pressure::Kept;
pub(crate) use pressure::{EncodedNotification, Told};
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
    leaving: Leaving,
    liveness: Liveness,
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
            leaving: Leaving::default(),
            liveness: Liveness::default(),
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
