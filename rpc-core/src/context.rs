//! What a handler gets to know beside its arguments.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    identity::Identity,
    metadata::{Metadata, MetadataValue},
    peer::Peer,
    priority::Priority,
    protocol::CallId,
    session_state::SessionState,
    status::{Code, Status},
};

/// The surroundings of a call: who called, by which connection, until when.
///
/// A method of a service trait may take `cx: &Context` anywhere among its arguments. It is not on
/// the wire, and the stub's method does not have it.
#[derive(Debug)]
pub struct Context {
    pub(crate) peer: Peer,
    /// None for a notification.
    pub(crate) id: Option<CallId>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) priority: Priority,
    /// With it the call is executed once, however often it is repeated.
    pub(crate) idempotency_key: Option<Arc<str>>,
    pub(crate) metadata: Metadata,
    /// Made by whoever needs it: most handlers send nothing along.
    pub(crate) response: OnceLock<Mutex<ResponseMetadata>>,
}

/// What a handler sends along with its answer.
#[derive(Debug, Default)]
pub(crate) struct ResponseMetadata {
    entries: Metadata,
    /// Nothing more can be sent along.
    is_sent: bool,
}

impl Context {
    /// That of no call in particular.
    pub(crate) fn new(peer: Peer) -> Self {
        Context {
            peer,
            id: None,
            deadline: None,
            priority: Priority::Normal,
            idempotency_key: None,
            metadata: Metadata::default(),
            response: OnceLock::new(),
        }
    }

    /// Forgets the call.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.id = None;
        self.deadline = None;
        self.priority = Priority::Normal;
        self.idempotency_key = None;
        if !self.metadata.is_empty() {
            self.metadata = Metadata::default();
        }
        if self.has_response_metadata() {
            self.response.take();
        }
    }

    /// The peer that called. A handler may call it back, also while its own call is open.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The upgrade request that the connection began with: path, headers, addresses.
    #[must_use]
    pub fn connection(&self) -> Arc<ConnectionInfo> {
        self.peer.connection()
    }

    /// Who calls, as the server's authenticator has found out; nobody, where there is none. It is
    /// looked up at each call: with a new credential a client may have got other scopes meanwhile.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.peer.identity()
    }

    /// What the application keeps with the caller's session. It is the same one at each of its calls.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.peer.state()
    }

    /// When the caller stops waiting; the handler is dropped then. Calls that the handler makes
    /// while it is polled inherit what is left of it; what it spawns is on its own. The deadline of
    /// a method with a stream ends when the stream is accepted, and is not inherited.
    ///
    /// A handler of a call with an [idempotency key](Context::idempotency_key) is not dropped, and
    /// what it calls inherits nothing.
    #[must_use]
    pub fn deadline(&self) -> Option<std::time::Instant> {
        self.deadline.map(Instant::into_std)
    }

    /// What tells that the call was cancelled, that its deadline has passed, or that the connection
    /// has ended. The handler itself is dropped at its next await then; this is for what it has
    /// spawned, and for work that does not await. With an
    /// [idempotency key](Context::idempotency_key) the handler is not dropped, and this is all that
    /// it learns of it.
    #[must_use]
    pub fn cancellation(&self) -> CancellationToken {
        self.peer
            .with_session(|session| session.cancellation(self.id))
    }

    /// How urgent the call is, as its caller says.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// What repetitions of the call are known by, if its caller has given it a key with
    /// [`Call::idempotency_key`](crate::Call::idempotency_key). The handler runs to its end then,
    /// and once, also if the call is cancelled or its connection ends.
    #[must_use]
    pub fn idempotency_key(&self) -> Option<&str> {
        self.idempotency_key.as_deref()
    }

    /// What the caller sent along.
    #[must_use]
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Sends an entry of [`Metadata`] along with the answer. The last one of a key counts.
    ///
    /// It goes with the result, or, from a method that answers with a stream, with the acceptance
    /// of the call: before the first item. A caller sees it with
    /// [`Call::with_metadata`](crate::Call::with_metadata) or
    /// [`ResponseStream::metadata`](crate::ResponseStream::metadata). An error has none; its
    /// details can say as much.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a bad key, `RESOURCE_EXHAUSTED` for more than this end's own limits
    /// allow, `FAILED_PRECONDITION` when the stream of the answer has begun.
    pub fn set_response_metadata(
        &self,
        key: &str,
        value: impl Into<MetadataValue>,
    ) -> Result<(), Status> {
        let mut response = self.response();
        if response.is_sent {
            return Err(Status::new(
                Code::FAILED_PRECONDITION,
                "the metadata of the response has been sent",
            ));
        }
        let mut entries = response.entries.clone();
        entries.insert(key, value.into());
        self.peer
            .with_session(|session| entries.check(&session.limits))?;
        response.entries = entries;
        Ok(())
    }

    fn response(&self) -> MutexGuard<'_, ResponseMetadata> {
        let response = self.response.get_or_init(Mutex::default);
        response.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something may go with the answer.
    #[inline]
    pub(crate) fn has_response_metadata(&self) -> bool {
        self.response.get().is_some()
    }

    /// Takes what goes with the answer.
    pub(crate) fn take_response_metadata(&self) -> Metadata {
        if !self.has_response_metadata() {
            return Metadata::default();
        }
        std::mem::take(&mut self.response().entries)
    }

    /// From now on nothing more can be sent along.
    pub(crate) fn seal_response_metadata(&self) {
        self.response().is_sent = true;
    }
}

impl AsRef<Peer> for Context {
    fn as_ref(&self) -> &Peer {
        &self.peer
    }
}

/// What is known of a connection from its upgrade request. Empty for one within a process.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The request's path and query. At the dialler, the one that it asked for.
    pub uri: http::Uri,
    /// The headers of the request; at the dialler, of the response.
    pub headers: http::HeaderMap,
    /// The other end's address, which may be a proxy's.
    pub peer_addr: Option<SocketAddr>,
    /// At the acceptor, the client's own address: what a proxy has said that is trusted, or otherwise
    /// that of `peer_addr`.
    pub client_addr: Option<IpAddr>,
    /// This end's address.
    pub local_addr: Option<SocketAddr>,
}
