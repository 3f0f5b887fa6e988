//! A network that keeps breaking, and calls that do not notice: `cargo run --example flaky_network`.
//!
//! A relay stands between a client and a server, in one process, and cuts their connection every
//! second. Meanwhile a stream counts, and calls take one number after the other. What comes is
//! checked: a number that is missing, or comes twice, ends the program with an error.
//!
//! `flaky_network CUTS MILLISECONDS` cuts so often, with so much time between.

#[path = "../tests/relay/mod.rs"]
mod relay;

use std::{
    cell::Cell,
    env,
    error::Error,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use relay::Relay;
use tokio::time::sleep;
use wirecall::{
    Backoff, CancellationToken, Client, ClientState, Context, Heartbeat, Limits, Server,
};

#[wirecall::service]
pub trait Counter {
    /// Counts from 0, and never ends.
    fn count(&self) -> impl Stream<Item = u64> + Send;

    /// The next number, from 0. It takes a while, so that cuts find calls in flight.
    async fn take_number(&self) -> u64;

    /// How long the client took to answer the server's last sign of life.
    async fn round_trip(&self, cx: &Context) -> Option<Duration>;
}

#[derive(Default)]
struct Numbers {
    taken: AtomicU64,
}

impl Counter for Numbers {
    fn count(&self) -> impl Stream<Item = u64> + Send {
        stream::iter(0..).then(|number| async move {
            sleep(Duration::from_millis(2)).await;
            number
        })
    }

    async fn take_number(&self) -> u64 {
        sleep(Duration::from_millis(10)).await;
        self.taken.fetch_add(1, Ordering::Relaxed)
    }

    async fn round_trip(&self, cx: &Context) -> Option<Duration> {
        cx.peer().round_trip()
    }
}

/// How many numbers came, each the one behind the last.
#[derive(Default)]
struct Seen {
    count: Cell<u64>,
    last: Cell<Option<Instant>>,
    longest_pause: Cell<Duration>,
}

impl Seen {
    fn check(&self, number: u64) -> Result<(), String> {
        let expected = self.count.get();
        if number != expected {
            return Err(format!("{number} came where {expected} was due"));
        }
        self.count.set(expected + 1);
        let now = Instant::now();
        if let Some(last) = self.last.replace(Some(now)) {
            let pause = self.longest_pause.get().max(now - last);
            self.longest_pause.set(pause);
        }
        Ok(())
    }
}

async fn watch_the_stream(
    counter: &CounterClient,
    seen: &Seen,
    end: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    let mut numbers = counter.count().await?;
    while !end.is_cancelled() {
        let number = numbers.next().await.ok_or("the stream has ended")??;
        seen.check(number)?;
    }
    Ok(())
}

async fn take_numbers(
    counter: &CounterClient,
    seen: &Seen,
    end: &CancellationToken,
) -> Result<(), Box<dyn Error>> {
    while !end.is_cancelled() {
        seen.check(counter.take_number().await?)?;
    }
    Ok(())
}

async fn tell(mut states: impl Stream<Item = ClientState> + Unpin) {
    while let Some(state) = states.next().await {
        match state {
            ClientState::Ready => println!("  connected"),
            ClientState::Suspended => println!("  no connection: calls and streams wait"),
            ClientState::Closed(_) => println!("  closed"),
            other => println!("  {other:?}"),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let cuts = arguments.next().map_or(Ok(10), |cuts| cuts.parse())?;
    let pause = arguments.next().map_or(Ok(1000), |pause| pause.parse())?;
    let pause = Duration::from_millis(pause);

    let server = Server::builder()
        .service(CounterServer::new(Numbers::default()))
        // Only for the round trip in the end: a connection of this program lives for a second.
        .limits(Limits::default().heartbeat(Heartbeat {
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(5),
        }))
        .bind("127.0.0.1:0")
        .await?;
    let relay = Relay::start(server.local_addr()?).await;
    tokio::spawn(server.run());

    let client = Client::builder(relay.url())
        // The default takes a connection that has lasted a second for a bad one, and would wait
        // longer each time.
        .reconnect(Backoff {
            first: Duration::from_millis(20),
            max: Duration::from_millis(500),
            stable_after: Duration::from_millis(50),
        })
        .connect()
        .await?;
    let telling = tokio::spawn(tell(client.states()));
    let counter = CounterClient::new(&client);

    let (items, calls) = (Seen::default(), Seen::default());
    let end = CancellationToken::new();
    let disturbing = async {
        for cut in 1..=cuts {
            sleep(pause).await;
            let (items, calls) = (items.count.get(), calls.count.get());
            println!("cut {cut}, after {items} items and {calls} calls");
            relay.cut();
        }
        sleep(pause).await;
        end.cancel();
        Ok(())
    };
    tokio::try_join!(
        watch_the_stream(&counter, &items, &end),
        take_numbers(&counter, &calls, &end),
        disturbing,
    )?;
    let round_trip = counter.round_trip().await?;
    client.close().await;
    telling.await?;

    println!("{cuts} cuts, {} connections", relay.connections());
    println!("{} items, no gap, none twice", items.count.get());
    println!("{} calls, each executed once", calls.count.get());
    let longest_pause = items.longest_pause.max(calls.longest_pause);
    println!("the longest pause was {:?}", longest_pause.get());
    match round_trip {
        Some(round_trip) => println!("the last round trip took {round_trip:?}"),
        None => println!("no round trip was measured"),
    }
    Ok(())
}
