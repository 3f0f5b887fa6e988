//! A server that leaves: what it says, what it finishes, and where its clients go.

mod resume;

use std::{net::SocketAddr, time::Duration};

use futures::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep},
};
use wirecall::{
    Backoff, Client, ClientBuilder, ClientState, CloseCode, Code, Codec, ConnectError, Drain,
    Drained, Fate, Limits, Server, ServerHandle,
};

use crate::{
    raw_client::{Socket, closed, frames, open, send_text},
    raw_server::{RawServer, welcome},
    relay::{Fault, Relay},
    resume::{
        backoff,
        ledger::{Book, LedgerClient, LedgerServer},
        start,
    },
    support::{Door, LobbyClient, LobbyServer, dial, idle, soon},
};

async fn client(address: SocketAddr, codec: Codec) -> Client {
    let client = dial(address, codec).reconnect(backoff());
    client.connect().await.unwrap()
}

/// Begins to drain, and lets it go on meanwhile.
async fn drain(handle: &ServerHandle, drain: Drain) -> JoinHandle<Drained> {
    let draining = {
        let handle = handle.clone();
        tokio::spawn(async move { handle.drain(drain).await })
    };
    soon(async {
        while handle.is_ready() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    draining
}

fn at_once(grace: Duration) -> Drain {
    Drain::within(grace).spread(Duration::ZERO)
}

const GRACE: Duration = Duration::from_secs(10);

/// The one that has sent it there is gone.
#[tokio::test]
async fn a_session_goes_on_where_its_client_was_sent() {
    for codec in Codec::ALL {
        let (address, _, handle) = start(Limits::default()).await;
        let (other, book, staying) = start(Limits::default()).await;
        let relay = Relay::start(other).await;
        let client = client(address, codec).await;
        let url = format!("ws://{}", relay.addr());
        let draining = drain(&handle, at_once(GRACE).url(url)).await;
        soon(draining).await.unwrap();
        let ledger = LedgerClient::new(&client);
        for number in 1..=3 {
            let call = ledger.book(number, 300).start();
            until_entered(&book, number).await;
            let connections = relay.connections();
            if number == 3 {
                // Also if that takes more than one attempt.
                relay.set(Fault::Refuse);
            }
            relay.cut();
            soon(relay.wait_for_connections(connections + 1)).await;
            relay.heal();
            assert_eq!(soon(call).await, Ok(number));
            assert_eq!(book.entered(number), 1);
        }
        assert_eq!(staying.sessions(), 1);
        idle(&client).await;
    }
}

/// The status that a GET is answered with.
async fn status(address: SocketAddr, path: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap();
    status.parse().unwrap()
}

async fn until_entered(book: &Book, number: u64) {
    soon(async {
        while book.entered(number) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn readiness_turns_false_and_nobody_else_may_come() {
    let (address, book, handle) = start(Limits::default()).await;
    let client = client(address, Codec::Json).await;
    let ledger = LedgerClient::new(&client);
    let call = ledger.book(1, 300).start();
    until_entered(&book, 1).await;
    assert_eq!(status(address, "/readyz").await, 200);
    assert_eq!(status(address, "/healthz").await, 200);
    let draining = drain(&handle, at_once(GRACE)).await;
    assert_eq!(status(address, "/readyz").await, 503);
    assert_eq!(status(address, "/healthz").await, 200);
    let refused = dial(address, Codec::Json).connect().await.unwrap_err();
    let ConnectError::Refused { status, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!(status, 503);
    assert_eq!(soon(call).await, Ok(1));
    client.close().await;
    let drained = soon(draining).await.unwrap();
    assert_eq!(drained.left, 1, "{drained:?}");
}

#[tokio::test]
async fn what_is_in_flight_is_finished_where_it_is() {
    for codec in Codec::ALL {
        let (address, book, handle) = start(Limits::default()).await;
        let (other, other_book, _other) = start(Limits::default()).await;
        let client = client(address, codec).await;
        let ledger = LedgerClient::new(&client);
        let unary = ledger.book(1, 400).start();
        let down = soon(ledger.count(40, 10)).await.unwrap();
        let paced = |n: u64| {
            stream::iter(0..n).then(|number| async move {
                sleep(Duration::from_millis(10)).await;
                number
            })
        };
        let both = soon(ledger.double(paced(40))).await.unwrap();
        let up = {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.collect(paced(40)).await })
        };
        until_entered(&book, 1).await;
        sleep(Duration::from_millis(20)).await;
        let url = format!("ws://{other}");
        let draining = drain(&handle, at_once(GRACE).url(url)).await;
        // New calls go elsewhere while the others go on.
        assert_eq!(soon(ledger.book(2, 0)).await, Ok(2));
        assert_eq!((book.entered(2), other_book.entered(2)), (0, 1));
        assert!(!draining.is_finished());
        assert_eq!(soon(unary).await, Ok(1));
        let items: Vec<_> = soon(down.map(Result::unwrap).collect()).await;
        assert_eq!(items, (0..40).collect::<Vec<_>>());
        let items: Vec<_> = soon(both.map(Result::unwrap).collect()).await;
        assert_eq!(items, (0..40).map(|n| 2 * n).collect::<Vec<_>>());
        let collected = soon(up).await.unwrap().unwrap();
        assert_eq!(collected, (0..40).collect::<Vec<_>>());
        let drained = soon(draining).await.unwrap();
        assert_eq!((drained.left, drained.closed), (1, 0), "{drained:?}");
        assert_eq!((drained.cut, drained.calls_cut), (0, 0), "{drained:?}");
        assert_eq!(handle.sessions(), 0);
        assert_eq!(soon(ledger.book(3, 0)).await, Ok(3));
        idle(&client).await;
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn clients_that_call_all_the_time_move_without_an_error() {
    let (address, book, handle) = start(Limits::default()).await;
    let (other, other_book, other_handle) = start(Limits::default()).await;
    let mut calling = Vec::new();
    let mut clients = Vec::new();
    for n in 0..12_u64 {
        let codec = Codec::ALL[n as usize % 2];
        let client = client(address, codec).await;
        for lane in 0..2 {
            let ledger = LedgerClient::new(&client);
            let other_book = other_book.clone();
            let first = (2 * n + lane) * 100_000;
            calling.push(tokio::spawn(async move {
                let mut number = first;
                // Until a hundred were executed by the next server.
                while other_book.entered(number.saturating_sub(100).max(first)) == 0 {
                    assert_eq!(ledger.book(number, number % 3).await, Ok(number));
                    number += 1;
                }
                number - first
            }));
        }
        clients.push(client);
    }
    sleep(Duration::from_millis(100)).await;
    let leaving = Drain::within(GRACE).spread(Duration::from_millis(300));
    let draining = drain(&handle, leaving.url(format!("ws://{other}"))).await;
    let drained = soon(draining).await.unwrap();
    assert_eq!(drained.left, 12, "{drained:?}");
    assert_eq!((drained.cut, drained.closed), (0, 0), "{drained:?}");
    let mut calls = 0;
    for task in calling {
        calls += soon(task).await.unwrap();
    }
    assert!(calls > 2_400, "{calls}");
    let mut entries = book.entries();
    for (number, entered) in other_book.entries() {
        *entries.entry(number).or_default() += entered;
    }
    assert_eq!(entries.len() as u64, calls);
    assert!(entries.values().all(|entered| *entered == 1));
    assert_eq!(other_handle.sessions(), 12);
    for client in clients {
        idle(&client).await;
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn calls_that_take_longer_than_the_grace_are_cut_and_counted() {
    let (address, book, handle) = start(Limits::default()).await;
    let busy = client(address, Codec::MessagePack).await;
    let ledger = LedgerClient::new(&busy);
    let calls: Vec<_> = (0..3).map(|n| ledger.book(n, 60_000).start()).collect();
    until_entered(&book, 2).await;
    // It hears nothing, and so it does not go by itself.
    let mut deaf = open(address, Codec::Json).await;
    send_text(&mut deaf, "[0,{}]").await;
    assert_eq!(frames(&mut deaf).await[0][0], 1);
    let began = Instant::now();
    let draining = drain(&handle, at_once(Duration::from_millis(400))).await;
    for call in calls {
        let failed = soon(call).await.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE);
        assert_eq!(failed.fate(), Fate::Unknown);
    }
    let elapsed = began.elapsed().as_millis();
    assert!((400..700).contains(&elapsed), "{elapsed} ms");
    let drained = soon(draining).await.unwrap();
    assert_eq!((drained.cut, drained.calls_cut), (1, 3), "{drained:?}");
    assert_eq!((drained.closed, drained.left), (1, 0), "{drained:?}");
}

#[tokio::test]
async fn a_stop_ends_a_drain_at_once() {
    let (address, book, handle) = start(Limits::default()).await;
    let client = client(address, Codec::MessagePack).await;
    let call = LedgerClient::new(&client).book(1, 60_000).start();
    until_entered(&book, 1).await;
    let draining = drain(&handle, at_once(Duration::from_secs(600))).await;
    let second = drain(&handle, at_once(Duration::from_secs(600))).await;
    handle.stop();
    let failed = soon(call).await.unwrap_err();
    assert_eq!(failed.fate(), Fate::Unknown);
    let began = Instant::now();
    let drained = soon(draining).await.unwrap();
    soon(second).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(500));
    assert_eq!((drained.cut, drained.calls_cut), (1, 1), "{drained:?}");
    assert_eq!(handle.sessions(), 0);
}

#[tokio::test]
async fn an_idle_server_is_drained_at_once() {
    let (_, _, handle) = start(Limits::default()).await;
    let began = Instant::now();
    let drained = soon(handle.drain(Drain::within(GRACE))).await;
    assert_eq!(drained, Drained::default());
    assert!(began.elapsed() < Duration::from_secs(1));
}

/// Frames of a raw client, as they come.
async fn next(socket: &mut Socket, came: &mut Vec<Value>) -> Value {
    while came.is_empty() {
        came.extend(frames(socket).await);
    }
    came.remove(0)
}

#[tokio::test]
async fn a_client_that_does_not_listen_is_refused_and_then_closed() {
    let (address, book, handle) = start(Limits::default()).await;
    let mut socket = open(address, Codec::Json).await;
    let mut came = Vec::new();
    send_text(&mut socket, "[[0,{}],[6,3,\"Ledger.book\",[1,300]]]").await;
    assert_eq!(next(&mut socket, &mut came).await[0], 1);
    until_entered(&book, 1).await;
    let url = "ws://elsewhere.example";
    let leaving = at_once(Duration::from_secs(2)).url(url);
    let draining = drain(&handle, leaving).await;
    // GOAWAY, with the count of the one frame that was accepted.
    let go_away = next(&mut socket, &mut came).await;
    assert_eq!(go_away, json!([5, 4200, 1, {"3": url}]));
    send_text(&mut socket, "[6,5,\"Ledger.book\",[2,0]]").await;
    let refused = next(&mut socket, &mut came).await;
    assert_eq!((&refused[0], &refused[1]), (&json!(8), &json!(5)));
    assert_eq!(refused[2], 14, "unavailable");
    assert_eq!(refused[4], json!({"1": 1}), "not executed");
    // What was begun is finished.
    assert_eq!(next(&mut socket, &mut came).await, json!([7, 3, 1]));
    let (code, _) = closed(&mut socket).await;
    assert_eq!(code, 4200);
    let drained = soon(draining).await.unwrap();
    assert_eq!((drained.closed, drained.left), (1, 0), "{drained:?}");
    assert_eq!(book.entered(2), 0);
}

/// There is nobody who could be asked to go: its session is suspended.
#[tokio::test]
async fn a_suspended_session_does_not_hold_a_drain_up_beyond_its_grace() {
    let (address, book, handle) = start(Limits::default()).await;
    let relay = Relay::start(address).await;
    let client = client(relay.addr(), Codec::MessagePack).await;
    let call = LedgerClient::new(&client).book(1, 60_000).start();
    until_entered(&book, 1).await;
    relay.set(Fault::Refuse);
    relay.cut();
    let draining = drain(&handle, at_once(Duration::from_millis(300))).await;
    let drained = soon(draining).await.unwrap();
    assert_eq!((drained.cut, drained.calls_cut), (1, 1), "{drained:?}");
    assert_eq!(handle.sessions(), 0);
    soon(client.close()).await;
    assert_eq!(soon(call).await.unwrap_err().fate(), Fate::Unknown);
}

/// There is no time so long.
#[tokio::test]
async fn a_drain_may_take_as_long_as_it_takes() {
    let (_, _, idle_server) = start(Limits::default()).await;
    let drained = soon(idle_server.drain(Drain::within(Duration::MAX))).await;
    assert_eq!(drained, Drained::default());

    let (address, book, handle) = start(Limits::default()).await;
    let client = client(address, Codec::MessagePack).await;
    let call = LedgerClient::new(&client).book(1, 100).start();
    until_entered(&book, 1).await;
    let (other, _, _other) = start(Limits::default()).await;
    let url = format!("ws://{other}");
    let draining = drain(&handle, at_once(Duration::MAX).url(url)).await;
    assert_eq!(soon(call).await, Ok(1));
    let drained = soon(draining).await.unwrap();
    assert_eq!(drained.left, 1, "{drained:?}");

    let (address, _, handle) = start(Limits::default()).await;
    let client = self::client(address, Codec::MessagePack).await;
    let never = Drain::within(Duration::MAX).spread(Duration::MAX);
    let draining = drain(&handle, never).await;
    assert!(client.state().is_ready());
    handle.stop();
    soon(draining).await.unwrap();
}

#[tokio::test]
async fn a_client_of_the_same_process_lets_go_of_a_server_that_leaves() {
    let book = Book::default();
    let server = Server::builder()
        .service(LedgerServer::new(book.clone()))
        .build()
        .unwrap();
    let (endpoint, handle) = (server.in_memory(), server.handle());
    let running = tokio::spawn(server.run());
    let client = Client::builder(endpoint).reconnect(backoff());
    let client = client.connect().await.unwrap();
    let call = LedgerClient::new(&client).book(1, 100).start();
    until_entered(&book, 1).await;
    let draining = drain(&handle, at_once(Duration::from_secs(1))).await;
    assert_eq!(soon(call).await, Ok(1));
    let drained = soon(draining).await.unwrap();
    assert_eq!(drained.left + drained.closed, 1, "{drained:?}");
    soon(running).await.unwrap();
    // There is nobody else.
    soon(client.close()).await;
}

#[tokio::test]
async fn what_a_stop_cuts_is_counted_however_soon_it_is_gone() {
    for _ in 0..10 {
        let (address, book, handle) = start(Limits::default()).await;
        let client = dial(address, Codec::MessagePack).no_reconnect();
        let client = client.connect().await.unwrap();
        let call = LedgerClient::new(&client).book(1, 60_000).start();
        until_entered(&book, 1).await;
        let draining = drain(&handle, Drain::within(GRACE)).await;
        handle.stop();
        let drained = soon(draining).await.unwrap();
        assert_eq!((drained.cut, drained.calls_cut), (1, 1), "{drained:?}");
        assert_eq!((drained.left, drained.closed), (0, 0), "{drained:?}");
        assert_eq!(soon(call).await.unwrap_err().fate(), Fate::Unknown);
    }
}

/// GOAWAY is nothing that may come before WELCOME.
#[tokio::test]
async fn who_says_hello_to_a_server_that_leaves_is_welcomed_and_sent_away() {
    let (address, book, handle) = start(Limits::default()).await;
    let mut socket = open(address, Codec::Json).await;
    let _draining = drain(&handle, at_once(GRACE)).await;
    send_text(&mut socket, "[[0,{}],[6,3,\"Ledger.book\",[1,0]]]").await;
    let mut came = Vec::new();
    assert_eq!(next(&mut socket, &mut came).await[0], 1);
    assert_eq!(next(&mut socket, &mut came).await, json!([5, 4200, 0]));
    let refused = next(&mut socket, &mut came).await;
    assert_eq!((&refused[0], &refused[1]), (&json!(8), &json!(3)));
    assert_eq!(refused[2], 14, "unavailable");
    assert_eq!(refused[4], json!({"1": 1}), "not executed");
    assert_eq!(book.entered(1), 0);
}

/// A server that asks its clients to go, one by one.
async fn doorkeeper() -> (
    SocketAddr,
    Book,
    tokio::sync::mpsc::UnboundedReceiver<wirecall::Peer>,
) {
    let (door, entering) = Door::new();
    let book = Book::default();
    let server = Server::builder()
        .service(LedgerServer::new(book.clone()))
        .service(LobbyServer::new(door));
    (crate::support::start(server).await, book, entering)
}

async fn has_session(client: &Client, number: u64) {
    let mut states = client.states();
    soon(async {
        while let Some(state) = states.next().await {
            if state == (ClientState::Ready { session: number }) {
                return;
            }
        }
        panic!("closed");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_closed_closes_what_it_has_left_as_well() {
    let (address, book, mut entering) = doorkeeper().await;
    for codec in Codec::ALL {
        let client = client(address, codec).await;
        soon(LobbyClient::new(&client).enter()).await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        let ledger = LedgerClient::new(&client);
        let number = codec as u64 + 1;
        let call = ledger.book(number, 60_000).start();
        until_entered(&book, number).await;
        peer.go_away(CloseCode::MOVED, Duration::ZERO, None);
        has_session(&client, 2).await;
        assert_eq!(soon(ledger.look(9, 0)).await, Ok(9));
        let began = Instant::now();
        soon(client.close()).await;
        let failed = soon(call).await.unwrap_err();
        assert_eq!(failed.fate(), Fate::Unknown, "{failed}");
        assert!(began.elapsed() < Duration::from_secs(1));
        soon(peer.closed()).await;
    }
}

#[tokio::test]
async fn a_client_that_is_sent_where_it_cannot_go_stays_with_those_it_knows() {
    let (address, _, mut entering) = doorkeeper().await;
    let nobody = {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("ws://{}", listener.local_addr().unwrap())
    };
    for url in ["wss://elsewhere.example", "nonsense", "", &nobody] {
        let client = client(address, Codec::MessagePack).await;
        soon(LobbyClient::new(&client).enter()).await.unwrap();
        let peer = soon(entering.recv()).await.unwrap();
        peer.go_away(CloseCode::MOVED, Duration::ZERO, Some(url.into()));
        has_session(&client, 2).await;
        let answer = soon(LedgerClient::new(&client).look(9, 0)).await;
        assert_eq!(answer, Ok(9), "{url}");
        soon(client.close()).await;
    }
}

#[tokio::test]
async fn clients_that_every_server_sends_away_are_in_no_hurry() {
    const GO: u64 = 4200;
    let server = RawServer::bind().await;
    let slowly = Backoff {
        first: Duration::from_millis(200),
        max: Duration::from_millis(200),
        stable_after: Duration::from_secs(10),
    };
    let slowly = |client: ClientBuilder| client.reconnect(slowly);
    let leaving = [welcome(), json!([5, GO, 0])];
    let (_client, first) = server.client_of(Codec::Json, slowly, &leaving).await;
    let mut sessions = vec![first];
    let end = Instant::now() + Duration::from_millis(500);
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        if let Some(mut next) = server.accept_within(left, Codec::Json).await {
            next.send(&leaving).await;
            sessions.push(next);
        }
    }
    assert!((2..30).contains(&sessions.len()), "{}", sessions.len());
}

#[tokio::test]
async fn a_client_that_does_not_connect_again_says_so_once_its_server_leaves() {
    for codec in Codec::ALL {
        let server = RawServer::bind().await;
        let once = |client: ClientBuilder| client.no_reconnect();
        let leaving = [welcome(), json!([5, 4200, 0])];
        let (client, _server) = server.client_of(codec, once, &leaving).await;
        let began = Instant::now();
        let failed = soon(LedgerClient::new(&client).look(1, 0)).await;
        let failed = failed.unwrap_err();
        assert_eq!(failed.code(), Code::UNAVAILABLE, "{failed}");
        assert!(matches!(failed.fate(), Fate::NotSent | Fate::NotExecuted));
        assert!(began.elapsed() < Duration::from_secs(1));
    }
}
