//! Subscribers of a topic, at the client.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures::StreamExt as _;
use wirecall::{Client, Subscription, Update};

use super::{BenchClient, connect, publish::Pace};
use crate::measure::Tally;

/// A client that is subscribed.
pub(crate) struct Subscriber {
    pub(crate) client: Client,
    pub(crate) bench: BenchClient,
    pub(crate) news: Subscription<wirecall::Bytes>,
}

impl Subscriber {
    /// Subscribes, and has the server begin once all have.
    pub(crate) async fn connect(address: SocketAddr, resumes: bool) -> Result<Self> {
        let client = connect(address, resumes).await?;
        let bench = BenchClient::new(&client);
        let news = bench.news().await?;
        bench.subscribe().await?;
        Ok(Subscriber {
            client,
            bench,
            news,
        })
    }

    /// The next item, which must be the one behind that before.
    pub(crate) async fn next_item(&mut self) -> Result<(u64, wirecall::Bytes)> {
        let expected = self.news.position().offset + 1;
        let update = self.news.next().await;
        match update.context("the subscription has ended")?? {
            Update::Item { offset, value } => {
                ensure!(offset == expected, "item {expected} is {offset}");
                Ok((offset, value))
            }
            other => bail!("{other:?} instead of item {expected}"),
        }
    }
}

/// Counts all items, and fails when one is missing.
pub(super) async fn count_all(address: SocketAddr, resumes: bool, tally: &Tally) -> Result<()> {
    let mut subscriber = Subscriber::connect(address, resumes).await?;
    loop {
        let (offset, _) = subscriber.next_item().await?;
        tally.add(1);
        if let Some(block) = Pace::block_taken(offset) {
            subscriber.bench.taken(block).await?;
        }
    }
}

/// Counts the items that come.
pub(super) async fn count_latest(
    address: SocketAddr,
    resumes: bool,
    tally: &Tally,
    newest: &AtomicU64,
) -> Result<()> {
    let mut subscriber = Subscriber::connect(address, resumes).await?;
    while let Some(update) = subscriber.news.next().await {
        match update? {
            Update::Item { offset, .. } => {
                tally.add(1);
                newest.fetch_max(offset, Ordering::Relaxed);
            }
            Update::Gap { missed: Some(_) } => {}
            other => bail!("{other:?} instead of an item"),
        }
    }
    bail!("the subscription has ended")
}
