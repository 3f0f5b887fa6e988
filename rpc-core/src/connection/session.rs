//! A dialler's session, as it is seen by what keeps its client connected.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use bytes::Bytes;

use super::{
    credentials::Credentials,
    sessions::{Handover, Place},
};
use crate::{
    close::{CloseCode, CloseReason},
    line::Line,
    peer::Peer,
    protocol::{GoAway, Token},
};

/// A dialler's session: it may outlive its transports, and is given new ones.
pub struct Session<T> {
    place: Arc<Place<T>>,
    /// Whether a GOAWAY was told of.
    has_left: bool,
}

/// What has become of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionChange {
    /// Its transport is gone. It goes on on another one: see [`Session::reconnect`].
    Suspended,
    /// The peer takes no more calls, and finishes those that it has.
    GoAway(GoAway),
    /// It is over.
    Ended(CloseReason),
}

impl<T> Session<T> {
    pub(super) fn new(place: Arc<Place<T>>) -> Self {
        Session {
            place,
            has_left: false,
        }
    }

    /// The other end of this session, and of no other.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.place.shared.clone())
    }

    /// Waits until WELCOME has come.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Why the connection ended before.
    pub async fn opened(&self) -> Result<(), CloseReason> {
        self.peer().opened().await
    }

    /// Waits for the next change. GOAWAY is told of once.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) -> SessionChange {
        let has_left = self.has_left;
        let changed = self.place.shared.wait_for(|state| {
            let connection = &state.connection;
            if let Some(reason) = connection.closed() {
                return Some(SessionChange::Ended(reason.clone()));
            }
            if connection.has_no_transport() && !state.has_handover {
                return Some(SessionChange::Suspended);
            }
            let going = connection.going().filter(|_| !has_left);
            going.map(|going| SessionChange::GoAway(going.clone()))
        });
        let change = changed.await;
        self.has_left |= matches!(change, SessionChange::GoAway(_));
        change
    }

    /// Waits until a suspended session goes on, and says whether it does.
    ///
    /// Cancel safe.
    pub async fn resumed(&self) -> bool {
        let resumed = self.place.shared.wait_for(|state| {
            let connection = &state.connection;
            if connection.closed().is_some() {
                return Some(false);
            }
            if connection.has_no_transport() && !state.has_handover {
                return Some(false);
            }
            (!connection.is_suspended()).then_some(true)
        });
        resumed.await
    }

    /// Waits until the session is over, and says why.
    ///
    /// Cancel safe.
    pub async fn ended(&self) -> CloseReason {
        self.place.shared.closed().await
    }

    /// The credential that the dialler has come in with.
    #[must_use]
    pub fn credentials(&self) -> Credentials {
        Credentials::new(self.place.shared.clone())
    }

    /// Says this to the acceptor when it is next asked to go on with the session, in place of what was
    /// said before.
    pub fn present(&self, token: Token) {
        let mut state = self.place.shared.lock();
        state.connection.present(Some(token));
    }

    /// Asks the acceptor to go on with the session on this transport.
    ///
    /// # Errors
    /// The transport, when the session is over.
    pub fn reconnect(&self, transport: T) -> Result<(), T> {
        self.place.reconnect(transport)
    }

    /// The transport on which the acceptor has begun another session instead of going on with this
    /// one, and its message that says so.
    #[must_use]
    pub fn take_transport(&self) -> Option<(T, Bytes)> {
        let Handover { transport, message } = self.place.take()?;
        Some((transport, message?))
    }

    /// Whether the session is over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.place.shared.lock().connection.closed().is_some()
    }

    /// Ends the session once nothing of it is in flight.
    pub fn release(&self) {
        self.place.shared.release();
    }

    /// Ends the session.
    pub fn close(&self, code: CloseCode, message: &str) {
        let reason = CloseReason::local(code, message);
        self.place.shared.close(reason);
    }

    /// A peer that stays the same when other sessions follow this one, and what is needed to let
    /// them follow. With `fails_fast` its calls fail at once while there is no connection.
    #[must_use]
    pub fn line(&self, fails_fast: bool) -> (Peer, LineHandle) {
        let line = Line::new(self.place.shared.clone(), fails_fast);
        let handle = LineHandle {
            line: Arc::downgrade(&line),
            released: line.released(),
        };
        (Peer::on_line(line), handle)
    }
}

/// The same session. A GOAWAY that one was told of is not told to its clones.
impl<T> Clone for Session<T> {
    fn clone(&self) -> Self {
        Session {
            place: self.place.clone(),
            has_left: self.has_left,
        }
    }
}

impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Session").field(&self.place.shared).finish()
    }
}

/// What lets another session follow.
#[derive(Clone, Debug)]
pub struct LineHandle {
    line: Weak<Line>,
    released: tokio_util::sync::CancellationToken,
}

impl LineHandle {
    /// Calls that are made from now on go to this session. Says whether anybody is left who could
    /// make any.
    pub fn renew<T>(&self, session: &Session<T>) -> bool {
        match self.line.upgrade() {
            Some(line) => {
                line.renew(session.place.shared.clone());
                true
            }
            None => false,
        }
    }

    /// No other session follows.
    pub fn end(&self, reason: CloseReason) {
        if let Some(line) = self.line.upgrade() {
            line.end(reason);
        }
    }

    /// Waits until no other session is wanted: the peer was closed, or nobody is left who could make
    /// calls.
    ///
    /// Cancel safe.
    pub async fn unwanted(&self) -> Option<CloseReason> {
        self.released.cancelled().await;
        let line = self.line.upgrade()?;
        line.ended().cloned()
    }

    /// Whether the peer was closed, rather than left by all.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.line
            .upgrade()
            .is_some_and(|line| line.ended().is_some())
    }

    /// Whether no other session is wanted.
    #[must_use]
    pub fn is_unwanted(&self) -> bool {
        self.released.is_cancelled()
    }
}
