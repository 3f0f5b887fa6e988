//! Two thousand clients whose server leaves come back, and not all at once.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};
use wirecall::{
    Backoff, Client, ConnectError, Drain, Endpoint, Server, ServerBuilder, ServerHandle,
};

use crate::{
    interop::{Implementation, InteropClient, InteropServer},
    resume::process::Process,
    support::soon,
};

const CLIENTS: usize = 2_000;

fn builder() -> ServerBuilder {
    Server::builder().service(InteropServer::new(Implementation))
}

/// A server without a socket.
fn start() -> (Endpoint, ServerHandle) {
    let server = builder().build().unwrap();
    let (endpoint, handle) = (server.in_memory().into(), server.handle());
    tokio::spawn(server.run());
    (endpoint, handle)
}

/// Where clients find their server, if there is one, and when they have come.
#[derive(Clone, Default)]
struct Road {
    server: Arc<Mutex<Option<Endpoint>>>,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

impl Road {
    fn lead_to(&self, server: Option<Endpoint>) {
        *self.server.lock().unwrap() = server;
    }

    async fn connect(&self, first: Endpoint) -> Client {
        let road = self.clone();
        let client = Client::builder(first).before_connect(move |attempt| {
            let server = road.server.lock().unwrap().clone();
            if server.is_some() {
                road.arrivals.lock().unwrap().push(Instant::now());
            }
            async {
                let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
                let server = server.ok_or_else(refused)?;
                Ok::<_, ConnectError>(attempt.to(server))
            }
        });
        client.connect().await.unwrap()
    }

    /// All clients, connected for so long that they take their connections for good ones.
    async fn herd(&self, first: &Endpoint) -> Vec<Client> {
        self.lead_to(Some(first.clone()));
        let herd = join_all((0..CLIENTS).map(|_| self.connect(first.clone()))).await;
        sleep(Backoff::default().stable_after).await;
        self.arrivals.lock().unwrap().clear();
        herd
    }

    /// How many have come in each 50 ms.
    fn buckets(&self) -> HashMap<u128, usize> {
        let arrivals = self.arrivals.lock().unwrap();
        let first = *arrivals.iter().min().unwrap();
        let mut buckets = HashMap::new();
        for arrival in arrivals.iter() {
            let bucket = (*arrival - first).as_millis() / 50;
            *buckets.entry(bucket).or_default() += 1;
        }
        buckets
    }
}

/// All of them are there, and can call.
async fn are_there(herd: &[Client], handle: &ServerHandle) {
    while handle.sessions() < herd.len() {
        sleep(Duration::from_millis(10)).await;
    }
    let calls = herd.iter().map(|client| async move {
        assert_eq!(InteropClient::new(client).add(1, 2).await?, 3);
        assert!(client.state().is_ready());
        Ok::<_, wirecall::CallError>(())
    });
    try_join_all(calls).await.unwrap();
    assert_eq!(handle.sessions(), herd.len());
}

fn assert_spread(road: &Road, over: Duration, share: f64) {
    let buckets = road.buckets();
    let most = *buckets.values().max().unwrap();
    let last = *buckets.keys().max().unwrap() * 50;
    let came = buckets.values().sum::<usize>();
    assert_eq!(came, CLIENTS, "each in one attempt");
    assert!(last <= over.as_millis(), "the last one after {last} ms");
    let limit = (CLIENTS as f64 * share) as usize;
    assert!(most <= limit, "{most} of {CLIENTS} in 50 ms: {buckets:?}");
}

/// The next server is there at once: they come within the first bound of the backoff.
#[tokio::test(start_paused = true)]
async fn clients_of_a_server_that_was_stopped_spread_over_the_backoff() {
    let ((first, handle), (second, next)) = (start(), start());
    let road = Road::default();
    let herd = road.herd(&first).await;
    road.lead_to(Some(second));
    handle.stop();
    are_there(&herd, &next).await;
    assert_spread(&road, Backoff::default().first, 0.25);
}

/// There is no server for a while: the longer, the wider they are spread.
#[tokio::test(start_paused = true)]
async fn clients_of_a_server_that_was_gone_for_a_while_are_spread_more_widely() {
    let ((first, handle), (second, next)) = (start(), start());
    let road = Road::default();
    let herd = road.herd(&first).await;
    road.lead_to(None);
    handle.stop();
    sleep(Duration::from_secs(5)).await;
    road.lead_to(Some(second));
    are_there(&herd, &next).await;
    assert_spread(&road, Backoff::default().max, 0.04);
}

/// The server says over what time.
#[tokio::test(start_paused = true)]
async fn clients_of_a_server_that_is_drained_are_spread_as_it_says() {
    let ((first, handle), (second, next)) = (start(), start());
    let road = Road::default();
    let herd = road.herd(&first).await;
    road.lead_to(Some(second));
    let spread = Duration::from_secs(5);
    let drain = Drain::within(Duration::from_secs(30)).spread(spread);
    let drained = handle.drain(drain).await;
    assert_eq!(drained.left, CLIENTS, "{drained:?}");
    assert_eq!((drained.cut, drained.closed), (0, 0), "{drained:?}");
    are_there(&herd, &next).await;
    // The server looks every 20 ms.
    assert_spread(&road, spread + Duration::from_millis(50), 0.03);
}

/// Fewer of them, over real sockets, with a server that does not say goodbye: it is asked for sessions
/// that it does not know.
#[tokio::test]
async fn clients_of_a_server_that_was_killed_all_come_back() {
    let first = Process::start(builder()).await;
    let address = first.address;
    let road = Road::default();
    let endpoint = Endpoint::from(format!("ws://{address}"));
    road.lead_to(Some(endpoint.clone()));
    let mut herd = Vec::new();
    // Not more at a time than wait at a listener.
    for _ in 0..5 {
        let some = (0..100).map(|_| road.connect(endpoint.clone()));
        herd.extend(join_all(some).await);
    }
    assert_eq!(first.handle.sessions(), herd.len());
    first.kill();
    let next = Process::start_at(address, builder()).await;
    soon(are_there(&herd, &next.handle)).await;
}
