//! One timer for all that takes its time: deadlines, blocked writes, a peer that says nothing.

use std::{pin::pin, task::Context, time::Duration};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::{Driver, MIN_PROGRESS_BYTES, door::expired};
use crate::{
    close::{CloseCode, CloseReason, ClosedBy},
    connection::shared::State,
    protocol::{Heartbeat, earliest},
    transport::Transport,
};

/// A timer that goes off later than this was held up, and so was everything else of this process.
fn held_up(heartbeat: Heartbeat) -> Duration {
    (heartbeat.timeout / 4).min(Duration::from_secs(1))
}

/// What is known of whether the peer is still there.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// When to look again; never, without a heartbeat.
    due: Option<Instant>,
    /// Whether that has come.
    is_due: bool,
    /// When something was last read.
    pub(super) heard: Option<Instant>,
    /// How many bytes had been read by then.
    bytes_read: u64,
    /// When something was written, as far as is known: perhaps there was more since.
    said: Option<Instant>,
    /// When that was last looked at, and how many bytes had been written by then.
    looked: Option<Instant>,
    bytes_written: u64,
    /// When the peer was asked for a sign of life.
    pinged: Option<Instant>,
}

impl<T: Transport> Driver<T> {
    /// Note since when the peer has taken in nothing of what was sent.
    pub(super) fn watch_window(&mut self, cx: &mut Context<'_>, state: &mut State) {
        if !state.connection.is_window_shut() {
            self.shut_since = None;
        } else if self.shut_since.is_none() {
            self.shut_since = Some(Instant::now());
            self.arm_timer(cx, state);
        }
    }

    /// A write is blocked: note since when nothing was written.
    pub(super) fn watch_write(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let written = self.bytes_written();
        let now = Instant::now();
        match self.stalled {
            Some((_, before)) if written - before < MIN_PROGRESS_BYTES => {}
            _ => self.stalled = Some((now, written)),
        }
        // The window has its time once all that went through it is written.
        self.shut_since = None;
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.now = None;
        state.is_blocked = true;
        state.driver = None;
        self.arm_timer(cx, &mut state);
        if let Some(reason) = state.close.clone() {
            return Err(reason);
        }
        // Callers need not wake this task: the socket will.
        Ok(())
    }

    fn bytes_written(&self) -> u64 {
        let transport = self.transport.as_ref();
        transport.map_or(0, Transport::bytes_written)
    }

    /// The timer is moved forward only. One that goes off too early finds nothing to do and is set
    /// again: cheaper than moving it for each call.
    pub(super) fn arm_timer(&mut self, cx: &mut Context<'_>, state: &mut State) {
        self.set_timer(cx, state.connection.next_timeout());
        state.armed = self.timer.as_ref().map(|timer| timer.deadline());
    }

