//! What Wirecall's server sends on its own: the same to all who have subscribed.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    sync::Notify,
    task::yield_now,
    time::{MissedTickBehavior, interval},
};
use wirecall::{Hub, Peer as Connection, Topic, TopicPressure, TopicSettings};

use super::{BenchEventsClient, BenchEventsNotifier};
use crate::{
    peers::{Audience, notification_body},
    scenario::{PUSH_BYTES, Scenario, Way, Work},
    system::monotonic_time,
};

/// What most subscribe to.
pub(super) const NEWS: &str = "news";

/// What comes beside, for one that is stopped: much more than may wait for it.
pub(super) const BULK: &str = "bulk";

const GROUP: &str = "subscribers";

/// Of so many things the latest is kept, where some are left out.
const KINDS: u8 = 16;

/// How often items of [`NEWS`] and [`BULK`] come to clients of which one is stopped, and how large
/// the latter are.
const STEADY_INTERVAL: Duration = Duration::from_millis(20);
const BULK_BYTES: usize = 32 << 10;

/// Says what the topics are like, before anybody subscribes.
pub(super) fn declare_topics(hub: &Hub, work: Work) {
    let settings = TopicSettings::<wirecall::Bytes>::default();
    let settings = match work {
        Work::Push { .. } => settings
            .pressure(TopicPressure::CatchUp)
            .history_items(2 * BLOCK_ITEMS as usize * BLOCKS)
            .history_bytes(16 << 20),
        Work::Latest => settings.conflate_by(|item| item.first().copied()),
        _ => settings,
    };
    hub.declare_topics("", settings);
}

/// Publishes for ever what the scenario says, once all have subscribed.
pub(super) async fn publish(
    hub: Hub,
    scenario: Scenario,
    audience: Audience<Connection>,
    pace: &Pace,
) -> Result<()> {
    let (peers, burst) = audience.complete().await;
    match scenario.work {
        Work::Push { way, .. } => match way {
            Way::Peers => notify(BenchEventsNotifier::to(&peers), &peers, burst).await,
            Way::Group => {
                for peer in &peers {
                    hub.join(peer, GROUP)?;
                }
                notify(BenchEventsNotifier::to(hub.group(GROUP)), &peers, burst).await
            }
            Way::Topic => publish_all(&hub.topic(NEWS), pace, burst).await,
        },
        Work::Latest => publish_latest(&hub.topic(NEWS)).await,
        Work::Stopped => publish_steadily(&hub).await,
        _ => Ok(()),
    }
}

/// Whoever has no credit left misses a notification to many, and waits for one to itself. So the
/// next one goes to each alone if somebody was behind: it waits until all have credit again.
async fn notify(all: BenchEventsNotifier, peers: &[Connection], burst: usize) -> Result<()> {
    let body = notification_body();
    loop {
        for _ in 0..burst {
            if all.published(&body).await?.behind > 0 {
                for peer in peers {
                    BenchEventsClient::new(peer).published(&body).await?;
                }
            }
        }
        yield_now().await;
    }
}

/// A topic does not make its publisher wait, so this one waits of its own accord.
async fn publish_all(topic: &Topic<wirecall::Bytes>, pace: &Pace, burst: usize) -> Result<()> {
    let body = notification_body().into();
    let mut published = 0;
    loop {
        for _ in 0..burst {
            pace.wait(published).await;
            published = topic.publish(&body)?.offset;
        }
        yield_now().await;
    }
}

/// It waits for nobody.
async fn publish_latest(topic: &Topic<wirecall::Bytes>) -> Result<()> {
    let bodies = (0..KINDS).map(|kind| vec![kind; PUSH_BYTES].into());
    let bodies: Vec<wirecall::Bytes> = bodies.collect();
    for body in bodies.iter().cycle() {
        topic.publish(body)?;
        yield_now().await;
    }
    Ok(())
}

/// An item of [`NEWS`] begins with the time at which it was published.
async fn publish_steadily(hub: &Hub) -> Result<()> {
    let (news, bulk) = (hub.topic::<wirecall::Bytes>(NEWS), hub.topic(BULK));
    let large = wirecall::Bytes::from(vec![0; BULK_BYTES]);
    let mut item = [0; PUSH_BYTES];
    let mut ticks = interval(STEADY_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        bulk.publish(&large)?;
        let now = u64::try_from(monotonic_time()?.as_nanos())?;
        item[..size_of::<u64>()].copy_from_slice(&now.to_be_bytes());
        let published = news.publish(&item.as_slice().into())?;
        ensure!(published.offset > 0);
    }
}

/// Items that a subscriber takes before it says so.
const BLOCK_ITEMS: u64 = 256;

/// Blocks that may be on their way.
const BLOCKS: usize = 4;

/// How far the subscribers of a topic have come: each tells of every block that it has taken, and
/// the next but three begins when all have.
pub(super) struct Pace {
    subscribers: usize,
    taken: [AtomicUsize; BLOCKS],
    is_taken: Notify,
}

impl Pace {
    pub(super) fn of(scenario: &Scenario) -> Self {
        let taken = [const { AtomicUsize::new(0) }; BLOCKS];
        for count in &taken {
            // As if there had been some before.
            count.store(scenario.connections, Ordering::Relaxed);
        }
        Pace {
            subscribers: scenario.connections,
            taken,
            is_taken: Notify::new(),
        }
    }

    /// At a subscriber: the block that it has taken with this item, if that is the last of one.
    pub(super) fn block_taken(offset: u64) -> Option<u64> {
        offset
            .is_multiple_of(BLOCK_ITEMS)
            .then_some(offset / BLOCK_ITEMS - 1)
    }

    /// At the server: a subscriber has taken this one.
    pub(super) fn note(&self, block: u64) {
        let before = self.count(block).fetch_add(1, Ordering::AcqRel);
        if before + 1 == self.subscribers {
            self.is_taken.notify_one();
        }
    }

    /// Waits until an item may follow these.
    async fn wait(&self, published: u64) {
        if !published.is_multiple_of(BLOCK_ITEMS) {
            return;
        }
        let count = self.count(published / BLOCK_ITEMS);
        while count.load(Ordering::Acquire) < self.subscribers {
            self.is_taken.notified().await;
        }
        count.store(0, Ordering::Release);
    }

    fn count(&self, block: u64) -> &AtomicUsize {
        &self.taken[block as usize % BLOCKS]
    }
}
