//! The other end of a connection.

use std::sync::Arc;

use crate::{
    body::Codec,
    close::{CloseCode, CloseReason},
    connection::Shared,
    context::ConnectionInfo,
};

/// The other end of a connection, whichever end dialled. Stubs call it; both ends have the same
/// abilities.
///
/// A cheap clone; all clones are the same peer.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// Whether the connection ends with its last handle.
    is_holding: bool,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_holding {
            self.shared.release();
        }
    }
}

impl Peer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Peer(Arc::new(Handle {
            shared,
            is_holding: false,
        }))
    }

    /// The peer, as one who keeps the connection up: it ends once all clones of this handle are
    /// dropped and nothing is in flight.
    #[must_use]
    pub fn holding(&self) -> Self {
        self.0.shared.hold();
        Peer(Arc::new(Handle {
            shared: self.0.shared.clone(),
            is_holding: true,
        }))
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    /// What is known of the connection from its upgrade request.
    #[must_use]
    pub fn connection(&self) -> &ConnectionInfo {
        &self.shared().info
    }

    /// How frames and bodies are encoded.
    #[must_use]
    #[inline]
    pub fn codec(&self) -> Codec {
        self.shared().codec
    }

    /// Whether both are handles of the same connection.
    #[must_use]
    pub fn is_same(&self, other: &Peer) -> bool {
        Arc::ptr_eq(&self.0.shared, &other.0.shared)
    }

    /// Calls in flight: this end's, and the peer's.
    #[must_use]
    pub fn in_flight(&self) -> (usize, usize) {
        self.shared().lock().connection.in_flight()
    }

    /// Whether the connection has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared().lock().connection.closed().is_some()
    }

    /// Waits until HELLO and WELCOME are exchanged.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// Why the connection ended before.
    pub async fn opened(&self) -> Result<(), CloseReason> {
        self.shared()
            .wait_for(|state| match state.connection.closed() {
                Some(reason) => Some(Err(reason.clone())),
                None => state.is_open.then_some(Ok(())),
            })
            .await
    }

    /// Waits until the connection has ended, and says why.
    ///
    /// Cancel safe.
    pub async fn closed(&self) -> CloseReason {
        self.shared()
            .wait_for(|state| state.connection.closed().cloned())
            .await
    }

    /// Ends the connection: what was queued is still written if the peer reads, pending calls fail
    /// with `UNAVAILABLE`, running handlers are dropped. Returns at once; [`Peer::closed`] waits.
    pub fn close(&self, code: CloseCode, message: &str) {
        self.shared().close(CloseReason::local(code, message));
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
