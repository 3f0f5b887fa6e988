//! Connections that break while a server leaves.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tokio_tungstenite::tungstenite;
use wirecall::{Codec, Drain, Limits};

use super::{GRACE, at_once, client, drain, status, until_entered};
use crate::{
    negotiation::{ask, assert_answer},
    raw_client::{Socket, closed, frames, open, open_with, send_text},
    relay::{Fault, Relay},
    resume::{ledger::LedgerClient, start},
    support::{idle, soon},
};

/// What a client offers that comes back.
const AGAIN: &str = "wirecall.v1+json, wirecall.resume";

async fn come_back(address: std::net::SocketAddr) -> Socket {
    open_with(address, &[("sec-websocket-protocol", AGAIN)])
        .await
        .0
}

/// The client may have been told of the drain, or not.
#[tokio::test]
async fn a_call_is_finished_on_the_next_connection() {
    for codec in Codec::ALL {
        for spread in [Duration::ZERO, GRACE] {
            let (address, book, handle) = start(Limits::default()).await;
            let relay = Relay::start(address).await;
            let client = client(relay.addr(), codec).await;
            let ledger = LedgerClient::new(&client);
            let call = ledger.book(1, 400).start();
            let items = soon(ledger.count(40, 10)).await.unwrap();
            until_entered(&book, 1).await;
            let draining = drain(&handle, Drain::within(GRACE).spread(spread)).await;
            relay.cut();
            assert_eq!(soon(call).await, Ok(1));
            let items: Vec<_> = soon(items.map(Result::unwrap).collect()).await;
            assert_eq!(items, (0..40).collect::<Vec<_>>());
            assert_eq!(book.entered(1), 1);
            assert!(relay.connections() > 1);
            soon(client.close()).await;
            let drained = soon(draining).await.unwrap();
            assert_eq!((drained.left, drained.closed), (1, 0), "{drained:?}");
            assert_eq!((drained.cut, drained.calls_cut), (0, 0), "{drained:?}");
        }
    }
}

/// W-DRAIN-2: new calls go elsewhere meanwhile.
#[tokio::test]
async fn a_call_is_finished_although_its_client_has_moved_on() {
    for codec in Codec::ALL {
        let (address, book, handle) = start(Limits::default()).await;
        let (other, other_book, other_handle) = start(Limits::default()).await;
        let relay = Relay::start(address).await;
        let client = client(relay.addr(), codec).await;
        let ledger = LedgerClient::new(&client);
        let call = ledger.book(1, 500).start();
        until_entered(&book, 1).await;
        let draining = drain(&handle, at_once(GRACE).url(format!("ws://{other}"))).await;
        assert_eq!(soon(ledger.book(2, 0)).await, Ok(2));
        assert_eq!(other_book.entered(2), 1);
        for _ in 0..3 {
            let connections = relay.connections();
            relay.cut();
            soon(relay.wait_for_connections(connections + 1)).await;
        }
        assert_eq!(soon(call).await, Ok(1));
        assert_eq!(book.entered(1), 1);
        // With nothing in flight it leaves.
        let drained = soon(draining).await.unwrap();
        assert_eq!((drained.left, drained.cut), (1, 0), "{drained:?}");
        assert_eq!(other_handle.sessions(), 1);
        idle(&client).await;
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn an_answer_waits_for_a_client_that_has_not_come_back() {
    let (address, book, handle) = start(Limits::default()).await;
    let relay = Relay::start(address).await;
    let client = client(relay.addr(), Codec::MessagePack).await;
    let call = LedgerClient::new(&client).book(1, 50).start();
    until_entered(&book, 1).await;
    let grace = Duration::from_secs(4);
    let draining = drain(&handle, at_once(grace)).await;
    relay.set(Fault::Refuse);
    relay.cut();
    // Longer than a session may stay on which nothing is in flight.
    sleep(grace / 4 + Duration::from_millis(200)).await;
    assert!(!draining.is_finished());
    relay.heal();
    assert_eq!(soon(call).await, Ok(1));
    assert_eq!(book.entered(1), 1);
    soon(client.close()).await;
    let drained = soon(draining).await.unwrap();
    // Whichever end was first to close it, now that nothing is left to be done.
    assert_eq!(
        (drained.left + drained.closed, drained.cut),
        (1, 0),
        "{drained:?}"
    );
}

/// A raw client's session, with a call of it in flight, and its token.
async fn session(address: std::net::SocketAddr) -> (Socket, String) {
    let mut socket = open(address, Codec::Json).await;
    send_text(&mut socket, "[0,{\"19\":65536}]").await;
    let welcome = frames(&mut socket).await.remove(0);
    let token = welcome[1]["21"].as_str().unwrap().to_owned();
    send_text(&mut socket, "[6,3,\"Ledger.book\",[1,60000]]").await;
    (socket, token)
}

/// W-DRAIN-4.
#[tokio::test]
async fn nobody_else_comes_in_who_says_that_it_comes_back() {
    let (address, book, handle) = start(Limits::default()).await;
    let (socket, token) = session(address).await;
    until_entered(&book, 1).await;
    let draining = drain(&handle, at_once(GRACE)).await;
    assert_eq!(status(address, "/readyz").await, 503);
    assert_answer(&ask(address, &[]).await, 503, &["the server is going down"]);
    let unknown = format!(
        "[0,{{\"19\":65536,\"21\":\"{}\",\"23\":0,\"25\":0}}]",
        "A".repeat(32)
    );
    for hello in ["[0,{}]", "[[0,{}],[6,3,\"Ledger.book\",[2,0]]]", &unknown] {
        let mut socket = come_back(address).await;
        send_text(&mut socket, hello).await;
        assert_eq!(closed(&mut socket).await.0, 1001, "{hello}");
    }
    assert_eq!(handle.sessions(), 1);
    drop(socket);
    let mut socket = come_back(address).await;
    let hello = format!("[0,{{\"19\":65536,\"21\":\"{token}\",\"23\":0,\"25\":1}}]");
    send_text(&mut socket, &hello).await;
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(frames(&mut socket).await);
    }
    // It goes on, and is told again to leave.
    assert_eq!((&came[0][0], &came[0][1]["23"]), (&json!(1), &json!(1)));
    assert_eq!(came[1], json!([5, 4200, 1]));
    send_text(&mut socket, "[12,3]").await;
    let ended: Value = loop {
        let ended = frames(&mut socket)
            .await
            .into_iter()
            .find(|frame| frame[0] == 8);
        if let Some(ended) = ended {
            break ended;
        }
    };
    assert_eq!(ended[1], 3);
    assert_eq!(book.entered(2), 0);
    drop(socket);
    handle.stop();
    let drained = soon(draining).await.unwrap();
    // Only the session counts.
    assert_eq!(
        drained.left + drained.closed + drained.cut,
        1,
        "{drained:?}"
    );
}

#[tokio::test]
async fn who_has_come_back_and_says_nothing_goes_with_the_server() {
    let (address, book, handle) = start(Limits::default()).await;
    let (_socket, _) = session(address).await;
    until_entered(&book, 1).await;
    let draining = drain(&handle, at_once(Duration::from_millis(300))).await;
    let mut silent = come_back(address).await;
    let drained = soon(draining).await.unwrap();
    assert_eq!((drained.cut, drained.left), (1, 0), "{drained:?}");
    assert_eq!(closed(&mut silent).await.0, 1001);
    assert!(TcpStream::connect(address).await.is_err());
    let _: tungstenite::Error = soon(silent.next())
        .await
        .map_or(tungstenite::Error::ConnectionClosed, |last| {
            last.unwrap_err()
        });
}
