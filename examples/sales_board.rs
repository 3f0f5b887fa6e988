//! Branches report their turnover, and boards show it live: `cargo run --example sales_board`.
//!
//! One process, real sockets on the loopback interface. A day takes some seconds. For each board there
//! is a second one that asks for the figures every second instead, over HTTP. In the end both show
//! the same, and the program says what each way has cost. One board does not wake up before noon: it
//! gets the latest figure of each branch then, and not those that these have replaced.

#[path = "sales_board/board.rs"]
mod board;
#[path = "sales_board/contract.rs"]
mod contract;
#[path = "sales_board/headquarters.rs"]
mod headquarters;
#[path = "sales_board/polling.rs"]
mod polling;
#[path = "../tests/relay/mod.rs"]
mod relay;
#[path = "sales_board/tally.rs"]
mod tally;

use std::{
    error::Error,
    ops::Range,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use board::{Board, Follower, euros};
use contract::{SalesClient, SalesServer, reports};
use futures::future::try_join_all;
use headquarters::Headquarters;
use polling::poll;
use relay::Relay;
use tally::Tally;
use tokio::{task::JoinSet, time::sleep};
use wirecall::{Client, Hub, Server};

type Failure = Box<dyn Error + Send + Sync>;

const BRANCHES: [&str; 8] = [
    "Amsterdam",
    "Berlin",
    "Cork",
    "Dresden",
    "Évora",
    "Faro",
    "Ghent",
    "Helsinki",
];
const REPORTS: u64 = 4;

/// The board in the canteen takes nothing before so many reports have come in.
const NOON: u64 = 20;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let opening = Instant::now();
    let hub = Hub::new();
    let headquarters = Headquarters::new(&hub, opening);
    let server = Server::builder()
        .service(SalesServer::new(headquarters.clone()))
        .hub(&hub)
        .bind("127.0.0.1:0")
        .await?;
    let address = server.local_addr()?;
    tokio::spawn(server.run());

    // All that boards send and get goes through relays, which count it.
    let pushing = Relay::start(address).await;
    let endpoint = polling::serve(headquarters.clone()).await?;
    let polling = Relay::start(endpoint).await;

    let rooms = ["lobby", "office", "workshop", "canteen"];
    let pushed = rooms.map(|room| Board::new(room, opening, room == "lobby"));
    let polled = rooms.map(|room| Board::new(room, opening, false));
    let mut running = JoinSet::new();
    for board in &pushed {
        let follower = Follower::begin(board.clone(), pushing.url()).await?;
        let noon = if board.name == "canteen" { NOON } else { 0 };
        let headquarters = headquarters.clone();
        running.spawn(async move {
            headquarters.reported(noon).await;
            follower.run().await
        });
    }
    for board in &polled {
        running.spawn(poll(board.clone(), polling.addr()));
    }

    println!("the board in the lobby:");
    let day = async {
        let branches = (1..).zip(BRANCHES).map(|(seed, name)| {
            let dice = Dice(seed);
            report(format!("ws://{address}"), name, dice)
        });
        try_join_all(branches).await?;
        let figures = headquarters.all();
        for board in pushed.iter().chain(&polled) {
            board.shows(&figures).await?;
        }
        Ok::<_, Failure>(figures)
    };
    let figures = tokio::select! {
        figures = day => figures?,
        Some(ended) = running.join_next() => return ended?.and(Err("a board has stopped".into())),
    };
    let open = opening.elapsed();

    let reports = reports(&figures);
    let turnover = figures.values().map(|figure| figure.cents).sum();
    println!(
        "\nall {} boards show the same: {}",
        2 * rooms.len(),
        euros(turnover)
    );
    let replaced = pushed[3].replaced.load(Ordering::Relaxed);
    println!(
        "the one in the canteen was told nothing of {replaced} reports that later ones have replaced"
    );
    let pushed = Tally::new(reports, &pushed, &pushed[..3], &pushing);
    let polled = Tally::new(reports, &polled, &polled, &polling);
    tally::print_measured(&pushed, &polled, rooms.len(), open);
    let no_change = polling::cost_of_no_change(endpoint).await?;
    tally::print_computed(&pushed, rooms.len(), open, no_change);
    Ok(())
}

/// A branch reports now and then, as sales go.
async fn report(url: String, branch: &str, mut dice: Dice) -> Result<(), Failure> {
    let client = Client::connect(url).await?;
    let sales = SalesClient::new(&client);
    for _ in 0..REPORTS {
        sleep(Duration::from_millis(dice.throw(300..2000))).await;
        sales.report(branch, dice.throw(500..90_000)).await?;
    }
    client.close().await;
    Ok(())
}

/// The same throws each time (SplitMix64).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, range: Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (mixed ^ (mixed >> 31)) % (range.end - range.start)
    }
}
