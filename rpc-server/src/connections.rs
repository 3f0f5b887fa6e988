//! The connections of a server: what they have in common, and how they end together.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use wirecall_core::{
    CloseCode, Codec, ConnectionInfo, Limits, Peer, Router, connection, protocol::Side,
    transport::Transport,
};

use crate::negotiation::Offer;

/// What all connections of a server have in common.
#[derive(Debug)]
pub(crate) struct Connections {
    router: Arc<Router>,
    pub(crate) limits: Limits,
    pub(crate) offer: Offer,
    /// A permit for each connection.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    peers: Mutex<Peers>,
}

/// The open connections, to end them together.
#[derive(Debug, Default)]
struct Peers {
    next: u64,
    open: HashMap<u64, Peer>,
    is_closing: bool,
}

impl Connections {
    pub(crate) fn new(
        router: Router,
        limits: Limits,
        offer: Offer,
        max_connections: usize,
    ) -> Self {
        Connections {
            router: Arc::new(router),
            limits,
            offer,
            places: Arc::new(Semaphore::new(max_connections)),
            tasks: TaskTracker::new(),
            peers: Mutex::default(),
        }
    }

    /// Runs a connection until it ends.
    pub(crate) async fn run<T: Transport>(
        &self,
        transport: T,
        side: Side,
        codec: Codec,
        info: ConnectionInfo,
    ) {
        let limits = self.limits.clone();
        let (peer, task) =
            connection::spawn(transport, side, codec, limits, self.router.clone(), info);
        let key = self.enter(peer);
        // The engine catches the panics of handlers; one of its own ends this connection alone.
        let _ = task.await;
        self.lock().open.remove(&key);
    }

    fn enter(&self, peer: Peer) -> u64 {
        let mut peers = self.lock();
        if peers.is_closing {
            peer.close(CloseCode::GOING_AWAY, "the server shuts down");
        }
        let key = peers.next;
        peers.next += 1;
        peers.open.insert(key, peer);
        key
    }

    /// Closes those that are open, and waits until they have ended.
    pub(crate) async fn close_all(&self) {
        for peer in self.shut() {
            peer.close(CloseCode::GOING_AWAY, "the server shuts down");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Lets no more connections stay, and returns those that are open.
    fn shut(&self) -> Vec<Peer> {
        let mut peers = self.lock();
        peers.is_closing = true;
        peers.open.values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
