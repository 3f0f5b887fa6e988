//! Sessions that outlive their connections.

mod hostile;
mod interrupted;
pub mod ledger;
pub mod process;

use std::{net::SocketAddr, time::Duration};

use tokio::time::sleep;
use wirecall::{Backoff, ClientBuilder, Codec, Heartbeat, Limits, Server, ServerHandle};

use crate::{
    relay::{Direction, Fault, Relay},
    support::{dial, idle, soon},
};
use ledger::{Book, LedgerEventsServer, LedgerServer, Told, assert_executed_once, every_shape};

/// Everything faster than by default, so that tests are.
pub fn limits() -> Limits {
    Limits::default().heartbeat(Heartbeat {
        interval: Duration::from_millis(200),
        timeout: Duration::from_millis(200),
    })
}

pub fn backoff() -> Backoff {
    Backoff {
        first: Duration::from_millis(10),
        max: Duration::from_millis(100),
        stable_after: Duration::from_millis(100),
    }
}

pub async fn start(limits: Limits) -> (SocketAddr, Book, ServerHandle) {
    let book = Book::default();
    let server = Server::builder()
        .limits(limits)
        .service(LedgerServer::new(book.clone()))
        .bind("127.0.0.1:0")
        .await
        .unwrap();
    let address = server.local_addr().unwrap();
    let handle = server.handle();
    tokio::spawn(server.run());
    (address, book, handle)
}

fn client(relay: &Relay, codec: Codec, told: &Told) -> ClientBuilder {
    dial(relay.addr(), codec)
        .reconnect(backoff())
        .serve(LedgerEventsServer::new(told.clone()))
}

/// Runs calls of every shape while `disturb` does something to the relay, again and again.
async fn survives(disturb: impl AsyncFn(&Relay, u32)) {
    let (server, book, handle) = start(limits()).await;
    for (round, codec) in Codec::ALL.into_iter().enumerate() {
        let relay = Relay::start(server).await;
        let told = Told::default();
        let client = client(&relay, codec, &told).connect().await.unwrap();
        let first = 1000 * round as u64;
        let disturbing = async {
            for step in 0.. {
                sleep(Duration::from_millis(60)).await;
                disturb(&relay, step).await;
            }
        };
        tokio::select! {
            () = soon(every_shape(&client, &told, first)) => {}
            () = disturbing => {}
        }
        relay.heal();
        assert_executed_once(&book, first);
        idle(&client).await;
        soon(client.close()).await;
    }
    soon(async {
        while handle.sessions() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn every_shape_of_call_survives_cuts() {
    survives(async |relay, _| relay.cut()).await;
}

#[tokio::test]
async fn every_shape_of_call_survives_resets() {
    survives(async |relay, _| relay.reset()).await;
}

#[tokio::test]
async fn every_shape_of_call_survives_cuts_within_a_message() {
    survives(async |relay, step| {
        let direction = match step % 2 {
            0 => Direction::ToServer,
            _ => Direction::ToClient,
        };
        relay.cut_after(u64::from(step * 7 % 200 + 1), direction);
    })
    .await;
}

#[tokio::test]
async fn every_shape_of_call_survives_connections_that_swallow_everything() {
    survives(async |relay, step| {
        if step % 8 == 0 {
            relay.swallow();
        }
    })
    .await;
}

#[tokio::test]
async fn every_shape_of_call_survives_a_direction_that_is_dead() {
    survives(async |relay, step| match step % 16 {
        0 => relay.set(Fault::OneWay(Direction::ToServer)),
        8 => relay.set(Fault::OneWay(Direction::ToClient)),
        4 | 12 => {
            relay.heal();
            relay.reset();
        }
        _ => {}
    })
    .await;
}

#[tokio::test]
async fn every_shape_of_call_survives_single_bytes_and_delays() {
    survives(async |relay, step| match step % 4 {
        0 => relay.set(Fault::ByteWise),
        1 => relay.set(Fault::Delay(Duration::from_millis(20))),
        2 => relay.set(Fault::Throttle {
            bytes_per_second: 40_000,
        }),
        _ => relay.cut(),
    })
    .await;
}