    fn set_timer(&mut self, cx: &mut Context<'_>, next: Option<Instant>) {
        let stalled = self.stalled.map(|(since, _)| since);
        let stall = earliest(stalled, self.shut_since)
            .and_then(|since| since.checked_add(self.shared.limits.write_stall));
        let next = earliest(next, self.hello_deadline);
        let next = earliest(next, earliest(stall, self.life.due));
        let next = earliest(next, earliest(self.suspended_until, self.credential_due()));
        let Some(next) = next else {
            if self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
                self.timer = None;
            }
            return;
        };
        match &mut self.timer {
            Some(timer) if timer.is_elapsed() || next < timer.deadline() => {
                timer.as_mut().reset(next);
            }
            Some(_) => return,
            timer => *timer = Some(Box::pin(sleep_until(next))),
        }
        // Polled once, so that it wakes this task; after that a look at it is enough. Outside the
        // cooperative budget: without it nothing would be registered, and nobody be woken.
        if let Some(timer) = &mut self.timer
            && pin!(tokio::task::unconstrained(timer.as_mut()))
                .poll(cx)
                .is_ready()
        {
            cx.waker().wake_by_ref();
        }
    }

    pub(super) fn check_time(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        if !self.timer.as_ref().is_some_and(|timer| timer.is_elapsed()) {
            return Ok(());
        }
        self.spare = None;
        let now = Instant::now();
        self.life.is_due = self.life.due.is_some_and(|due| due <= now);
        if self.hello_deadline.is_some_and(|deadline| deadline <= now) {
            let late =
                || CloseReason::local(CloseCode::HELLO_TIMEOUT, "no HELLO or WELCOME in time");
            return Err(self.undecided().unwrap_or_else(late));
        }
        if self.credential_expires().is_some_and(|end| end <= now) {
            return Err(expired());
        }
        if self.suspended_until.is_some_and(|until| until <= now) {
            self.has_expired = true;
            return Err(lost("the connection was lost, and the session has expired"));
        }
        if let Some((since, before)) = self.stalled
            && self.bytes_written() - before < MIN_PROGRESS_BYTES
            && now - since >= self.shared.limits.write_stall
        {
            return Err(CloseReason::local(
                CloseCode::WRITE_STALL,
                "the peer does not read",
            ));
        }
        if self
            .shut_since
            .is_some_and(|since| now - since >= self.shared.limits.write_stall)
        {
            return Err(CloseReason::local(
                CloseCode::WRITE_STALL,
                "the peer takes in nothing of what it reads",
            ));
        }
        self.shared
            .lock()
            .connection
            .handle_timeout(now, &mut self.work.get().events)?;
        self.handle_events(cx, &Bytes::new());
        Ok(())
    }

    // ---- whether the peer is there

    /// The heartbeat begins, at a random point of its interval: a thousand clients that came at once
    /// are not asked at once.
    pub(super) fn begin_life(&mut self) {
        let heartbeat = self.shared.lock().connection.heartbeat();
        self.life = Life::default();
        if let Some(heartbeat) = heartbeat {
            let now = Instant::now();
            self.life.heard = Some(now);
            self.life.said = Some(now);
            self.life.looked = Some(now);
            // What has come so far came before this.
            if let Some(transport) = &self.transport {
                self.life.bytes_read = transport.bytes_read();
                self.life.bytes_written = transport.bytes_written();
            }
            let first = heartbeat.interval.mul_f64(rand::random::<f64>());
            self.life.due = now.checked_add(first);
            self.is_first_beat = true;
        }
    }

    /// All that has come was read, and perhaps it was a whole message. Part of one is a sign of life
    /// too.
    #[inline]
    pub(super) fn note_life(&mut self, is_message: bool) {
        let bytes_read = self.transport.as_ref().map_or(0, Transport::bytes_read);
        if bytes_read != self.life.bytes_read {
            self.life.bytes_read = bytes_read;
            if !is_message {
                self.life.heard = Some(Instant::now());
            }
        }
    }

    /// Looks whether the peer has given a sign of life, once that is due. What has come was read
    /// before: when this process was held up, the peer is not to blame.
    pub(super) fn check_life(&mut self) -> Result<(), CloseReason> {
        let Some(due) = self.life.due.filter(|_| self.life.is_due) else {
            return Ok(());
        };
        self.life.is_due = false;
        let Some(transport) = &mut self.transport else {
            return Ok(());
        };
        let now = Instant::now();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let Some(heartbeat) = state.connection.heartbeat() else {
            self.life.due = None;
            return Ok(());
        };
        let life = &mut self.life;
        if life.bytes_written != transport.bytes_written() {
            life.bytes_written = transport.bytes_written();
            // Some time since then, and so not later than it may have been.
            life.said = life.looked;
        }
        life.looked = Some(now);
        let heard = life.heard.unwrap_or(now);
        if state.connection.is_dialler() {
            // The acceptor says something in each interval.
            if now - due > held_up(heartbeat) {
                life.due = now.checked_add(heartbeat.timeout);
                return Ok(());
            }
            let dead = heard + heartbeat.interval + heartbeat.timeout;
            if now >= dead {
                return Err(silent());
            }
            life.due = Some(dead);
            return Ok(());
        }
        if let Some(asked) = life.pinged.filter(|pinged| *pinged > heard) {
            let dead = asked + heartbeat.timeout;
            if now < dead {
                // The timeout is longer than the interval: what lies between is to hear something.
                state.connection.ping(now);
                transport.ping();
                life.said = Some(now);
                life.due = Some(dead.min(now + heartbeat.interval));
                return Ok(());
            }
            if now - due <= held_up(heartbeat) {
                return Err(silent());
            }
            life.due = now.checked_add(heartbeat.timeout);
            return Ok(());
        }
        let said = life.said.unwrap_or(now);
        let quiet_since = heard.min(said);
        let is_first = std::mem::take(&mut self.is_first_beat);
        if is_first || now >= quiet_since + heartbeat.interval {
            state.connection.ping(now);
            transport.ping();
            life.pinged = Some(now);
            life.said = Some(now);
            life.due = Some(now + heartbeat.timeout.min(heartbeat.interval));
        } else {
            life.due = Some(quiet_since + heartbeat.interval);
        }
        Ok(())
    }
}

fn silent() -> CloseReason {
    lost("nothing came from the peer although it was asked for a sign of life")
}

/// The connection is of no use any more, and nobody can be told.
pub(super) fn lost(message: &str) -> CloseReason {
    CloseReason {
        code: CloseCode::ABNORMAL,
        message: message.to_owned(),
        by: ClosedBy::Transport,
    }
}
