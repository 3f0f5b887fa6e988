//! What becomes of a session when its connection breaks: it waits for another transport, and goes
//! on there.

use std::{
    sync::{Arc, atomic::Ordering},
    task::Context,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Driver, Stage, time::lost};
use crate::{
    close::{CloseCode, CloseReason, ClosedBy},
    connection::sessions::{Handover, Owner, Place, Sessions},
    protocol::{Offer, Position, Resume},
    transport::Transport,
};

/// A session's entry among those of a server.
pub(super) struct Registered<T> {
    sessions: Arc<Sessions<T>>,
    id: u64,
    secret: [u8; 16],
    is_entered: bool,
    is_suspended: bool,
    /// Whose place it has while it is.
    owner: Option<Owner>,
    /// Whether the dialler has not been heard of since it was given a new token, and which that is.
    pub(super) is_unconfirmed: bool,
    generation: u64,
}

impl<T> Registered<T> {
    /// Draws a token and offers it to the dialler that has not said HELLO yet.
    pub(super) fn offer(sessions: Arc<Sessions<T>>, place: &Place<T>) -> Self {
        let (id, token, secret) = Sessions::<T>::draw();
        let window = place.shared.limits.resume_window;
        let mut state = place.shared.lock();
        state.connection.offer_resume(Offer { token, window });
        drop(state);
        Registered {
            sessions,
            id,
            secret,
            is_entered: false,
            is_suspended: false,
            owner: None,
            is_unconfirmed: false,
            generation: 0,
        }
    }

    /// Says whether it was suspended.
    fn unsuspend(&mut self) -> bool {
        let was_suspended = std::mem::take(&mut self.is_suspended);
        if was_suspended {
            self.sessions.unsuspend(self.owner.take().as_ref());
        }
        was_suspended
    }

    pub(super) fn leave(&mut self, has_expired: bool) {
        self.unsuspend();
        if std::mem::take(&mut self.is_entered) {
            self.sessions.leave(self.id, has_expired);
        }
    }

    /// Something has come on the session's last transport.
    pub(super) fn confirm(&mut self) {
        self.is_unconfirmed = false;
        self.sessions.confirm(self.id, self.generation);
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        self.leave(false);
    }
}

impl<T: Transport> Driver<T> {
    /// HELLO or WELCOME has come: whoever may come back can be found from now on.
    pub(super) fn register(&mut self) {
        if let Some(registered) = &mut self.registered
            && self.shared.lock().connection.resume_window().is_some()
        {
            let place = self.place.clone();
            registered.is_entered = true;
            let sessions = &registered.sessions;
            sessions.enter(registered.id, registered.secret, place);
        }
    }

    /// HELLO asks to go on with another session: this connection's transport goes there, or the
    /// connection begins a session of its own.
    pub(super) fn look_for_session(&mut self, resume: &Resume) -> Result<(), CloseReason> {
        let identity = self.shared.identity();
        let Some((registered, transport)) = self.registered.as_ref().zip(self.transport.take())
        else {
            return Ok(());
        };
        match registered
            .sessions
            .resume(resume, self.shared.codec, identity, transport)
        {
            Ok(()) => Err(lost("went on as an earlier session")),
            Err((transport, refusal)) => {
                self.transport = Some(transport);
                self.knock_again(Some(refusal))
            }
        }
    }

    /// Takes over a transport on which the session goes on. Whatever was read from the one before
    /// and not executed will come again. It is an error if there is none, and the one that there is
    /// was given up.
    #[inline]
    pub(super) fn adopt(&mut self) -> Result<(), CloseReason> {
        // Whoever sets it wakes this task after that.
        match self.shared.is_disturbed.load(Ordering::Relaxed) {
            true => self.adopt_next(),
            false => Ok(()),
        }
    }

    fn adopt_next(&mut self) -> Result<(), CloseReason> {
        let mut state = self.shared.lock();
        self.shared.is_disturbed.store(false, Ordering::Relaxed);
        let is_interrupted = std::mem::take(&mut state.is_interrupted);
        if !std::mem::take(&mut state.has_handover) {
            return match self.transport {
                Some(_) if is_interrupted => Err(lost("this end has dropped the connection")),
                _ => Ok(()),
            };
        }
        let Some(handover) = self.place.take() else {
            return Ok(());
        };
        state.is_blocked = false;
        let generation = state.resumes;
        drop(state);
        self.transport = Some(handover.transport);
        // One that is being executed comes again, as a whole.
        self.message = None;
        self.work.get().batch.clear();
        self.forget_transport();
        self.stage = Stage::Running;
        if let Some(registered) = &mut self.registered {
            let was_suspended = registered.unsuspend();
            registered.is_unconfirmed = true;
            registered.generation = generation;
            self.suspended_until = None;
            self.comes_in_again();
            self.begin_life();
            if was_suspended {
                self.tell_watcher(|watcher, peer| watcher.resumed(peer));
            }
        } else {
            // Until WELCOME comes.
            let timeout = self.shared.limits.hello_timeout;
            self.hello_deadline = Instant::now().checked_add(timeout);
        }
        self.shared.changed.notify_waiters();
        Ok(())
    }

