//! How long a small call takes behind large bodies on the same connection.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::Run;
use crate::{
    measure::{Latencies, Metric, Tally, Tasks, WARM_UP},
    peers::{Peer, bytes_of},
    scenario::{Beside, LARGE_BYTES, SMALL_BYTES},
};

/// Bodies on their way at a time. With one alone the connection would have nothing to do while that
/// is decoded and the next one asked for, and most small calls would go through then.
const BODIES: usize = 2;

/// How often somebody calls for whom the `steady_` figures are: whatever became of earlier calls.
const STEADY_INTERVAL: Duration = Duration::from_micros(100);

const SAMPLES: u64 = 20_000;

/// When to stop though there are fewer samples. Their number is reported.
const TIME_LIMIT: Duration = Duration::from_secs(60);

pub(super) async fn measure<P: Peer>(run: &Run, beside: Beside) -> Result<Vec<Metric>> {
    let mut connection = P::connect(run.address).await?;
    let mut bodies = Tasks::default();
    for _ in 0..BODIES {
        let peer = connection.clone();
        match beside {
            Beside::Nothing => {}
            Beside::Downloads => bodies.spawn(|tally| download(peer, tally)),
            Beside::Uploads => bodies.spawn(|tally| upload(peer, tally)),
        }
    }
    bodies.all_begun().await?;

    let (latencies, steady) = (Latencies::new(), Latencies::new());
    let recorded = (latencies.clone(), steady.clone());
    let mut calls = Tasks::default();
    calls.spawn(|tally| async move {
        let body = bytes_of(SMALL_BYTES);
        loop {
            let latency = time_echo(&mut connection, &body).await?;
            recorded.0.record(latency);
            recorded.1.record_steady(latency, STEADY_INTERVAL);
            tally.add(1);
        }
    });
    calls.go_on_for(WARM_UP).await?;
    latencies.reset();
    steady.reset();
    let (begin, bodies_before) = (Instant::now(), bodies.sum());
    while latencies.count() < SAMPLES && begin.elapsed() < TIME_LIMIT {
        let a_moment = tokio::time::sleep(Duration::from_millis(5));
        bodies.go_on_until(calls.go_on_until(a_moment)).await??;
    }
    let elapsed = begin.elapsed();
    let mib = (bodies.sum() - bodies_before) * (LARGE_BYTES >> 20) as u64;
    let mut metrics = latencies.metrics();
    for Metric { name, value } in steady.metrics() {
        metrics.push(Metric::new(&format!("steady_{name}"), value));
    }
    metrics.push(Metric::new("samples", latencies.count() as f64));
    if beside != Beside::Nothing {
        let per_s = mib as f64 / elapsed.as_secs_f64();
        metrics.push(Metric::new("mib_per_s", per_s));
    }
    Ok(metrics)
}

async fn download<P: Peer>(mut peer: P, tally: Arc<Tally>) -> Result<()> {
    loop {
        let received = peer.download().await?;
        ensure!(received == LARGE_BYTES, "a body of {received} bytes came");
        tally.add(1);
    }
}

async fn upload<P: Peer>(mut peer: P, tally: Arc<Tally>) -> Result<()> {
    let body = bytes_of(LARGE_BYTES);
    loop {
        let received = peer.upload(&body).await?;
        ensure!(
            received == LARGE_BYTES,
            "a body of {received} bytes arrived"
        );
        tally.add(1);
    }
}

async fn time_echo<P: Peer>(peer: &mut P, body: &Bytes) -> Result<Duration> {
    let begin = Instant::now();
    let echo = peer.echo(body).await?;
    let latency = begin.elapsed();
    ensure!(echo == *body, "a wrong echo");
    Ok(latency)
}
