//! Who comes in: what an acceptor asks before it executes anything.

use std::{pin::Pin, sync::Arc};

use crate::{
    context::ConnectionInfo,
    identity::{AuthError, Identity},
    protocol::Token,
};

/// What becomes of somebody who wants to come in.
pub type Authentication = Pin<Box<dyn Future<Output = Result<Identity, AuthError>> + Send>>;

/// Finds out who the other end of one connection is.
pub trait Gate: Send + 'static {
    /// Begins to find out who this is. Asked once for HELLO, with the token in it if there is one, and
    /// then for each new token that the dialler sends while the connection is open. The future is
    /// polled in the connection's own task, and dropped when the connection ends.
    fn ask(&mut self, connection: Arc<ConnectionInfo>, token: Option<Token>) -> Authentication;
}
