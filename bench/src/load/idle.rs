//! What a connection costs the server that does nothing.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::Run;
use crate::{
    measure::Metric,
    peers::{Peer, bytes_of},
    scenario::SMALL_BYTES,
};

/// Connections that are being opened at a time: fewer than a listener's backlog takes.
const OPENING: usize = 64;

/// How long a server may take to be done with what opening connections was about.
const SETTLING: Duration = Duration::from_secs(1);

pub(super) async fn measure<P: Peer>(run: &Run) -> Result<Vec<Metric>> {
    // What only the first connection costs is not counted.
    let first = open_and_use::<P>(run).await?;
    let before = run.server.resident_kib()?;
    let count = run.scenario.connections;
    let opened: Vec<P> = stream::iter(0..count)
        .map(|_| open_and_use::<P>(run))
        .buffer_unordered(OPENING)
        .try_collect()
        .await?;
    tokio::time::sleep(SETTLING).await;
    let after = run.server.resident_kib()?;
    drop((first, opened));
    let kib = after.saturating_sub(before) as f64 / count as f64;
    Ok(vec![Metric::new("server_kib", kib)])
}

/// One call shows that the server has the connection, and makes it one that was in use.
async fn open_and_use<P: Peer>(run: &Run) -> Result<P> {
    let mut peer = P::connect(run.address).await?;
    peer.echo(&bytes_of(SMALL_BYTES)).await?;
    Ok(peer)
}
