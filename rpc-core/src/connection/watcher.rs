//! Who is told of sessions that begin and end.

use std::sync::Arc;

use crate::peer::Peer;

/// Keeps an account of an acceptor's sessions. It is called by their tasks, without any lock, and is
/// quick.
pub trait Watcher: Send + Sync {
    /// The dialler is in: before the first of its calls is looked at. A connection on which an earlier
    /// session goes on is no session of its own.
    fn opened(&self, peer: &Peer);

    /// The session has ended. Not called for one whose driver is dropped, and perhaps for one that
    /// was never open.
    fn ended(&self, peer: &Peer);
}

/// Has a session watched. To be said before its driver runs; the first one counts.
pub fn watch(peer: &Peer, watcher: Arc<dyn Watcher>) {
    peer.with_session(|session| {
        let _ = session.watcher.set(watcher);
    });
}
