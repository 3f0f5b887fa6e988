//! Who comes in: what an acceptor asks before it executes anything.

use std::{pin::Pin, sync::Arc};

use crate::{
    close::CloseReason,
    context::ConnectionInfo,
    identity::{AuthError, Identity},
    peer::Peer,
    protocol::Token,
    status::Status,
};

/// What becomes of somebody who wants to come in.
pub type Authentication = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send>>;

/// Whether a session may begin.
pub type Admission = Pin<Box<dyn Future<Output = Result<(), Status>> + Send>>;

/// Finds out who the other end of one connection is, and lets it in or not.
///
/// Its futures are polled in the connection's own task, and dropped when the connection ends.
pub trait Gate: Send + 'static {
    /// Whether a dialler has to say who it is.
    fn is_guarded(&self) -> bool;

    /// Begins to find out who this is. Asked once for HELLO, with the token in it if there is one, and
    /// then for each new token that the dialler sends while the connection is open. Not asked where
    /// nobody has to say it.
    fn ask(&mut self, connection: Arc<ConnectionInfo>, token: Option<Token>) -> Authentication;

    /// Begins to find out whether a session may begin: of one who is known, if that is asked. `None`
    /// lets it begin at once. Not asked where an earlier session goes on. What is sent to the peer
    /// meanwhile waits until the session has begun.
    ///
    /// # Errors
    /// With what the connection is to be closed: no session may begin.
    fn admit(&mut self, peer: &Peer) -> Result<Option<Admission>, CloseReason>;
}