    fn forget_transport(&mut self) {
        self.is_flushing = false;
        self.has_yielded = false;
        self.stalled = None;
        self.shut_since = None;
        self.hello_deadline = None;
        self.life = Default::default();
        self.leave_door();
    }

    /// The session goes on where this end could be heard.
    pub(super) fn resumed(&mut self) {
        self.hello_deadline = None;
        self.suspended_until = None;
        self.shared.lock().note_validity();
        self.begin_life();
        self.shared.changed.notify_waiters();
    }

    /// Lets the session wait for another transport, if there is a session and the connection has
    /// ended in a way that permits it.
    pub(super) fn try_suspend(
        &mut self,
        cx: &mut Context<'_>,
        reason: CloseReason,
    ) -> Result<(), CloseReason> {
        let window = {
            let state = self.shared.lock();
            if state.has_handover && state.close.is_none() && !self.has_expired {
                // The next transport is there already, and this one's faults are of the past.
                drop(state);
                cx.waker().wake_by_ref();
                return Ok(());
            }
            state.connection.resume_window()
        };
        if matches!(self.stage, Stage::Suspended) || !self.may_be_resumed(&reason) {
            return Err(reason);
        }
        let Some(mut window) = window else {
            return Err(reason);
        };
        match &mut self.registered {
            Some(registered) if !registered.is_entered => return Err(reason),
            Some(registered) => {
                let owner = Owner::of(&self.shared);
                if !registered.sessions.suspend(owner.as_ref()) {
                    return Err(reason);
                }
                registered.is_suspended = true;
                registered.owner = owner;
            }
            None => {
                // The acceptor may notice later that the connection is gone.
                let heartbeat = self.shared.lock().connection.heartbeat();
                window += heartbeat.map_or(window, |beat| beat.interval + beat.timeout);
            }
        }
        // What has come is executed, and counted.
        while let Some((message, position)) = self.message.take() {
            self.step(cx, message, position)?;
        }
        let mut state = self.shared.lock();
        if !state.has_handover {
            state.connection.suspend();
        }
        drop(state);
        self.transport = None;
        self.work.get().batch.clear();
        self.forget_transport();
        // An attempt to go on that fails gives no more time.
        if self.suspended_until.is_none() {
            self.suspended_until = Instant::now().checked_add(window);
        }
        self.stage = Stage::Suspended;
        self.tell_watcher(|watcher, peer| watcher.suspended(peer));
        self.shared.changed.notify_waiters();
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn may_be_resumed(&self, reason: &CloseReason) -> bool {
        if self.registered.is_none() {
            let state = self.shared.lock();
            let connection = &state.connection;
            let is_done = reason.by == ClosedBy::Peer || connection.in_flight() == (0, 0);
            if connection.going().is_some() && is_done {
                // The acceptor has asked for another session: somebody comes back to this one only for
                // what is not finished.
                return false;
            }
        }
        match reason.by {
            // Without a transport when it was given back, since the acceptor does not go on.
            ClosedBy::Transport => self.transport.is_some(),
            // 42xx and 43xx let the session go on.
            ClosedBy::Peer => (4200..4400).contains(&reason.code.value()),
            ClosedBy::Local => {
                let no_welcome = reason.code == CloseCode::HELLO_TIMEOUT;
                reason.code == CloseCode::WRITE_STALL
                    || no_welcome && self.shared.lock().connection.is_suspended()
            }
        }
    }

    /// Begins with a message that was read before.
    pub(in crate::connection) fn begin_with(&mut self, message: Bytes) {
        self.message = Some((message, Position::default()));
    }

    /// The acceptor has begun another session on this transport: its task is given both.
    pub(super) fn give_back_transport(&mut self, message: Bytes) {
        if let Some(transport) = self.transport.take() {
            let superseded = self.place.put(Handover {
                transport,
                message: Some(message),
            });
            drop(superseded);
        }
    }

    /// What a task without a transport does: deadlines, handlers, and waiting.
    pub(super) fn rest(&mut self, cx: &mut Context<'_>) -> Result<(), CloseReason> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        if state.has_handover {
            drop(state);
            cx.waker().wake_by_ref();
            return Ok(());
        }
        state.now = None;
        state.is_blocked = false;
        self.idle(cx, &mut state)
    }
}
