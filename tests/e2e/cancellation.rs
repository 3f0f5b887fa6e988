//! Calls that are given up, and deadlines.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use wirecall::{Client, Code, Codec, Context, Fate, Limits, Server};

use crate::support::{connect, idle, soon, start};

/// Handlers that tell when they begin and when they are dropped.
#[wirecall::service]
trait Patient {
    /// Never ends of its own accord.
    async fn wait(&self);
    /// Whether there is a deadline, and how many milliseconds are left of it.
    async fn left(&self, cx: &Context) -> Option<u64>;
}

#[derive(Clone, Default)]
struct Watched(Arc<Signals>);

#[derive(Default)]
struct Signals {
    begun: Notify,
    dropped: Notify,
}

struct OnDrop(Arc<Signals>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.dropped.notify_one();
    }
}

impl Patient for Watched {
    async fn wait(&self) {
        let _on_drop = OnDrop(self.0.clone());
        self.0.begun.notify_one();
        std::future::pending().await
    }

    async fn left(&self, cx: &Context) -> Option<u64> {
        let left = cx.deadline()? - tokio::time::Instant::now().into_std();
        Some(left.as_millis() as u64)
    }
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler() {
    let watched = Watched::default();
    let address = start(Server::builder().service(PatientServer::new(watched.clone()))).await;
    for codec in Codec::ALL {
        let client = connect(address, codec).await;
        let call = PatientClient::new(&client).wait().start();
        soon(watched.0.begun.notified()).await;
        drop(call);
        soon(watched.0.dropped.notified()).await;
        // The terminal frame that follows a CANCEL frees the slot.
        idle(&client).await;
    }
}

#[tokio::test]
async fn closing_the_client_drops_its_handlers() {
    let watched = Watched::default();
    let address = start(Server::builder().service(PatientServer::new(watched.clone()))).await;
    let client = connect(address, Codec::MessagePack).await;
    let call = PatientClient::new(&client).wait().start();
    soon(watched.0.begun.notified()).await;
    client.close().await;
    soon(watched.0.dropped.notified()).await;
    let failed = call.await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.fate()),
        (Code::UNAVAILABLE, Fate::Unknown)
    );
}

/// A server and a client within the process, whose clock is the paused one of the test.
async fn in_memory(watched: &Watched, limits: Limits) -> Client {
    let server = Server::builder()
        .service(PatientServer::new(watched.clone()))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let builder = Client::builder(endpoint).limits(limits);
    builder.connect().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_at_both_ends() {
    let watched = Watched::default();
    let client = in_memory(&watched, Limits::default()).await;
    let patient = PatientClient::new(&client);
    let begun = tokio::time::Instant::now();
    let call = patient.wait().timeout(Duration::from_millis(250));
    let failed = call.await.unwrap_err();
    assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED);
    assert_eq!(failed.fate(), Fate::Unknown);
    assert!(begun.elapsed() >= Duration::from_millis(250));
    assert!(begun.elapsed() < Duration::from_millis(300));
    soon(watched.0.dropped.notified()).await;
    idle(&client).await;
}

