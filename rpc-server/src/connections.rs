//! The connections of a server: what they have in common, and how they end together.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wirecall_core::{
    CloseCode, Codec, ConnectionInfo, Limits, Peer, Router,
    connection::{self, Sessions, Watcher},
    transport::{Transport, WebSocket, memory::MemoryTransport},
};

use crate::{
    crowd::{Crowd, Place},
    entrance::{Doorkeeper, Entrance, Newcomer},
    hooks::{Lifecycle, SessionHooks},
    hub::Hub,
    negotiation::Offer,
    placed::Placed,
};

/// So many sessions wait for their clients at a time.
const MAX_SUSPENDED: usize = 10_000;

/// What all connections of a server have in common.
pub(crate) struct Connections {
    router: Arc<Router>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) offer: Offer,
    pub(crate) entrance: Entrance,
    pub(crate) crowd: Arc<Crowd>,
    /// Those that are in, by their users and groups.
    pub(crate) hub: Hub,
    hooks: Option<Arc<dyn SessionHooks>>,
    /// A permit for each connection.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    /// Says that no more connections may stay. Those that are no peers yet listen to it; peers are
    /// closed one by one.
    pub(crate) shutdown: CancellationToken,
    /// The server is about to leave: nobody else may come.
    pub(crate) not_ready: CancellationToken,
    peers: Mutex<Peers>,
    last: OnceLock<Vec<(u64, usize)>>,
    sessions: Arc<Sessions<Placed<WebSocket<TcpStream>>>>,
    sessions_in_memory: Arc<Sessions<Placed<MemoryTransport>>>,
}

/// A type of transport, with its own sessions.
pub(crate) trait Kept: Transport + Sized {
    fn sessions(connections: &Connections) -> &Arc<Sessions<Placed<Self>>>;
}

impl Kept for WebSocket<TcpStream> {
    fn sessions(connections: &Connections) -> &Arc<Sessions<Placed<Self>>> {
        &connections.sessions
    }
}

impl Kept for MemoryTransport {
    fn sessions(connections: &Connections) -> &Arc<Sessions<Placed<Self>>> {
        &connections.sessions_in_memory
    }
}

/// The open connections, to end them together.
#[derive(Debug, Default)]
struct Peers {
    next: u64,
    open: HashMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    peer: Peer,
    /// It brings a session its transport, or ends: it is none of its own.
    may_only_resume: bool,
}

/// Too many from one address have not said who they are.
pub(crate) struct TooMany;

/// A session among the others, until its task is gone. The engine catches the panics of
/// handlers; one of its own ends this connection alone.
struct Entry {
    connections: Arc<Connections>,
    key: u64,
}

/// The task of a session. By hand, since an `async` block that awaits the driver has room for two of
/// them: what it was given, and what it awaits.
struct Running<D> {
    driver: D,
    /// Dropped after the driver.
    _entry: Entry,
}

impl<D: Future<Output = ()> + Unpin> Future for Running<D> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.driver).poll(cx)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let peer = self.connections.lock().open.remove(&self.key);
        // Dropped without the lock.
        drop(peer);
    }
}

impl Connections {
    pub(crate) fn new(
        router: Router,
        limits: Limits,
        offer: Offer,
        entrance: Entrance,
        hub: Hub,
        hooks: Option<Arc<dyn SessionHooks>>,
        max_connections: usize,
    ) -> Self {
        Connections {
            router: Arc::new(router),
            limits: Arc::new(limits),
            offer,
            entrance,
            crowd: Arc::default(),
            hub,
            hooks,
            places: Arc::new(Semaphore::new(max_connections)),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
            not_ready: CancellationToken::new(),
            peers: Mutex::default(),
            last: OnceLock::new(),
            sessions: Arc::new(Sessions::new(MAX_SUSPENDED)),
            sessions_in_memory: Arc::new(Sessions::new(MAX_SUSPENDED)),
        }
    }

