//! Who is told of sessions that begin, break, go on and end.

use std::{fmt, sync::Arc};

use super::Shared;
use crate::{close::CloseReason, peer::Peer, session_state};

/// Keeps an account of an acceptor's sessions. It is called by their tasks, without any lock, and is
/// quick.
pub trait Watcher: Send + Sync {
    /// The dialler is in: before the first of its calls is looked at. A connection on which an earlier
    /// session goes on is no session of its own.
    fn opened(&self, peer: &Peer);

    /// The connection is gone, and the session waits for another one.
    fn suspended(&self, peer: &Peer);

    /// A session that has waited goes on.
    fn resumed(&self, peer: &Peer);

    /// The session has ended, perhaps before it was open. Called once for each.
    fn ended(&self, session: EndedSession);
}

/// Has a session watched. To be said before its driver runs; the first one counts.
pub fn watch(peer: &Peer, watcher: Arc<dyn Watcher>) {
    peer.with_session(|session| {
        let _ = session.watcher.set(watcher);
    });
}

/// A session that is over. What the application has kept with it goes when this is dropped.
pub struct EndedSession {
    session: Arc<Shared>,
    reason: CloseReason,
}

impl EndedSession {
    pub(super) fn new(session: Arc<Shared>, reason: CloseReason) -> Self {
        EndedSession { session, reason }
    }

    /// Its other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::new(self.session.clone())
    }

    /// Why it is over.
    #[must_use]
    pub fn reason(&self) -> &CloseReason {
        &self.reason
    }
}

impl Drop for EndedSession {
    fn drop(&mut self) {
        session_state::end(&self.session);
    }
}

impl fmt::Debug for EndedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndedSession")
            .field("session", &self.session)
            .field("reason", &self.reason)
            .finish()
    }
}
