//! Connections that one of the ends drops by itself.

use std::time::Duration;

use tokio::sync::mpsc;
use wirecall::{Codec, Limits, Peer, Server};

use super::{
    backoff,
    ledger::{Book, LedgerEventsServer, LedgerServer, Told, assert_executed_once, every_shape},
    limits,
};
use crate::{
    relay::{Fault, Relay},
    support::{Door, LobbyClient, LobbyServer, connect_once, dial, idle, soon, start},
};

/// A server, and where its handles of those who enter come out.
async fn server(limits: Limits) -> (std::net::SocketAddr, Book, mpsc::UnboundedReceiver<Peer>) {
    let (door, entering) = Door::new();
    let book = Book::default();
    let server = Server::builder()
        .limits(limits)
        .service(LedgerServer::new(book.clone()))
        .service(LobbyServer::new(door));
    (start(server).await, book, entering)
}

#[tokio::test]
async fn every_shape_of_call_survives_ends_that_drop_the_connection() {
    let (address, book, mut entering) = server(limits()).await;
    for (round, codec) in Codec::ALL.into_iter().enumerate() {
        let told = Told::default();
        let client = dial(address, codec)
            .reconnect(backoff())
            .serve(LedgerEventsServer::new(told.clone()))
            .connect()
            .await
            .unwrap();
        soon(LobbyClient::new(&client).enter()).await.unwrap();
        let there = entering.recv().await.unwrap();
        let first = 1000 * round as u64;
        let disturbing = async {
            for step in 0.. {
                tokio::time::sleep(Duration::from_millis(60)).await;
                match step % 2 {
                    0 => there.interrupt(),
                    _ => client.peer().interrupt(),
                }
            }
        };
        tokio::select! {
            () = soon(every_shape(&client, &told, first)) => {}
            () = disturbing => {}
        }
        assert_executed_once(&book, first);
        assert!(!there.is_closed(), "the session goes on");
        idle(&client).await;
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn a_connection_is_dropped_once_and_the_answer_comes_over_the_next_one() {
    for codec in Codec::ALL {
        let (address, _, mut entering) = server(limits()).await;
        let relay = Relay::start(address).await;
        let client = dial(relay.addr(), codec).reconnect(backoff());
        let client = client.connect().await.unwrap();
        let lobby = LobbyClient::new(&client);
        soon(lobby.enter()).await.unwrap();
        let there = entering.recv().await.unwrap();
        relay.set(Fault::Refuse);
        for _ in 0..3 {
            there.interrupt();
        }
        let late = lobby.enter().start();
        soon(async {
            while !there.is_suspended() || !client.peer().is_suspended() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // There is none.
        there.interrupt();
        relay.heal();
        soon(late).await.unwrap();
        assert_eq!(entering.recv().await.unwrap(), there);
        soon(lobby.enter()).await.unwrap();
        assert!(!there.is_suspended());
    }
}

#[tokio::test]
async fn a_session_that_cannot_go_on_ends_with_the_connection() {
    let (address, _, mut entering) = server(limits()).await;
    let client = connect_once(address, Codec::MessagePack).await;
    soon(LobbyClient::new(&client).enter()).await.unwrap();
    let there = entering.recv().await.unwrap();
    there.interrupt();
    let reason = soon(there.closed()).await;
    assert_eq!(reason.code.value(), 1006, "{reason}");
    assert_eq!(soon(client.closed()).await.code.value(), 1006);
}
