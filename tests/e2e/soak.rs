//! Random calls over connections with random faults, to servers that come and go.
//!
//! `WIRECALL_SOAK_SEED` repeats the decisions of a run, though not its timing, and
//! `WIRECALL_SOAK_SECONDS` lets it take longer.

use std::{
    env,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures::{Stream, StreamExt as _, stream};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use wirecall::{
    CallError, Client, Code, Codec, Drain, Fate, Limits, Server, ServerBuilder, Status,
};

use crate::{
    relay::{Direction, Fault, Relay},
    resume::{
        backoff,
        ledger::{Book, LedgerClient, LedgerEventsServer, LedgerServer, Told, assert_fate},
        limits,
        process::Process,
    },
    support::{dial, idle, soon},
};

/// SplitMix64: the same numbers for the same seed.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn millis(&mut self, bound: u64) -> Duration {
        Duration::from_millis(self.below(bound))
    }

    /// Another one, which goes its own way.
    pub fn fork(&mut self) -> Self {
        Random(self.next())
    }
}

/// What all tasks have in common.
#[derive(Clone)]
struct World {
    book: Book,
    numbers: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    /// How many servers there have been.
    servers: Arc<AtomicU64>,
    done: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
}

/// What may happen to a booking, told by its number.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Once = 0,
    Repeatable = 1,
    /// Once by each server: a new one knows nothing of the keys of the last.
    Keyed = 2,
}