    /// Runs a connection, in a task of its own, until it ends.
    pub(crate) fn run<T: Kept>(
        self: Arc<Self>,
        transport: T,
        codec: Codec,
        info: ConnectionInfo,
        newcomer: Newcomer,
        place: Option<OwnedSemaphorePermit>,
    ) {
        let transport = Placed {
            transport,
            _place: place,
        };
        let (limits, router) = (self.limits.clone(), self.router.clone());
        let sessions = T::sessions(&self).clone();
        let tasks = self.tasks.clone();
        let lifecycle = self
            .hooks
            .clone()
            .map(|hooks| Lifecycle::new(hooks, self.hub.clone(), tasks.clone()));
        let watcher: Arc<dyn Watcher> = match &lifecycle {
            Some(lifecycle) => Arc::new(lifecycle.clone()),
            None => self.hub.watcher(),
        };
        let authenticator = self.entrance.authenticator.clone();
        let may_only_resume = newcomer.may_only_resume;
        let gate = Doorkeeper::gate(authenticator, lifecycle, newcomer);
        let (peer, driver) =
            connection::accept(gate, transport, codec, limits, router, info, sessions);
        connection::watch(&peer, watcher);
        let entry = Entry {
            key: self.enter(peer, may_only_resume),
            connections: self,
        };
        tasks.spawn(Running {
            driver,
            _entry: entry,
        });
    }

    /// A place among those who have not said who they are. None is needed where nobody is asked, for a
    /// trusted proxy, and on this machine: what comes from there is a proxy as a rule, or a test.
    pub(crate) fn wait_outside(&self, address: IpAddr) -> Result<Option<Place>, TooMany> {
        let entrance = &self.entrance;
        let is_exempt =
            address.to_canonical().is_loopback() || entrance.proxies.is_trusted(address);
        if entrance.authenticator.is_none() || is_exempt {
            return Ok(None);
        }
        let place = self.crowd.enter(address, entrance.max_unauthenticated);
        place.map(Some).ok_or(TooMany)
    }

    fn enter(&self, peer: Peer, may_only_resume: bool) -> u64 {
        let mut peers = self.lock();
        // Under the lock: whoever comes too early to see it is on the list of those to be closed.
        if self.shutdown.is_cancelled() {
            peer.close(CloseCode::GOING_AWAY, "the server shuts down");
        }
        let key = peers.next;
        peers.next += 1;
        let open = Open {
            peer,
            may_only_resume,
        };
        peers.open.insert(key, open);
        key
    }

    /// Closes those that are open, and waits until they have ended.
    pub(crate) async fn close_all(&self) {
        self.close_peers();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Those that were left when the server began to close them, and how many calls each had in
    /// flight.
    pub(crate) fn last(&self) -> &[(u64, usize)] {
        self.last.get_or_init(|| {
            let peers = self.peers().into_iter();
            peers.map(|(key, peer)| (key, peer.in_flight().1)).collect()
        })
    }

    /// Closes those that are open, and those that come too late to see it.
    pub(crate) fn close_peers(&self) {
        self.last();
        self.shutdown.cancel();
        let all: Vec<_> = {
            let peers = self.lock();
            peers.open.values().map(|open| open.peer.clone()).collect()
        };
        for peer in all {
            peer.close(CloseCode::GOING_AWAY, "the server shuts down");
        }
    }

    /// Those that are open, or wait for their clients, each with a number of its own.
    pub(crate) fn peers(&self) -> Vec<(u64, Peer)> {
        let peers = self.lock();
        let open = peers.open.iter().filter(|(_, open)| !open.may_only_resume);
        open.map(|(key, open)| (*key, open.peer.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("router", &self.router)
            .field("limits", &self.limits)
            .field("offer", &self.offer)
            .field("entrance", &self.entrance)
            .field("hub", &self.hub)
            .field("sessions", &self.sessions)
            .finish_non_exhaustive()
    }
}
