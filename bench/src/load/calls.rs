//! Calls: as many as go through with so many in flight, and how long one takes that is alone.

use std::{sync::Arc, time::Instant};

use anyhow::{Result, ensure};
use bytes::Bytes;

use super::{Run, wire};
use crate::{
    measure::{Latencies, Metric, Tally, Tasks, WARM_UP, Window},
    peers::Peer,
};

/// What keeps one connection busy.
pub(super) trait Load<P: Peer>: Send + Sync {
    /// Starts so many calls on one connection, each followed by the next one.
    fn start(
        &self,
        connection: &P,
        in_flight: usize,
        latencies: Option<&Latencies>,
        tasks: &mut Tasks,
    );
}

/// A call, and a check of its answer.
trait Operation<P>: Clone + Send + Sync + 'static {
    fn perform(&self, peer: &mut P) -> impl Future<Output = Result<()>> + Send;
}

pub(super) async fn measure<P: Peer>(run: &Run, load: impl Load<P>) -> Result<Vec<Metric>> {
    let scenario = &run.scenario;
    let is_alone = scenario.connections * scenario.in_flight == 1;
    let latencies = is_alone.then(Latencies::new);
    let mut tasks = Tasks::default();
    for _ in 0..scenario.connections {
        let connection = P::connect(run.address).await?;
        load.start(
            &connection,
            scenario.in_flight,
            latencies.as_ref(),
            &mut tasks,
        );
    }
    tasks.go_on_for(WARM_UP).await?;
    if let Some(latencies) = &latencies {
        latencies.reset();
    }
    let window = Window::measure(&mut tasks, run.server).await?;
    let mut metrics = window.metrics("calls_per_s");
    if let Some(latencies) = &latencies {
        metrics.extend(latencies.metrics());
    }
    tasks.stop().await;
    if scenario.counts_wire_bytes() {
        metrics.extend(wire::bytes_per_call(run, load).await?);
    }
    Ok(metrics)
}

#[derive(Clone)]
pub(super) struct Add;

impl<P: Peer> Operation<P> for Add {
    async fn perform(&self, peer: &mut P) -> Result<()> {
        ensure!(peer.add(20, 22).await? == 42, "a wrong sum");
        Ok(())
    }
}

#[derive(Clone)]
pub(super) struct Echo(pub(super) Bytes);

impl<P: Peer> Operation<P> for Echo {
    async fn perform(&self, peer: &mut P) -> Result<()> {
        ensure!(peer.echo(&self.0).await? == self.0, "a wrong echo");
        Ok(())
    }
}

#[derive(Clone)]
pub(super) struct EchoAfterWaiting(pub(super) Bytes);

impl<P: Peer> Operation<P> for EchoAfterWaiting {
    async fn perform(&self, peer: &mut P) -> Result<()> {
        let echo = peer.echo_after_waiting(&self.0).await?;
        ensure!(echo == self.0, "a wrong echo");
        Ok(())
    }
}

/// A task for each call in flight, as a program with that many things to do has them.
impl<P: Peer, O: Operation<P>> Load<P> for O {
    fn start(
        &self,
        connection: &P,
        in_flight: usize,
        latencies: Option<&Latencies>,
        tasks: &mut Tasks,
    ) {
        for _ in 0..in_flight {
            let (peer, operation) = (connection.clone(), self.clone());
            match latencies.cloned() {
                Some(latencies) => {
                    tasks.spawn(|tally| call_and_time(peer, operation, tally, latencies));
                }
                None => tasks.spawn(|tally| call(peer, operation, tally)),
            }
        }
    }
}

async fn call<P: Peer>(mut peer: P, operation: impl Operation<P>, tally: Arc<Tally>) -> Result<()> {
    loop {
        operation.perform(&mut peer).await?;
        tally.add(1);
    }
}

async fn call_and_time<P: Peer>(
    mut peer: P,
    operation: impl Operation<P>,
    tally: Arc<Tally>,
    latencies: Latencies,
) -> Result<()> {
    loop {
        let begin = Instant::now();
        operation.perform(&mut peer).await?;
        latencies.record(begin.elapsed());
        tally.add(1);
    }
}

/// Echoes of a peer that knows no calls: whatever comes back first answers what was sent first.
pub(super) struct Pipeline(pub(super) Bytes);

impl<P: Peer> Load<P> for Pipeline {
    fn start(&self, connection: &P, in_flight: usize, _: Option<&Latencies>, tasks: &mut Tasks) {
        let (peer, body) = (connection.clone(), self.0.clone());
        tasks.spawn(|tally| async move { peer.pipeline(body, in_flight, &tally).await });
    }
}
