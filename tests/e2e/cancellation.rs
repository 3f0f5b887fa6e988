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
