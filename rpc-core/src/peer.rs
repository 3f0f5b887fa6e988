//! The other end of a connection.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    body::Codec,
    close::{CloseCode, CloseReason, ClosedBy},
    connection::Shared,
    context::ConnectionInfo,
    identity::Identity,
    line::Line,
    session_state::SessionState,
};

/// The other end of a connection, whichever end dialled. Stubs call it; both ends have the same
/// abilities.
///
/// A server's peer is one session of a client. A client's is the server, whatever becomes of the
/// connection: when that is lost, calls go over the next one.
///
/// A cheap clone; all clones are the same peer.
#[derive(Clone, Debug)]
pub struct Peer(Route);

#[derive(Clone, Debug)]
enum Route {
    Session(Arc<Shared>),
    Line(Arc<Line>),
}

impl Peer {
    #[inline]
    pub(crate) fn new(session: Arc<Shared>) -> Self {
        Peer(Route::Session(session))
    }

    pub(crate) fn on_line(line: Arc<Line>) -> Self {
        Peer(Route::Line(line))
    }

    /// Where a call that is made now goes.
    #[inline]
    pub(crate) fn session(&self) -> Arc<Shared> {
        match &self.0 {
            Route::Session(session) => session.clone(),
            Route::Line(line) => line.current(),
        }
    }

    #[inline]
    pub(crate) fn with_session<R>(&self, look: impl FnOnce(&Arc<Shared>) -> R) -> R {
        match &self.0 {
            Route::Session(session) => look(session),
            Route::Line(line) => line.with_current(look),
        }
    }

    /// What is known of the connection from its upgrade request.
    #[must_use]
    pub fn connection(&self) -> Arc<ConnectionInfo> {
        self.with_session(|session| session.info.clone())
    }

    /// Who is at the other end, as this end's authenticator has found out; nobody, where there is
    /// none. A client does not ask who its server is.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.with_session(|session| session.identity())
    }

    /// Which session this is, among all of this process. A client's peer has another one after each
    /// session that could not go on.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.with_session(|session| session.id)
    }

    /// What the application keeps with the session. A client's peer has another session, with nothing
    /// kept, after each one that could not go on: this is that of the moment.
    #[must_use]
    pub fn state(&self) -> SessionState {
        SessionState::new(self.session())
    }

    /// How frames and bodies are encoded.
    #[must_use]
    #[inline]
    pub fn codec(&self) -> Codec {
        self.with_session(|session| session.codec)
    }

    /// Whether both are handles of the same connection.
    #[must_use]
    pub fn is_same(&self, other: &Peer) -> bool {
        match (&self.0, &other.0) {
            (Route::Line(line), Route::Line(other)) => Arc::ptr_eq(line, other),
            _ => Arc::ptr_eq(&self.session(), &other.session()),
        }
    }

    /// Calls in flight: this end's, and the peer's.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        self.with_session(|session| session.lock().connection.in_flight())
    }

    /// How many bytes this end holds that wait to be sent to the peer: what is queued for writing, the
    /// rest of large bodies, and notifications and items of topics that are kept until the peer has
    /// caught up. [`Limits::outbound_queue_bytes`](crate::Limits::outbound_queue_bytes),
    /// [`Limits::backlog_bytes`](crate::Limits::backlog_bytes) and
    /// [`Limits::topic_queue_bytes`](crate::Limits::topic_queue_bytes) bound them.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.with_session(|session| {
            let waiting = session.lock().connection.waiting_bytes();
            waiting + session.queued_items.bytes()
        })
    }

    /// Whether nothing is left to be done: no calls are in flight, and a peer that is to come back has
    /// missed nothing. The peer's subscriptions to topics do not count: they have no end of their own,
    /// and go on in its next session.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.with_session(|session| session.lock().connection.is_idle())
    }

    /// Asks the peer for a sign of life, and says how long it took.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// That there is no connection at the moment, or why the session has ended.
    pub async fn ping(&self) -> Result<Duration, CloseReason> {
        let session = self.session();
        let (answered, lost) = session.update(|state, _| {
            let is_open = state.is_open;
            let connection = &mut state.connection;
            let before = connection.pings_done();
            if is_open && connection.closed().is_none() && !connection.is_suspended() {
                connection.ping(Instant::now());
            }
            before
        });
        session
            .wait_for(|state| {
                let connection = &state.connection;
                if let Some(reason) = connection.closed() {
                    return Some(Err(reason.clone()));
                }
                let (answered_now, lost_now) = connection.pings_done();
                if connection.is_suspended() || lost_now > lost || !state.is_open {
                    return Some(Err(CloseReason {
                        code: CloseCode::ABNORMAL,
                        message: "there is no connection at the moment".to_owned(),
                        by: ClosedBy::Transport,
                    }));
                }
                let is_answered = answered_now > answered;
                connection.round_trip().filter(|_| is_answered).map(Ok)
            })
            .await
    }

    /// How long the peer took to answer the last time that it was asked for a sign of life, by
    /// [`Peer::ping`] or, at the server, by the heartbeat; nothing before that.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.with_session(|session| session.lock().connection.round_trip())
    }

    /// Whether the connection has ended, and does not come back.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Route::Session(session) => session.lock().connection.closed().is_some(),
            Route::Line(line) => line.ended().is_some(),
        }
    }

    /// Whether there is no connection at the moment, and the session waits for the next one.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.with_session(|session| session.lock().connection.is_suspended())
    }

    /// Waits until HELLO and WELCOME are exchanged.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Why the connection ended before.
    pub async fn opened(&self) -> Result<(), CloseReason> {
        self.session()
            .wait_for(|state| match state.connection.closed() {
                Some(reason) => Some(Err(reason.clone())),
                None => state.is_open.then_some(Ok(())),
            })
            .await
    }

    /// Waits until the connection has ended and does not come back, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        match &self.0 {
            Route::Session(session) => session.closed().await,
            Route::Line(line) => line.closed().await,
        }
    }

    /// Asks the peer to take its calls elsewhere: at a random point of `spread`, and to `url` if it is
    /// not to come back to the same place. Its calls that are in flight go on; new ones are refused
    /// as not executed. It cannot be taken back, and only the first time counts.
    pub fn go_away(&self, code: CloseCode, spread: Duration, url: Option<String>) {
        self.with_session(|session| {
            session.update(|state, _| state.connection.go_away(code, spread, url));
        });
    }

    /// Drops the connection without a word, as a broken network does, and not the session: that goes on
    /// when the client has come back, see [`Limits::resume_window`](crate::Limits::resume_window), and ends if it cannot. For trying out
    /// what one's own program, or a client in another language, makes of it.
    ///
    /// What is sent from now on goes over the next connection: the answer of the handler that calls
    /// this, too. Returns at once; does nothing while there is no connection.
    pub fn interrupt(&self) {
        self.with_session(|session| session.interrupt());
    }

    /// Ends the connection: what was queued is still written if the peer reads, pending calls fail
    /// with `UNAVAILABLE`, running handlers are dropped. Returns at once; [`Peer::closed`] waits.
    pub fn close(&self, code: CloseCode, message: &str) {
        let reason = CloseReason::local(code, message);
        if let Route::Line(line) = &self.0 {
            line.end(reason.clone());
        }
        self.with_session(|session| session.close(reason));
    }
}

/// The number of a session, which no other one of this process has, whatever connections it goes over.
/// Later ones are greater. It proves nothing: it may be shown and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub(crate) u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsRef<Peer> for Peer {
    fn as_ref(&self) -> &Peer {
        self
    }
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other)
    }
}

impl Eq for Peer {}
