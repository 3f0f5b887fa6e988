//! What a server sends on its own: the same to many connections, a stream on one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;

use super::Run;
use crate::{
    measure::{Metric, Tasks, WARM_UP, Window},
    peers::Peer,
    scenario::Way,
};

/// The server begins once all have subscribed.
pub(super) async fn measure_pushes<P: Peer>(run: &Run, way: Way) -> Result<Vec<Metric>> {
    let address = run.address;
    let mut tasks = Tasks::default();
    for _ in 0..run.scenario.connections {
        tasks.spawn(|tally| async move { P::count_pushes(address, way, tally).await });
    }
    let window = measure(run, &mut tasks).await?;
    Ok(window.metrics("delivered_per_s"))
}

/// The same for those who do not get all that is published.
pub(super) async fn measure_latest<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    let address = run.address;
    let newest = Arc::<AtomicU64>::default();
    let mut tasks = Tasks::default();
    for _ in 0..run.scenario.connections {
        let newest = newest.clone();
        tasks.spawn(|tally| async move { P::count_latest(address, tally, newest).await });
    }
    begin(&mut tasks).await?;
    let before = newest.load(Ordering::Relaxed);
    let window = Window::measure(&mut tasks, run.server).await?;
    let published = newest.load(Ordering::Relaxed) - before;
    let mut metrics = window.metrics("delivered_per_s");
    metrics.push(Metric::new("published_per_s", window.per_second(published)));
    Ok(metrics)
}

pub(super) async fn measure_stream<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    let mut peer = P::connect(run.address).await?;
    let mut tasks = Tasks::default();
    tasks.spawn(|tally| async move { peer.count_items(&tally).await });
    let window = measure(run, &mut tasks).await?;
    Ok(window.metrics("items_per_s"))
}

async fn measure(run: &Run, tasks: &mut Tasks) -> Result<Window> {
    begin(tasks).await?;
    Window::measure(tasks, run.server).await
}

async fn begin(tasks: &mut Tasks) -> Result<()> {
    tasks.all_begun().await?;
    tasks.go_on_for(WARM_UP).await
}
