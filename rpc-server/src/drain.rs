//! Leaving without losing anything: clients are asked to go elsewhere, and finish here what they have
//! begun.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use wirecall_core::CloseCode;

use crate::{connections::Connections, hub::Hub};

/// How often the connections are looked at that have not left.
const LOOK: Duration = Duration::from_millis(20);

/// As long as anybody waits.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

pub(crate) const GOING_DOWN: &str = "the server is going down";

/// When one client is asked to go.
struct Turn {
    at: Instant,
    /// Whether it was closed since.
    is_over: bool,
}

/// How a server leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Drain {
    grace: Duration,
    spread: Option<Duration>,
    url: Option<String>,
}

impl Drain {
    /// After so long whatever is still open is closed, and the calls on it fail.
    pub fn within(grace: Duration) -> Self {
        Drain {
            grace,
            spread: None,
            url: None,
        }
    }

    /// Clients are asked to go at random points of this time, so that they do not all come to the next
    /// server at once. A quarter of the grace, at most 10 s, by default.
    pub fn spread(mut self, spread: Duration) -> Self {
        self.spread = Some(spread);
        self
    }

    /// Where clients are to go. To the same place as before by default.
    pub fn url(mut self, url: impl Into<String>) -> Self {
        self.url = Some(url.into());
        self
    }
}

/// What became of the connections of a server that has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Clients that went by themselves.
    pub left: usize,
    /// Connections that were closed with nothing in flight.
    pub closed: usize,
    /// Connections that were closed with calls in flight, since the time was over.
    pub cut: usize,
    /// Those calls.
    pub calls_cut: usize,
}

/// A running server, seen from anywhere in the process.
///
/// A cheap clone.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    pub(crate) connections: Arc<Connections>,
}

impl ServerHandle {
    /// How many sessions there are, those included that wait for their clients to come back.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.connections.peers().len()
    }

    /// Who is there, and how to reach them.
    #[must_use]
    pub fn hub(&self) -> Hub {
        self.connections.hub.clone()
    }

    /// Ends all sessions of this user at once, those included that wait for their clients, and says how
    /// many there were. Their connections are closed with 4102: clients come back with a new
    /// credential, if they get one. Withdraw the old ones first.
    pub fn end_sessions_of(&self, user: &str) -> usize {
        let mut ended = 0;
        for (_, peer) in self.connections.peers() {
            if peer.identity().is_some_and(|own| own.user() == user) && !peer.is_closed() {
                peer.close(
                    CloseCode::SESSION_ENDED,
                    "the sessions of this user were ended",
                );
                ended += 1;
            }
        }
        ended
    }

    /// Whether clients may come. What `GET /readyz` says.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.connections.not_ready.is_cancelled()
    }

    /// Leaves: `GET /readyz` answers 503 from now on and new clients are refused; the others are told to
    /// take their calls elsewhere (GOAWAY), and finish here what they have begun. A client that loses its
    /// connection meanwhile may come back to its session for that. New calls of those
    /// who do not listen are refused as not executed. Ends when the last one has gone, or when the
    /// time is over, and [`SessionHooks`](crate::SessionHooks) have ended; then
    /// [`Server::run`](crate::Server::run) ends as well.
    ///
    /// A second call waits for the same end, and [`ServerHandle::stop`] ends it at once. Dropping the
    /// future leaves the server as it is then: not ready.
    pub async fn drain(&self, drain: Drain) -> Drained {
        let connections = &self.connections;
        connections.not_ready.cancel();
        let grace = drain.grace.min(LONGEST);
        let most = grace / 4;
        let spread = drain.spread.unwrap_or(most.min(Duration::from_secs(10)));
        let spread = spread.min(grace);
        let end = Instant::now() + grace;
        let mut drained = Drained::default();
        // When each of them is asked, or was.
        let mut turns: HashMap<u64, Turn> = HashMap::new();
        loop {
            let now = Instant::now();
            let peers = connections.peers();
            if peers.is_empty() || connections.shutdown.is_cancelled() || now >= end {
                break;
            }
            for (key, peer) in peers {
                // Also one whose upgrade was on its way.
                let turn = turns.entry(key).or_insert_with(|| Turn {
                    at: now + spread.mul_f64(rand::random::<f64>()),
                    is_over: false,
                });
                if turn.at > now {
                    continue;
                }
                // Only the first time counts.
                peer.go_away(CloseCode::MOVED, Duration::ZERO, drain.url.clone());
                // It does not listen, or has nothing to come back for.
                if !turn.is_over && now - turn.at > most && peer.is_idle() {
                    turn.is_over = true;
                    drained.closed += 1;
                    peer.close(CloseCode::MOVED, GOING_DOWN);
                }
            }
            let look = timeout_at(end, connections.shutdown.cancelled());
            tokio::select! {
                _ = look => {}
                () = sleep(LOOK) => {}
            }
        }
        // As it was when the first of them was closed, by whomever.
        for (key, calls) in connections.last() {
            let turn = turns.entry(*key).or_insert(Turn {
                at: end,
                is_over: false,
            });
            match calls {
                _ if turn.is_over => {}
                0 => drained.closed += 1,
                calls => {
                    drained.cut += 1;
                    drained.calls_cut += calls;
                }
            }
        }
        for (_, peer) in connections.peers() {
            peer.close(CloseCode::MOVED, GOING_DOWN);
        }
        drained.left = turns.len() - drained.closed - drained.cut;
        self.stop();
        connections.tasks.close();
        connections.tasks.wait().await;
        drained
    }

    /// Ends the server at once: connections are closed with 1001, and calls in flight fail. Whoever
    /// drains or runs it returns.
    pub fn stop(&self) {
        self.connections.not_ready.cancel();
        self.connections.close_peers();
    }
}
