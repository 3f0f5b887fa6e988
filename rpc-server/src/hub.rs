//! Who is there, and how to reach them: by user, by session, by group.
//!
//! - `table`: what is known, under one short lock
//! - `audience`: who is addressed: to be told something, or to be asked
//! - `presence`: users who come and go
//! - `topics`: what is published, and to whom it goes by itself

mod audience;
mod presence;
mod table;
mod topics;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use wirecall_core::{
    Code, Peer, SessionId, Status, TopicLimits, Topics,
    connection::{EndedSession, Watcher},
};

use audience::Address;
pub use audience::Audience;
pub use presence::{Missed, Presence, PresenceEvents};
use table::Table;

/// The sessions of a server: by their users, where there is an authenticator, and by the groups that
/// they were made to join. From any place in the process it says who is there, and addresses them.
///
/// ```no_run
/// # use wirecall_core as wirecall;
/// use wirecall_server::{Hub, Server};
///
/// # fn service(hub: Hub) {}
/// let hub = Hub::new();
/// // A clone for whoever joins sessions to groups, or tells them something.
/// service(hub.clone());
/// let server = Server::builder().hub(&hub);
/// ```
///
/// A session is known from before its first call until it ends, also while it waits for its client to
/// come back. Nothing is kept of those that have ended. [`SessionHooks::connected`] may have a session
/// join groups already; it is found there once it has begun.
///
/// [`SessionHooks::connected`]: crate::SessionHooks::connected
///
/// A cheap clone; all clones are the same hub.
#[derive(Clone, Default)]
pub struct Hub {
    register: Arc<Register>,
    topics: Topics,
}

#[derive(Default)]
struct Register(Mutex<Table>);

/// Why a session could not be made to join a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// It is not there: it has ended, or is one of another server.
    #[error("the session is not there")]
    NoSession,
    /// It is in [`Hub::MAX_GROUPS`] groups already.
    #[error("the session is in too many groups")]
    TooManyGroups,
}

impl From<JoinError> for Status {
    fn from(error: JoinError) -> Self {
        let code = match error {
            JoinError::NoSession => Code::UNAVAILABLE,
            JoinError::TooManyGroups => Code::RESOURCE_EXHAUSTED,
        };
        Status::new(code, error.to_string())
    }
}

impl Hub {
    /// One session can be in so many groups, whose names its client may have chosen.
    pub const MAX_GROUPS: usize = 1000;

    /// One that knows nobody yet: for [`ServerBuilder::hub`](crate::ServerBuilder::hub).
    #[must_use]
    pub fn new() -> Self {
        Hub::default()
    }

    fn of_topics(limits: TopicLimits) -> Self {
        Hub {
            register: Arc::default(),
            topics: Topics::new(limits),
        }
    }

    /// Makes a session join a group, unless it is in it already. A group is there while somebody is in
    /// it. Membership survives a break of the connection, and ends with the session.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn join(&self, peer: impl AsRef<Peer>, group: &str) -> Result<(), JoinError> {
        let id = peer.as_ref().session_id();
        self.lock().join(id, group)
    }

    /// Takes a session out of a group. False if it was not in it.
    pub fn leave(&self, peer: impl AsRef<Peer>, group: &str) -> bool {
        let id = peer.as_ref().session_id();
        self.lock().leave(id, group)
    }

    /// The groups that a session is in, by name.
    #[must_use]
    pub fn groups_of(&self, peer: impl AsRef<Peer>) -> Vec<Arc<str>> {
        let id = peer.as_ref().session_id();
        self.lock().groups_of(id)
    }

    /// Whether a user has a session: also one that waits for its client to come back.
    #[must_use]
    pub fn is_online(&self, user: &str) -> bool {
        self.lock().is_online(user)
    }

    /// The users who have a session, in no order.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<str>> {
        self.lock().users()
    }

    /// The sessions of a user, such as one for each device, in the order in which they began.
    #[must_use]
    pub fn sessions_of(&self, user: &str) -> Vec<Peer> {
        self.user(user).peers()
    }

    /// The sessions in a group, in the order in which they began.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<Peer> {
        self.group(group).peers()
    }

    /// How many sessions there are, those included that are nobody's.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.lock().sizes().0
    }

    /// All sessions of a user.
    pub fn user(&self, user: &str) -> Audience {
        Audience::new(self.clone(), Address::User(user.into()))
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Audience {
        Audience::new(self.clone(), Address::Session(id))
    }

    /// All sessions in a group.
    pub fn group(&self, group: &str) -> Audience {
        Audience::new(self.clone(), Address::Group(group.into()))
    }

    /// All sessions.
    pub fn all(&self) -> Audience {
        Audience::new(self.clone(), Address::All)
    }

    /// Users who come and go from now on: a user comes with the first session, and goes with the end of
    /// the last one, not with its connection. Nothing is told of sessions without a user.
    ///
    /// Subscribe first, and ask [`Hub::users`] then, to miss nobody. Whoever is more than 1024 changes
    /// late is told that some were [`Missed`], and asks again.
    pub fn presence(&self) -> PresenceEvents {
        PresenceEvents::new(self.clone())
    }

    /// What tells the hub of the sessions of a server.
    pub(crate) fn watcher(&self) -> Arc<dyn Watcher> {
        self.register.clone()
    }

    /// The session is there.
    pub(crate) fn begin(&self, peer: &Peer) {
        self.register.opened(peer);
    }

    /// The session is not there any more.
    pub(crate) fn forget(&self, id: SessionId) {
        self.register.forget(id);
    }

    /// Lets a session join groups of which it is not decided yet whether it begins. Nobody else knows of
    /// it. The watcher is told of its end in any case.
    pub(crate) fn announce(&self, id: SessionId) {
        self.lock().announce(id);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.register.lock()
    }
}

impl Register {
    fn forget(&self, id: SessionId) {
        let mut wakers = Vec::new();
        let gone = self.lock().end(id, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
        // Without the lock: with the last handle of a session go the claims of its user.
        drop(gone);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Register {
    fn opened(&self, peer: &Peer) {
        let identity = peer.identity();
        let user = identity.as_ref().map(|own| Arc::from(own.user()));
        let mut wakers = Vec::new();
        self.lock().begin(peer.clone(), user, &mut wakers);
        wakers.into_iter().for_each(Waker::wake);
    }

    // Nothing changes for a hub while a session waits.
    fn suspended(&self, _peer: &Peer) {}

    fn resumed(&self, _peer: &Peer) {}

    fn ended(&self, session: EndedSession) {
        self.forget(session.peer().session_id());
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sessions, users, groups) = self.lock().sizes();
        f.debug_struct("Hub")
            .field("sessions", &sessions)
            .field("users", &users)
            .field("groups", &groups)
            .finish()
    }
}
