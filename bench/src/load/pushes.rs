//! What a server sends on its own: notifications to many connections, a stream on one.

use anyhow::Result;

use super::Run;
use crate::{
    measure::{Metric, Tasks, WARM_UP, Window},
    peers::Peer,
};

/// The server begins once all have subscribed.
pub(super) async fn measure_notifications<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    let address = run.address;
    let mut tasks = Tasks::default();
    for _ in 0..run.scenario.connections {
        tasks.spawn(|tally| async move { P::count_notifications(address, tally).await });
    }
    measure(run, tasks, "delivered_per_s").await
}

pub(super) async fn measure_stream<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    let mut peer = P::connect(run.address).await?;
    let mut tasks = Tasks::default();
    tasks.spawn(|tally| async move { peer.count_items(&tally).await });
    measure(run, tasks, "items_per_s").await
}

async fn measure(run: &Run, mut tasks: Tasks, rate: &str) -> Result<Vec<Metric>> {
    tasks.all_begun().await?;
    tasks.go_on_for(WARM_UP).await?;
    let window = Window::measure(&mut tasks, run.server).await?;
    Ok(window.metrics(rate))
}
