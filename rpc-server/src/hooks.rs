//! What an application does when sessions begin, break, go on and end.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use wirecall_core::{
    CloseReason, Peer, Status,
    connection::{Admission, EndedSession, Watcher},
};

use crate::{contained::contained, hub::Hub};

/// Is told of a server's sessions: when one begins, when its connection breaks, when it goes on, and
/// when it is over.
///
/// ```
/// use wirecall_core::{CloseReason, Code, Peer, Status};
/// use wirecall_server::{Hub, SessionHooks, async_trait};
///
/// struct Shop {
///     hub: Hub,
/// }
///
/// #[async_trait]
/// impl SessionHooks for Shop {
///     async fn connected(&self, session: &Peer) -> Result<(), Status> {
///         let identity = session.identity();
///         let user = identity.as_ref().map_or("guest", |identity| identity.user());
///         if user == "mallory" {
///             return Err(Status::new(Code::PERMISSION_DENIED, "not in this shop"));
///         }
///         self.hub.join(session, "visitors")?;
///         session.state().insert(Vec::<String>::new());
///         Ok(())
///     }
///
///     async fn ended(&self, session: &Peer, _reason: &CloseReason) {
///         let cart = session.state().remove::<Vec<String>>();
///         println!("{} left {cart:?}", session.session_id());
///     }
/// }
/// ```
///
/// Those of one session are called one at a time, and in order; those of several sessions at the same
/// time. [`connected`](SessionHooks::connected) ends before the first call of the session begins. The
/// others run beside its handlers, and hold up nothing: not its calls, not other sessions, and neither
/// the connection that breaks nor the one that follows. When one has not ended after
/// [`timeout`](SessionHooks::timeout) it is dropped, and the next is called. A panic ends that call of
/// that hook alone.
///
/// [`Server::run`](crate::Server::run) and [`ServerHandle::drain`](crate::ServerHandle::drain) end when
/// all have ended. When the runtime itself is shut down, hooks are dropped with it.
#[async_trait]
pub trait SessionHooks: Send + Sync + 'static {
    /// A client wants to begin a session, and has said who it is where that is asked. It is let in
    /// when this returns `Ok`. A client that comes back to its session is not asked about.
    ///
    /// What is sent to the client meanwhile waits until it is let in: do not await its answer here.
    /// Dropped when the client goes, and after
    /// [`Limits::hello_timeout`](wirecall_core::Limits::hello_timeout), which began with the upgrade:
    /// then the client is refused with `UNAVAILABLE`, and so it is after a panic.
    ///
    /// # Errors
    /// With a [`Status`] the client is refused. It finds code and message, of which 123 bytes are sent,
    /// with [`CloseReason::refusal`]; another code than the canonical ones arrives as `UNKNOWN`. It gets
    /// another credential after `UNAUTHENTICATED`, tries again later after `UNAVAILABLE`,
    /// `RESOURCE_EXHAUSTED`, `ABORTED` and `DEADLINE_EXCEEDED`, and does not come back after all others.
    async fn connected(&self, session: &Peer) -> Result<(), Status> {
        let _ = session;
        Ok(())
    }

    /// The connection is gone, and the session waits for its client to come back. Not called for a
    /// break that is over before its turn has come, and for a session that ends with its connection.
    async fn suspended(&self, session: &Peer) {
        let _ = session;
    }

    /// The client has come back to its session. Called after each
    /// [`suspended`](SessionHooks::suspended) that is not followed by the end.
    async fn resumed(&self, session: &Peer) {
        let _ = session;
    }

    /// The session is over. Called once for each for which [`connected`](SessionHooks::connected) was
    /// called, also if that has refused it or was dropped, and as the last of its hooks. No more can be
    /// sent there. What was kept with [`Peer::state`] is still there, and is dropped when this ends.
    async fn ended(&self, session: &Peer, reason: &CloseReason) {
        let _ = (session, reason);
    }

    /// How long each but [`connected`](SessionHooks::connected) may take. 10 s.
    fn timeout(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// One session, of which hooks are told.
#[derive(Clone)]
pub(crate) struct Lifecycle(Arc<Inner>);

struct Inner {
    hooks: Arc<dyn SessionHooks>,
    hub: Hub,
    /// Those of the server, which waits for them.
    tasks: TaskTracker,
    progress: Mutex<Progress>,
}

/// What has become of the session, and what of it was told.
#[derive(Default)]
struct Progress {
    /// Whether `connected` was called.
    is_known: bool,
    is_away: bool,
    was_told_away: bool,
    /// Until that is told.
    ended: Option<EndedSession>,
    /// Whether a task tells it, for as long as there is something to tell.
    is_telling: bool,
}

enum Next {
    Suspended,
    Resumed,
    Ended(EndedSession),
}

impl Lifecycle {
    pub(crate) fn new(hooks: Arc<dyn SessionHooks>, hub: Hub, tasks: TaskTracker) -> Self {
        Lifecycle(Arc::new(Inner {
            hooks,
            hub,
            tasks,
            progress: Mutex::default(),
        }))
    }

    /// Whether the session may begin.
    pub(crate) fn admission(&self, session: &Peer) -> Admission {
        self.0.hub.announce(session.session_id());
        let (inner, session) = (self.0.clone(), session.clone());
        Box::pin(async move {
            // From now on its end is told.
            inner.lock().is_known = true;
            inner.hooks.connected(&session).await
        })
    }

    /// Something has changed: has a task tell it, unless one does.
    fn tell(&self, session: Peer, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.0.lock();
        change(&mut progress);
        if std::mem::replace(&mut progress.is_telling, true) {
            return;
        }
        drop(progress);
        let telling = Telling {
            inner: self.0.clone(),
            is_done: false,
        };
        // Without a runtime nothing can be told any more.
        if let Ok(runtime) = Handle::try_current() {
            self.0.tasks.spawn_on(telling.tell_all(session), &runtime);
        }
    }
}

/// What a session's hooks are told by, one after the other.
struct Telling {
    inner: Arc<Inner>,
    is_done: bool,
}

impl Telling {
    async fn tell_all(mut self, session: Peer) {
        let (inner, hooks) = (&self.inner, &*self.inner.hooks);
        while let Some(next) = inner.next() {
            match next {
                Next::Suspended => inner.call(async { hooks.suspended(&session).await }).await,
                Next::Resumed => inner.call(async { hooks.resumed(&session).await }).await,
                Next::Ended(ended) => {
                    let reason = ended.reason();
                    let hook = async { hooks.ended(&session, reason).await };
                    inner.call(hook).await;
                }
            }
        }
        self.is_done = true;
    }
}

/// Dropped with its runtime there may be something left to tell, which would hold the session.
impl Drop for Telling {
    fn drop(&mut self) {
        if !self.is_done {
            let mut progress = self.inner.lock();
            progress.is_telling = false;
            let ended = progress.ended.take();
            drop(progress);
            drop(ended);
        }
    }
}

impl Inner {
    /// What is to be told next. What has changed twice since is not.
    fn next(&self) -> Option<Next> {
        let mut progress = self.lock();
        if let Some(ended) = progress.ended.take() {
            // Nothing is told behind it.
            progress.was_told_away = progress.is_away;
            return Some(Next::Ended(ended));
        }
        // This goes on until nothing is left, and whoever comes then begins anew.
        if progress.is_away == progress.was_told_away {
            progress.is_telling = false;
            return None;
        }
        progress.was_told_away = progress.is_away;
        Some(match progress.is_away {
            true => Next::Suspended,
            false => Next::Resumed,
        })
    }

    /// Whatever it does, the next one is called.
    async fn call(&self, hook: impl Future<Output = ()>) {
        let limit = catch_unwind(AssertUnwindSafe(|| self.hooks.timeout()));
        contained(limit.unwrap_or_default(), hook).await;
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher for Lifecycle {
    fn opened(&self, session: &Peer) {
        self.0.hub.begin(session);
    }

    fn suspended(&self, session: &Peer) {
        self.tell(session.clone(), |progress| progress.is_away = true);
    }

    fn resumed(&self, session: &Peer) {
        self.tell(session.clone(), |progress| progress.is_away = false);
    }

    fn ended(&self, ended: EndedSession) {
        let session = ended.peer();
        self.0.hub.forget(session.session_id());
        let is_known = self.0.lock().is_known;
        // Of one that has only brought an earlier session its transport nothing is told.
        if is_known {
            self.tell(session, |progress| progress.ended = Some(ended));
        }
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle").finish_non_exhaustive()
    }
}
