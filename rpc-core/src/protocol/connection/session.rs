//! What lets a session outlive its socket: acknowledgements, the break, and how it goes on.

use std::time::Duration;

use tokio::time::Instant;

use super::{Connection, Phase};
use crate::protocol::{
    event::{Event, Events, ProtocolError},
    frame::{Frame, Head, Side},
    handshake::{self, Terms},
    resume::{Heartbeat, Offer, Refusal, Resume},
};

/// So many frames are acknowledged with whatever is written next. An ACK by itself would cost a
/// write, and a wake-up of the peer.
const ACK_FRAMES: u64 = 64;

/// So many are acknowledged by themselves.
const ACK_ALONE_FRAMES: u64 = 256;

/// After so long what has come is acknowledged in any case.
const ACK_DELAY: Duration = Duration::from_secs(1);

/// A peer cannot ask to be asked more often, or less often, than this.
const HEARTBEATS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(600)];

const SHORTEST: Duration = Duration::from_millis(10);

/// Nothing that a peer says is taken to mean a longer time.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// How it is said that there is none.
const NO_HEARTBEAT: Heartbeat = Heartbeat {
    interval: Duration::ZERO,
    timeout: Duration::ZERO,
};

/// Neither so short that it would keep an end busy, nor longer than anybody lives.
fn sane(heartbeat: Heartbeat) -> Heartbeat {
    Heartbeat {
        interval: heartbeat.interval.clamp(SHORTEST, LONGEST),
        timeout: heartbeat.timeout.clamp(SHORTEST, LONGEST),
    }
}

/// The heartbeat that an acceptor means.
fn announced(heartbeat: Option<Heartbeat>) -> Option<Heartbeat> {
    let heartbeat = heartbeat.unwrap_or_default();
    (!heartbeat.interval.is_zero()).then(|| sane(heartbeat))
}

/// What one end knows of its session, apart from the calls.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// Acceptor: what is offered to the dialler. Dialler: what was offered to it.
    offer: Option<Offer>,
    /// How much the peer keeps of what it has sent; 0 if it keeps nothing and needs no ACK.
    peer_replay_bytes: usize,
    /// Counted frames that came in.
    pub(super) received: u64,
    /// Those of them in messages that were taken in as a whole.
    received_whole: u64,
    /// Frames that come again, and were executed: the message that they were in was left in the middle
    /// of it, and is sent again as a whole.
    pub(super) executed: u64,
    /// Those of them that the peer knows to have come.
    acknowledged: u64,
    /// Bytes of messages that came since.
    unacknowledged_bytes: usize,
    ack_due: Option<Instant>,
    /// What the peer had sent before the break: until then it sends again.
    catching_up: u64,
    pub(super) heartbeat: Option<Heartbeat>,
}

impl Connection {
    // ---- opening

    /// Lets the dialler come back to this session. For acceptors, before HELLO comes.
    pub(crate) fn offer_resume(&mut self, offer: Offer) {
        if self.limits.replay_bytes > 0 {
            self.session.offer = Some(offer);
        }
    }

    /// HELLO, for a new session or one that goes on.
    pub(super) fn push_hello(&mut self, resume: Option<Resume>) {
        let terms = Terms {
            replay_bytes: self.limits.replay_bytes,
            resume,
            heartbeat: self.limits.heartbeat,
            token: self.auth.token.clone(),
            ..Terms::default()
        };
        self.push_opening(Head::Hello, &terms);
    }

    fn push_opening(&mut self, head: Head<'_>, terms: &Terms) {
        let options = handshake::announce(self.codec, &self.limits, terms);
        self.outbox.push_control(&handshake::frame(head, &options));
    }

    /// Dialler: HELLO was said on another session's behalf, and WELCOME is at hand.
    pub(crate) fn has_said_hello(&mut self) {
        self.outbox.forget_signals();
    }

    /// HELLO of a session that goes on has come. Says whether somebody has to find that session
    /// before this end can answer.
    pub(super) fn hello(&mut self, terms: Terms, events: &mut Events) {
        self.session.peer_replay_bytes = terms.replay_bytes;
        self.agree_on_heartbeat(terms.heartbeat);
        if self.auth.is_decided {
            self.phase = Phase::Authenticating;
            // WELCOME goes first.
            self.outbox.hold();
            events.queue.push(Event::Authenticate {
                token: terms.token,
                resume: terms.resume,
            });
            return;
        }
        match terms.resume {
            Some(resume) => {
                self.phase = Phase::Deciding;
                events.queue.push(Event::Resume(resume));
            }
            None => self.welcome(None, events),
        }
    }

