//! Those that are compared. Each is one file with one type that implements [`Peer`], and one line
//! in the list below.

mod pipelined;

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock, atomic::AtomicU64},
};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::{
    net::TcpListener,
    sync::mpsc::{self, error::TrySendError},
    task::yield_now,
};

use crate::{
    load::{self, Run},
    measure::{Metric, Tally},
    scenario::{LARGE_BYTES, PUSH_BYTES, Scenario, Way, Work},
};

/// A server, and the client's end of a connection to it.
///
/// A clone is another handle of the same connection, for another task.
pub(crate) trait Peer: Clone + Sized + Send + Sync + 'static {
    /// Whether the peer knows no calls, so that calls in flight are echoes in a pipeline.
    const IS_PIPELINED: bool = false;

    /// Whether the peer can do this at all. What it cannot is left out, and may be left
    /// unimplemented below.
    fn can(work: Work) -> bool;

    /// Serves until the process ends.
    fn serve(listener: TcpListener, scenario: Scenario) -> impl Future<Output = Result<()>> + Send;

    fn connect(address: SocketAddr) -> impl Future<Output = Result<Self>> + Send;

    /// The same bytes.
    fn echo(&mut self, body: &Bytes) -> impl Future<Output = Result<Bytes>> + Send;

    /// The sum.
    fn add(&mut self, _a: i64, _b: i64) -> impl Future<Output = Result<i64>> + Send {
        unsupported()
    }

    /// The same bytes, by a handler that waits once: `tokio::task::yield_now`.
    fn echo_after_waiting(&mut self, _body: &Bytes) -> impl Future<Output = Result<Bytes>> + Send {
        unsupported()
    }

    /// Fetches a body of [`LARGE_BYTES`], and says how many have come.
    fn download(&mut self) -> impl Future<Output = Result<usize>> + Send {
        unsupported()
    }

    /// Sends a body, and says how many bytes have arrived.
    fn upload(&mut self, _body: &Bytes) -> impl Future<Output = Result<usize>> + Send {
        unsupported()
    }

    /// Keeps echoes in flight, for ever.
    fn pipeline(
        &self,
        _body: Bytes,
        _in_flight: usize,
        _tally: &Tally,
    ) -> impl Future<Output = Result<()>> + Send {
        unsupported()
    }

    /// Consumes an endless stream of small items.
    fn count_items(&mut self, _tally: &Tally) -> impl Future<Output = Result<()>> + Send {
        unsupported()
    }

    /// Connects, subscribes and counts what comes. Nothing may be lost.
    fn count_pushes(
        _address: SocketAddr,
        _way: Way,
        _tally: Arc<Tally>,
    ) -> impl Future<Output = Result<()>> + Send {
        unsupported()
    }

    /// Connects, subscribes and counts the items that come, of which some are left out. The offset
    /// of the last one that came to anybody is left in `newest`: so many were published.
    fn count_latest(
        _address: SocketAddr,
        _tally: Arc<Tally>,
        _newest: Arc<AtomicU64>,
    ) -> impl Future<Output = Result<()>> + Send {
        unsupported()
    }
}

async fn unsupported<T: Send>() -> Result<T> {
    bail!("this peer cannot do that")
}

macro_rules! peers {
    ($($module:ident::$peer:ident = $name:literal,)*) => {
        $(pub(crate) mod $module;)*

        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum PeerName { $($peer,)* }

        impl PeerName {
            pub(crate) const ALL: &[PeerName] = &[$(PeerName::$peer,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(PeerName::$peer => $name,)* }
            }

            pub(crate) fn can(self, work: Work) -> bool {
                match self { $(PeerName::$peer => $module::$peer::can(work),)* }
            }

            pub(crate) async fn serve(self, listener: TcpListener, scenario: Scenario) -> Result<()> {
                match self { $(PeerName::$peer => $module::$peer::serve(listener, scenario).await,)* }
            }

            pub(crate) async fn load(self, run: &Run) -> Result<Vec<Metric>> {
                match self { $(PeerName::$peer => load::with_peer::<$module::$peer>(run).await,)* }
            }
        }
    };
}

peers! {
    wirecall::Wirecall = "wirecall",
    wirecall_once::WirecallOnce = "wirecall-once",
    raw_tcp::RawTcp = "raw-tcp",
    raw_tungstenite::RawTungstenite = "raw-tungstenite",
    mux::Mux = "mux",
    jsonrpsee::Jsonrpsee = "jsonrpsee",
    tarpc::Tarpc = "tarpc",
    tonic::Tonic = "tonic",
}

impl std::str::FromStr for PeerName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = PeerName::ALL.iter().find(|peer| peer.name() == name);
        named.copied().ok_or_else(|| {
            let names: Vec<_> = PeerName::ALL.iter().map(|peer| peer.name()).collect();
            format!("there are only {}", names.join(", "))
        })
    }
}

/// A body of that many bytes.
pub(crate) fn bytes_of(count: usize) -> Bytes {
    (0..count).map(|index| index as u8).collect()
}

/// What [`Peer::download`] fetches. Made once: making it is not what is measured.
pub(crate) fn large_body() -> Bytes {
    static BODY: LazyLock<Bytes> = LazyLock::new(|| bytes_of(LARGE_BYTES));
    BODY.clone()
}

/// What is published to subscribers.
pub(crate) fn notification_body() -> Bytes {
    bytes_of(PUSH_BYTES)
}

/// The subscribers of a server: the scenario says how many there will be, and what they get.
pub(crate) struct Audience<S> {
    arrivals: mpsc::UnboundedReceiver<S>,
    count: usize,
    burst: usize,
}

/// Where subscribers come in, and where they come out once all are there.
pub(crate) fn audience<S>(scenario: &Scenario) -> (mpsc::UnboundedSender<S>, Audience<S>) {
    let (entrance, arrivals) = mpsc::unbounded_channel();
    let burst = match scenario.work {
        Work::Push { burst, .. } => burst,
        _ => 1,
    };
    let count = scenario.connections;
    (
        entrance,
        Audience {
            arrivals,
            count,
            burst,
        },
    )
}

impl<S> Audience<S> {
    /// Waits for all of them, and says how many notifications make a burst.
    pub(crate) async fn complete(mut self) -> (Vec<S>, usize) {
        let mut subscribers = Vec::with_capacity(self.count);
        while subscribers.len() < self.count {
            match self.arrivals.recv().await {
                Some(subscriber) => subscribers.push(subscriber),
                None => std::future::pending().await,
            }
        }
        (subscribers, self.burst)
    }
}

/// How many notifications may wait for a slow connection, where a peer leaves that to its user: as
/// many as Wirecall lets wait.
pub(crate) const QUEUED_NOTIFICATIONS: usize = 256;

/// Publishes to connections that each have a queue, for ever. Waits where a queue is full.
pub(crate) async fn publish_to_queues<T: Clone>(audience: Audience<mpsc::Sender<T>>, item: T) {
    let (queues, burst) = audience.complete().await;
    loop {
        for _ in 0..burst {
            for queue in &queues {
                // `send` alone would let others run now and then, in the middle of a burst. Both
                // fail when the connection has ended, as it does at the end of the run.
                if let Err(TrySendError::Full(item)) = queue.try_send(item.clone()) {
                    let _ = queue.send(item).await;
                }
            }
        }
        yield_now().await;
    }
}
