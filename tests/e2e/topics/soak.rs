//! Random subscriptions, published to, paused and cut at random.
//!
//! `WIRECALL_SOAK_SEED` repeats the decisions of a run, though not its timing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use futures::StreamExt as _;
use tokio::{sync::oneshot, task::JoinHandle, time::sleep};
use wirecall::{
    Client, CloseCode, Codec, Hub, Server, Topic, TopicPosition, TopicPressure, TopicSettings,
    Update,
};

use super::{Desk, FeedsClient, FeedsServer, publish};
use crate::{
    relay::{Direction, Relay},
    resume::{backoff, limits},
    soak::Random,
    support::{dial, idle, soon, start},
};

const TOPICS: [(&str, TopicPressure); 5] = [
    ("oldest", TopicPressure::DropOldest),
    ("newest", TopicPressure::DropNewest),
    ("conflated", TopicPressure::Conflate),
    ("caught up", TopicPressure::CatchUp),
    ("brief", TopicPressure::DropOldest),
];

const STEPS: u64 = 6000;

/// How often each kind of update came: a soak in which nothing happens shows nothing.
static ITEMS: AtomicU64 = AtomicU64::new(0);
static RECOVERIES: AtomicU64 = AtomicU64::new(0);
static GAPS: AtomicU64 = AtomicU64::new(0);

fn hub() -> Hub {
    let hub = Hub::new();
    for (name, pressure) in TOPICS {
        let mut settings = TopicSettings::<u64>::default()
            .queue_items(16)
            .history_age(Duration::from_millis(500))
            .history_items(if name == "brief" { 0 } else { 64 });
        if pressure == TopicPressure::Conflate {
            settings = settings.conflate_by(|number| number % 5);
        }
        hub.declare_topics(name, settings.pressure(pressure));
    }
    hub
}

/// Reads, checks that no hole is silent, and says where it is in the end: not before it has come to
/// where it is told to.
async fn follow(
    client: Client,
    topic: &'static str,
    mut random: Random,
    mut until: oneshot::Receiver<TopicPosition>,
) {
    let feeds = FeedsClient::new(&client);
    let opened = match random.below(3) {
        0 => feeds.follow(topic).timeout(Duration::from_secs(15)).await,
        1 => {
            feeds
                .follow_by_four(topic)
                .timeout(Duration::from_secs(15))
                .await
        }
        _ => feeds.last(topic, 10).timeout(Duration::from_secs(15)).await,
    };
    // The call itself is one like any other: not repeated if nobody knows what became of it.
    let Ok(mut feed) = opened else { return };
    let mut had = feed.position();
    let mut goal = None;
    loop {
        if goal
            .is_some_and(|goal: TopicPosition| had.epoch == goal.epoch && had.offset >= goal.offset)
        {
            return;
        }
        let update = tokio::select! {
            update = feed.next() => update,
            told = &mut until, if goal.is_none() => match told {
                Ok(position) => {
                    goal = Some(position);
                    continue;
                }
                // Given up.
                Err(_) => return,
            }
        };
        let update = update.expect("a topic has no end");
        let update = update.expect("it subscribes again");
        let count = match update {
            Update::Item { .. } => &ITEMS,
            Update::Recovered => &RECOVERIES,
            Update::Gap { .. } => &GAPS,
        };
        count.fetch_add(1, Ordering::Relaxed);
        match update {
            Update::Item { offset, value } => {
                assert_eq!(value, offset, "{topic}");
                assert_eq!(offset, had.offset + 1, "{topic}: a silent hole");
                had.offset = offset;
            }
            Update::Recovered => assert_eq!(feed.position(), had, "{topic}"),
            Update::Gap {
                missed: Some(missed),
            } => had.offset += missed,
            Update::Gap { missed: None } => had = feed.position(),
        }
        if goal.is_none() && random.below(20) == 0 {
            sleep(random.millis(40)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_no_hole_is_silent_and_nothing_is_left() {
    let seed = std::env::var("WIRECALL_SOAK_SEED").ok();
    let seed = seed.map_or_else(
        || SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("WIRECALL_SOAK_SEED={seed}");
    let mut random = Random(seed);
    let hub = hub();
    let server = Server::builder()
        .hub(&hub)
        .limits(limits())
        .service(FeedsServer::new(Desk::of(&hub)));
    let address = start(server).await;
    let mut relays = Vec::new();
    let mut clients = Vec::new();
    for codec in [Codec::MessagePack, Codec::Json, Codec::MessagePack] {
        let relay = Relay::start(address).await;
        let client = dial(relay.addr(), codec)
            .limits(limits())
            .reconnect(backoff());
        clients.push(client.connect().await.unwrap());
        relays.push(relay);
    }
    let mut running: Vec<(usize, oneshot::Sender<TopicPosition>, JoinHandle<()>)> = Vec::new();
    for step in 0..STEPS {
        let index = random.below(TOPICS.len() as u64) as usize;
        let name = TOPICS[index].0;
        let which = random.below(3) as usize;
        match random.below(200) {
            0..8 => {
                let (told, until) = oneshot::channel();
                let client = clients[which].clone();
                let following = tokio::spawn(follow(client, name, random.fork(), until));
                running.push((index, told, following));
            }
            8..12 if !running.is_empty() => {
                // Dropped wherever it is.
                let victim = random.below(running.len() as u64) as usize;
                let (_, _, following) = running.swap_remove(victim);
                following.abort();
                assert!(!matches!(following.await, Err(error) if error.is_panic()));
            }
            12 => relays[which].cut(),
            13 => relays[which].cut_after(random.below(3000), Direction::ToClient),
            14 => {
                // Its session cannot go on.
                let peers = hub.all().peers();
                if let Some(peer) = peers.get(which) {
                    peer.close(CloseCode::GOING_AWAY, "");
                }
            }
            15..20 => sleep(random.millis(8)).await,
            _ => {
                let topic: Topic<u64> = hub.topic(name);
                publish(
                    &topic,
                    1 + random.below(if step % 50 == 0 { 100 } else { 4 }),
                );
            }
        }
        if step % 16 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // Whoever is left gets what is published last.
    let topics = TOPICS.map(|(name, _)| hub.topic::<u64>(name));
    for (index, told, following) in running {
        let topic = topics[index].clone();
        let position = topic.position().unwrap();
        let _ = told.send(position);
        let publishing = async {
            loop {
                // It may come back to a topic that is another by then.
                publish(&topic, 1);
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            followed = soon(following) => followed.unwrap(),
            () = publishing => {}
        }
    }
    for client in &clients {
        idle(client).await;
    }
    soon(async {
        while topics.iter().any(|topic| topic.subscribers() > 0) {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(topics);
    soon(async {
        while hub.topics() > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let counts = [&ITEMS, &RECOVERIES, &GAPS].map(|count| count.load(Ordering::Relaxed));
    println!("items, recoveries, gaps: {counts:?}");
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
}