    /// Answers HELLO: a new session begins, also instead of one that cannot go on.
    pub(crate) fn welcome(&mut self, refusal: Option<Refusal>, events: &mut Events) {
        if self.session.peer_replay_bytes == 0 || self.limits.replay_bytes == 0 {
            self.session.offer = None;
            self.session.peer_replay_bytes = 0;
        } else if self.session.offer.is_some() {
            self.outbox.limit_replay(self.limits.replay_bytes);
        }
        let is_kept = self.session.offer.is_some();
        let terms = Terms {
            replay_bytes: if is_kept { self.limits.replay_bytes } else { 0 },
            offer: self.session.offer.clone(),
            refusal,
            heartbeat: Some(self.session.heartbeat.unwrap_or(NO_HEARTBEAT)),
            expires: self.auth.expires,
            ..Terms::default()
        };
        if !is_kept {
            self.session.peer_replay_bytes = 0;
        }
        self.outbox.release();
        self.push_opening(Head::Welcome, &terms);
        self.repeat_go_away();
        self.widen_window();
        self.begin(events);
    }

    /// What is behind the limits in the acceptor's WELCOME.
    pub(super) fn welcomed(&mut self, terms: Terms, events: &mut Events) {
        self.session.heartbeat = announced(terms.heartbeat);
        self.session.peer_replay_bytes = terms.replay_bytes;
        self.note_expiry(terms.expires);
        let wanted = self.limits.replay_bytes > 0;
        self.session.offer = terms.offer.filter(|_| wanted && terms.replay_bytes > 0);
        if let Some(offer) = &mut self.session.offer {
            offer.window = offer.window.min(LONGEST);
        }
        if self.session.offer.is_none() {
            self.outbox.limit_replay(0);
            self.session.peer_replay_bytes = 0;
        }
        self.begin(events);
    }

    fn begin(&mut self, events: &mut Events) {
        self.phase = Phase::Open;
        events.queue.push(Event::Open);
        self.admit_calls(&mut events.wakers);
        self.admit_notifications(&mut events.wakers);
    }

    fn agree_on_heartbeat(&mut self, wanted: Option<Heartbeat>) {
        let [least, most] = HEARTBEATS;
        let own = self.limits.heartbeat;
        self.session.heartbeat = own.map(|own| match wanted {
            Some(wanted) => Heartbeat {
                interval: wanted.interval.clamp(least, most),
                timeout: wanted.timeout.clamp(least, most),
            },
            None => sane(own),
        });
    }

    /// How often the acceptor makes sure that the other end is there, once that is agreed on.
    #[must_use]
    pub fn heartbeat(&self) -> Option<Heartbeat> {
        self.session.heartbeat
    }

    // ---- counting

    /// A message was taken in as a whole. Says it to a peer that keeps what it has sent.
    #[inline]
    pub(super) fn count_message(&mut self, bytes: usize, now: Instant) {
        let session = &mut self.session;
        session.received_whole = session.received;
        if session.peer_replay_bytes == 0 || session.received == session.acknowledged {
            return;
        }
        session.unacknowledged_bytes += bytes;
        if session.received - session.acknowledged >= ACK_ALONE_FRAMES
            || session.unacknowledged_bytes >= session.peer_replay_bytes / 2
        {
            self.push_ack();
        } else if session.ack_due.is_none() {
            session.ack_due = now.checked_add(ACK_DELAY);
        }
    }

    /// Something is about to be written: an acknowledgement goes along, if there is enough to
    /// acknowledge.
    #[inline]
    pub(super) fn write_ack(&mut self) {
        let session = &self.session;
        if session.ack_due.is_some()
            && (session.received - session.acknowledged >= ACK_FRAMES
                || session.unacknowledged_bytes >= session.peer_replay_bytes / 4)
        {
            self.push_ack();
        }
    }

    fn push_ack(&mut self) {
        let count = self.told();
        self.outbox.push_control(&Frame::new(Head::Ack { count }));
    }

    /// The count that the peer is told with the next frame.
    pub(super) fn told(&mut self) -> u64 {
        let session = &mut self.session;
        session.acknowledged = session.received;
        session.unacknowledged_bytes = 0;
        session.ack_due = None;
        session.received
    }

    /// The peer says how many frames it has counted.
    pub(super) fn counted_by_peer(&mut self, count: u64) -> Result<(), ProtocolError> {
        if self.session.peer_replay_bytes == 0 {
            return Ok(());
        }
        let counted = self.outbox.acknowledge(count);
        counted.map_err(|_| ProtocolError::Unexpected("a count of frames that were not sent"))
    }

    pub(super) fn ack_due(&self) -> Option<Instant> {
        self.session.ack_due
    }

    pub(super) fn check_ack(&mut self, now: Instant) {
        if self.session.ack_due.is_some_and(|due| due <= now) {
            self.push_ack();
        }
    }

    // ---- the break

    /// How long this session can wait for another socket; not at all if it is `None`.
    #[must_use]
    pub fn resume_window(&self) -> Option<Duration> {
        let is_early = matches!(
            self.phase,
            Phase::Opening | Phase::Authenticating | Phase::Deciding
        );
        if self.closed.is_some() || is_early {
            return None;
        }
        self.session.offer.as_ref().map(|offer| offer.window)
    }