#[tokio::test(start_paused = true)]
async fn the_default_deadline_is_30_s_and_is_known_to_the_handler() {
    let watched = Watched::default();
    let client = in_memory(&watched, Limits::default()).await;
    let patient = PatientClient::new(&client);
    assert_eq!(patient.left().await.unwrap(), Some(30_000));
    let begun = tokio::time::Instant::now();
    let failed = patient.wait().await.unwrap_err();
    assert_eq!(failed.code(), Code::DEADLINE_EXCEEDED);
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_travels_with_its_call_and_the_default_with_the_connection() {
    let watched = Watched::default();
    let limits = Limits::default().default_deadline(Duration::from_secs(5));
    let client = in_memory(&watched, limits).await;
    let patient = PatientClient::new(&client);
    assert_eq!(patient.left().await.unwrap(), Some(5_000));
    let call = patient.left().timeout(Duration::from_secs(70));
    assert_eq!(call.await.unwrap(), Some(70_000));
    let call = patient.left().timeout(Duration::MAX);
    assert_eq!(call.await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn many_deadlines_are_kept_by_one_timer() {
    let watched = Watched::default();
    let client = in_memory(&watched, Limits::default()).await;
    let patient = PatientClient::new(&client);
    let calls = (1..=200_u64).rev().map(|n| {
        let timeout = Duration::from_millis(n * 10);
        let call = patient.wait().timeout(timeout);
        async move {
            let begun = tokio::time::Instant::now();
            call.await.unwrap_err();
            let late = begun.elapsed() - timeout;
            assert!(late < Duration::from_millis(5), "{n}: {late:?}");
        }
    });
    futures::future::join_all(calls).await;
    idle(&client).await;
}

/// Calls on to a second server, on behalf of its caller.
#[wirecall::service]
trait Relay {
    async fn left(&self) -> Result<Option<u64>, wirecall::Status>;
    async fn left_of_spawned(&self) -> Result<Option<u64>, wirecall::Status>;
}

struct Relaying(PatientClient);

impl Relay for Relaying {
    async fn left(&self) -> Result<Option<u64>, wirecall::Status> {
        // Also behind an await, when the handler runs in a task.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(self.0.left().await?)
    }

    async fn left_of_spawned(&self) -> Result<Option<u64>, wirecall::Status> {
        let call = self.0.left();
        let spawned = tokio::spawn(call);
        Ok(spawned.await.unwrap()?)
    }
}

#[tokio::test(start_paused = true)]
async fn a_handlers_own_calls_inherit_what_is_left_of_its_deadline() {
    let behind = in_memory(&Watched::default(), Limits::default()).await;
    let server = Server::builder()
        .service(RelayServer::new(Relaying(PatientClient::new(&behind))))
        .build()
        .unwrap();
    let endpoint = server.in_memory();
    tokio::spawn(server.run());
    let client = Client::connect(endpoint).await.unwrap();
    let relay = RelayClient::new(&client);
    let call = relay.left().timeout(Duration::from_secs(5));
    assert_eq!(call.await.unwrap(), Some(3_000));
    // A longer one does not lengthen the default.
    let call = relay.left().timeout(Duration::from_secs(500));
    assert_eq!(call.await.unwrap(), Some(30_000));
    let call = relay.left_of_spawned().timeout(Duration::from_secs(5));
    assert_eq!(call.await.unwrap(), Some(30_000));
}

/// Spawns something that only the token can stop.
#[wirecall::service]
trait Spawning {
    async fn spawn(&self, cx: &Context);
}

struct Spawner(tokio::sync::mpsc::UnboundedSender<tokio::task::JoinHandle<()>>);

impl Spawning for Spawner {
    async fn spawn(&self, cx: &Context) {
        let token = cx.cancellation();
        assert!(!token.is_cancelled());
        let task = tokio::spawn(async move { token.cancelled().await });
        let _ = self.0.send(task);
        std::future::pending().await
    }
}

#[tokio::test]
async fn the_token_tells_what_a_handler_has_spawned_that_its_call_is_over() {
    let (spawned, mut tasks) = tokio::sync::mpsc::unbounded_channel();
    let address = start(Server::builder().service(SpawningServer::new(Spawner(spawned)))).await;
    let client = connect(address, Codec::MessagePack).await;
    let spawning = SpawningClient::new(&client);

    // By a cancel, by the deadline, by the end of the connection.
    let call = spawning.spawn().start();
    let task = soon(tasks.recv()).await.unwrap();
    drop(call);
    soon(task).await.unwrap();

    let call = spawning.spawn().timeout(Duration::from_millis(50)).start();
    soon(soon(tasks.recv()).await.unwrap()).await.unwrap();
    assert_eq!(
        soon(call).await.unwrap_err().code(),
        Code::DEADLINE_EXCEEDED
    );

    let _call = spawning.spawn().start();
    let task = soon(tasks.recv()).await.unwrap();
    client.close().await;
    soon(task).await.unwrap();
}

#[tokio::test]
async fn ten_thousand_cancelled_calls_leave_nothing_behind() {
    let watched = Watched::default();
    let address = start(Server::builder().service(PatientServer::new(watched))).await;
    let client = connect(address, Codec::MessagePack).await;
    let patient = PatientClient::new(&client);
    for _ in 0..100 {
        let calls: Vec<_> = (0..100).map(|_| patient.wait().start()).collect();
        tokio::task::yield_now().await;
        drop(calls);
    }
    idle(&client).await;
}