impl World {
    fn number(&self, kind: Kind) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) * 3 + kind as u64
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn check_book(&self) {
        let servers = self.servers.load(Ordering::SeqCst);
        for (number, entered) in self.book.entries() {
            match number % 3 {
                0 => assert_eq!(entered, 1, "booking {number}"),
                2 => assert!(entered <= servers, "booking {number}: {entered}"),
                _ => {}
            }
        }
    }

    fn note<T>(&self, answer: &Result<T, impl Sized>) {
        let count = match answer {
            Ok(_) => &self.done,
            Err(_) => &self.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn server(book: &Book) -> ServerBuilder {
    let limits = limits()
        .resume_window(Duration::from_secs(2))
        .hello_timeout(Duration::from_secs(1));
    Server::builder()
        .limits(limits)
        .service(LedgerServer::new(book.clone()))
}

async fn connect(relay: &Relay, codec: Codec, told: &Told) -> Client {
    let limits = Limits::default().hello_timeout(Duration::from_millis(500));
    let builder = dial(relay.addr(), codec)
        .limits(limits)
        .reconnect(backoff())
        .connect_timeout(Duration::from_millis(500))
        .serve(LedgerEventsServer::new(told.clone()));
    builder.connect().await.unwrap()
}

/// Does things to a relay until all is over.
async fn disturb(relay: Arc<Relay>, world: World, mut random: Random) {
    while !world.is_over() {
        sleep(random.millis(150)).await;
        let direction = match random.below(2) {
            0 => Direction::ToServer,
            _ => Direction::ToClient,
        };
        match random.below(11) {
            0 => relay.cut(),
            1 => relay.reset(),
            2 => relay.swallow(),
            3 | 4 => relay.cut_after(random.below(600), direction),
            5 => relay.set(Fault::HalfOpen),
            6 => relay.set(Fault::OneWay(direction)),
            7 => relay.set(Fault::Delay(random.millis(60))),
            8 => relay.set(Fault::Throttle {
                bytes_per_second: 5_000 + random.below(100_000) as u32,
            }),
            9 => relay.set(Fault::ByteWise),
            _ => {
                relay.set(Fault::Refuse);
                relay.cut();
            }
        }
        sleep(random.millis(250)).await;
        relay.heal();
    }
}

/// Replaces the server now and then. The last one is returned.
async fn replace(mut process: Process, world: World, mut random: Random) -> Process {
    while !world.is_over() {
        sleep(Duration::from_millis(400) + random.millis(1200)).await;
        match random.below(4) {
            0 => process.handle.stop(),
            1 => {
                let grace = random.millis(400);
                let drain = Drain::within(grace).spread(grace / 3);
                timeout(grace + Duration::from_secs(5), process.handle.drain(drain))
                    .await
                    .expect("a drain ends with its grace");
            }
            // Killed.
            _ => {}
        }
        let address = process.address;
        drop(process);
        sleep(random.millis(60)).await;
        world.servers.fetch_add(1, Ordering::SeqCst);
        process = Process::start_at(address, server(&world.book)).await;
    }
    process
}

/// What a call may fail with that has met a fault.
fn check_failure(failed: &CallError) {
    let codes = [Code::UNAVAILABLE, Code::DEADLINE_EXCEEDED];
    assert!(codes.contains(&failed.code()), "{failed}");
}

fn paced(n: u64, ms: u64) -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(0..n).then(move |number| async move {
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
        number
    })
}

/// Checks that the items are those of `expected`, in order, and that an end without an error is the
/// end of all of them.
async fn check_items(
    items: impl Stream<Item = Result<u64, CallError<impl wirecall::RpcError>>>,
    expected: impl Iterator<Item = u64>,
) -> Result<(), ()> {
    let mut items = std::pin::pin!(items);
    let mut expected = expected.peekable();
    while let Some(item) = items.next().await {
        match item {
            Ok(item) => assert_eq!(Some(item), expected.next(), "an item was lost or doubled"),
            Err(failed) => {
                assert_eq!(failed.code(), Code::UNAVAILABLE);
                assert!(items.next().await.is_none(), "nothing follows an error");
                return Err(());
            }
        }
    }
    assert_eq!(expected.peek(), None, "the end was lost");
    Ok(())
}

/// Calls of all shapes, one after the other.
async fn call(client: Client, world: World, lane: u64, mut random: Random) {
    let ledger = LedgerClient::new(&client);
    let mut notes = 0;
    while !world.is_over() {
        let (n, ms) = (random.below(60), random.below(4));
        match random.below(11) {
            0 | 1 => {
                let number = world.number(Kind::Once);
                let answer = ledger.book(number, random.below(30)).await;
                world.note(&answer);
                check_booking(&world, number, answer);
            }
            2 => {
                let number = world.number(Kind::Once);
                let call = ledger.book(number, random.below(100));
                let answer = call.timeout(random.millis(120)).await;
                world.note(&answer);
                check_booking(&world, number, answer);
            }
            3 => {
                let number = world.number(Kind::Once);
                let call = ledger.book(number, random.below(60)).start();
                sleep(random.millis(40)).await;
                drop(call);
                assert!(world.book.entered(number) <= 1);
            }
            4 => {
                let number = world.number(Kind::Repeatable);
                let answer = ledger.look(number, random.below(30)).await;
                world.note(&answer);
                assert_eq!(answer, Ok(number), "it is sent again until it is answered");
                assert!(world.book.entered(number) >= 1);
            }
            5 => {
                let number = world.number(Kind::Keyed);
                let call = ledger.book(number, random.below(30));
                let answer = call.idempotency_key(number.to_string()).await;
                world.note(&answer);
                assert_eq!(answer, Ok(number), "it is sent again until it is answered");
                assert!(world.book.entered(number) >= 1);
            }
            6 => match ledger.count(n, ms).await {
                Ok(items) => {
                    let checked = check_items(items, 0..n).await;
                    world.note(&checked);
                }
                Err(failed) => check_failure(&failed),
            },
            7 => match ledger.collect(paced(n, ms)).await {
                Ok(collected) => assert_eq!(collected, (0..n).collect::<Vec<_>>()),
                Err(failed) => check_upload(&failed),
            },
            8 => match ledger.double(paced(n, ms)).await {
                Ok(items) => {
                    let checked = check_items(items, (0..n).map(|n| 2 * n)).await;
                    world.note(&checked);
                }
                Err(failed) => assert!(
                    [Code::UNAVAILABLE, Code::DEADLINE_EXCEEDED].contains(&failed.code()),
                    "{failed}"
                ),
            },
            // More than a message holds, and than the window of a replay.
            9 => {
                let answers = (0..200).map(|_| {
                    let number = world.number(Kind::Once);
                    let call = ledger.book(number, 0);
                    async move { (number, call.await) }
                });
                for (number, answer) in futures::future::join_all(answers).await {
                    world.note(&answer);
                    check_booking(&world, number, answer);
                }
            }
            _ => {
                for _ in 0..n {
                    notes += 1;
                    let noted = ledger.note(lane << 32 | notes).await;
                    if let Err(failed) = noted {
                        check_failure(&failed);
                    }
                }
            }
        }
    }
}

/// The handler passes on what its stream has ended with, if it could still answer.
fn check_upload(failed: &CallError<Status>) {
    let codes = [Code::UNAVAILABLE, Code::DEADLINE_EXCEEDED, Code::CANCELLED];
    assert!(codes.contains(&failed.code()), "{failed}");
}

fn check_booking(world: &World, number: u64, answer: Result<u64, CallError>) {
    match answer {
        Ok(answer) => {
            assert_eq!(answer, number);
            assert_eq!(world.book.entered(number), 1, "booking {number}");
        }
        Err(failed) => {
            check_failure(&failed);
            assert_fate(&world.book, number, &failed);
            assert_ne!(failed.fate(), Fate::Executed, "{failed}");
        }
    }
}

/// Lets the server notify the client, and call it.
async fn be_pushed(client: Client, told: Told, world: World, mut random: Random) {
    let ledger = LedgerClient::new(&client);
    while !world.is_over() {
        told.take();
        let n = random.below(60);
        let pushed = ledger.push(n, random.below(4)).await;
        world.note(&pushed);
        let came = told.take();
        let in_order = (0..n).collect::<Vec<_>>();
        match pushed {
            Ok(()) => assert_eq!(came, in_order, "a notification was lost or doubled"),
            Err(_) => assert!(in_order.starts_with(&came), "{came:?}"),
        }
    }
}

/// How long things take must not matter, and nobody waits longer than a call may.
async fn ends<F: Future>(what: &str, future: F) -> F::Output {
    let ended = timeout(Duration::from_secs(40), future).await;
    ended.unwrap_or_else(|_| panic!("{what} did not end"))
}

async fn soak(seed: u64, duration: Duration) {
    let mut random = Random(seed);
    let world = World {
        book: Book::default(),
        numbers: Arc::default(),
        is_over: Arc::default(),
        servers: Arc::new(AtomicU64::new(1)),
        done: Arc::default(),
        failed: Arc::default(),
    };
    let process = Process::start(server(&world.book)).await;
    let (mut clients, mut relays) = (Vec::new(), Vec::new());
    let (mut faults, mut calling) = (JoinSet::new(), JoinSet::new());
    for number in 0..4 {
        let relay = Arc::new(Relay::start(process.address).await);
        let told = Told::default();
        let client = connect(&relay, Codec::ALL[number % 2], &told).await;
        for lane in 0..6 {
            let lane = number as u64 * 100 + lane;
            let lane = call(client.clone(), world.clone(), lane, random.fork());
            calling.spawn(lane);
        }
        calling.spawn(be_pushed(
            client.clone(),
            told,
            world.clone(),
            random.fork(),
        ));
        faults.spawn(disturb(relay.clone(), world.clone(), random.fork()));
        clients.push(client);
        relays.push(relay);
    }
    let replacing = tokio::spawn(replace(process, world.clone(), random.fork()));
    let until = Instant::now() + duration;
    while Instant::now() < until {
        let look = timeout(Duration::from_millis(200), calling.join_next()).await;
        if let Ok(Some(ended)) = look {
            ended.unwrap();
        }
    }
    world.is_over.store(true, Ordering::SeqCst);
    let process = ends("the server", replacing).await.unwrap();
    while let Some(ended) = ends("a fault", faults.join_next()).await {
        ended.unwrap();
    }
    for relay in &relays {
        relay.heal();
    }
    while let Some(ended) = ends("a call", calling.join_next()).await {
        ended.unwrap();
    }
    for client in clients {
        let ledger = LedgerClient::new(&client);
        soon(ledger.look(world.number(Kind::Repeatable), 0))
            .await
            .unwrap();
        idle(&client).await;
        soon(client.close()).await;
    }
    soon(async {
        while process.handle.sessions() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    world.check_book();
    let mut last = std::collections::HashMap::new();
    for note in world.book.notes() {
        let before = last.insert(note >> 32, note);
        assert!(before < Some(note), "a note came twice, or out of order");
    }
    let (done, failed) = (&world.done, &world.failed);
    let (done, failed) = (done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    let servers = world.servers.load(Ordering::Relaxed);
    println!("seed {seed}: {done} calls completed, {failed} failed, {servers} servers");
    assert!(done > 10 * duration.as_secs(), "{done} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_left_behind_whatever_the_network_does() {
    let number = |name| env::var(name).ok().map(|text| text.parse().unwrap());
    let seconds = number("WIRECALL_SOAK_SECONDS").unwrap_or(5);
    let seed = number("WIRECALL_SOAK_SEED").unwrap_or_else(|| {
        let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        since.as_nanos() as u64
    });
    // Shown if it fails.
    println!("WIRECALL_SOAK_SEED={seed}");
    soak(seed, Duration::from_secs(seconds)).await;
}