    /// The socket is gone. Calls stay in flight, and what waits to be sent goes on waiting.
    pub fn suspend(&mut self) {
        self.phase = Phase::Suspended;
        self.outbox.hold();
        // What belonged to the socket waits no more.
        self.has_freed_room = true;
        self.calls.forgive_tombstones();
        self.pong = None;
        self.refusals = 0;
        self.auth.is_pending = false;
        self.liveness.lose_ping();
        self.session.ack_due = None;
        self.session.unacknowledged_bytes = 0;
        self.session.acknowledged = self.session.received;
    }

    /// Whether there is no socket, or one that is not agreed on yet.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        matches!(self.phase, Phase::Suspended | Phase::Resuming)
    }

    /// Whether there is no socket.
    pub(crate) fn has_no_transport(&self) -> bool {
        self.phase == Phase::Suspended
    }

    /// Whether no calls are in flight but subscriptions of the peer, which go on elsewhere, and, while
    /// there is no socket, nothing waits that the peer has not got.
    pub(crate) fn is_idle(&self) -> bool {
        let has_missed = self.is_suspended() && self.outbox.is_owing();
        let (own, peers) = self.in_flight();
        own == 0 && peers == self.inbound.subscriptions() && !has_missed
    }

    /// Whether nothing is to be executed yet, since the peer is still sending again what was lost.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.session.received < self.session.catching_up
    }

    // ---- and how it goes on

    /// Dialler: there is a new socket. Asks the acceptor to go on with the session there.
    pub(crate) fn ask_to_resume(&mut self) {
        self.suspend();
        let Some(offer) = &self.session.offer else {
            return;
        };
        self.phase = Phase::Resuming;
        let resume = Resume {
            token: offer.token.clone(),
            received: self.session.received,
            sent: self.outbox.sent(),
        };
        self.push_hello(Some(resume));
    }

    /// Dialler: WELCOME has come on the new socket.
    pub(super) fn resume_answered(
        &mut self,
        terms: Terms,
        events: &mut Events,
    ) -> Result<(), ProtocolError> {
        let Some((received, sent)) = terms.resumed.filter(|_| terms.refusal.is_none()) else {
            let refusal = terms.refusal.unwrap_or(Refusal::Unknown);
            return Err(ProtocolError::NotResumed(refusal));
        };
        // The acceptor goes on, and this end cannot.
        if sent < self.session.received || self.outbox.resume(received).is_err() {
            return Err(ProtocolError::Gap);
        }
        if let Some(offer) = terms.offer {
            self.session.offer = Some(offer);
        }
        self.session.heartbeat = announced(terms.heartbeat);
        self.note_expiry(terms.expires);
        self.resumed(sent, events);
        Ok(())
    }

    /// Acceptor: the dialler is back, on another socket. Either all goes on or nothing has changed.
    pub(crate) fn resume(
        &mut self,
        resume: &Resume,
        offer: Offer,
        events: &mut Events,
    ) -> Result<(), Refusal> {
        if self.closed.is_some() || self.session.offer.is_none() {
            return Err(Refusal::Unknown);
        }
        let counts = self.outbox.check_resume(resume.received);
        if counts.is_err() || resume.sent < self.session.received {
            return Err(Refusal::Gap);
        }
        self.leave_message();
        self.suspend();
        let resumed = self.outbox.resume(resume.received);
        resumed.map_err(|_| Refusal::Gap)?;
        let terms = Terms {
            replay_bytes: self.limits.replay_bytes,
            offer: Some(offer.clone()),
            resumed: Some((self.session.received, self.outbox.sent())),
            heartbeat: Some(self.session.heartbeat.unwrap_or(NO_HEARTBEAT)),
            expires: self.auth.expires,
            ..Terms::default()
        };
        self.session.offer = Some(offer);
        self.push_opening(Head::Welcome, &terms);
        self.resumed(resume.sent, events);
        Ok(())
    }

    /// What is left of the message that is being taken in is not looked at any more.
    fn leave_message(&mut self) {
        let session = &mut self.session;
        session.executed += session.received - session.received_whole;
        session.received = session.received_whole;
    }

    fn resumed(&mut self, peer_has_sent: u64, events: &mut Events) {
        self.phase = Phase::Open;
        self.session.catching_up = peer_has_sent;
        self.repeat_go_away();
        self.calls.forgive_tombstones();
        events.queue.push(Event::Resumed);
        self.admit_calls(&mut events.wakers);
        self.admit_notifications(&mut events.wakers);
        self.offer_room(&mut events.wakers);
    }

    /// Whether this is the end that dialled.
    pub(crate) fn is_dialler(&self) -> bool {
        self.side == Side::Dialler
    }
}
